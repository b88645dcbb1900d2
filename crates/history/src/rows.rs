//! What is read out of the tables.

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{
    AttemptError, AttemptId, EndpointNumber, MessageEndpointId, MessageId, Offset, Settlement, Timestamp,
    Trigger,
};

use crate::{filter::AttemptStatus, keys::MessageKey};

/// A message without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    pub id: MessageId,
    pub key: MessageKey,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    pub tags: Vec<String>,
    pub ordering_key: Option<String>,
    pub accepted_at: Timestamp,
    pub deliver_at: Option<Timestamp>,
    /// Its payload is hidden from here on.
    pub expires_at: Option<Timestamp>,
    /// 64 bits that stand for the application.
    pub application: u64,
    pub twin: Option<Twin>,
}

/// What became of a publish whose key or event id stood for another message already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// The same again: reads by its id find the first.
    Alias { first: MessageId },
    /// Another one: a dead letter `idempotency_conflict`.
    Conflict { first: MessageId },
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not tried yet.
    Pending,
    /// Tried in vain; will be tried again.
    Retrying,
    Settled(Settlement),
}

impl Standing {
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Retrying,
        Self::Settled(Settlement::Delivered),
        Self::Settled(Settlement::Acknowledged),
        Self::Settled(Settlement::Exhausted),
        Self::Settled(Settlement::Rejected),
        Self::Settled(Settlement::Expired),
        Self::Settled(Settlement::IdempotencyConflict),
        Self::Settled(Settlement::Cancelled),
        Self::Settled(Settlement::Purged),
    ];

    /// In the tables.
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Retrying => 1,
            Self::Settled(Settlement::Delivered) => 10,
            Self::Settled(Settlement::Acknowledged) => 11,
            Self::Settled(Settlement::Exhausted) => 20,
            Self::Settled(Settlement::Rejected) => 21,
            Self::Settled(Settlement::Expired) => 22,
            Self::Settled(Settlement::IdempotencyConflict) => 23,
            Self::Settled(Settlement::Cancelled) => 30,
            Self::Settled(Settlement::Purged) => 31,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.code() == code)
    }

    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Settled(_))
    }

    pub const fn is_dead_letter(self) -> bool {
        matches!(self, Self::Settled(reason) if reason.is_dead_letter())
    }
}

/// One message on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    pub id: MessageEndpointId,
    pub endpoint: EndpointNumber,
    /// In the endpoint's partition of `deliveries`.
    pub offset: Offset,
    pub message: MessageRow,
    pub standing: Standing,
    pub attempts: u32,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    /// Of the last attempt: an HTTP status, 0 where no answer came.
    pub last_status: Option<u16>,
    pub settled_at: Option<Timestamp>,
    /// When it will be tried again.
    pub due: Option<Timestamp>,
    /// The job that injected it (replay, resend, recover).
    pub job: Option<u64>,
}

/// One HTTP try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    pub id: AttemptId,
    pub endpoint: EndpointNumber,
    pub offset: Offset,
    /// 1-based.
    pub number: u32,
    pub message: MessageRow,
    pub at: Timestamp,
    pub duration: Duration,
    pub status: AttemptStatus,
    /// 0 where no answer came.
    pub http_status: u16,
    pub error: Option<AttemptError>,
    pub trigger: Trigger,
    /// When the delivery was to be tried again.
    pub due: Option<Timestamp>,
    /// The beginning of the answer's body.
    pub response: Bytes,
}

pub(crate) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
