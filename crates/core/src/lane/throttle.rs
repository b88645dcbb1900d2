//! The throttle: how many attempts an endpoint is sent a second at most.
//!
//! A bucket of tokens, kept as the one moment at which it would be full again. Starting an attempt moves that moment on
//! by an interval (a second over the rate); an attempt may start while the moment is at most [`limits::THROTTLE_SLACK`]
//! away. So in any time t at most `1 + rate × (t + slack)` attempts start: one at a time at small rates, and where a
//! timer comes late the next ones make up for it.
//!
//! Nothing of it is written down. A new owner begins with an empty bucket: whatever the one before it started last, also
//! what no fact tells of, the bound holds across the two. It costs an interval, which is a second at most.

use std::{num::NonZeroU32, time::Duration};

use super::Class;
use crate::{Timestamp, limits};

const SECOND_MICROS: u32 = 1_000_000;
/// Of so many starts one goes to a retry while first attempts wait: as in the window of a lane without throttle.
const RETRY_SHARE: u8 = 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    rate: NonZeroU32,
    full_at: Timestamp,
    /// What `full_at` leaves out, in parts of a microsecond of which there are `rate`.
    remainder: u32,
    /// First attempts since the last retry, as far as they matter.
    firsts: u8,
}

impl Throttle {
    /// For an endpoint to which nothing was sent for a while.
    pub(super) fn full(rate: NonZeroU32) -> Self {
        Self { rate, full_at: Timestamp::ZERO, remainder: 0, firsts: RETRY_SHARE }
    }

    /// Where it is not known what was sent until `now`.
    pub(super) fn empty(rate: NonZeroU32, now: Timestamp) -> Self {
        let mut throttle = Self::full(rate);
        throttle.full_at = now + limits::THROTTLE_SLACK;
        throttle.add_interval();
        throttle
    }

    /// The same endpoint's throttle with a rate that was set now, or `None` for none.
    pub(super) fn changed(before: Option<Self>, rate: Option<NonZeroU32>, now: Timestamp) -> Option<Self> {
        let empty = Self::empty(rate?, now);
        Some(match before {
            Some(before) if before.rate == empty.rate => before,
            // Nobody waits longer than an interval of the new rate.
            Some(before) => Self { full_at: before.full_at.min(empty.full_at), ..empty },
            None => empty,
        })
    }

    /// When the next attempt may start.
    pub(super) fn next_at(&self) -> Timestamp {
        let rounded_up = self.full_at + Duration::from_micros(u64::from(self.remainder > 0));
        rounded_up - limits::THROTTLE_SLACK
    }

    /// Whether a retry comes before first attempts.
    pub(super) fn is_turn_of_retries(&self) -> bool {
        self.firsts >= RETRY_SHARE - 1
    }

    /// An attempt starts now.
    pub(super) fn started(&mut self, now: Timestamp, class: Class) {
        if self.full_at < now {
            (self.full_at, self.remainder) = (now, 0);
        }
        self.add_interval();
        self.firsts = match class {
            Class::First => self.firsts.saturating_add(1),
            Class::Retry | Class::Probe => 0,
        };
    }

    fn add_interval(&mut self) {
        let rate = self.rate.get();
        let mut micros = SECOND_MICROS / rate;
        let remainder = u64::from(self.remainder) + u64::from(SECOND_MICROS % rate);
        if remainder >= u64::from(rate) {
            micros += 1;
        }
        self.remainder = u32::try_from(remainder % u64::from(rate)).expect("it is less than the rate");
        self.full_at = self.full_at + Duration::from_micros(u64::from(micros));
    }
}
