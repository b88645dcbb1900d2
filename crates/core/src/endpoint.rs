//! How an endpoint wants its deliveries: the settings that lanes obey.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    limits,
    planted::{Fault, planted},
};

/// Which of an endpoint's messages wait for which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// One in flight; the next only when the previous is settled.
    #[default]
    Strict,
    /// One in flight per ordering key; messages without a key share one.
    Keyed,
    /// A window at once.
    Unordered,
}

/// Delays between the attempts of one delivery. Its sum is the delivery's deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetrySchedule {
    /// Seconds before the second, third, … attempt.
    delays_secs: Vec<u32>,
}

impl RetrySchedule {
    /// Checks count and size of the delays (see [`limits`]).
    pub fn new(delays_secs: Vec<u32>) -> Option<Self> {
        let within = delays_secs.len() <= limits::RETRY_DELAYS
            && delays_secs.iter().all(|&delay| (1..=limits::RETRY_DELAY_SECS).contains(&delay));
        within.then_some(Self { delays_secs })
    }

    pub fn delays_secs(&self) -> &[u32] {
        &self.delays_secs
    }

    /// The delay after the `failures`-th failure (1-based); past the end the last one repeats until the
    /// deadline. `None` for an empty schedule: one attempt only.
    pub fn delay_after(&self, failures: u32) -> Option<Duration> {
        let index = (failures.saturating_sub(1) as usize).min(self.delays_secs.len().checked_sub(1)?);
        Some(Duration::from_secs(u64::from(self.delays_secs[index])))
    }

    /// How long a delivery may go on failing (while its lane could send).
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.delays_secs.iter().map(|&delay| u64::from(delay)).sum())
    }
}

impl Default for RetrySchedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h: Svix's, and the example of Standard Webhooks.
    fn default() -> Self {
        Self { delays_secs: vec![5, 300, 1_800, 7_200, 18_000, 36_000, 36_000] }
    }
}

/// What a lane has to know of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub ordering: Ordering,
    pub retry_schedule: RetrySchedule,
    /// How long one message may hold up an ordered lane before proof is sought that the endpoint is alive.
    /// `None` (`block`): for ever.
    pub park_after: Option<Duration>,
    /// Deliveries at once. A `strict` lane has one whatever this says.
    pub max_in_flight: u32,
    /// Attempts a second at most, retries and probes included. `None`: as many as it takes.
    pub throttle_rate: Option<NonZeroU32>,
    /// Unsettled deliveries that a lane remembers one by one; beyond them it reads the log again later.
    pub lane_entries: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ordering: Ordering::Strict,
            retry_schedule: RetrySchedule::default(),
            park_after: Some(limits::PARK_AFTER),
            max_in_flight: limits::MAX_IN_FLIGHT_DEFAULT,
            throttle_rate: None,
            lane_entries: limits::LANE_ENTRIES,
        }
    }
}

impl Policy {
    /// Deliveries that may be in flight at once.
    pub fn window(&self) -> usize {
        match self.ordering {
            Ordering::Strict => 1 + usize::from(planted(Fault::StrictRunsAhead)),
            Ordering::Keyed | Ordering::Unordered => self.max_in_flight as usize,
        }
    }
}
