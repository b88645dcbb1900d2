//! Ids as the API shows them: a prefix and a KSUID with millisecond time (27 base62 characters, sortable by
//! time), the form that Svix clients know. In records an id is its 20 bytes.

use std::{fmt, marker::PhantomData, str::FromStr};

use svix_ksuid::{KsuidLike as _, KsuidMs};

use crate::Timestamp;

/// What an id names; gives its prefix.
pub trait Kind {
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// An organization: the owner of a token, of applications and of event types.
    Organization, OrganizationId, "org_";
    /// An application: one consumer of a tenant, owner of endpoints.
    Application, ApplicationId, "app_";
    Endpoint, EndpointId, "ep_";
    Message, MessageId, "msg_";
    Attempt, AttemptId, "atmpt_";
    EventType, EventTypeId, "evtype_";
    /// A delivery: a message on its way to an endpoint.
    MessageEndpoint, MessageEndpointId, "msgep_";
    /// An API key; the key itself names it too.
    ApiKey, ApiKeyId, "key_";
    /// A job: what clients know as a background task.
    Job, JobId, "qtask_";
    /// An installation: one set of logs. Two installations never share a log.
    Installation, InstallationId, "inst_";
}

/// An id of kind `K`.
pub struct Id<K> {
    bytes: [u8; 20],
    kind: PhantomData<fn() -> K>,
}

/// A text that is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}` followed by 27 letters and digits")]
pub struct ParseError {
    pub prefix: &'static str,
}

impl<K: Kind> Id<K> {
    pub const BYTES: usize = 20;

    /// Mints an id that sorts by `at` (4 ms steps); `random` makes it unique and comes from the caller's
    /// random source.
    pub fn mint(at: Timestamp, random: [u8; 15]) -> Self {
        Self::from_bytes(*KsuidMs::from_millis(Some(at.as_millis()), Some(&random)).bytes())
    }

    /// When it was minted, or up to 4 ms later: no id that was minted before is higher. Says nothing of an id that was not
    /// minted.
    pub fn minted_at(&self) -> Timestamp {
        Timestamp::from_millis(KsuidMs::from_bytes(self.bytes).timestamp_millis())
    }

    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.bytes
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", K::PREFIX, KsuidMs::from_bytes(self.bytes))
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = ParseError { prefix: K::PREFIX };
        let base62 = text.strip_prefix(K::PREFIX).ok_or(error.clone())?;
        if base62.len() != 27 || !base62.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(error);
        }
        let ksuid = KsuidMs::from_str(base62).map_err(|_| error.clone())?;
        // A text above the highest 160-bit value wraps around in the decoder: only the canonical form is an id.
        let id = Self::from_bytes(*ksuid.bytes());
        if id.to_string() == text { Ok(id) } else { Err(error) }
    }
}

impl<K: Kind> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
