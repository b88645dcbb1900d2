//! A lane as the fold of its facts: applying them, writing the lane down, reading it back.

use bytes::Bytes;

use super::{Entry, Lane, OffsetSet, STRICT_KEY, outcome::micros, sequence::State, throttle::Throttle};
use crate::{
    Attempt, Fact, Offset, Ordering, Outcome, Policy, Settlement, Timestamp,
    codec::{Malformed, Reader, Writer},
    planted::{Fault, planted},
};

const VERSION: u8 = 1;
const KIND_LANE: u8 = 3;

impl Lane {
    /// Enters a fact of this endpoint that was read from the log: at recovery, or because another owner wrote it.
    pub fn apply(&mut self, fact: &Fact, now: Timestamp) {
        self.event += 1;
        match fact {
            Fact::Attempted(attempt) => match attempt.outcome {
                Outcome::Delivered => {
                    self.settle(attempt.offset);
                    // The owner may have found the endpoint alive again then; its circuit is not known here.
                    if self.failing_since.take().is_some() {
                        self.heal(now);
                    }
                }
                Outcome::Failed => self.apply_failure(attempt, now),
            },
            Fact::Settled { offset, .. } => self.settle(*offset),
            Fact::SettledRange { from, to, reason, .. } => {
                if *reason == Settlement::Cancelled {
                    self.failing_since = None;
                }
                self.settle_range(*from, *to);
            }
        }
    }

    fn settle(&mut self, offset: Offset) {
        if let Some(entry) = self.entries.get_mut(&offset)
            && entry.in_flight.is_some()
        {
            entry.settled_elsewhere = true;
            return;
        }
        let key = self.key_of(offset);
        self.forget(offset, key);
        if offset >= self.next {
            self.settled_ahead.insert(offset);
        }
        self.after_removal(key);
    }

    pub(super) fn settle_range(&mut self, from: Offset, to: Offset) {
        let unsettled: Vec<Offset> =
            self.unsettled_set().iter().filter(|offset| (from..to).contains(offset)).collect();
        for offset in unsettled {
            self.settle(offset);
        }
        if to > self.next {
            self.settled_ahead.insert_range(from.max(self.next), to);
        }
    }

    fn apply_failure(&mut self, attempt: &Attempt, now: Timestamp) {
        let offset = attempt.offset;
        self.failing_since =
            Some(self.failing_since.map_or(attempt.at, |since| since.min(attempt.at)).min(now));
        let key = self.key_of(offset);
        let is_new = !self.entries.contains_key(&offset)
            && !self.pending.contains(offset)
            && !self.sequences.get(&key).is_some_and(|sequence| sequence.queue.contains(offset));
        // Settled is final: a zombie's success may stand before its successor's failure.
        if is_new && (offset < self.next || self.settled_ahead.contains(offset)) {
            return;
        }
        let deadline = self
            .used_at(now)
            .saturating_add(micros(self.deadline()))
            .saturating_sub(micros(attempt.deadline_used));
        let event = self.event;
        let entry = self.entries.entry(offset).or_insert_with(|| Entry::new(event));
        if entry.in_flight.is_some() {
            return;
        }
        if !self.retries.remove(&(entry.due, offset, key)) {
            self.overdue.remove(&(entry.due, offset, key));
        }
        if let Some(old) = entry.deadline.replace(deadline) {
            self.deadlines.remove(&(old, offset, key));
        }
        self.deadlines.insert((deadline, offset, key));
        entry.attempts = entry.attempts.max(attempt.number);
        entry.failed = event;
        entry.first_failed_at = entry.first_failed_at.min(attempt.at).min(now);
        // A clock that was set back since puts nothing off.
        entry.due = attempt.due.unwrap_or(attempt.at) - attempt.at.since(now);
        let due = entry.due;
        self.unsettled += u64::from(is_new);
        if offset >= self.next {
            return;
        }
        match self.policy.ordering {
            Ordering::Unordered => {
                self.pending.remove(offset);
                self.retries.insert((due, offset, STRICT_KEY));
            }
            Ordering::Strict | Ordering::Keyed => self.after_removal(key),
        }
    }

    /// The sequence that holds `offset`. Only facts of other owners ask for what is not the only one.
    fn key_of(&self, offset: Offset) -> u64 {
        if self.policy.ordering != Ordering::Keyed || self.pending.contains(offset) {
            return STRICT_KEY;
        }
        let holder = self.sequences.iter().find(|(_, sequence)| sequence.queue.contains(offset));
        holder.map_or(STRICT_KEY, |(&key, _)| key)
    }

    pub(super) fn unsettled_set(&self) -> OffsetSet {
        let mut all = self.pending.clone();
        for sequence in self.sequences.values() {
            all.union(&sequence.queue);
        }
        for &offset in self.entries.keys() {
            all.insert(offset);
        }
        all
    }

    /// Changes how the endpoint wants its deliveries. Another ordering takes effect when nothing is in flight.
    pub fn set_policy(&mut self, policy: Policy, now: Timestamp) {
        self.throttle = Throttle::changed(self.throttle, policy.throttle_rate, now);
        if policy.ordering == self.policy.ordering {
            self.policy = policy;
            self.next_policy = None;
        } else {
            self.next_policy = Some(policy);
            self.adopt_policy(now);
        }
    }

    pub(super) fn adopt_policy(&mut self, now: Timestamp) {
        if self.in_flight > 0 {
            return;
        }
        let Some(policy) = self.next_policy.take() else { return };
        let (circuit, throttle) = (self.circuit.clone(), self.throttle);
        let held = self.is_held();
        let snapshot = self.snapshot(now);
        *self = Self::restore(&snapshot, policy, now).expect("a lane's own snapshot can be read");
        (self.circuit, self.throttle) = (circuit, throttle);
        self.hold(held, now);
    }

    /// Everything needed to go on later: next, what is unsettled and the history of what failed. What is in flight
    /// counts as not started.
    pub fn snapshot(&self, now: Timestamp) -> Bytes {
        self.snapshot_at(now, now)
    }

    /// The same with its times as a wall clock has them that shows `wall`: the next owner knows no other.
    pub fn snapshot_at(&self, now: Timestamp, wall: Timestamp) -> Bytes {
        let skew = wall.as_micros().saturating_sub(now.as_micros());
        let by_wall = |at: Timestamp| Timestamp::from_micros(at.as_micros().saturating_add(skew));
        // What is in flight and settled elsewhere is settled: its fact is below the checkpoint.
        let remembered = |entry: &Entry| {
            entry.has_failed() && !entry.settled_elsewhere && !planted(Fault::RetriesForgotten)
        };
        let mut unsettled = self.unsettled_set();
        for (offset, _) in self.entries.iter().filter(|(_, entry)| entry.settled_elsewhere) {
            unsettled.remove(*offset);
        }
        let failed: Vec<_> = self.entries.iter().filter(|(_, entry)| remembered(entry)).collect();
        let mut w = Writer::record(VERSION, KIND_LANE);
        w.timestamp(wall);
        w.offset(self.next);
        w.bytes(&unsettled.to_bytes());
        w.bytes(&self.settled_ahead.to_bytes());
        w.option(self.failing_since.map(by_wall), Writer::timestamp);
        w.timestamp(Timestamp::from_micros(self.used_at(now)));
        w.list(&failed, |w, (offset, entry)| {
            w.offset(**offset);
            w.uint(u64::from(entry.attempts));
            w.timestamp(by_wall(entry.first_failed_at));
            w.timestamp(if entry.failed < self.healed { wall } else { by_wall(entry.due) });
            w.option(entry.deadline.map(Timestamp::from_micros), Writer::timestamp);
        });
        w.finish()
    }

    pub fn restore(snapshot: &[u8], policy: Policy, now: Timestamp) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(snapshot, VERSION)?;
        if kind != KIND_LANE {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        // A clock that was set back since puts nothing off.
        let set_back = r.timestamp("at")?.since(now);
        let mut lane = Self::new(policy, r.offset("next")?, now);
        let unsettled = OffsetSet::from_bytes(r.bytes("unsettled")?, "unsettled")?;
        lane.settled_ahead = OffsetSet::from_bytes(r.bytes("settled_ahead")?, "settled_ahead")?;
        lane.failing_since =
            r.option("failing_since", |r| r.timestamp("failing_since"))?.map(|at| (at - set_back).min(now));
        lane.used_micros = r.timestamp("used")?.as_micros();
        let entries = r.list("entries", |r| {
            let offset = r.offset("offset")?;
            let attempts = r.uint32("attempts")?;
            let first_failed_at = (r.timestamp("first_failed_at")? - set_back).min(now);
            let due = r.timestamp("due")? - set_back;
            let deadline = r.option("deadline", |r| r.timestamp("deadline"))?.map(Timestamp::as_micros);
            Ok((offset, Entry { attempts: attempts.max(1), first_failed_at, due, deadline, ..Entry::new(0) }))
        })?;
        for (offset, entry) in entries {
            if !unsettled.contains(offset) {
                return Err(Malformed::Value { field: "entries", value: offset.0 });
            }
            if let Some(deadline) = entry.deadline {
                lane.deadlines.insert((deadline, offset, STRICT_KEY));
            }
            lane.entries.insert(offset, entry);
        }
        lane.unsettled = unsettled.len();
        lane.place(unsettled);
        Ok(lane)
    }

    /// After recovery: how circuit and throttle stood is not known. The throttle begins with nothing to spend. An endpoint of which every attempt failed is taken for dead,
    /// and probed; else what failed last would wait for its schedule, which may be hours.
    pub fn resume(&mut self, now: Timestamp, random: u64) {
        self.throttle_from(now);
        if self.failing_since.is_some() {
            let due = self.retries.first().map(|&(due, ..)| due);
            self.circuit.suspect(now, due, random);
        }
    }

    /// Puts unsettled deliveries where the ordering wants them; those at and above `next` when their records come.
    fn place(&mut self, mut unsettled: OffsetSet) {
        let below_next = |offset: &Offset| *offset < self.next;
        unsettled.remove_range(self.next, Offset(u64::MAX));
        match self.policy.ordering {
            Ordering::Keyed => self.pending = unsettled,
            Ordering::Strict => {
                let sequence = self.sequences.entry(STRICT_KEY).or_default();
                sequence.queue = unsettled;
                sequence.state = State::Empty;
                self.activate(STRICT_KEY);
            }
            Ordering::Unordered => {
                self.retries = self
                    .entries
                    .iter()
                    .filter(|(offset, _)| below_next(offset))
                    .map(|(&offset, entry)| (entry.due, offset, STRICT_KEY))
                    .collect();
                self.pending = unsettled;
                for &offset in self.entries.keys() {
                    self.pending.remove(offset);
                }
            }
        }
    }
}
