//! Latencies in histograms, and their summary.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Two digits: a value is right to 1 %, and a histogram costs some kilobytes.
const DIGITS: u8 = 2;
/// A day; what is longer counts as this.
const LONGEST_US: u64 = 86_400_000_000;

/// Latencies, in microseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// Percentiles of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub count: u64,
    pub mean_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let mut histogram = Histogram::new(DIGITS).expect("two digits are allowed");
        histogram.auto(true);
        Self { histogram }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US);
        // Not `saturating_record`: that does not grow but cuts.
        self.histogram.record(micros).expect("it grows as needed");
    }

    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both grow as needed");
    }

    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of microseconds")]
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Summary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean() as u64,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        }
    }
}

impl Summary {
    /// For people: `p50 0.42 ms, p99 1.80 ms, max 9.1 ms`.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub fn text(&self) -> String {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let [p50, p99, max] = [ms(self.p50_us), ms(self.p99_us), ms(self.max_us)];
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_any_size_are_kept_and_added() {
        let mut sum = Latencies::default();
        for from in [0, 1] {
            let mut latencies = Latencies::default();
            (from..10_000).step_by(2).for_each(|ms| latencies.record(Duration::from_millis(ms)));
            sum.add(&latencies);
        }
        sum.record(Duration::MAX);
        let Summary { count, p50_us, p99_us, max_us, .. } = sum.summary();
        assert_eq!(count, 10_001);
        assert!(
            p50_us.abs_diff(5_000_000) < 50_000 && p99_us.abs_diff(9_900_000) < 100_000,
            "{p50_us} {p99_us}"
        );
        assert!(max_us.abs_diff(LONGEST_US) < LONGEST_US / 100);
    }
}
