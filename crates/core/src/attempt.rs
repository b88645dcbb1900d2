//! Facts of delivery: the records of the topic `attempts`, of which a lane is the fold.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    AttemptId, EndpointNumber, Offset, Timestamp,
    codec::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;
/// Of a record with facts about what may be seen: a reader that does not know of them would show it.
const VERSION_HIDING: u8 = 2;
const KIND_CLAIM: u8 = 1;
const KIND_FACTS: u8 = 2;

/// What a record of the topic `attempts` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptRecord {
    /// A worker took the partition. The record's own offset is the epoch of all it writes from here on.
    Claim { owner: u128, at: Timestamp },
    /// What happened since the last flush, in order.
    Facts { epoch: Offset, facts: Vec<Fact> },
}

/// One thing that happened to an endpoint's deliveries. Applying a fact twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Attempted(Attempt),
    /// One delivery is settled without (or after) an attempt.
    Settled {
        endpoint: EndpointNumber,
        offset: Offset,
        reason: Settlement,
        at: Timestamp,
    },
    /// All unsettled deliveries of the endpoint from `from` up to, but not including, `to` share one fate.
    SettledRange {
        endpoint: EndpointNumber,
        from: Offset,
        to: Offset,
        reason: Settlement,
        at: Timestamp,
    },
    /// What an attempt was answered is shown to nobody any more. No matter of delivery.
    AnswerErased {
        endpoint: EndpointNumber,
        offset: Offset,
        /// The attempt's, with the time at which it was made.
        number: u32,
        made_at: Timestamp,
        /// Of the erasure.
        at: Timestamp,
    },
}

/// One HTTP try of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub endpoint: EndpointNumber,
    /// Of the delivery record.
    pub offset: Offset,
    /// 1-based.
    pub number: u32,
    pub trigger: Trigger,
    pub at: Timestamp,
    pub duration: Duration,
    pub outcome: Outcome,
    /// HTTP status, or 0 where no answer came.
    pub status: u16,
    pub error: Option<AttemptError>,
    /// The beginning of the answer's body.
    pub response: Bytes,
    /// For a failure: when the delivery is due again.
    pub due: Option<Timestamp>,
    /// For a failure: how long the delivery's deadline has been running (only while its lane could send).
    pub deadline_used: Duration,
}

impl Attempt {
    /// A function of the fact alone: time (4 ms) 5 · endpoint 4 · offset 7 · number 4 bytes. So it sorts by time.
    pub fn id(&self) -> AttemptId {
        attempt_id(self.at, self.endpoint, self.offset, self.number)
    }
}

/// The id of the attempt that such a fact tells of, see [`Attempt::id`].
pub fn attempt_id(at: Timestamp, endpoint: EndpointNumber, offset: Offset, number: u32) -> AttemptId {
    let mut bytes = *AttemptId::mint(at, [0; 15]).as_bytes();
    bytes[5..9].copy_from_slice(&endpoint.0.to_be_bytes());
    bytes[9..16].copy_from_slice(&offset.0.to_be_bytes()[1..]);
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    AttemptId::from_bytes(bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Scheduled,
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx. Settles the delivery.
    Delivered,
    /// Anything else; will be tried again.
    Failed,
}

/// Why no 2xx came, for people. The first group opens the circuit at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptError {
    Connect,
    Tls,
    Dns,
    /// The address is one we do not send to (private, loopback, metadata…).
    AddressRefused,
    Timeout,
    /// The connection broke before the answer was complete.
    Disconnected,
    /// What came is not HTTP.
    BadAnswer,
    /// The answer was complete but its status is not 2xx.
    Status,
    /// The message's payload is gone (erased or below retention).
    PayloadGone,
}

impl AttemptError {
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Tls,
        Self::Dns,
        Self::AddressRefused,
        Self::Timeout,
        Self::Disconnected,
        Self::BadAnswer,
        Self::Status,
        Self::PayloadGone,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::AddressRefused => "address_refused",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::BadAnswer => "bad_answer",
            Self::Status => "status",
            Self::PayloadGone => "payload_gone",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Tls => 2,
            Self::Dns => 3,
            Self::AddressRefused => 4,
            Self::Timeout => 5,
            Self::Disconnected => 6,
            Self::BadAnswer => 7,
            Self::Status => 8,
            Self::PayloadGone => 9,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|error| error.code() == code)
            .ok_or(Malformed::Value { field: "error", value: u64::from(code) })
    }
}

/// How a delivery ended. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    Delivered,
    /// A pull consumer committed past it.
    Acknowledged,
    /// Dead letter: its retry schedule ran out.
    Exhausted,
    /// Dead letter: the endpoint is alive and keeps refusing this message.
    Rejected,
    /// Dead letter: about to leave the log unsent, or its content was erased.
    Expired,
    /// Dead letter: its key or event id stands for another message.
    IdempotencyConflict,
    /// The endpoint was disabled or deleted.
    Cancelled,
    /// It was a dead letter, of which somebody wants to hear no more.
    Purged,
}

impl Settlement {
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Acknowledged,
        Self::Exhausted,
        Self::Rejected,
        Self::Expired,
        Self::IdempotencyConflict,
        Self::Cancelled,
        Self::Purged,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Exhausted => "exhausted",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Cancelled => "cancelled",
            Self::Purged => "purged",
        }
    }

    pub const fn is_dead_letter(self) -> bool {
        match self {
            Self::Exhausted | Self::Rejected | Self::Expired | Self::IdempotencyConflict => true,
            Self::Delivered | Self::Acknowledged | Self::Cancelled | Self::Purged => false,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Acknowledged => 2,
            Self::Exhausted => 3,
            Self::Rejected => 4,
            Self::Expired => 5,
            Self::IdempotencyConflict => 6,
            Self::Cancelled => 7,
            Self::Purged => 8,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
            .ok_or(Malformed::Value { field: "reason", value: u64::from(code) })
    }
}

impl Fact {
    pub fn endpoint(&self) -> EndpointNumber {
        match self {
            Self::Attempted(attempt) => attempt.endpoint,
            Self::Settled { endpoint, .. }
            | Self::SettledRange { endpoint, .. }
            | Self::AnswerErased { endpoint, .. } => *endpoint,
        }
    }

    /// Whether it counts even when a newer claim has made its writer a zombie: what an endpoint received, it
    /// received (design §5). And what somebody wants to see no more is written by who holds no partition.
    pub fn survives_its_epoch(&self) -> bool {
        self.hides() || matches!(self, Self::Attempted(attempt) if attempt.outcome == Outcome::Delivered)
    }

    /// Whether it is about what may be seen, and not about deliveries.
    pub fn hides(&self) -> bool {
        matches!(self, Self::Settled { reason: Settlement::Purged, .. } | Self::AnswerErased { .. })
    }
}

impl AttemptRecord {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Claim { owner, at } => {
                let mut w = Writer::record(VERSION, KIND_CLAIM);
                w.fixed(&owner.to_be_bytes());
                w.timestamp(*at);
                w.finish()
            }
            Self::Facts { epoch, facts } => {
                let version = if facts.iter().any(Fact::hides) { VERSION_HIDING } else { VERSION };
                let mut w = Writer::record(version, KIND_FACTS);
                w.offset(*epoch);
                w.list(facts, write_fact);
                w.finish()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION_HIDING)?;
        match kind {
            KIND_CLAIM => {
                Ok(Self::Claim { owner: u128::from_be_bytes(r.fixed("owner")?), at: r.timestamp("at")? })
            }
            KIND_FACTS => Ok(Self::Facts { epoch: r.offset("epoch")?, facts: r.list("facts", read_fact)? }),
            other => Err(Malformed::Value { field: "kind", value: u64::from(other) }),
        }
    }
}

fn write_fact(w: &mut Writer, fact: &Fact) {
    match fact {
        Fact::Attempted(attempt) => {
            w.u8(1);
            w.uint(u64::from(attempt.endpoint.0));
            w.offset(attempt.offset);
            w.uint(u64::from(attempt.number));
            w.u8(u8::from(attempt.trigger == Trigger::Manual));
            w.timestamp(attempt.at);
            w.uint(micros(attempt.duration));
            w.u8(u8::from(attempt.outcome == Outcome::Delivered));
            w.uint(u64::from(attempt.status));
            w.u8(attempt.error.map_or(0, AttemptError::code));
            w.bytes(&attempt.response);
            w.option(attempt.due, Writer::timestamp);
            w.uint(micros(attempt.deadline_used));
        }
        Fact::Settled { endpoint, offset, reason, at } => {
            w.u8(2);
            w.uint(u64::from(endpoint.0));
            w.offset(*offset);
            w.u8(reason.code());
            w.timestamp(*at);
        }
        Fact::SettledRange { endpoint, from, to, reason, at } => {
            w.u8(3);
            w.uint(u64::from(endpoint.0));
            w.offset(*from);
            w.offset(*to);
            w.u8(reason.code());
            w.timestamp(*at);
        }
        Fact::AnswerErased { endpoint, offset, number, made_at, at } => {
            w.u8(4);
            w.uint(u64::from(endpoint.0));
            w.offset(*offset);
            w.uint(u64::from(*number));
            w.timestamp(*made_at);
            w.timestamp(*at);
        }
    }
}

fn read_fact(r: &mut Reader<'_>) -> Result<Fact, Malformed> {
    let kind = r.u8("fact")?;
    let endpoint = EndpointNumber(r.uint32("endpoint")?);
    Ok(match kind {
        1 => Fact::Attempted(Attempt {
            endpoint,
            offset: r.offset("offset")?,
            number: r.uint32("number")?,
            trigger: if r.u8("trigger")? == 0 { Trigger::Scheduled } else { Trigger::Manual },
            at: r.timestamp("at")?,
            duration: Duration::from_micros(r.uint("duration")?),
            outcome: if r.u8("outcome")? == 0 { Outcome::Failed } else { Outcome::Delivered },
            status: r.uint16("status")?,
            error: match r.u8("error")? {
                0 => None,
                code => Some(AttemptError::from_code(code)?),
            },
            response: Bytes::copy_from_slice(r.bytes("response")?),
            due: r.option("due", |r| r.timestamp("due"))?,
            deadline_used: Duration::from_micros(r.uint("deadline_used")?),
        }),
        2 => Fact::Settled {
            endpoint,
            offset: r.offset("offset")?,
            reason: Settlement::from_code(r.u8("reason")?)?,
            at: r.timestamp("at")?,
        },
        3 => Fact::SettledRange {
            endpoint,
            from: r.offset("from")?,
            to: r.offset("to")?,
            reason: Settlement::from_code(r.u8("reason")?)?,
            at: r.timestamp("at")?,
        },
        4 => Fact::AnswerErased {
            endpoint,
            offset: r.offset("offset")?,
            number: r.uint32("number")?,
            made_at: r.timestamp("made_at")?,
            at: r.timestamp("at")?,
        },
        other => return Err(Malformed::Value { field: "fact", value: u64::from(other) }),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
