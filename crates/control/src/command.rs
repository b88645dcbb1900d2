//! Commands and their records.
//!
//! A record of `control` is JSON: `{"v": 1, "at": µs, "nonce": n, "key": {…}?, "origin": {…}?, "command": {"type": …, …}}`.
//! JSON, because the topic is small, is kept for ever, and is what an operator looks at first. All that is random
//! or depends on time was decided by the issuer and stands in the record.
//!
//! A record has the lowest version whose programs understand it: one that knows less stops at the first command that it
//! does not know, and not before.

use std::collections::BTreeMap;

use bytes::Bytes;
use fanfare_core::{
    ApiKeyId, ApplicationId, EndpointId, Fingerprint, JobId, Offset, OrganizationId, Partition, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    access::{Origin, Scope},
    api_keys::KeyDigest,
    error::RecordError,
    hexadecimal,
    jobs::{JobKind, JobState, Progress, Selection, Steer},
    model::{ApplicationSettings, EndpointSecret, EndpointSettings, EventTypeSettings, Installation},
    reports::ReportKind,
};

/// The newest version of a record that this program writes and reads.
pub(crate) const VERSION: u32 = 4;

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
        /// Since when every attempt fails.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failing_since: Option<Timestamp>,
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
    /// Refuses one token from now on.
    RevokeToken {
        organization: OrganizationId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        application: Option<ApplicationId>,
        #[serde(with = "hexadecimal")]
        token: Fingerprint,
        /// When it would have been refused anyway.
        expires_at: Timestamp,
    },
    /// Refuses all tokens of an application that were made at or before `issued_until`.
    ExpireTokens {
        application: ApplicationId,
        issued_until: Timestamp,
        /// `None`: at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Timestamp>,
        /// Only those made for one of these sessions, if there are any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sessions: Vec<Session>,
    },
    CreateApiKey {
        id: ApiKeyId,
        organization: OrganizationId,
        /// The only one that it opens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        application: Option<ApplicationId>,
        name: String,
        scope: Scope,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        digest: KeyDigest,
    },
    DeleteApiKey {
        organization: OrganizationId,
        id: ApiKeyId,
    },
    /// When keys were used last, as far as one process knows. Of those that are gone it says nothing.
    NoteApiKeyUse {
        uses: BTreeMap<ApiKeyId, Timestamp>,
    },
    /// Messages are to be sent again to an endpoint, or, without one, the contents of all of an application's erased.
    CreateJob {
        id: JobId,
        application: ApplicationId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<EndpointId>,
        kind: JobKind,
        selection: Box<Selection>,
    },
    SteerJob {
        application: ApplicationId,
        id: JobId,
        order: Steer,
    },
    /// How far a job came, by who carries it on.
    NoteJobProgress {
        id: JobId,
        progress: Box<Progress>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended: Option<JobState>,
    },
    /// The contents of these messages may be shown and sent to nobody any more.
    EraseContents {
        application: ApplicationId,
        /// In the application's partition of `messages`.
        offsets: Vec<Offset>,
    },
    /// Something is to be counted.
    CreateReport {
        id: JobId,
        organization: OrganizationId,
        report: Box<ReportKind>,
    },
}

/// Digest of a session's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Session(#[serde(with = "hexadecimal")] pub Fingerprint);

impl Command {
    /// The first version of a record that can hold it.
    fn version(&self) -> u32 {
        match self {
            Self::Install(_)
            | Self::CreateApplication { .. }
            | Self::UpdateApplication { .. }
            | Self::DeleteApplication { .. }
            | Self::CreateEndpoint { .. }
            | Self::UpdateEndpoint { .. }
            | Self::DeleteEndpoint { .. }
            | Self::DisableEndpointByPolicy { .. }
            | Self::RotateSecret { .. }
            | Self::CreateEventType { .. }
            | Self::UpdateEventType { .. }
            | Self::ArchiveEventType { .. } => 1,
            Self::RevokeToken { .. }
            | Self::ExpireTokens { .. }
            | Self::CreateApiKey { .. }
            | Self::DeleteApiKey { .. }
            | Self::NoteApiKeyUse { .. } => 2,
            Self::CreateJob { endpoint: None, .. }
            | Self::EraseContents { .. }
            | Self::CreateReport { .. } => 4,
            Self::CreateJob { .. } | Self::SteerJob { .. } | Self::NoteJobProgress { .. } => 3,
        }
    }

    /// Whose things it changes, if it says so itself.
    pub fn organization(&self) -> Option<OrganizationId> {
        match self {
            Self::CreateApplication { organization, .. }
            | Self::CreateEventType { organization, .. }
            | Self::UpdateEventType { organization, .. }
            | Self::ArchiveEventType { organization, .. }
            | Self::RevokeToken { organization, .. }
            | Self::CreateApiKey { organization, .. }
            | Self::DeleteApiKey { organization, .. }
            | Self::CreateReport { organization, .. } => Some(*organization),
            Self::Install(_)
            | Self::UpdateApplication { .. }
            | Self::DeleteApplication { .. }
            | Self::CreateEndpoint { .. }
            | Self::UpdateEndpoint { .. }
            | Self::DeleteEndpoint { .. }
            | Self::DisableEndpointByPolicy { .. }
            | Self::RotateSecret { .. }
            | Self::ExpireTokens { .. }
            | Self::NoteApiKeyUse { .. }
            | Self::CreateJob { .. }
            | Self::SteerJob { .. }
            | Self::NoteJobProgress { .. }
            | Self::EraseContents { .. } => None,
        }
    }

    /// The application that it is about, or about something of.
    pub fn application(&self) -> Option<ApplicationId> {
        match self {
            Self::CreateApplication { id, .. }
            | Self::UpdateApplication { id, .. }
            | Self::DeleteApplication { id } => Some(*id),
            Self::CreateEndpoint { application, .. }
            | Self::UpdateEndpoint { application, .. }
            | Self::DeleteEndpoint { application, .. }
            | Self::DisableEndpointByPolicy { application, .. }
            | Self::RotateSecret { application, .. }
            | Self::ExpireTokens { application, .. }
            | Self::CreateJob { application, .. }
            | Self::SteerJob { application, .. }
            | Self::EraseContents { application, .. } => Some(*application),
            Self::RevokeToken { application, .. } | Self::CreateApiKey { application, .. } => *application,
            Self::Install(_)
            | Self::CreateEventType { .. }
            | Self::UpdateEventType { .. }
            | Self::ArchiveEventType { .. }
            | Self::DeleteApiKey { .. }
            | Self::NoteApiKeyUse { .. }
            | Self::NoteJobProgress { .. }
            | Self::CreateReport { .. } => None,
        }
    }
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
    /// Records of old do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
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
        let record = Versioned { v: self.command.version(), envelope: self };
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::access::{Actor, TokenId};

    #[test]
    fn a_record_reads_back() {
        let envelope = Envelope {
            at: Timestamp::from_secs(1_700_000_000),
            nonce: u64::MAX,
            key: Some(ControlKey { key: Fingerprint::of(&[b"a"]), body: Fingerprint([0; 16]) }),
            origin: Some(Origin {
                organization: None,
                by: Actor::OrganizationToken { id: TokenId(Fingerprint([0; 16])) },
                from: Some([127, 0, 0, 1].into()),
            }),
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
        let error = Envelope::decode(br#"{"v": 5, "command": "of a shape nobody knows yet"}"#);
        assert_eq!(error, Err(RecordError::NewerVersion { version: 5, known: 4 }));
        let text = error.expect_err("it is newer").to_string();
        assert!(text.contains("version 5") && text.contains("up to 4"), "{text}");
    }

    /// Who gave a command is no reason for an older program to stop; a command that it does not know is.
    #[test]
    fn a_record_says_the_lowest_version_that_understands_it() {
        let organization = crate::default_organization();
        let version = |command: Command| {
            let origin = Some(Origin { organization: Some(organization), by: Actor::Fanfare, from: None });
            let envelope = Envelope { at: Timestamp::ZERO, nonce: 0, key: None, origin, command };
            let record: serde_json::Value =
                serde_json::from_slice(&envelope.encode()).expect("a record is JSON");
            assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
            record["v"].as_u64()
        };
        let id = ApiKeyId::from_bytes([1; 20]);
        assert_eq!(version(Command::DeleteApplication { id: ApplicationId::from_bytes([1; 20]) }), Some(1));
        assert_eq!(version(Command::DeleteApiKey { organization, id }), Some(2));
        assert_eq!(version(Command::NoteApiKeyUse { uses: [(id, Timestamp::ZERO)].into() }), Some(2));
        let (application, id) = (ApplicationId::from_bytes([1; 20]), JobId::from_bytes([2; 20]));
        assert_eq!(version(Command::SteerJob { application, id, order: Steer::Pause }), Some(3));
        let job = |endpoint, kind| Command::CreateJob {
            id,
            application,
            endpoint,
            kind,
            selection: Box::default(),
        };
        assert_eq!(version(job(Some(EndpointId::from_bytes([3; 20])), JobKind::Recover)), Some(3));
        assert_eq!(version(job(None, JobKind::EraseContents)), Some(4));
        assert_eq!(version(Command::EraseContents { application, offsets: vec![Offset(7)] }), Some(4));
    }

    #[test]
    fn a_record_that_does_not_say_who_gave_it_is_read() {
        let id = ApplicationId::from_bytes([1; 20]);
        let record =
            format!(r#"{{"v":1,"at":0,"nonce":0,"command":{{"type":"delete_application","id":"{id}"}}}}"#);
        let envelope = Envelope::decode(record.as_bytes()).expect("it is of the first version");
        assert_eq!((envelope.origin, envelope.command), (None, Command::DeleteApplication { id }));
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
