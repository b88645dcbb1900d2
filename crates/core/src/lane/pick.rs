//! What a lane starts next.

use super::{
    Class, Entry, Flight, Lane, Poll, STRICT_KEY, Settled, Start,
    circuit::State as Circuit,
    outcome::micros,
    sequence::{Search, State},
};
use crate::{Offset, Ordering, Settlement, Timestamp, limits};

/// One of so many places in the window is kept for retries; the rest go to first attempts while there are any.
const RETRY_SHARE: usize = 10;

impl Lane {
    /// What to do now. Call again after acting on the answer, until it says `Wait`. Deliveries whose deadline has
    /// passed are added to `settled`.
    pub fn poll(&mut self, now: Timestamp, settled: &mut Settled) -> Poll {
        self.expire(now, settled);
        if self.is_held() || self.next_policy.is_some() || self.in_flight >= self.policy.window() {
            return Poll::Wait(None);
        }
        if now < self.circuit.not_before() {
            return Poll::Wait(Some(self.circuit.not_before()));
        }
        if let Some(at) = self.throttled_until(now) {
            let waits = self.unsettled > self.in_flight as u64;
            return Poll::Wait(waits.then_some(at));
        }
        let poll = match self.circuit.state() {
            Circuit::HalfOpen { .. } if self.in_flight > 0 => Poll::Wait(None),
            Circuit::Closed | Circuit::HalfOpen { .. } => self.pick(now, settled),
            Circuit::Open { probe_at, .. } => self.poll_open(now, probe_at),
        };
        if let (Poll::Start(start), Some(throttle)) = (poll, &mut self.throttle) {
            throttle.started(now, start.class);
        }
        poll
    }

    fn pick(&mut self, now: Timestamp, settled: &mut Settled) -> Poll {
        if let Some(start) = self.continue_any_search(Class::Retry) {
            return Poll::Start(start);
        }
        let share = (self.policy.window() / RETRY_SHARE).max(1);
        if self.retries_in_flight < share
            && self.throttle.is_none_or(|throttle| throttle.is_turn_of_retries())
            && let Some(start) = self.start_retry(now)
        {
            return Poll::Start(start);
        }
        if let Some(start) = self.start_ready(Class::First) {
            return Poll::Start(start);
        }
        if let Some(offset) = self.pending.min() {
            if self.policy.ordering == Ordering::Keyed {
                return Poll::NeedKey(offset);
            }
            if self.make_room(settled) {
                self.pending.remove(offset);
                return Poll::Start(self.start(offset, STRICT_KEY, Class::First));
            }
        }
        match self.start_retry(now) {
            Some(start) => Poll::Start(start),
            None => Poll::Wait(self.wake_at(now)),
        }
    }

    fn poll_open(&mut self, now: Timestamp, probe_at: Timestamp) -> Poll {
        if let Some(start) = self.continue_any_search(Class::Probe) {
            return Poll::Start(start);
        }
        if self.in_flight > 0 {
            return Poll::Wait(None);
        }
        // In a `strict` lane the search is the better probe: it is not put off by the probes' growing distance.
        let search_at = match self.policy.ordering {
            Ordering::Strict => self.search_at(STRICT_KEY).map(|(_, at)| at),
            Ordering::Keyed | Ordering::Unordered => None,
        };
        let wake_at = search_at.map_or(probe_at, |at| at.min(probe_at));
        if now < wake_at {
            return Poll::Wait(Some(self.deadline_at(now).map_or(wake_at, |at| at.min(wake_at))));
        }
        self.probe(now)
    }

    /// A waiting delivery ahead of its time, to learn whether the endpoint is back. Every second probe takes one
    /// that was never tried; the others go round among those that failed.
    fn probe(&mut self, now: Timestamp) -> Poll {
        let prefer_untried = self.circuit.probes() % 2 == 1;
        if prefer_untried && let Some(poll) = self.probe_untried() {
            return poll;
        }
        if let Some(start) = self.probe_failed(now) {
            return Poll::Start(start);
        }
        if let Some(poll) = self.probe_untried() {
            return poll;
        }
        // What seemed untried had failed, by a fact read from the log.
        self.probe_failed(now).map_or(Poll::Wait(None), Poll::Start)
    }

    fn probe_untried(&mut self) -> Option<Poll> {
        if let Some(start) = self.start_ready(Class::Probe) {
            self.circuit.probed();
            return Some(Poll::Start(start));
        }
        let offset = self.pending.min()?;
        if self.policy.ordering == Ordering::Keyed {
            return Some(Poll::NeedKey(offset));
        }
        self.pending.remove(offset);
        self.circuit.probed();
        Some(Poll::Start(self.start(offset, STRICT_KEY, Class::Probe)))
    }

    fn probe_failed(&mut self, now: Timestamp) -> Option<Start> {
        let waiting = || self.retries.iter().chain(&self.overdue);
        let &(due, offset, key) = waiting()
            .filter(|(_, offset, _)| *offset > self.last_probed)
            .min_by_key(|(_, offset, _)| *offset)
            .or_else(|| waiting().min_by_key(|(_, offset, _)| *offset))?;
        if !self.retries.remove(&(due, offset, key)) {
            self.overdue.remove(&(due, offset, key));
        }
        self.last_probed = offset;
        self.circuit.probed();
        Some(self.start_head(offset, key, Class::Probe, now))
    }

    fn continue_any_search(&mut self, class: Class) -> Option<Start> {
        while let Some(key) = self.searching.pop_front() {
            let Some(sequence) = self.sequences.get_mut(&key) else { continue };
            if sequence.state != State::Searching {
                continue;
            }
            let next = sequence.search.as_ref().and_then(|search| search.next(&sequence.queue));
            let Some(offset) = next.filter(|&offset| sequence.queue.contains(offset)) else {
                self.end_search(key);
                continue;
            };
            sequence.state = State::Busy;
            return Some(self.start(offset, key, class));
        }
        None
    }

    fn start_ready(&mut self, class: Class) -> Option<Start> {
        while let Some(key) = self.ready.pop_front() {
            let Some(sequence) = self.sequences.get_mut(&key) else { continue };
            if sequence.state != State::Ready {
                continue;
            }
            // Facts may have settled or failed what was the head when the sequence was put here.
            let head = sequence.queue.min();
            let Some(head) = head.filter(|head| !self.entries.contains_key(head)) else {
                self.activate(key);
                continue;
            };
            sequence.state = State::Busy;
            return Some(self.start(head, key, class));
        }
        None
    }

    fn start_retry(&mut self, now: Timestamp) -> Option<Start> {
        let (_, offset, key) = match self.overdue.pop_first() {
            Some(retry) => retry,
            None if self.retries.first()?.0 <= now => self.retries.pop_first()?,
            None => return None,
        };
        self.excuse(offset, key, now);
        Some(self.start_head(offset, key, Class::Retry, now))
    }

    /// What a delivery has waited for the throttle does not count against its deadline.
    fn excuse(&mut self, offset: Offset, key: u64, now: Timestamp) {
        let Some(entry) = self.entries.get(&offset).filter(|_| self.throttle.is_some()) else { return };
        let Some(deadline) = entry.deadline else { return };
        let later = deadline.saturating_add(self.waited(entry, now));
        self.deadlines.remove(&(deadline, offset, key));
        self.deadlines.insert((later, offset, key));
        self.entries.get_mut(&offset).expect("looked at above").deadline = Some(later);
    }

    /// How long it has been due, in microseconds, without being kept back by the circuit.
    fn waited(&self, entry: &Entry, now: Timestamp) -> i64 {
        let since = if entry.failed < self.healed { self.healed_at } else { entry.due };
        micros(now.since(since))
    }

    /// Starts a delivery that failed before. Where it has held up others for too long, a search begins with it.
    fn start_head(&mut self, offset: Offset, key: u64, class: Class, now: Timestamp) -> Start {
        if self.policy.ordering != Ordering::Unordered {
            let searches = self.search_at(key).is_some_and(|(_, at)| at <= now);
            let sequence = self.sequences.get_mut(&key).expect("a waiting head has a sequence");
            sequence.state = State::Busy;
            sequence.search = searches.then(Search::default);
        }
        self.start(offset, key, class)
    }

    fn start(&mut self, offset: Offset, key: u64, class: Class) -> Start {
        let event = self.event;
        let entry = self.entries.entry(offset).or_insert_with(|| Entry::new(event));
        debug_assert!(entry.in_flight.is_none(), "a delivery is in flight once at most");
        entry.in_flight = Some(Flight { key, class });
        self.in_flight += 1;
        self.retries_in_flight += usize::from(class == Class::Retry);
        Start { offset, attempt_number: entry.attempts + 1, class }
    }

    /// Sees to it that another delivery of an `unordered` lane may be tried: parks those that failed longest ago
    /// when there are too many. False if none may be parked.
    fn make_room(&mut self, settled: &mut Settled) -> bool {
        if self.entries.len() < limits::LANE_ENTRIES {
            return true;
        }
        if self.policy.park_after.is_none() || !self.circuit.is_closed() {
            return false;
        }
        let mut failed: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.has_failed() && entry.in_flight.is_none())
            .map(|(&offset, entry)| (entry.first_failed_at, offset))
            .collect();
        // Many at once: finding them takes a look at all.
        let parked = (limits::LANE_ENTRIES / 64).min(failed.len());
        if parked == 0 {
            return false;
        }
        failed.select_nth_unstable(parked - 1);
        for &(_, offset) in &failed[..parked] {
            self.forget(offset, STRICT_KEY);
            settled.push((offset, Settlement::Rejected));
        }
        true
    }

    /// Settles what has been failing for as long as its schedule is.
    fn expire(&mut self, now: Timestamp, settled: &mut Settled) {
        while let Some(&(deadline, offset, key)) = self.deadlines.first() {
            let used = self.used_at(now);
            let entry = self.entries.get(&offset);
            // It was due in time, and will be tried when the throttle lets it.
            let throttled = |entry: &Entry| {
                self.throttle.is_some()
                    && self.circuit.is_closed()
                    && deadline > used.saturating_sub(self.waited(entry, now))
            };
            if deadline > used || entry.is_some_and(|entry| entry.in_flight.is_some() || throttled(entry)) {
                return;
            }
            self.forget(offset, key);
            settled.push((offset, Settlement::Exhausted));
            self.after_removal(key);
        }
    }

    /// After a delivery of a sequence was settled by other means than its own attempt.
    pub(super) fn after_removal(&mut self, key: u64) {
        if let Some(sequence) = self.sequences.get(&key)
            && matches!(sequence.state, State::Waiting | State::Empty)
        {
            self.activate(key);
            self.reschedule_head(key);
        }
    }

    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let retry = self.retries.first().map(|&(due, ..)| due);
        // One that has passed is of a delivery in flight: its end is an event of its own.
        let deadline = self.deadline_at(now).filter(|&deadline| deadline > now);
        [retry, deadline].into_iter().flatten().min()
    }

    /// When the next deadline passes, if the lane is not held until then.
    fn deadline_at(&self, now: Timestamp) -> Option<Timestamp> {
        let &(deadline, ..) = self.deadlines.first()?;
        let left = deadline.saturating_sub(self.used_at(now));
        Some(now + std::time::Duration::from_micros(u64::try_from(left).unwrap_or(0)))
    }
}
