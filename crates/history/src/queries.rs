//! Answers that are more than rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use fanfare_core::{MessageEndpointId, MessageId, Offset, Settlement, Timestamp};

use crate::rows::Standing;

/// A message's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Here(Bytes),
    /// Erased, expired, or no longer kept by the log.
    Gone,
}

/// Deliveries of an endpoint by how they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub delivered: u64,
    /// Not tried yet.
    pub pending: u64,
    /// Tried in vain; will be tried again.
    pub retrying: u64,
    /// Dead letters, by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    pub cancelled: u64,
}

/// Attempts of one endpoint in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptHour {
    /// Its beginning.
    pub hour: Timestamp,
    pub delivered: u64,
    pub failed: u64,
    /// By hundreds of their HTTP status; 0 where no answer came.
    pub by_class: BTreeMap<u16, u64>,
}

/// What became of an endpoint's messages. `accepted` is the sum of all others and of `not_in_history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// What the log has for the endpoint.
    pub accepted: u64,
    pub delivered: u64,
    pub pending: u64,
    pub retrying: u64,
    pub dead_letters: BTreeMap<&'static str, u64>,
    pub cancelled: u64,
    /// The log has it, the tables do not: of them nothing is known here.
    pub not_in_history: u64,
    /// All that is accepted and not delivered.
    pub missing: Vec<Missing>,
    /// Where to go on; `None`: everything was looked at.
    pub next: Option<String>,
}

/// A message that an endpoint does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub message: MessageId,
    pub delivery: MessageEndpointId,
    pub offset: Offset,
    pub why: Why,
}

/// Why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Pending, to be tried again, dead or cancelled.
    Standing(Standing),
    NotInHistory,
}

/// For signatures: a settlement that is a dead letter goes by its name.
pub(crate) fn reason(settlement: Settlement) -> &'static str {
    settlement.as_str()
}
