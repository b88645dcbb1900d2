//! Compares what the publisher saw acknowledged with what the receiver saw arrive.

use std::collections::HashMap;

use fanfare_core::Ordering;
use serde::{Deserialize, Serialize};

use crate::{receiver::Report, sequence::SequenceSet};

/// Messages named as examples of what went wrong.
const EXAMPLES: usize = 10;

/// What came of a run, over the endpoints of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Messages acknowledged with 202.
    pub accepted: u64,
    /// Deliveries that follow from them: accepted × endpoints of the application.
    pub expected: u64,
    /// Deliveries of which the message arrived.
    pub received: u64,
    /// Deliveries that were answered 2xx.
    pub delivered: u64,
    /// Acknowledged, never arrived.
    pub lost: u64,
    /// Acknowledged, arrived, never answered 2xx, at endpoints that take everything.
    pub undelivered: u64,
    /// Arrived though the publisher has no acknowledgement: its connection broke before the answer.
    pub unacknowledged: u64,
    /// Arrivals after an arrival that was answered 2xx.
    pub repeated: u64,
    /// Arrivals after one that was answered otherwise.
    pub retried: u64,
    pub out_of_order: u64,
    /// `strict` endpoints that saw the same messages in another order than the first of their application.
    pub disagreeing: u64,
    pub forged: u64,
    pub damaged: u64,
    pub foreign: u64,
    pub misrouted: u64,
    /// Messages that arrived under two ids: one message became two.
    pub second_ids: u64,
    /// Some of what was lost or not delivered, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Nothing lost, out of order, changed, doubled or astray. Repeats are allowed: at least once.
    pub fn is_clean(&self) -> bool {
        let faults = [
            self.lost,
            self.undelivered,
            self.out_of_order,
            self.disagreeing,
            self.forged,
            self.damaged,
            self.foreign,
            self.misrouted,
            self.second_ids,
        ];
        faults.iter().all(|&count| count == 0)
    }
}

/// Judges the endpoints in `report`, which must hold the sequences. `accepted`: per application.
pub fn judge(accepted: &[SequenceSet], report: &Report) -> Verdict {
    let mut verdict = Verdict { accepted: accepted.iter().map(SequenceSet::len).sum(), ..Verdict::default() };
    let nothing = SequenceSet::default();
    // Of `strict` endpoints that received equally many messages of an application, the first one's order.
    let mut orders: HashMap<(u32, u64), &str> = HashMap::new();
    for endpoint in &report.endpoints {
        let accepted = accepted.get(endpoint.application as usize).unwrap_or(&nothing);
        let received = &endpoint.received_sequences;
        verdict.expected += accepted.len();
        verdict.received += endpoint.received;
        verdict.delivered += endpoint.delivered;
        verdict.unacknowledged += received.missing_from(accepted);
        verdict.repeated += endpoint.repeated;
        verdict.retried += endpoint.retried;
        verdict.out_of_order += endpoint.out_of_order;
        verdict.forged += endpoint.forged;
        verdict.damaged += endpoint.damaged;
        verdict.foreign += endpoint.foreign;
        verdict.misrouted += endpoint.misrouted;
        verdict.second_ids += endpoint.second_ids;

        let lost = accepted.missing_from(received);
        verdict.lost += lost;
        if endpoint.takes_all {
            verdict.undelivered += accepted.missing_from(&endpoint.delivered_sequences) - lost;
        }
        let wanted = if endpoint.takes_all { &endpoint.delivered_sequences } else { received };
        let room = EXAMPLES - verdict.examples.len();
        verdict.examples.extend(accepted.iter().filter(|&seq| !wanted.contains(seq)).take(room).map(|seq| {
            let what = if received.contains(seq) { "not delivered" } else { "lost" };
            format!(
                "message {seq} of application {} at endpoint {}: {what}",
                endpoint.application, endpoint.number
            )
        }));
        if endpoint.ordering == Ordering::Strict {
            let order =
                orders.entry((endpoint.application, endpoint.received)).or_insert(&endpoint.order_digest);
            verdict.disagreeing += u64::from(*order != endpoint.order_digest);
        }
    }
    verdict
}
