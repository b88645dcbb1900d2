//! Whether a lane may send, and what keeps it from sending.

use super::{Lane, queue::Queue, throttle::Throttle};
use crate::{Ordering, Timestamp, Trigger};

/// Why a lane sends nothing though it has work (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeldBy {
    /// A human paused it.
    Paused,
    /// The circuit is open.
    Circuit,
    /// A failed delivery stands before the others.
    Ordering,
    /// All that is left waits for its retry.
    Retry,
    /// As much is in flight as may be.
    Window,
    /// As much was sent as may be in this time.
    Throttle,
}

impl HeldBy {
    pub const ALL: [Self; 6] =
        [Self::Paused, Self::Circuit, Self::Ordering, Self::Retry, Self::Window, Self::Throttle];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Circuit => "circuit",
            Self::Ordering => "ordering",
            Self::Retry => "retry",
            Self::Window => "window",
            Self::Throttle => "throttle",
        }
    }
}

impl Lane {
    /// Stops (`true`) or resumes all sending, without its time counting against deadlines. How long the endpoint failed
    /// before it was stopped is forgotten.
    pub fn hold(&mut self, hold: bool, now: Timestamp) {
        if !hold {
            self.failing_since = None;
        }
        self.used_micros = self.used_at(now);
        self.running_since = (!hold).then_some(now);
    }

    pub fn is_held(&self) -> bool {
        self.running_since.is_none()
    }

    /// The time that counts against deadlines.
    pub(super) fn used_at(&self, now: Timestamp) -> i64 {
        let running = self.running_since.map_or(0, |since| now.since(since).as_micros());
        self.used_micros.saturating_add(i64::try_from(running).unwrap_or(i64::MAX))
    }

    /// Why nothing is sent, if work waits.
    pub fn held_by(&self, now: Timestamp) -> Option<HeldBy> {
        let untried = self.queues.all().into_iter().any(Queue::has_startable);
        let startable = untried || self.queues.all().into_iter().any(|queue| queue.has_due_retry(now));
        if self.unsettled == self.in_flight as u64 {
            None
        } else if self.is_held() {
            Some(HeldBy::Paused)
        } else if self.is_doubted() {
            Some(HeldBy::Circuit)
        } else if self.in_flight >= self.policy.window() {
            Some(HeldBy::Window)
        } else if startable && self.throttled_until(now).is_some() {
            Some(HeldBy::Throttle)
        } else if untried {
            None
        } else if self.policy.ordering == Ordering::Unordered {
            Some(HeldBy::Retry)
        } else {
            Some(HeldBy::Ordering)
        }
    }

    /// All that may have been sent until `now` is not known: the next attempt starts an interval of the throttle later.
    pub fn throttle_from(&mut self, now: Timestamp) {
        self.throttle = self.policy.throttle_rate.map(|rate| Throttle::empty(rate, now));
    }

    /// Until when the throttle lets nothing start, if it does.
    pub(super) fn throttled_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.throttle.map(|throttle| throttle.next_at()).filter(|&at| now < at)
    }

    /// Whether the endpoint is believed not to take what waits.
    fn is_doubted(&self) -> bool {
        let routed = self.routed_waits() || self.injected.is_empty();
        let trigger = if routed { Trigger::Scheduled } else { Trigger::Manual };
        !self.queues[trigger].circuit.is_closed()
    }
}
