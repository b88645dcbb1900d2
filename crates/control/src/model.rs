//! What the control plane knows: the nouns of the materialised view.

use std::collections::BTreeMap;

use fanfare_core::{
    ApiKeyId, ApplicationId, EndpointId, EndpointNumber, InstallationId, Ordering, OrganizationId, Partition,
    RetrySchedule, Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    access::{Principal, Scope},
    api_keys::KeyDigest,
    secrets::Sealed,
};

/// What the first record of `control` fixes for ever. A process that was started with something else is on the
/// wrong logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    pub id: InstallationId,
    /// By topic: tells a topic from a later one of the same name. Empty where the log keeps its topics together.
    #[serde(default, deserialize_with = "incarnations")]
    pub incarnations: BTreeMap<String, String>,
    pub message_partitions: u32,
    pub delivery_partitions: u32,
    /// Derived from the main secret; tells whether another one is the same.
    pub secret_check: String,
}

/// Numbers that the first installations wrote identify nothing.
fn incarnations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    let ids = all.into_iter().filter_map(|(topic, id)| Some((topic, id.as_str()?.to_owned())));
    Ok(ids.collect())
}

/// A tenant's consumer; owns endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    pub id: ApplicationId,
    pub organization: OrganizationId,
    pub settings: ApplicationSettings,
    /// Of `messages`; chosen at creation, kept for ever.
    pub partition: Partition,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Rises with each change; what compare-and-set compares.
    pub revision: u64,
}

/// What a user sets on an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplicationSettings {
    pub name: String,
    pub uid: Option<String>,
    pub throttle_rate: Option<u32>,
    /// Messages per second that may be published for it; `None`: the installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_rate: Option<u32>,
    pub metadata: BTreeMap<String, String>,
    /// For endpoints that do not say.
    pub ordering: Option<Ordering>,
}

/// Where an application's messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: EndpointId,
    /// The name used in records.
    pub number: EndpointNumber,
    pub organization: OrganizationId,
    pub application: ApplicationId,
    /// Of `deliveries`; chosen at creation, kept for ever.
    pub partition: Partition,
    pub settings: EndpointSettings,
    /// Newest first. All that have not lapsed sign.
    pub secrets: Vec<EndpointSecret>,
    /// Why policy disabled it (410, failing for days); `None` when it is enabled or a human disabled it.
    pub disabled_by_policy: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub revision: u64,
}

/// What a user sets on an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    pub url: String,
    pub uid: Option<String>,
    pub description: String,
    /// Svix's number for an endpoint's payload format; default 1.
    pub version: u16,
    pub disabled: bool,
    /// `None`: all.
    pub event_types: Option<Vec<String>>,
    /// `None`: all.
    pub channels: Option<Vec<String>>,
    pub throttle_rate: Option<u32>,
    pub metadata: BTreeMap<String, String>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    pub ordering: Option<Ordering>,
    pub retry_schedule: Option<RetrySchedule>,
    pub park: Park,
    pub max_in_flight: Option<u32>,
    pub timeout_secs: Option<u32>,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            uid: None,
            description: String::new(),
            version: 1,
            disabled: false,
            event_types: None,
            channels: None,
            throttle_rate: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
            ordering: None,
            retry_schedule: None,
            park: Park::Default,
            max_in_flight: None,
            timeout_secs: None,
        }
    }
}

/// What happens to a message that holds up an ordered lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Park {
    /// Parked after the installation's default time.
    #[default]
    Default,
    AfterSecs(u32),
    /// Never: the lane stands until the message goes through or runs out of schedule.
    Block,
}

/// A signing secret, sealed under the main secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSecret {
    pub sealed: Sealed,
    /// Set when it was rotated out: it signs beside its successor until then.
    pub expires_at: Option<Timestamp>,
}

/// A kind of message. Messages may have types that do not exist; endpoints may filter only by those that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    pub organization: OrganizationId,
    pub name: String,
    pub settings: EventTypeSettings,
    pub archived: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub revision: u64,
}

/// What a user sets on an event type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventTypeSettings {
    pub description: String,
    pub deprecated: bool,
    /// The first of `feature_flags`; in records of old the only one.
    pub feature_flag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_flags: Option<Vec<String>>,
    pub group_name: Option<String>,
    /// JSON Schemas by version, as they were given.
    pub schemas: Option<serde_json::Value>,
}

/// A credential that does not expire by itself, has a name, and can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub organization: OrganizationId,
    /// The only one that it opens.
    pub application: Option<ApplicationId>,
    pub name: String,
    pub scope: Scope,
    pub digest: KeyDigest,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// As far as it was written down.
    pub used_at: Option<Timestamp>,
}

impl ApiKey {
    pub fn principal(&self) -> Principal {
        Principal::new(self.organization, self.application)
    }
}
