//! Wall-clock time of a simulated machine: virtual time plus its own error, which may step.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use fanfare_core::{Clock, Timestamp};
use tokio::time::Instant;

const BASE_MICROS: i64 = 1_760_000_000_000_000;

pub(crate) struct SimClock {
    start: Instant,
    skew_micros: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, skew_micros: AtomicI64::new(0) }
    }

    /// Steps ahead, or back.
    pub(crate) fn step(&self, by: Duration, back: bool) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.skew_micros.fetch_add(if back { -micros } else { micros }, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.start.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(BASE_MICROS + elapsed + self.skew_micros.load(Ordering::Relaxed))
    }
}
