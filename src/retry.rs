//! Trying again at the start, while what is needed is not there yet.

use std::time::Duration;

use fanfare_core::{Entropy, SystemEntropy};
use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(5);

/// Pauses that double until a time is up. All tries of a start share one.
pub(crate) struct Retry {
    deadline: Instant,
    pause: Duration,
}

impl Retry {
    pub(crate) fn within(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, pause: FIRST }
    }

    /// Says why something failed, and waits before the next try; false when the time is up.
    pub(crate) async fn again(&mut self, error: &(dyn std::fmt::Display + Sync)) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Processes that began together do not come back together.
        let part = u32::try_from(<dyn Entropy>::u64(&SystemEntropy) % 256).expect("it is below 256");
        let pause = (self.pause * (768 + part) / 1024).min(left);
        self.pause = (self.pause * 2).min(MOST);
        tracing::warn!(%error, retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "trying again");
        sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_end_with_the_time() {
        let mut retry = Retry::within(Duration::from_mins(1));
        let began = Instant::now();
        let mut pauses = Vec::new();
        loop {
            let before = Instant::now();
            if !retry.again(&"nobody answers").await {
                break;
            }
            pauses.push(before.elapsed());
        }
        assert_eq!(began.elapsed(), Duration::from_mins(1));
        assert!(pauses[0] >= FIRST * 3 / 4 && pauses[0] <= FIRST, "{pauses:?}");
        assert!(pauses[..5].windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= MOST), "{pauses:?}");
    }
}
