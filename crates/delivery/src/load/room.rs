//! What the partitions of a process share: room for deliveries in flight, and the processor.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use fanfare_core::limits;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The process's room for deliveries in flight, in equal parts for the partitions it holds.
pub(crate) struct Room {
    in_flight: usize,
    /// Partitions that there are.
    partitions: usize,
    held: AtomicUsize,
    changed: Mutex<Instant>,
}

/// Partitions come one after the other. What is given out grows only when no more are coming: room that was given
/// comes back only when what is in flight lands.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

impl Room {
    pub(crate) fn new(in_flight: usize, partitions: u32) -> Self {
        let partitions = partitions.max(1) as usize;
        let changed = Mutex::new(Instant::now());
        Self { in_flight, partitions, held: AtomicUsize::new(0), changed }
    }

    pub(crate) fn holds(&self, partitions: usize) {
        if self.held.swap(partitions, Ordering::Relaxed) != partitions {
            *self.changed.lock() = Instant::now();
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed).max(1)
    }

    /// For a partition that was just gained: as much as it has if the process comes to hold all.
    pub(crate) fn first_share(&self) -> usize {
        (self.in_flight / self.partitions).max(1)
    }

    /// For a partition that has had `share` so far.
    pub(crate) fn share(&self, share: usize) -> usize {
        let even = (self.in_flight / self.held()).max(1);
        if even > share && self.changed.lock().elapsed() < SETTLED { share } else { even }
    }
}

/// How busy the process keeps its processors. Sampled once a second for all partitions together.
pub(crate) struct Processor {
    /// Processor time that the process has used.
    used: Option<fn() -> Duration>,
    processors: f64,
    last: Mutex<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    used: Duration,
    share: f64,
}

/// A share below it says little of what a delivery costs: keeping house is in it too.
pub(super) const BUSY: f64 = 0.5;

impl Processor {
    pub(crate) fn new(used: Option<fn() -> Duration>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let last =
            Sample { at: Instant::now(), used: used.map_or(Duration::ZERO, |used| used()), share: 0.0 };
        Self { used, processors, last: Mutex::new(last) }
    }

    pub(super) fn share(&self) -> f64 {
        let Some(used) = self.used else { return 0.0 };
        let mut last = self.last.lock();
        let elapsed = last.at.elapsed();
        if elapsed > limits::LOAD_EVERY / 2 {
            let now_used = used();
            let busy = now_used.saturating_sub(last.used).as_secs_f64();
            let share = (busy / elapsed.as_secs_f64() / self.processors).min(1.0);
            *last = Sample { at: Instant::now(), used: now_used, share };
        }
        last.share
    }
}
