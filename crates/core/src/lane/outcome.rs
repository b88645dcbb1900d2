//! What an attempt's outcome does to a lane: circuit, retry, deadline, poison.

use std::time::Duration;

use super::{Class, Failure, FailureKind, Finished, Flight, Key, Lane, Settled, Verdict, jitter, sequence};
use crate::{
    Offset, Ordering, Settlement, Timestamp, Trigger, limits,
    planted::{Fault, planted},
};

impl Lane {
    /// Enters the outcome of a started attempt. `random` spreads retries. Deliveries that this settles besides a
    /// success's own are added to `settled`.
    pub fn finished(
        &mut self,
        offset: Offset,
        finished: Finished,
        now: Timestamp,
        random: u64,
        settled: &mut Settled,
    ) -> Verdict {
        let Some(flight) = self.land(offset) else { return Verdict::default() };
        let verdict = match finished {
            Finished::Abandoned => {
                self.put_back(offset, flight);
                Verdict::default()
            }
            Finished::Delivered => {
                self.delivered(offset, flight, now);
                Verdict::default()
            }
            Finished::Failed(failure) => self.failed(offset, flight, failure, now, random, settled),
        };
        self.adopt_policy(now);
        verdict
    }

    /// Takes the attempt off the list of those in flight.
    fn land(&mut self, offset: Offset) -> Option<Flight> {
        let entry = self.entries.get_mut(&offset)?;
        let flight = entry.in_flight.take()?;
        self.in_flight -= 1;
        let queue = &mut self.queues[flight.key.trigger()];
        queue.in_flight -= 1;
        queue.retries_in_flight -= usize::from(flight.class == Class::Retry);
        self.event += 1;
        if entry.settled_elsewhere {
            self.forget(offset, flight.key);
            self.end_search(flight.key);
            return None;
        }
        Some(flight)
    }

    fn put_back(&mut self, offset: Offset, flight: Flight) {
        let entry = self.entries.get(&offset).expect("it was in flight a moment ago");
        let (due, tried) = (entry.due, entry.has_failed());
        if !tried {
            self.entries.remove(&offset);
        }
        let queue = &mut self.queues[flight.key.trigger()];
        match (self.policy.ordering, tried) {
            (Ordering::Unordered, true) => {
                queue.retries.insert((due, offset, flight.key));
            }
            (Ordering::Unordered, false) => {
                queue.pending.insert(offset);
            }
            (Ordering::Strict | Ordering::Keyed, _) => self.end_search(flight.key),
        }
    }

    fn delivered(&mut self, offset: Offset, flight: Flight, now: Timestamp) {
        self.failing_since = None;
        self.forget(offset, flight.key);
        self.succeeded(flight.key.trigger(), now);
        if self.policy.ordering == Ordering::Unordered {
            return;
        }
        self.note_success(flight.key);
        let Some(sequence) = self.sequences.get_mut(&flight.key) else { return };
        sequence.parked_last = false;
        match &mut sequence.search {
            Some(search) if !search.failed.is_empty() => {
                // Proof of life: what failed in this search is tried once more, and parked if it fails again.
                search.confirming = Some(search.confirming.map_or(0, |index| index + 1));
                let trigger = flight.key.trigger();
                self.queues[trigger].circuit.close();
                self.heal(trigger, now);
                self.continue_search(flight.key, now);
            }
            _ => self.end_search(flight.key),
        }
    }

    /// What was injected and came through shows that the endpoint is alive. What was routed and came through says nothing of
    /// what was injected: those may be the very messages that the endpoint refuses.
    fn succeeded(&mut self, trigger: Trigger, now: Timestamp) {
        if self.queues[trigger].circuit.succeeded(now) {
            self.heal(trigger, now);
        }
        let routed = &mut self.queues[Trigger::Scheduled].circuit;
        if trigger == Trigger::Manual && !routed.is_closed() && routed.succeeded(now) {
            self.heal(Trigger::Scheduled, now);
        }
    }

    fn failed(
        &mut self,
        offset: Offset,
        flight: Flight,
        failure: Failure,
        now: Timestamp,
        random: u64,
        settled: &mut Settled,
    ) -> Verdict {
        self.failing_since.get_or_insert(now);
        let strict = self.policy.ordering == Ordering::Strict;
        let in_search = self.sequences.get(&flight.key).is_some_and(|sequence| sequence.search.is_some())
            && !self.unordered();
        let entry = self.entries.get_mut(&offset).expect("it was in flight a moment ago");
        let first_failure = !entry.has_failed();
        let failed_before = std::mem::replace(&mut entry.failed, self.event);
        entry.attempts += 1;
        entry.first_failed_at = entry.first_failed_at.min(now);
        let counts = !in_search && (strict || first_failure);
        self.queues[flight.key.trigger()].circuit.failed(now, failure, counts, !strict, random);

        if self.is_proven_poison(offset, flight.key, failed_before, failure) {
            return self.park(offset, flight.key, now, settled);
        }
        self.start_deadline(offset, flight.key, now);
        let Some(due) = self.due_after_failure(offset, failure, now, random) else {
            return self.exhaust(offset, flight.key, now, settled);
        };
        let deadline_used = self.deadline_used(offset, now);
        if deadline_used >= self.deadline() {
            return self.exhaust(offset, flight.key, now, settled);
        }
        self.entries.get_mut(&offset).expect("still unsettled").due = due;
        if self.unordered() {
            self.queues[flight.key.trigger()].retries.insert((due, offset, flight.key));
        } else if in_search {
            self.search_failed(offset, flight.key, failure, now);
        } else {
            self.activate(flight.key);
            self.reschedule_head(flight.key);
        }
        let due = self.entries.get(&offset).map(|entry| entry.due);
        Verdict { due, deadline_used }
    }

    fn unordered(&self) -> bool {
        self.policy.ordering == Ordering::Unordered
    }

    /// Whether this failure proves that it is the message and not the endpoint: a search has just found the endpoint
    /// alive; or the key's last head was parked and another key went through since this one's last failure.
    fn is_proven_poison(&self, offset: Offset, key: Key, failed_before: u64, failure: Failure) -> bool {
        // No connection, or a plea for a pause: that is the endpoint.
        if self.policy.park_after.is_none() || self.unordered() || failure.kind == FailureKind::Immediate {
            return false;
        }
        let (Some(sequence), Some(entry)) = (self.sequences.get(&key), self.entries.get(&offset)) else {
            return false;
        };
        if sequence.search.as_ref().is_some_and(|search| search.confirming.is_some()) {
            // The proof speaks for what had failed before it, not for what failed since.
            return self.went_through(failed_before) || planted(Fault::ParkedWithoutProof);
        }
        sequence.parked_last
            && entry.attempts > 3
            && sequence.queue.min() == Some(offset)
            && self.went_through_elsewhere(key, failed_before)
    }

    fn park(&mut self, offset: Offset, key: Key, now: Timestamp, settled: &mut Settled) -> Verdict {
        let deadline_used = self.deadline_used(offset, now);
        self.forget(offset, key);
        settled.push((offset, Settlement::Rejected));
        if let Some(sequence) = self.sequences.get_mut(&key) {
            sequence.parked_last = true;
            match &mut sequence.search {
                Some(search) if search.confirming.is_some() => {
                    search.confirming = search.confirming.map(|index| index + 1);
                    self.continue_search(key, now);
                }
                _ => self.end_search(key),
            }
        }
        Verdict { due: None, deadline_used }
    }

    fn exhaust(&mut self, offset: Offset, key: Key, now: Timestamp, settled: &mut Settled) -> Verdict {
        let deadline_used = self.deadline_used(offset, now);
        self.forget(offset, key);
        settled.push((offset, Settlement::Exhausted));
        self.end_search(key);
        Verdict { due: None, deadline_used }
    }

    fn search_failed(&mut self, offset: Offset, key: Key, failure: Failure, now: Timestamp) {
        let event = self.event;
        let sequence = self.sequences.get_mut(&key).expect("a search belongs to a sequence");
        let search = sequence.search.as_mut().expect("the caller saw it");
        if search.confirming.is_some() {
            // It failed after the proof, and again: an outage may have begun.
            sequence.searched_at = Some(now);
            self.end_search(key);
            return;
        }
        search.failed.push(offset);
        // What went through before the head failed again says nothing of now: an outage may have begun.
        let since = *search.since.get_or_insert(event);
        let alive = self.went_through_elsewhere(key, since) || planted(Fault::ParkedWithoutProof);
        let sequence = self.sequences.get_mut(&key).expect("looked at above");
        let search = sequence.search.as_mut().expect("looked at above");
        // No connection, a plea for a pause, or as many failures as are worth trying: an outage.
        if failure.kind == FailureKind::Immediate || search.failed.len() > limits::POISON_SEARCH {
            sequence.searched_at = Some(now);
            self.end_search(key);
            return;
        }
        // Another key's success is proof as good as a follower's.
        if alive {
            search.confirming = Some(0);
        }
        self.continue_search(key, now);
    }

    /// Queues the search's next attempt, or ends it when there is none.
    fn continue_search(&mut self, key: Key, now: Timestamp) {
        let Some(sequence) = self.sequences.get_mut(&key) else { return };
        let Some(search) = &mut sequence.search else { return };
        // What was settled by other means needs no confirmation.
        while let Some(index) = search.confirming {
            match search.failed.get(index) {
                Some(&offset) if !sequence.queue.contains(offset) => search.confirming = Some(index + 1),
                _ => break,
            }
        }
        if search.next(&sequence.queue).is_some() {
            sequence.state = sequence::State::Searching;
            self.queues[key.trigger()].searching.push_back(key);
            return;
        }
        if search.confirming.is_none() {
            sequence.searched_at = Some(now);
        }
        self.end_search(key);
    }

    /// Back to normal: also right where no search was on.
    pub(super) fn end_search(&mut self, key: Key) {
        if let Some(sequence) = self.sequences.get_mut(&key) {
            sequence.search = None;
            self.activate(key);
            self.reschedule_head(key);
        }
    }

    /// The endpoint is alive: what waited for that is due.
    pub(super) fn heal(&mut self, trigger: Trigger, now: Timestamp) {
        let queue = &mut self.queues[trigger];
        queue.healed = self.event + 1;
        queue.healed_at = now;
        queue.overdue.append(&mut queue.retries);
    }

    fn note_success(&mut self, key: Key) {
        let new = Some((self.event, key));
        match self.successes[0] {
            Some((_, latest)) if latest != key => self.successes = [new, self.successes[0]],
            _ => self.successes[0] = new,
        }
    }

    /// Whether any delivery of an ordered lane succeeded after this event.
    fn went_through(&self, event: u64) -> bool {
        self.successes.into_iter().flatten().any(|(at, _)| at > event)
    }

    /// Whether a delivery with another key succeeded after this event.
    fn went_through_elsewhere(&self, key: Key, event: u64) -> bool {
        self.successes.into_iter().flatten().any(|(at, other)| other != key && at > event)
    }

    /// The deadline runs from the first failure of a delivery that is tried in its turn.
    fn start_deadline(&mut self, offset: Offset, key: Key, now: Timestamp) {
        let in_turn = self.unordered()
            || self.sequences.get(&key).is_some_and(|sequence| sequence.queue.min() == Some(offset));
        let deadline = self.used_at(now).saturating_add(micros(self.deadline()));
        let entry = self.entries.get_mut(&offset).expect("the caller holds it");
        if in_turn && entry.deadline.is_none() {
            entry.deadline = Some(deadline);
            self.deadlines.insert((deadline, offset, key));
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        let before_schedule: Duration = limits::ORDERED_RETRIES.iter().sum();
        self.policy.retry_schedule.deadline()
            + if self.unordered() { Duration::ZERO } else { before_schedule }
    }

    pub(super) fn deadline_used(&self, offset: Offset, now: Timestamp) -> Duration {
        let deadline = self.entries.get(&offset).and_then(|entry| entry.deadline);
        deadline.map_or(Duration::ZERO, |deadline| {
            let left = deadline.saturating_sub(self.used_at(now));
            Duration::from_micros(u64::try_from(micros(self.deadline()).saturating_sub(left)).unwrap_or(0))
        })
    }

    /// When to try again; `None`: the schedule has no further attempt.
    fn due_after_failure(
        &self,
        offset: Offset,
        failure: Failure,
        now: Timestamp,
        random: u64,
    ) -> Option<Timestamp> {
        let failures = self.entries.get(&offset)?.attempts;
        let first = limits::ORDERED_RETRIES.len();
        // An empty schedule means one attempt, in ordered lanes too.
        let scheduled = self.policy.retry_schedule.delay_after(1)?;
        let delay = match (self.unordered(), failures as usize) {
            (false, number) if number <= first => limits::ORDERED_RETRIES[number - 1],
            (false, number) => {
                let number = u32::try_from(number - first).unwrap_or(u32::MAX);
                self.policy.retry_schedule.delay_after(number).unwrap_or(scheduled)
            }
            (true, _) => self.policy.retry_schedule.delay_after(failures).unwrap_or(scheduled),
        };
        let wait = failure.retry_after.unwrap_or_default().min(limits::RETRY_AFTER_MAX);
        Some(now + jitter(delay, random).max(wait))
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
