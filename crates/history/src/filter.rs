//! What lists are filtered by. An empty filter lets everything through.

use fanfare_core::{EndpointNumber, Settlement, Timestamp};

use crate::rows::Standing;

/// A JSON pointer (RFC 6901) into the payload, and the value that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub pointer: String,
    pub value: serde_json::Value,
}

/// What a message has to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// One of these; empty: any.
    pub event_types: Vec<String>,
    pub channel: Option<String>,
    pub tag: Option<String>,
    /// Accepted before.
    pub before: Option<Timestamp>,
    /// Accepted at or after.
    pub after: Option<Timestamp>,
    pub payload: Option<Pointer>,
}

/// What a delivery has to be like. The times are those of the message's acceptance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub message: MessageFilter,
    /// One of these; empty: any.
    pub standings: Vec<Standing>,
    /// Of the last answer.
    pub class: Option<StatusClass>,
}

/// What an attempt has to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    /// Its times are not of acceptance here: [`Self::before`] and [`Self::after`] count.
    pub message: MessageFilter,
    /// One of these; empty: any.
    pub statuses: Vec<AttemptStatus>,
    pub class: Option<StatusClass>,
    /// Where the list is of a message.
    pub endpoint: Option<EndpointNumber>,
    /// Made before.
    pub before: Option<Timestamp>,
    /// Made at or after.
    pub after: Option<Timestamp>,
}

/// What a dead letter has to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    pub message: MessageFilter,
    /// One of these; empty: any.
    pub reasons: Vec<Settlement>,
    /// Of the last answer.
    pub class: Option<StatusClass>,
    /// Settled before.
    pub before: Option<Timestamp>,
    /// Settled at or after.
    pub after: Option<Timestamp>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStatus {
    Delivered,
    /// Failed, and another was to follow ("sending").
    Retrying,
    /// Failed, and none was to follow.
    Failed,
}

/// 500 and above.
const LAST_CLASS: u8 = 5;

/// Hundreds of an HTTP status; 0 where no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusClass(u8);

impl StatusClass {
    /// From 0, 100, 200, 300, 400 or 500, as clients name them.
    pub fn new(class: u16) -> Option<Self> {
        let is_one = matches!(class, 0 | 100 | 200 | 300 | 400 | 500);
        u8::try_from(class / 100).ok().filter(|_| is_one).map(Self)
    }

    pub(crate) fn of(status: u16) -> Self {
        Self(u8::try_from((status / 100).min(LAST_CLASS.into())).expect("at most 5"))
    }

    /// 600 and above belong to it.
    pub(crate) const fn is_last(self) -> bool {
        self.0 == LAST_CLASS
    }

    pub(crate) const fn code(self) -> i64 {
        self.0 as i64
    }
}
