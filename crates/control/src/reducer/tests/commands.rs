//! Random commands over few names, so that they meet; and a bench for single ones.

use std::collections::BTreeMap;

use fanfare_core::{Fingerprint, InstallationId, SystemEntropy};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::super::*;
use crate::{
    MainSecret,
    access::Scope,
    api_keys::{ApiKeys, KeyDigest},
    command::{ControlKey, Session},
};

pub(super) const TYPES: [&str; 3] = ["a", "b", "c"];
pub(super) const CHANNELS: [&str; 3] = ["x", "y", "z"];
pub(super) const UIDS: [&str; 3] = ["u", "v", "w"];

pub(super) fn organization_id(number: u8) -> OrganizationId {
    OrganizationId::from_bytes([number; 20])
}

pub(crate) fn application_id(number: u8) -> ApplicationId {
    ApplicationId::from_bytes([number; 20])
}

pub(crate) fn endpoint_id(number: u8) -> EndpointId {
    EndpointId::from_bytes([number; 20])
}

pub(super) fn api_key_id(number: u8) -> ApiKeyId {
    ApiKeyId::from_bytes([number; 20])
}

/// Always the same, as it stands in a log.
pub(super) fn digest() -> KeyDigest {
    static DIGEST: std::sync::LazyLock<KeyDigest> = std::sync::LazyLock::new(|| {
        ApiKeys::new(&MainSecret::from_bytes([0; 32])).make(api_key_id(0), &SystemEntropy).1
    });
    DIGEST.clone()
}

pub(super) fn session(number: u8) -> Session {
    Session(Fingerprint([number; 16]))
}

pub(super) fn installation() -> Installation {
    Installation {
        id: InstallationId::from_bytes([0; 20]),
        incarnations: BTreeMap::new(),
        message_partitions: 3,
        delivery_partitions: 3,
        secret_check: String::new(),
    }
}

/// Applies commands one by one.
pub(crate) struct Bench {
    pub(crate) view: View,
    endpoints: u8,
}

impl Bench {
    pub(crate) fn installed() -> Self {
        let mut bench = Self { view: View::default(), endpoints: 0 };
        bench.give(Command::Install(installation())).unwrap();
        bench
    }

    pub(crate) fn give(&mut self, command: Command) -> Result<Applied, Refusal> {
        self.give_at(Timestamp::ZERO, command)
    }

    pub(super) fn give_at(&mut self, at: Timestamp, command: Command) -> Result<Applied, Refusal> {
        let offset = self.view.position();
        self.view.apply(offset, &Envelope { at, nonce: 0, key: None, origin: None, command })
    }

    pub(crate) fn application(&mut self, number: u8) -> Result<Applied, Refusal> {
        self.application_with(number, ApplicationSettings::default())
    }

    pub(super) fn application_with(
        &mut self,
        number: u8,
        settings: ApplicationSettings,
    ) -> Result<Applied, Refusal> {
        let (id, organization) = (application_id(number), organization_id(0));
        let partition = self.view.emptiest_message_partition();
        self.give(Command::CreateApplication { id, organization, partition, settings })
    }

    /// The first is `endpoint_id(0)`, and so on.
    pub(crate) fn endpoint(
        &mut self,
        application: u8,
        settings: EndpointSettings,
    ) -> Result<Applied, Refusal> {
        let id = endpoint_id(self.endpoints);
        let (application, settings) = (application_id(application), Box::new(settings));
        let (partition, secret) = (self.view.emptiest_delivery_partition(), secret());
        let answer = self.give(Command::CreateEndpoint { id, application, partition, settings, secret });
        self.endpoints += u8::from(answer.is_ok());
        answer
    }

    pub(super) fn event_type(&mut self, name: &str) -> Result<Applied, Refusal> {
        let (organization, name) = (organization_id(0), name.to_owned());
        let settings = EventTypeSettings::default();
        self.give(Command::CreateEventType { organization, name, archived: false, settings })
    }
}

fn secret() -> EndpointSecret {
    EndpointSecret { sealed: crate::Sealed::from_bytes(*b"secret"), expires_at: None }
}

/// An installation and what happens to it, over some days.
pub(super) fn history() -> impl Strategy<Value = Vec<Envelope>> {
    let key = option::weighted(0.3, (0..3_u8, 0..2_u8)).prop_map(|key| {
        key.map(|(key, body)| ControlKey { key: Fingerprint([key; 16]), body: Fingerprint([body; 16]) })
    });
    let step = (0..4 * 3_600_i64, key, command());
    vec(step, 1..60).prop_map(|steps| {
        let mut now = 0;
        let install = Envelope {
            at: Timestamp::ZERO,
            nonce: 0,
            key: None,
            origin: None,
            command: Command::Install(installation()),
        };
        let rest = steps.into_iter().map(|(passed, key, command)| {
            now += passed;
            Envelope { at: Timestamp::from_secs(now), nonce: 0, key, origin: None, command }
        });
        std::iter::once(install).chain(rest).collect()
    })
}

/// Any, or one that means something in a record.
pub(super) fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(&b"\"\\{}[]:,-.01aefnu"[..])]
}

fn application_settings() -> impl Strategy<Value = ApplicationSettings> {
    uid().prop_map(|uid| ApplicationSettings { uid, ..Default::default() })
}

fn endpoint_settings() -> impl Strategy<Value = Box<EndpointSettings>> {
    let names = |all: [&'static str; 3]| {
        let some = subsequence(all.to_vec(), 0..=3);
        option::of(some.prop_map(|some| some.into_iter().map(str::to_owned).collect::<Vec<_>>()))
    };
    (uid(), prop::bool::weighted(0.2), names(TYPES), names(CHANNELS)).prop_map(
        |(uid, disabled, event_types, channels)| {
            Box::new(EndpointSettings { uid, disabled, event_types, channels, ..Default::default() })
        },
    )
}

fn uid() -> impl Strategy<Value = Option<String>> {
    option::of((0..UIDS.len()).prop_map(|index| UIDS[index].to_owned()))
}

fn type_name() -> impl Strategy<Value = String> {
    (0..TYPES.len()).prop_map(|index| TYPES[index].to_owned())
}

fn command() -> impl Strategy<Value = Command> {
    let organization = || (0..2_u8).prop_map(organization_id);
    let application = || (0..4_u8).prop_map(application_id);
    let endpoint = || (0..5_u8).prop_map(endpoint_id);
    let partition = || (0..4_u32).prop_map(Partition);
    let revision = || option::of(1..4_u64);
    prop_oneof![
        1 => Just(Command::Install(installation())),
        6 => (application(), organization(), partition(), application_settings()).prop_map(
            |(id, organization, partition, settings)| Command::CreateApplication { id, organization, partition, settings }
        ),
        2 => (application(), revision(), application_settings()).prop_map(
            |(id, expected_revision, settings)| Command::UpdateApplication { id, expected_revision, settings }
        ),
        1 => application().prop_map(|id| Command::DeleteApplication { id }),
        12 => (endpoint(), application(), partition(), endpoint_settings()).prop_map(
            |(id, application, partition, settings)| {
                Command::CreateEndpoint { id, application, partition, settings, secret: secret() }
            }
        ),
        6 => (application(), endpoint(), revision(), endpoint_settings()).prop_map(
            |(application, id, expected_revision, settings)| {
                Command::UpdateEndpoint { application, id, expected_revision, settings }
            }
        ),
        2 => (application(), endpoint()).prop_map(|(application, id)| Command::DeleteEndpoint { application, id }),
        2 => (application(), endpoint()).prop_map(|(application, id)| {
            Command::DisableEndpointByPolicy {
                application,
                id,
                reason: "it answered 410".into(),
                failing_since: None,
            }
        }),
        2 => (application(), endpoint()).prop_map(|(application, endpoint)| {
            let previous_expires_at = Timestamp::from_secs(3_600 * 24);
            Command::RotateSecret { application, endpoint, secret: secret(), previous_expires_at }
        }),
        6 => (organization(), type_name(), any::<bool>()).prop_map(|(organization, name, archived)| {
            Command::CreateEventType { organization, name, archived, settings: EventTypeSettings::default() }
        }),
        1 => (organization(), type_name(), revision()).prop_map(|(organization, name, expected_revision)| {
            let settings = EventTypeSettings { deprecated: true, ..Default::default() };
            Command::UpdateEventType { organization, name, expected_revision, archived: None, settings }
        }),
        2 => (organization(), type_name(), any::<bool>()).prop_map(|(organization, name, expunge)| {
            Command::ArchiveEventType { organization, name, expunge }
        }),
        2 => (organization(), 0..4_u8, 0..90_i64).prop_map(|(organization, token, days)| {
            let expires_at = Timestamp::from_secs(days * 24 * 3_600);
            Command::RevokeToken { organization, application: None, token: Fingerprint([token; 16]), expires_at }
        }),
        3 => (application(), 0..240_i64, option::of(0..240_i64), vec(0..3_u8, 0..2)).prop_map(
            |(application, issued_until, from, sessions)| Command::ExpireTokens {
                application,
                issued_until: Timestamp::from_secs(issued_until * 3_600),
                from: from.map(|from| Timestamp::from_secs(from * 3_600)),
                sessions: sessions.into_iter().map(session).collect(),
            }
        ),
        4 => (0..4_u8, organization(), option::of(application())).prop_map(|(id, organization, application)| {
            Command::CreateApiKey {
                id: api_key_id(id),
                organization,
                application,
                name: "deploy".into(),
                scope: Scope::Full,
                expires_at: None,
                digest: digest(),
            }
        }),
        2 => (organization(), 0..4_u8).prop_map(|(organization, id)| {
            Command::DeleteApiKey { organization, id: api_key_id(id) }
        }),
        1 => (0..4_u8, 0..240_i64).prop_map(|(id, at)| Command::NoteApiKeyUse {
            uses: [(api_key_id(id), Timestamp::from_secs(at * 3_600))].into(),
        }),
    ]
}
