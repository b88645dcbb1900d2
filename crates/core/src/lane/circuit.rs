//! The circuit: whether an endpoint is believed to be alive, and when an endpoint believed dead is probed.

use std::time::Duration;

use super::{Failure, FailureKind, jitter};
use crate::{Timestamp, limits};

/// An endpoint of a lane with several messages in flight is alive while it took one this recently, however many
/// others it refused: thirty in a hundred bad messages make five in a row every few hundred.
const ALIVE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    /// Nothing but probes is sent.
    Open {
        probe_at: Timestamp,
        interval: Duration,
    },
    /// One delivery at a time until the next success.
    HalfOpen {
        interval: Duration,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Circuit {
    state: State,
    consecutive_failures: u32,
    /// The last outcomes, newest in bit 0, 1 for a failure.
    window: u32,
    outcomes: u32,
    last_success: Option<Timestamp>,
    /// The endpoint named this time; nothing is sent before.
    not_before: Timestamp,
    probes: u32,
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            state: State::Closed,
            consecutive_failures: 0,
            window: 0,
            outcomes: 0,
            last_success: None,
            not_before: Timestamp::ZERO,
            probes: 0,
        }
    }
}

impl Circuit {
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// No attempt of any kind before this (Retry-After).
    pub(super) fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Probes made so far, so that they can take turns.
    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    pub(super) fn probed(&mut self) {
        self.probes = self.probes.wrapping_add(1);
    }

    /// A 2xx came. True if the circuit was open or half open: what waited is due now.
    pub(super) fn succeeded(&mut self, now: Timestamp) -> bool {
        self.record(false);
        self.consecutive_failures = 0;
        self.last_success = Some(now);
        self.not_before = Timestamp::ZERO;
        let was = self.state;
        self.state = match was {
            State::Open { interval, .. } => State::HalfOpen { interval },
            State::HalfOpen { .. } | State::Closed => State::Closed,
        };
        if was != State::Closed && self.state == State::Closed {
            self.window = 0;
            self.outcomes = 0;
        }
        was != State::Closed
    }

    /// Proof of life that does not depend on the probing order: a search has found a message that goes through.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.consecutive_failures = 0;
        self.window = 0;
        self.outcomes = 0;
    }

    /// An attempt failed. `counts`: towards opening (in lanes with several in flight each message counts once).
    /// `several`: the lane may have several in flight.
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        failure: Failure,
        counts: bool,
        several: bool,
        random: u64,
    ) {
        if let Some(wait) = failure.retry_after.filter(|_| failure.kind == FailureKind::Immediate) {
            self.not_before = self.not_before.max(now + wait.min(limits::RETRY_AFTER_MAX));
        }
        match self.state {
            State::Open { interval, probe_at } => {
                // Only an attempt made after the circuit opened is news; stragglers were sent before.
                if now >= probe_at {
                    self.open(now, (interval * 2).min(limits::PROBE_MAX), random);
                } else {
                    self.open_at_least(failure, now);
                }
            }
            State::HalfOpen { interval } => {
                if counts || failure.kind == FailureKind::Immediate {
                    self.open(now, (interval * 2).min(limits::PROBE_MAX), random);
                }
            }
            State::Closed => {
                if counts {
                    self.record(true);
                    self.consecutive_failures += 1;
                }
                if self.should_open(now, failure, several) {
                    self.open(now, limits::PROBE_FIRST, random);
                }
            }
        }
    }

    /// A new owner believes the endpoint dead, and probes it when its next retry is `due`, or sooner.
    pub(super) fn suspect(&mut self, now: Timestamp, due: Option<Timestamp>, random: u64) {
        let probe_at = now + jitter(limits::PROBE_FIRST, random);
        let probe_at = due.map_or(probe_at, |due| due.min(probe_at));
        self.state = State::Open { probe_at, interval: limits::PROBE_FIRST };
    }

    fn should_open(&self, now: Timestamp, failure: Failure, several: bool) -> bool {
        if failure.kind == FailureKind::Immediate {
            return true;
        }
        let alive = several && self.last_success.is_some_and(|at| now.since(at) < ALIVE);
        let in_a_row = self.consecutive_failures >= limits::CIRCUIT_CONSECUTIVE_FAILURES;
        let half =
            self.outcomes >= limits::CIRCUIT_WINDOW && self.window.count_ones() * 2 >= limits::CIRCUIT_WINDOW;
        !alive && (in_a_row || half)
    }

    fn open(&mut self, now: Timestamp, interval: Duration, random: u64) {
        let probe_at = (now + jitter(interval, random)).max(self.not_before);
        self.state = State::Open { probe_at, interval };
    }

    fn open_at_least(&mut self, failure: Failure, now: Timestamp) {
        if let (State::Open { probe_at, interval }, Some(wait)) = (self.state, failure.retry_after) {
            let probe_at = probe_at.max(now + wait.min(limits::RETRY_AFTER_MAX));
            self.state = State::Open { probe_at, interval };
        }
    }

    fn record(&mut self, failed: bool) {
        let mask = (1 << limits::CIRCUIT_WINDOW) - 1;
        self.window = (self.window << 1 | u32::from(failed)) & mask;
        self.outcomes = (self.outcomes + 1).min(limits::CIRCUIT_WINDOW);
    }
}
