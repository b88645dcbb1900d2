//! What the receiver tells about itself.

use fanfare_core::{Ordering, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{latency::Summary, sequence::SequenceSet};

/// Everything that arrived at one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// As in its path, `/e/<number>`.
    pub number: usize,
    pub application: u32,
    pub ordering: Ordering,
    /// Whether it behaves so that every message is delivered to it in the end.
    pub takes_all: bool,
    /// Requests with a valid message; the kinds that follow are counted among them unless said otherwise.
    pub requests: u64,
    /// Messages that arrived at least once.
    pub received: u64,
    /// Messages that were answered 2xx at least once.
    pub delivered: u64,
    /// Arrivals of a message that had arrived and was not answered 2xx.
    pub retried: u64,
    /// Arrivals of a message that had been answered 2xx.
    pub repeated: u64,
    /// First arrivals behind a message that was sent after their acknowledgement.
    pub out_of_order: u64,
    /// Requests whose signature does not verify; not among `requests`.
    pub forged: u64,
    /// Signed requests whose body is not what the publisher wrote; not among `requests`.
    pub damaged: u64,
    /// Messages of another run; not among `requests`.
    pub foreign: u64,
    /// Messages of another application; not among `requests`.
    pub misrouted: u64,
    /// Arrivals under another `webhook-id` than the latest arrival of the same message anywhere.
    pub second_ids: u64,
    /// Equal at two endpoints if all first arrivals came in the same order.
    pub order_digest: String,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// From when a message was due to be published until its first arrival.
    pub latency: Summary,
    /// Empty unless asked for.
    #[serde(default)]
    pub received_sequences: SequenceSet,
    /// Empty unless asked for.
    #[serde(default)]
    pub delivered_sequences: SequenceSet,
}

/// Everything that arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Requests to paths that are no endpoint.
    pub stray: u64,
    /// Over the endpoints reported.
    pub latency: Summary,
    pub endpoints: Vec<EndpointReport>,
}

/// Sums over all endpoints, quick to ask for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub at: Timestamp,
    pub received: u64,
    pub delivered: u64,
    /// Of `delivered`, those at endpoints that take everything.
    pub delivered_where_all_taken: u64,
    pub stray: u64,
    /// CPU time of the receiver's process.
    pub cpu_us: u64,
}
