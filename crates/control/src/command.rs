//! Commands and their records.
//!
//! A record of `control` is JSON: `{"v": 1, "at": µs, "nonce": n, "key": {…}?, "command": {"type": …, …}}`. JSON,
//! because the topic is small, is kept for ever, and is what an operator looks at first. All that is random
//! or depends on time was decided by the issuer and stands in the record.

use bytes::Bytes;
use fanfare_core::{ApplicationId, EndpointId, Fingerprint, OrganizationId, Partition, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    error::RecordError,
    model::{ApplicationSettings, EndpointSecret, EndpointSettings, EventTypeSettings, Installation},
};

/// The newest version of a record that this program writes and reads.
pub(crate) const VERSION: u32 = 1;

/// One change of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// The first record, and only the first.
    Install(Installation),
    CreateApplication {
        id: ApplicationId,
        organization: OrganizationId,
        /// Chosen by the issuer, of `messages`.
        partition: Partition,
        settings: ApplicationSettings,
    },
    UpdateApplication {
        id: ApplicationId,
        /// Refused when the application has another revision by then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_revision: Option<u64>,
        settings: ApplicationSettings,
    },
    /// Deletes its endpoints too, and frees the uids.
    DeleteApplication {
        id: ApplicationId,
    },
    CreateEndpoint {
        id: EndpointId,
        application: ApplicationId,
        /// Chosen by the issuer, of `deliveries`.
        partition: Partition,
        settings: Box<EndpointSettings>,
        secret: EndpointSecret,
    },
    UpdateEndpoint {
        application: ApplicationId,
        id: EndpointId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_revision: Option<u64>,
        settings: Box<EndpointSettings>,
    },
    DeleteEndpoint {
        application: ApplicationId,
        id: EndpointId,
    },
    /// Fanfare itself disables it: it answered 410, or failed for days.
    DisableEndpointByPolicy {
        application: ApplicationId,
        id: EndpointId,
        reason: String,
    },
    /// Makes a new signing secret the newest; those before it sign until `previous_expires_at`.
    RotateSecret {
        application: ApplicationId,
        endpoint: EndpointId,
        secret: EndpointSecret,
        previous_expires_at: Timestamp,
    },
    /// Brings back one of this name that was archived.
    CreateEventType {
        organization: OrganizationId,
        name: String,
        #[serde(default)]
        archived: bool,
        settings: EventTypeSettings,
    },
    UpdateEventType {
        organization: OrganizationId,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_revision: Option<u64>,
        /// `None`: as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        archived: Option<bool>,
        settings: EventTypeSettings,
    },
    ArchiveEventType {
        organization: OrganizationId,
        name: String,
        /// Forget it altogether.
        #[serde(default)]
        expunge: bool,
    },
}

/// The idempotency key of a POST, as digests. The first covers whatever the key is scoped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlKey {
    #[serde(with = "hexadecimal")]
    pub key: Fingerprint,
    /// Of the request's body.
    #[serde(with = "hexadecimal")]
    pub body: Fingerprint,
}

/// A command with what its record says beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// When the issuer took it.
    pub at: Timestamp,
    /// By which the issuer knows its own record again.
    pub nonce: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ControlKey>,
    pub command: Command,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    envelope: &'a Envelope,
}

/// Read before anything else, so that a record of a newer version is named as such and not as malformed.
#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

impl Envelope {
    pub fn encode(&self) -> Bytes {
        let record = Versioned { v: VERSION, envelope: self };
        serde_json::to_vec(&record).expect("a command has only text keys and finite numbers").into()
    }

    pub fn decode(record: &[u8]) -> Result<Self, RecordError> {
        let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
        let VersionOnly { v: version } = serde_json::from_slice(record).map_err(malformed)?;
        if version > VERSION {
            return Err(RecordError::NewerVersion { version, known: VERSION });
        }
        serde_json::from_slice(record).map_err(malformed)
    }
}

/// A fingerprint as 32 hexadecimal digits.
mod hexadecimal {
    use std::borrow::Cow;

    use fanfare_core::Fingerprint;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(print: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(print.0)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(Fingerprint(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_record_reads_back() {
        let envelope = Envelope {
            at: Timestamp::from_secs(1_700_000_000),
            nonce: u64::MAX,
            key: Some(ControlKey { key: Fingerprint::of(&[b"a"]), body: Fingerprint([0; 16]) }),
            command: Command::CreateEndpoint {
                id: EndpointId::from_bytes([7; 20]),
                application: ApplicationId::from_bytes([8; 20]),
                partition: Partition(3),
                settings: Box::new(EndpointSettings {
                    url: "https://a.example".into(),
                    ..Default::default()
                }),
                secret: EndpointSecret { sealed: crate::Sealed::from_bytes(*b"x"), expires_at: None },
            },
        };
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }

    #[test]
    fn a_newer_version_is_named_whatever_else_it_says() {
        let error = Envelope::decode(br#"{"v": 2, "command": "of a shape nobody knows yet"}"#);
        assert_eq!(error, Err(RecordError::NewerVersion { version: 2, known: 1 }));
        let text = error.expect_err("it is newer").to_string();
        assert!(text.contains("version 2") && text.contains("up to 1"), "{text}");
    }

    #[test]
    fn numbers_for_incarnations_identify_nothing() {
        let record = |incarnations: &str| {
            let id = fanfare_core::InstallationId::from_bytes([7; 20]);
            format!(
                r#"{{"v":1,"at":0,"nonce":0,"command":{{"type":"install","id":"{id}","incarnations":{incarnations},
                "message_partitions":1,"delivery_partitions":1,"secret_check":""}}}}"#
            )
        };
        let read = |incarnations: &str| match Envelope::decode(record(incarnations).as_bytes()) {
            Ok(Envelope { command: Command::Install(installation), .. }) => installation.incarnations,
            other => panic!("{other:?}"),
        };
        assert!(read(r#"{"messages":12345,"control":7}"#).is_empty(), "as the first installations wrote");
        assert_eq!(read(r#"{"messages":"an id"}"#)["messages"], "an id");
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in [
            &b""[..],
            b"\xff\xff",
            b"{}",
            br#"{"v":1}"#,
            br#"{"v":1,"at":0,"nonce":0,"command":{"type":"fly"}}"#,
        ] {
            assert!(matches!(Envelope::decode(garbage), Err(RecordError::Malformed(_))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..512)) {
            let _ = Envelope::decode(&bytes);
        }
    }
}
