//! What is measured of requests that leave.

use std::time::Duration;

use fanfare_core::AttemptError;
use opentelemetry::{
    KeyValue, global,
    metrics::{BoundHistogram, BoundUpDownCounter},
};

const BOUNDARIES: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Instruments, each bound to its labels once.
#[derive(Debug)]
pub(super) struct Meters {
    delivered: BoundHistogram<f64>,
    failed: [BoundHistogram<f64>; AttemptError::ALL.len()],
    pub(super) connections: BoundUpDownCounter<i64>,
}

impl Meters {
    pub(super) fn new() -> Self {
        let meter = global::meter("fanfare_delivery");
        let duration = meter
            .f64_histogram("fanfare_delivery_send_duration_seconds")
            .with_description("From the start of an attempt to its outcome")
            .with_boundaries(BOUNDARIES.to_vec())
            .build();
        let bind = |outcome| duration.bind(&[KeyValue::new("outcome", outcome)]);
        Self {
            delivered: bind("delivered"),
            failed: AttemptError::ALL.map(|error| bind(error.as_str())),
            connections: meter
                .i64_up_down_counter("fanfare_delivery_connections_open")
                .with_description("Connections to endpoints, in use or idle")
                .build()
                .bind(&[]),
        }
    }

    pub(super) fn record(&self, error: Option<AttemptError>, duration: Duration) {
        let histogram = match error {
            None => &self.delivered,
            // `AttemptError::ALL` lists the errors in the order they are declared.
            Some(error) => &self.failed[error as usize],
        };
        histogram.record(duration.as_secs_f64());
    }
}
