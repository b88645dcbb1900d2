//! A clock that never steps: what lanes reckon with.

use fanfare_core::{Clock, Timestamp};
use tokio::time::Instant;

/// Wall-clock time at its creation, carried on by the monotonic clock. A step of the wall clock does not reach
/// retries, deadlines and circuits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    base: Timestamp,
    started: Instant,
}

impl Steady {
    pub(crate) fn start(clock: &dyn Clock) -> Self {
        Self { base: clock.now(), started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.base + self.started.elapsed()
    }

    /// A time to come as the wall clock will show it: what is written down, for the next owner knows no other clock.
    pub(crate) fn by_wall(&self, at: Timestamp, clock: &dyn Clock) -> Timestamp {
        clock.now() + at.since(self.now())
    }

    /// The moment at which [`Steady::now`] reaches `at`.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.started + at.since(self.base)
    }
}
