//! What ingest counts.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{BoundCounter, BoundHistogram, Counter},
};

/// Bounds in seconds around what one sync of a disk takes.
const DURATION_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0];

pub(crate) struct Metrics {
    accepted: BoundCounter<u64>,
    repeated: BoundCounter<u64>,
    refused: Counter<u64>,
    append_duration: BoundHistogram<f64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("fanfare");
        Self {
            accepted: meter
                .u64_counter("fanfare_ingest_messages_accepted_total")
                .with_description("Messages made durable and answered 202")
                .build()
                .bind(&[]),
            repeated: meter
                .u64_counter("fanfare_ingest_messages_repeated_total")
                .with_description("Publishes answered 202 with the id of an earlier one")
                .build()
                .bind(&[]),
            refused: meter
                .u64_counter("fanfare_ingest_messages_refused_total")
                .with_description("Publishes refused, by the code of the answer")
                .build(),
            append_duration: meter
                .f64_histogram("fanfare_ingest_append_duration_seconds")
                .with_description("From the append of a message until it is durable")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build()
                .bind(&[]),
        }
    }

    pub(crate) fn accepted(&self) {
        self.accepted.add(1);
    }

    pub(crate) fn repeated(&self) {
        self.repeated.add(1);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.append_duration.record(took.as_secs_f64());
    }
}
