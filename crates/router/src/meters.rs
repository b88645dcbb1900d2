//! What the router counts. Bound once: an unbound instrument sorts and hashes its attributes at each call.

use opentelemetry::{
    global,
    metrics::{BoundCounter, BoundHistogram},
};

pub(crate) struct Meters {
    pub(crate) messages: BoundCounter<u64>,
    pub(crate) duplicates: BoundCounter<u64>,
    pub(crate) conflicts: BoundCounter<u64>,
    pub(crate) deliveries: BoundCounter<u64>,
    pub(crate) sessions_failed: BoundCounter<u64>,
    pub(crate) lost: BoundCounter<u64>,
    pub(crate) lag: BoundHistogram<f64>,
}

impl Meters {
    /// The process has to have set its meter provider by now: what is bound before that counts nowhere.
    pub(crate) fn new() -> Self {
        let meter = global::meter("fanfare_router");
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build().bind(&[])
        };
        Self {
            messages: counter("fanfare_router_messages_total", "messages routed, repeats not among them"),
            duplicates: counter("fanfare_router_duplicates_total", "equal twins of an earlier message"),
            conflicts: counter(
                "fanfare_router_conflicts_total",
                "messages whose key or event id stands for another",
            ),
            deliveries: counter(
                "fanfare_router_deliveries_total",
                "delivery records written, one per delivery partition touched",
            ),
            sessions_failed: counter(
                "fanfare_router_sessions_failed_total",
                "sessions that ended before they were told to",
            ),
            lost: counter(
                "fanfare_router_lost_total",
                "offsets that left the log before they were routed, an upper bound",
            ),
            lag: meter
                .f64_histogram("fanfare_router_lag_seconds")
                .with_description("from a message's acceptance until it was routed, oldest of each batch")
                .with_unit("s")
                .with_boundaries(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0,
                ])
                .build()
                .bind(&[]),
        }
    }
}
