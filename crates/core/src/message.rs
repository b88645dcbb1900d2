//! The message: what a producer publishes, and its record in the topic `messages`.

use bytes::Bytes;

use crate::{
    ApplicationId, EndpointNumber, Fingerprint, MessageId, Offset, OrganizationId, Timestamp,
    codec::{Malformed, Reader, Writer},
};

/// Of a message for whom its filters choose, and of one for a single endpoint: a router that does not know of those would
/// send it to all.
const VERSION: u8 = 1;
const VERSION_ADDRESSED: u8 = 2;
const KIND_MESSAGE: u8 = 1;

/// One accepted message without its payload. The payload stands beside it in the log record, so that it can
/// be wiped while all this stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub organization: OrganizationId,
    pub application: ApplicationId,
    /// Dotted kind, such as `invoice.paid`.
    pub event_type: String,
    /// The producer's own id of the event; unique per application within the dedup window.
    pub event_id: Option<String>,
    /// At most 5; empty means "every endpoint, whatever its channels".
    pub channels: Vec<String>,
    /// Messages with an equal key keep their order at `keyed` endpoints.
    pub ordering_key: Option<String>,
    pub tags: Vec<String>,
    /// When ingest took it: the time of its dedup window and of its age.
    pub accepted_at: Timestamp,
    /// Not to be delivered before; the router holds it.
    pub deliver_at: Option<Timestamp>,
    /// The payload is hidden from here on.
    pub payload_expires_at: Option<Timestamp>,
    /// W3C trace context of the publish.
    pub traceparent: Option<String>,
    /// What makes a second publish the same message.
    pub identity: Identity,
    /// For a message the router appended again when it fell due: the offset of the original in the same
    /// partition.
    pub due_of: Option<Offset>,
    /// For this endpoint and no other, whatever its filters say: an example.
    pub only_for: Option<EndpointNumber>,
}

/// The claims by which a publish is recognised as a repeat (design §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of application and `Idempotency-Key`.
    pub key: Option<Fingerprint>,
    /// Digest of application and `eventId`.
    pub event_id: Option<Fingerprint>,
    /// Digest of everything in the request that makes it this message and no other.
    pub body: Fingerprint,
    /// The key was made by a client library for its own retries (`auto_…`): short window.
    pub short_window: bool,
}

impl Message {
    /// The record's head; the payload is stored beside it.
    pub fn encode(&self) -> Bytes {
        let version = if self.only_for.is_some() { VERSION_ADDRESSED } else { VERSION };
        let mut w = Writer::record(version, KIND_MESSAGE);
        w.fixed(self.id.as_bytes());
        w.fixed(self.organization.as_bytes());
        w.fixed(self.application.as_bytes());
        w.bytes(self.event_type.as_bytes());
        w.option(self.event_id.as_deref(), |w, text| w.bytes(text.as_bytes()));
        w.list(&self.channels, |w, text| w.bytes(text.as_bytes()));
        w.option(self.ordering_key.as_deref(), |w, text| w.bytes(text.as_bytes()));
        w.list(&self.tags, |w, text| w.bytes(text.as_bytes()));
        w.timestamp(self.accepted_at);
        w.option(self.deliver_at, Writer::timestamp);
        w.option(self.payload_expires_at, Writer::timestamp);
        w.option(self.traceparent.as_deref(), |w, text| w.bytes(text.as_bytes()));
        w.option(self.identity.key, |w, print| w.fixed(&print.0));
        w.option(self.identity.event_id, |w, print| w.fixed(&print.0));
        w.fixed(&self.identity.body.0);
        w.u8(u8::from(self.identity.short_window));
        w.option(self.due_of, Writer::offset);
        if let Some(endpoint) = self.only_for {
            w.uint(u64::from(endpoint.0));
        }
        w.finish()
    }

    pub fn decode(head: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(head, VERSION_ADDRESSED)?;
        let addressed = head.first() == Some(&VERSION_ADDRESSED);
        if kind != KIND_MESSAGE {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        Ok(Self {
            id: MessageId::from_bytes(r.fixed("id")?),
            organization: OrganizationId::from_bytes(r.fixed("organization")?),
            application: ApplicationId::from_bytes(r.fixed("application")?),
            event_type: r.string("event_type")?,
            event_id: r.option("event_id", |r| r.string("event_id"))?,
            channels: r.list("channels", |r| r.string("channels"))?,
            ordering_key: r.option("ordering_key", |r| r.string("ordering_key"))?,
            tags: r.list("tags", |r| r.string("tags"))?,
            accepted_at: r.timestamp("accepted_at")?,
            deliver_at: r.option("deliver_at", |r| r.timestamp("deliver_at"))?,
            payload_expires_at: r.option("payload_expires_at", |r| r.timestamp("payload_expires_at"))?,
            traceparent: r.option("traceparent", |r| r.string("traceparent"))?,
            identity: Identity {
                key: r.option("key", |r| r.fixed("key").map(Fingerprint))?,
                event_id: r.option("event_id_print", |r| r.fixed("event_id_print").map(Fingerprint))?,
                body: Fingerprint(r.fixed("body")?),
                short_window: r.u8("short_window")? != 0,
            },
            due_of: r.option("due_of", |r| r.offset("due_of"))?,
            only_for: addressed.then(|| r.uint32("only_for").map(EndpointNumber)).transpose()?,
        })
    }

    /// The ordering key as lanes know it. Messages without a key share one.
    pub fn ordering_key_hash(&self) -> u64 {
        self.ordering_key.as_deref().map_or(0, |key| Fingerprint::of(&[key.as_bytes()]).short())
    }
}
