//! What a lane starts next.

use super::{
    Class, Entry, Flight, Key, Lane, Poll, Settled, Start,
    circuit::State as Circuit,
    outcome::micros,
    sequence::{Search, State},
};
use crate::{Offset, Ordering, Settlement, Timestamp, Trigger, limits};

/// One of so many places in the window is kept for retries; the rest go to first attempts while there are any.
const RETRY_SHARE: usize = 10;
/// What was injected takes this part of the window at most: what is routed meanwhile finds room at once.
const INJECTED_SHARE: usize = 2;

impl Lane {
    /// What to do now. Call again after acting on the answer, until it says `Wait`. Deliveries whose deadline has
    /// passed are added to `settled`.
    pub fn poll(&mut self, now: Timestamp, settled: &mut Settled) -> Poll {
        self.expire(now, settled);
        if self.is_held() || self.next_policy.is_some() || self.in_flight >= self.policy.window() {
            return Poll::Wait(None);
        }
        let [routed, injected] = self.queues.all().map(|queue| queue.circuit.not_before());
        let not_before = routed.max(injected);
        if now < not_before {
            return Poll::Wait(Some(not_before));
        }
        if let Some(at) = self.throttled_until(now) {
            let waits = self.unsettled > self.in_flight as u64;
            return Poll::Wait(waits.then_some(at));
        }
        let poll = match self.poll_queue(Trigger::Scheduled, now, settled) {
            Poll::Wait(wake) if self.may_inject() => match self.poll_queue(Trigger::Manual, now, settled) {
                Poll::Wait(other) => Poll::Wait([wake, other].into_iter().flatten().min()),
                found => found,
            },
            found => found,
        };
        if let (Poll::Start(start), Some(throttle)) = (poll, &mut self.throttle) {
            throttle.started(now, start.class);
        }
        poll
    }

    /// Whether what was injected may have its turn, where nothing that was routed can be started: not at an endpoint that is
    /// believed dead. To learn whether it is back is up to what was routed, while there is any.
    fn may_inject(&self) -> bool {
        let most = (self.policy.window() / INJECTED_SHARE).max(1);
        let doubted = self.routed_waits() && !self.queues[Trigger::Scheduled].circuit.is_closed();
        !self.injected.is_empty() && !doubted && self.queues[Trigger::Manual].in_flight < most
    }

    fn poll_queue(&mut self, trigger: Trigger, now: Timestamp, settled: &mut Settled) -> Poll {
        let queue = &self.queues[trigger];
        match queue.circuit.state() {
            Circuit::HalfOpen { .. } if queue.in_flight > 0 => Poll::Wait(None),
            Circuit::Closed | Circuit::HalfOpen { .. } => self.pick(trigger, now, settled),
            Circuit::Open { probe_at, .. } => self.poll_open(trigger, now, probe_at),
        }
    }

    fn pick(&mut self, trigger: Trigger, now: Timestamp, settled: &mut Settled) -> Poll {
        if let Some(start) = self.continue_any_search(trigger, Class::Retry) {
            return Poll::Start(start);
        }
        let share = (self.policy.window() / RETRY_SHARE).max(1);
        if self.queues[trigger].retries_in_flight < share
            && self.throttle.is_none_or(|throttle| throttle.is_turn_of_retries())
            && let Some(start) = self.start_retry(trigger, now)
        {
            return Poll::Start(start);
        }
        if let Some(start) = self.start_ready(trigger, Class::First) {
            return Poll::Start(start);
        }
        if let Some(offset) = self.queues[trigger].pending.min() {
            if self.policy.ordering == Ordering::Keyed {
                return Poll::NeedKey(offset);
            }
            if self.make_room(trigger, settled) {
                self.queues[trigger].pending.remove(offset);
                return Poll::Start(self.start(offset, Key::shared(trigger), Class::First));
            }
        }
        match self.start_retry(trigger, now) {
            Some(start) => Poll::Start(start),
            None => Poll::Wait(self.wake_at(trigger, now)),
        }
    }

    fn poll_open(&mut self, trigger: Trigger, now: Timestamp, probe_at: Timestamp) -> Poll {
        if let Some(start) = self.continue_any_search(trigger, Class::Probe) {
            return Poll::Start(start);
        }
        if self.queues[trigger].in_flight > 0 {
            return Poll::Wait(None);
        }
        // In a `strict` lane the search is the better probe: it is not put off by the probes' growing distance.
        let search_at = match self.policy.ordering {
            Ordering::Strict => self.search_at(Key::shared(trigger)).map(|(_, at)| at),
            Ordering::Keyed | Ordering::Unordered => None,
        };
        let wake_at = search_at.map_or(probe_at, |at| at.min(probe_at));
        if now < wake_at {
            return Poll::Wait(Some(self.deadline_at(now).map_or(wake_at, |at| at.min(wake_at))));
        }
        self.probe(trigger, now)
    }

    /// A waiting delivery ahead of its time, to learn whether the endpoint is back. Every second probe takes one
    /// that was never tried; the others go round among those that failed.
    fn probe(&mut self, trigger: Trigger, now: Timestamp) -> Poll {
        let prefer_untried = self.queues[trigger].circuit.probes() % 2 == 1;
        if prefer_untried && let Some(poll) = self.probe_untried(trigger) {
            return poll;
        }
        if let Some(start) = self.probe_failed(trigger, now) {
            return Poll::Start(start);
        }
        if let Some(poll) = self.probe_untried(trigger) {
            return poll;
        }
        // What seemed untried had failed, by a fact read from the log.
        self.probe_failed(trigger, now).map_or(Poll::Wait(None), Poll::Start)
    }

    fn probe_untried(&mut self, trigger: Trigger) -> Option<Poll> {
        if let Some(start) = self.start_ready(trigger, Class::Probe) {
            self.queues[trigger].circuit.probed();
            return Some(Poll::Start(start));
        }
        let queue = &mut self.queues[trigger];
        let offset = queue.pending.min()?;
        if self.policy.ordering == Ordering::Keyed {
            return Some(Poll::NeedKey(offset));
        }
        queue.pending.remove(offset);
        queue.circuit.probed();
        Some(Poll::Start(self.start(offset, Key::shared(trigger), Class::Probe)))
    }

    fn probe_failed(&mut self, trigger: Trigger, now: Timestamp) -> Option<Start> {
        let queue = &mut self.queues[trigger];
        let waiting = || queue.retries.iter().chain(&queue.overdue);
        let &(due, offset, key) = waiting()
            .filter(|(_, offset, _)| *offset > queue.last_probed)
            .min_by_key(|(_, offset, _)| *offset)
            .or_else(|| waiting().min_by_key(|(_, offset, _)| *offset))?;
        queue.unschedule(due, offset, key);
        queue.last_probed = offset;
        queue.circuit.probed();
        Some(self.start_head(offset, key, Class::Probe, now))
    }

    fn continue_any_search(&mut self, trigger: Trigger, class: Class) -> Option<Start> {
        while let Some(key) = self.queues[trigger].searching.pop_front() {
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

    fn start_ready(&mut self, trigger: Trigger, class: Class) -> Option<Start> {
        while let Some(key) = self.queues[trigger].ready.pop_front() {
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

    fn start_retry(&mut self, trigger: Trigger, now: Timestamp) -> Option<Start> {
        let queue = &mut self.queues[trigger];
        let (_, offset, key) = match queue.overdue.pop_first() {
            Some(retry) => retry,
            None if queue.retries.first()?.0 <= now => queue.retries.pop_first()?,
            None => return None,
        };
        self.excuse(offset, key, now);
        Some(self.start_head(offset, key, Class::Retry, now))
    }

    /// What a delivery has waited for the throttle does not count against its deadline.
    fn excuse(&mut self, offset: Offset, key: Key, now: Timestamp) {
        let Some(entry) = self.entries.get(&offset).filter(|_| self.throttle.is_some()) else { return };
        let Some(deadline) = entry.deadline else { return };
        let later = deadline.saturating_add(self.waited(key, entry, now));
        self.deadlines.remove(&(deadline, offset, key));
        self.deadlines.insert((later, offset, key));
        self.entries.get_mut(&offset).expect("looked at above").deadline = Some(later);
    }

    /// How long it has been due, in microseconds, without being kept back by the circuit.
    fn waited(&self, key: Key, entry: &Entry, now: Timestamp) -> i64 {
        let queue = &self.queues[key.trigger()];
        let since = if entry.failed < queue.healed { queue.healed_at } else { entry.due };
        micros(now.since(since))
    }

    /// Starts a delivery that failed before. Where it has held up others for too long, a search begins with it.
    fn start_head(&mut self, offset: Offset, key: Key, class: Class, now: Timestamp) -> Start {
        if self.policy.ordering != Ordering::Unordered {
            let searches = self.search_at(key).is_some_and(|(_, at)| at <= now);
            let sequence = self.sequences.get_mut(&key).expect("a waiting head has a sequence");
            sequence.state = State::Busy;
            sequence.search = searches.then(Search::default);
        }
        self.start(offset, key, class)
    }

    fn start(&mut self, offset: Offset, key: Key, class: Class) -> Start {
        let event = self.event;
        let entry = self.entries.entry(offset).or_insert_with(|| Entry::new(event));
        debug_assert!(entry.in_flight.is_none(), "a delivery is in flight once at most");
        entry.in_flight = Some(Flight { key, class });
        self.in_flight += 1;
        let queue = &mut self.queues[key.trigger()];
        queue.in_flight += 1;
        queue.retries_in_flight += usize::from(class == Class::Retry);
        Start { offset, attempt_number: entry.attempts + 1, class }
    }

    /// Sees to it that another delivery of an `unordered` lane may be tried: parks those that failed longest ago
    /// when there are too many, but nothing that was routed for what was injected. False if none may be parked.
    fn make_room(&mut self, trigger: Trigger, settled: &mut Settled) -> bool {
        if self.entries.len() < limits::LANE_ENTRIES {
            return true;
        }
        if self.policy.park_after.is_none() || !self.queues[trigger].circuit.is_closed() {
            return false;
        }
        let mut failed: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.has_failed() && entry.in_flight.is_none())
            .filter(|(offset, _)| trigger == Trigger::Scheduled || self.injected.contains(**offset))
            .map(|(&offset, entry)| (entry.first_failed_at, offset))
            .collect();
        // Many at once: finding them takes a look at all.
        let parked = (limits::LANE_ENTRIES / 64).min(failed.len());
        if parked == 0 {
            return false;
        }
        failed.select_nth_unstable(parked - 1);
        for &(_, offset) in &failed[..parked] {
            self.forget(offset, Key::shared(self.trigger_of(offset)));
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
                    && self.queues[key.trigger()].circuit.is_closed()
                    && deadline > used.saturating_sub(self.waited(key, entry, now))
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
    pub(super) fn after_removal(&mut self, key: Key) {
        if let Some(sequence) = self.sequences.get(&key)
            && matches!(sequence.state, State::Waiting | State::Empty)
        {
            self.activate(key);
            self.reschedule_head(key);
        }
    }

    fn wake_at(&self, trigger: Trigger, now: Timestamp) -> Option<Timestamp> {
        let retry = self.queues[trigger].retries.first().map(|&(due, ..)| due);
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
