//! What history counts.

use std::time::Duration;

use opentelemetry::{
    global,
    metrics::{BoundCounter, BoundHistogram, Gauge},
};

pub(crate) struct Meters {
    lag_records: Gauge<u64>,
    lag_seconds: Gauge<f64>,
    records: BoundCounter<u64>,
    write: BoundHistogram<f64>,
    pub(crate) failures: BoundCounter<u64>,
}

impl Meters {
    /// The process has to have set its meter provider by now.
    pub(crate) fn new() -> Self {
        let meter = global::meter("fanfare_history");
        Self {
            lag_records: meter
                .u64_gauge("fanfare_history_lag_records")
                .with_description("records of the log that are not in the tables yet")
                .build(),
            lag_seconds: meter
                .f64_gauge("fanfare_history_lag_seconds")
                .with_description("how old what came last into the tables is, while there is more")
                .with_unit("s")
                .build(),
            records: meter
                .u64_counter("fanfare_history_records_total")
                .with_description("records of the log projected into the tables")
                .build()
                .bind(&[]),
            write: meter
                .f64_histogram("fanfare_history_write_seconds")
                .with_description("one transaction: the rows of a batch, and its positions")
                .with_unit("s")
                .with_boundaries(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
                .build()
                .bind(&[]),
            failures: meter
                .u64_counter("fanfare_history_failures_total")
                .with_description("times that the tables could not be read or written; it is tried again")
                .build()
                .bind(&[]),
        }
    }

    pub(crate) fn lag(&self, records: u64, seconds: Duration) {
        self.lag_records.record(records, &[]);
        self.lag_seconds.record(seconds.as_secs_f64(), &[]);
    }

    pub(crate) fn written(&self, records: usize, within: Duration) {
        self.records.add(records as u64);
        self.write.record(within.as_secs_f64());
    }
}
