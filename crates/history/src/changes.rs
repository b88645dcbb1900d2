//! What a batch does to the tables, gathered in memory so that each row is written once.

mod tables;

use std::collections::BTreeMap;

use bytes::Bytes;
use fanfare_core::{
    Attempt, EndpointNumber, Message, MessageId, Offset, Partition, Timestamp,
    codec::{Malformed, Reader, Writer},
};

use crate::{
    keys::{MessageKey, Tick},
    rows::Standing,
};

const HOUR_SECS: i64 = 3_600;
const MINUTE_SECS: i64 = 60;
/// Tallies of attempts stand above those of deliveries.
pub(crate) const ATTEMPTS_BY_ANSWER: i64 = 100;

/// The topics that are projected, as `positions` and `moments` name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Messages,
    Deliveries,
    Attempts,
}

impl Source {
    pub(crate) const ALL: [Self; 3] = [Self::Messages, Self::Deliveries, Self::Attempts];

    pub(crate) const fn code(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.code() == code)
    }

    pub(crate) const fn topic(self) -> fanfare_log::Topic {
        match self {
            Self::Messages => fanfare_log::Topic::Messages,
            Self::Deliveries => fanfare_log::Topic::Deliveries,
            Self::Attempts => fanfare_log::Topic::Attempts,
        }
    }
}

/// What stands in a row of `messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Message = 0,
    Alias = 1,
    Conflict = 2,
    /// The router appended it again when it fell due; the row of the original is the one that is listed.
    Due = 3,
}

/// A row of `messages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewMessage {
    pub(crate) message: Box<Message>,
    pub(crate) kind: MessageKind,
    pub(crate) first: Option<MessageId>,
}

/// One delivery: endpoint and offset.
pub(crate) type DeliveryKey = (EndpointNumber, Offset);

/// A row of `deliveries`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) message: MessageKey,
    pub(crate) accepted: Tick,
    pub(crate) standing: Standing,
    pub(crate) attempts: u32,
    pub(crate) first_at: Option<Timestamp>,
    pub(crate) last_at: Option<Timestamp>,
    /// HTTP status of the attempt with the highest number; 0 where no answer came.
    pub(crate) last_status: Option<u16>,
    pub(crate) settled_at: Option<Tick>,
    pub(crate) due: Option<Timestamp>,
    pub(crate) job: Option<u64>,
    pub(crate) shadow: Shadow,
}

/// Whether a delivery is the one that counts for its message and endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shadow {
    Alone = 0,
    /// Another one counts.
    Shadowed = 1,
    Counts = 2,
}

impl Shadow {
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        [Self::Alone, Self::Shadowed, Self::Counts].into_iter().find(|shadow| *shadow as i64 == code)
    }
}

/// A row of `attempts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewAttempt {
    pub(crate) attempt: Attempt,
    pub(crate) message: MessageKey,
    pub(crate) again: bool,
}

/// Key of a row of `attempts`, in the order of the table.
pub(crate) type AttemptRowKey = (EndpointNumber, i64, Tick, Offset, u32);

/// Between which offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) low: Offset,
    pub(crate) high: Offset,
}

/// Key of a row of `moments`: topic, partition, injected, minute.
pub(crate) type MomentKey = (Source, Partition, bool, i64);

/// All of a batch.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) messages: BTreeMap<MessageKey, NewMessage>,
    /// Of messages of earlier batches.
    pub(crate) twins: Vec<(MessageKey, MessageKind, MessageId)>,
    /// Attempts of earlier batches whose answers are erased.
    pub(crate) erased_answers: Vec<(EndpointNumber, Tick, Offset, u32)>,
    pub(crate) routes: BTreeMap<(MessageKey, Partition, Offset), Vec<EndpointNumber>>,
    pub(crate) endpoints: BTreeMap<EndpointNumber, Partition>,
    pub(crate) deliveries: BTreeMap<DeliveryKey, State>,
    pub(crate) attempts: BTreeMap<AttemptRowKey, NewAttempt>,
    pub(crate) tallies: BTreeMap<(EndpointNumber, i64, i64), i64>,
    pub(crate) moments: BTreeMap<MomentKey, Span>,
    pub(crate) positions: BTreeMap<(Source, Partition), (Offset, Bytes)>,
}

impl Changes {
    pub(crate) fn count(&mut self, endpoint: EndpointNumber, hour: i64, what: i64, by: i64) {
        *self.tallies.entry((endpoint, hour, what)).or_default() += by;
    }

    pub(crate) fn saw(&mut self, key: MomentKey, offset: Offset) {
        let span = self.moments.entry(key).or_insert(Span { low: offset, high: offset });
        span.low = span.low.min(offset);
        span.high = span.high.max(offset);
    }
}

pub(crate) fn hour_of(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(HOUR_SECS)
}

pub(crate) fn hour_of_tick(tick: Tick) -> i64 {
    tick.time().as_secs().div_euclid(HOUR_SECS)
}

pub(crate) fn minute_of_tick(tick: Tick) -> i64 {
    tick.time().as_secs().div_euclid(MINUTE_SECS)
}

/// How an answer is sorted into `attempts`.
pub(crate) fn answer_of(attempt: &Attempt) -> i64 {
    answer(crate::filter::StatusClass::of(attempt.status).code(), attempt.due.is_some())
}

/// How many kinds there are.
pub(crate) const ANSWERS: i64 = 12;

pub(crate) const fn answer(class: i64, to_be_retried: bool) -> i64 {
    class * 2 + to_be_retried as i64
}

/// Endpoints of a route, as they stand in its row: rising numbers as differences.
pub(crate) fn encode_endpoints(endpoints: &[EndpointNumber]) -> Bytes {
    let mut w = Writer::default();
    let mut last = 0;
    w.list(endpoints, |w, number| {
        w.uint(u64::from(number.0 - last));
        last = number.0;
    });
    w.finish()
}

pub(crate) fn decode_endpoints(bytes: &[u8]) -> Result<Vec<EndpointNumber>, Malformed> {
    let mut last = 0_u32;
    Reader::new(bytes).list("endpoints", |r| {
        last = last.saturating_add(r.uint32("endpoint")?);
        Ok(EndpointNumber(last))
    })
}
