//! When something is done again and again.

use std::time::Duration;

use fanfare_core::Partition;
use tokio::time::Instant;

/// At once, and then at every interval. A process's partitions, which begin together, spread over it after the first
/// time: what they ask of the log at the same moment, deliveries would wait behind.
pub(super) struct Cadence {
    every: Duration,
    due: Instant,
    /// So much sooner comes the second time.
    ahead: Duration,
}

impl Cadence {
    pub(super) fn new(every: Duration, partition: Partition) -> Self {
        // Bits reversed: however many partitions there are, they stand evenly apart (van der Corput's sequence).
        let share = f64::from(partition.0.reverse_bits()) / 2_f64.powi(32);
        Self { every, due: Instant::now(), ahead: every.mul_f64(share) }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// It is done now.
    pub(super) fn done(&mut self) {
        self.due = Instant::now() + self.every - std::mem::take(&mut self.ahead);
    }

    pub(super) fn not_after(&mut self, at: Instant) {
        self.due = self.due.min(at);
    }

    pub(super) fn not_before(&mut self, at: Instant) {
        self.due = self.due.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn partitions_that_begin_together_spread_over_the_interval_and_stay_so() {
        let every = Duration::from_secs(8);
        let start = Instant::now();
        let mut cadences: Vec<Cadence> =
            (0..4).map(|number| Cadence::new(every, Partition(number))).collect();
        assert!(cadences.iter().all(|cadence| cadence.due() == start), "the first time is at once");
        let after = |cadences: &[Cadence]| -> Vec<u64> {
            cadences.iter().map(|cadence| cadence.due().duration_since(start).as_secs()).collect()
        };
        cadences.iter_mut().for_each(Cadence::done);
        assert_eq!(after(&cadences), [8, 4, 6, 2]);
        for cadence in &mut cadences {
            tokio::time::sleep_until(start + every).await;
            cadence.done();
        }
        assert_eq!(after(&cadences), [16; 4], "later it is the interval, whenever it was done");
    }
}
