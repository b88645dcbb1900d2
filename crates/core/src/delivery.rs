//! Delivery records: one message for all endpoints of one delivery partition that want it.

use bytes::Bytes;

use crate::{
    EndpointNumber, MessageId, Offset, Partition, Timestamp, Trigger,
    codec::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;
/// Of a message that had waited for its time: whoever does not know of those would take it for another message.
const VERSION_DUE: u8 = 2;

/// Where in `messages` a delivery record comes from, and what lets the worker see repeats and gaps
/// (design §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub partition: Partition,
    pub offset: Offset,
    /// Random number of one run of the router over this partition.
    pub session: u64,
    /// Source offset of the record before this one that the router sent to this delivery partition. `None`:
    /// no checkpoint existed, take the record as it stands.
    pub previous: Option<Offset>,
    /// The router had applied `control` up to here: an endpoint unknown below it is deleted.
    pub control: Offset,
}

/// Where the payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In `messages`, at the record's source.
    Reference,
    /// Beside this record: head and payload of the message as they stand in `messages`.
    Inline { head: Bytes },
}

/// What a record of the topic `deliveries` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message for these endpoints (rising numbers).
    Routed {
        source: Source,
        id: MessageId,
        accepted_at: Timestamp,
        /// See [`crate::Message::ordering_key_hash`].
        ordering_key: u64,
        endpoints: Vec<EndpointNumber>,
        content: Content,
        /// The source is what the router appended when this message of the same partition fell due.
        due_of: Option<Offset>,
    },
    /// An equal twin that got its own 202 on another node: reads by `id` find `first`.
    Alias { source: Source, id: MessageId, first: MessageId },
    /// A publish with a key or event id that stands for another message: dead letter `idempotency_conflict`.
    Conflict { source: Source, id: MessageId, first: MessageId },
    /// Sent again by a job (replay, resend, recover) or made up (example). Its place in the job orders it.
    Injected {
        job: u64,
        sequence: u64,
        id: MessageId,
        /// The original in `messages`.
        partition: Partition,
        offset: Offset,
        ordering_key: u64,
        endpoints: Vec<EndpointNumber>,
        /// When it was injected: the time of its age here.
        at: Timestamp,
        /// As of a [`Source`]: an endpoint unknown below it is deleted.
        control: Offset,
    },
}

impl Delivery {
    pub fn endpoints(&self) -> &[EndpointNumber] {
        match self {
            Self::Routed { endpoints, .. } | Self::Injected { endpoints, .. } => endpoints,
            Self::Alias { .. } | Self::Conflict { .. } => &[],
        }
    }

    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Routed { source, .. } | Self::Alias { source, .. } | Self::Conflict { source, .. } => {
                Some(source)
            }
            Self::Injected { .. } => None,
        }
    }

    /// By what offset in its partition of `messages` its message is known: that of the original, however often and in
    /// whatever way it was written again. `None`: a twin is known by another message's.
    pub fn message(&self) -> Option<(Partition, Offset)> {
        match self {
            Self::Routed { source, due_of, .. } => Some((source.partition, due_of.unwrap_or(source.offset))),
            Self::Injected { partition, offset, .. } => Some((*partition, *offset)),
            Self::Alias { .. } | Self::Conflict { .. } => None,
        }
    }

    /// What the attempts at it are triggered by.
    pub fn trigger(&self) -> Trigger {
        match self {
            Self::Injected { .. } => Trigger::Manual,
            Self::Routed { .. } | Self::Alias { .. } | Self::Conflict { .. } => Trigger::Scheduled,
        }
    }

    /// Who wrote it had applied `control` up to here.
    pub fn control(&self) -> Offset {
        match self {
            Self::Routed { source, .. } | Self::Alias { source, .. } | Self::Conflict { source, .. } => {
                source.control
            }
            Self::Injected { control, .. } => *control,
        }
    }

    /// From when on it grows old; that of a twin is of no interest.
    pub fn written_at(&self) -> Option<Timestamp> {
        match self {
            Self::Routed { accepted_at, .. } => Some(*accepted_at),
            Self::Injected { at, .. } => Some(*at),
            Self::Alias { .. } | Self::Conflict { .. } => None,
        }
    }

    pub fn id(&self) -> MessageId {
        match self {
            Self::Routed { id, .. }
            | Self::Alias { id, .. }
            | Self::Conflict { id, .. }
            | Self::Injected { id, .. } => *id,
        }
    }

    pub fn encode(&self) -> Bytes {
        match self {
            Self::Routed { source, id, accepted_at, ordering_key, endpoints, content, due_of } => {
                let version = if due_of.is_some() { VERSION_DUE } else { VERSION };
                let mut w = Writer::record(version, 1);
                write_source(&mut w, source);
                w.fixed(id.as_bytes());
                w.timestamp(*accepted_at);
                w.fixed(&ordering_key.to_be_bytes());
                write_endpoints(&mut w, endpoints);
                match content {
                    Content::Reference => w.u8(0),
                    Content::Inline { head } => {
                        w.u8(1);
                        w.bytes(head);
                    }
                }
                if let Some(original) = due_of {
                    w.offset(*original);
                }
                w.finish()
            }
            Self::Alias { source, id, first } => write_twin(2, source, *id, *first),
            Self::Conflict { source, id, first } => write_twin(3, source, *id, *first),
            Self::Injected { job, sequence, id, partition, offset, ordering_key, endpoints, at, control } => {
                let mut w = Writer::record(VERSION, 4);
                w.uint(*job);
                w.uint(*sequence);
                w.fixed(id.as_bytes());
                w.uint(u64::from(partition.0));
                w.offset(*offset);
                w.fixed(&ordering_key.to_be_bytes());
                write_endpoints(&mut w, endpoints);
                w.timestamp(*at);
                w.offset(*control);
                w.finish()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION_DUE)?;
        let was_due = bytes.first() == Some(&VERSION_DUE);
        let r = &mut r;
        Ok(match kind {
            1 => Self::Routed {
                source: read_source(r)?,
                id: MessageId::from_bytes(r.fixed("id")?),
                accepted_at: r.timestamp("accepted_at")?,
                ordering_key: u64::from_be_bytes(r.fixed("ordering_key")?),
                endpoints: read_endpoints(r)?,
                content: match r.u8("content")? {
                    0 => Content::Reference,
                    1 => Content::Inline { head: Bytes::copy_from_slice(r.bytes("head")?) },
                    other => return Err(Malformed::Value { field: "content", value: u64::from(other) }),
                },
                due_of: was_due.then(|| r.offset("due_of")).transpose()?,
            },
            2 | 3 => {
                let source = read_source(r)?;
                let id = MessageId::from_bytes(r.fixed("id")?);
                let first = MessageId::from_bytes(r.fixed("first")?);
                if kind == 2 {
                    Self::Alias { source, id, first }
                } else {
                    Self::Conflict { source, id, first }
                }
            }
            4 => Self::Injected {
                job: r.uint("job")?,
                sequence: r.uint("sequence")?,
                id: MessageId::from_bytes(r.fixed("id")?),
                partition: Partition(r.uint32("partition")?),
                offset: r.offset("offset")?,
                ordering_key: u64::from_be_bytes(r.fixed("ordering_key")?),
                endpoints: read_endpoints(r)?,
                at: r.timestamp("at")?,
                control: r.offset("control")?,
            },
            other => return Err(Malformed::Value { field: "kind", value: u64::from(other) }),
        })
    }
}

fn write_twin(kind: u8, source: &Source, id: MessageId, first: MessageId) -> Bytes {
    let mut w = Writer::record(VERSION, kind);
    write_source(&mut w, source);
    w.fixed(id.as_bytes());
    w.fixed(first.as_bytes());
    w.finish()
}

fn write_source(w: &mut Writer, source: &Source) {
    w.uint(u64::from(source.partition.0));
    w.offset(source.offset);
    w.fixed(&source.session.to_be_bytes());
    w.option(source.previous, Writer::offset);
    w.offset(source.control);
}

fn read_source(r: &mut Reader<'_>) -> Result<Source, Malformed> {
    Ok(Source {
        partition: Partition(r.uint32("source_partition")?),
        offset: r.offset("source_offset")?,
        session: u64::from_be_bytes(r.fixed("session")?),
        previous: r.option("previous", |r| r.offset("previous"))?,
        control: r.offset("control")?,
    })
}

/// Rising numbers as differences: a dense fan-out costs one byte an endpoint.
fn write_endpoints(w: &mut Writer, endpoints: &[EndpointNumber]) {
    debug_assert!(endpoints.is_sorted(), "endpoints stand in rising order");
    let mut last = 0;
    w.list(endpoints, |w, number| {
        w.uint(u64::from(number.0 - last));
        last = number.0;
    });
}

fn read_endpoints(r: &mut Reader<'_>) -> Result<Vec<EndpointNumber>, Malformed> {
    let mut last = 0_u32;
    r.list("endpoints", |r| {
        let difference = r.uint32("endpoint")?;
        last = last
            .checked_add(difference)
            .ok_or(Malformed::Value { field: "endpoint", value: u64::from(difference) })?;
        Ok(EndpointNumber(last))
    })
}
