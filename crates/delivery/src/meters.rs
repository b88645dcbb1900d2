//! What the workers of this process count.

use std::{collections::HashMap, time::Duration};

use fanfare_control::OperationalEvent;
use fanfare_core::{AttemptError, Settlement};
use opentelemetry::{
    KeyValue, global,
    metrics::{BoundCounter, BoundHistogram, Gauge, Meter},
};

/// Bound once: counting is one addition.
pub(crate) struct Meters {
    delivered: BoundCounter<u64>,
    failed: HashMap<AttemptError, BoundCounter<u64>>,
    settled: HashMap<Settlement, BoundCounter<u64>>,
    told: HashMap<OperationalEvent, BoundCounter<u64>>,
    pub(crate) repeats: BoundCounter<u64>,
    pub(crate) gaps: BoundCounter<u64>,
    pub(crate) losses: BoundCounter<u64>,
    pub(crate) deferred: BoundCounter<u64>,
    pub(crate) late: BoundCounter<u64>,
    latency: BoundHistogram<f64>,
    backlog: Gauge<u64>,
    oldest_age: Gauge<f64>,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self::of(&global::meter("fanfare_delivery"))
    }

    pub(crate) fn of(meter: &Meter) -> Self {
        let attempts = meter
            .u64_counter("fanfare_delivery_attempts_total")
            .with_description("Attempts by outcome: delivered, or why not")
            .build();
        let settled = meter
            .u64_counter("fanfare_delivery_settled_total")
            .with_description("Deliveries settled, by reason")
            .build();
        let told = meter
            .u64_counter("fanfare_delivery_operational_webhooks_total")
            .with_description("Messages published to operational webhooks, by event")
            .build();
        let intake = meter
            .u64_counter("fanfare_delivery_records_refused_total")
            .with_description(
                "Delivery records the tail refused: repeats of a router, gaps after a failed append",
            )
            .build();
        let losses = meter
            .u64_counter("fanfare_delivery_losses_total")
            .with_description("Places where the log lost records that a router knew as sent")
            .build();
        let deferred = meter
            .u64_counter("fanfare_delivery_deferred_total")
            .with_description("Starts put off because the process sends as much as it may")
            .build();
        let late = meter
            .u64_counter("fanfare_delivery_possible_repeats_total")
            .with_description(
                "Attempts given up at a deadline while in flight: their messages may arrive twice",
            )
            .build();
        let latency = meter
            .f64_histogram("fanfare_delivery_latency_seconds")
            .with_description("From acceptance to the first successful answer")
            .with_unit("s")
            .with_boundaries(vec![
                0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
                3600.0,
            ])
            .build();
        Self {
            delivered: attempts.bind(&[KeyValue::new("outcome", "delivered")]),
            failed: AttemptError::ALL
                .map(|error| (error, attempts.bind(&[KeyValue::new("outcome", error.as_str())])))
                .into(),
            settled: Settlement::ALL
                .map(|reason| (reason, settled.bind(&[KeyValue::new("reason", reason.as_str())])))
                .into(),
            told: OperationalEvent::ALL
                .map(|event| (event, told.bind(&[KeyValue::new("event", event.as_str())])))
                .into(),
            repeats: intake.bind(&[KeyValue::new("reason", "repeat")]),
            gaps: intake.bind(&[KeyValue::new("reason", "gap")]),
            losses: losses.bind(&[]),
            deferred: deferred.bind(&[]),
            late: late.bind(&[]),
            latency: latency.bind(&[]),
            backlog: meter
                .u64_gauge("fanfare_delivery_backlog_messages")
                .with_description(
                    "Deliveries not settled, by partition and what holds them (workable: nothing)",
                )
                .build(),
            oldest_age: meter
                .f64_gauge("fanfare_delivery_oldest_age_seconds")
                .with_description("Age of the oldest delivery that could be sent now, by partition")
                .with_unit("s")
                .build(),
        }
    }

    pub(crate) fn attempt(&self, error: Option<AttemptError>) {
        match error {
            None => self.delivered.add(1),
            Some(error) => self.failed[&error].add(1),
        }
    }

    pub(crate) fn settled(&self, reason: Settlement, count: u64) {
        self.settled[&reason].add(count);
    }

    pub(crate) fn told(&self, event: OperationalEvent) {
        self.told[&event].add(1);
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.latency.record(latency.as_secs_f64());
    }

    pub(crate) fn backlog(&self, partition: u32, held_by: &'static str, count: u64) {
        let labels = [KeyValue::new("partition", i64::from(partition)), KeyValue::new("held_by", held_by)];
        self.backlog.record(count, &labels);
    }

    pub(crate) fn oldest_age(&self, partition: u32, age: Duration) {
        self.oldest_age.record(age.as_secs_f64(), &[KeyValue::new("partition", i64::from(partition))]);
    }
}
