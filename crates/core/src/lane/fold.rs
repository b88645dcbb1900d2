//! A lane as the fold of its facts: applying them, writing the lane down, reading it back.

use bytes::Bytes;

use super::{Entry, Key, Lane, OffsetSet, outcome::micros, sequence::State, throttle::Throttle};
use crate::{
    Attempt, Fact, Offset, Ordering, Outcome, Policy, Settlement, Timestamp, Trigger,
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
                        self.heal(Trigger::Scheduled, now);
                        self.heal(Trigger::Manual, now);
                    }
                }
                Outcome::Failed => self.apply_failure(attempt, now),
            },
            // It is settled; to the lane nothing changes.
            Fact::Settled { reason: Settlement::Purged, .. } | Fact::AnswerErased { .. } => {}
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
        // Settled is final: a zombie's success may stand before its successor's failure.
        let is_new = !self.knows(offset);
        if is_new && (offset < self.next || self.settled_ahead.contains(offset)) {
            return;
        }
        if is_new && attempt.trigger == Trigger::Manual {
            self.injected.insert(offset);
        }
        let key = self.key_of(offset);
        let deadline = self
            .used_at(now)
            .saturating_add(micros(self.deadline()))
            .saturating_sub(micros(attempt.deadline_used));
        let event = self.event;
        let entry = self.entries.entry(offset).or_insert_with(|| Entry::new(event));
        if entry.in_flight.is_some() {
            return;
        }
        let queue = &mut self.queues[key.trigger()];
        queue.unschedule(entry.due, offset, key);
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
                queue.pending.remove(offset);
                queue.retries.insert((due, offset, key));
            }
            Ordering::Strict | Ordering::Keyed => self.after_removal(key),
        }
    }

    /// Whether a delivery is among the unsettled.
    fn knows(&self, offset: Offset) -> bool {
        let key = self.key_of(offset);
        self.entries.contains_key(&offset)
            || self.queues[key.trigger()].pending.contains(offset)
            || self.sequences.get(&key).is_some_and(|sequence| sequence.queue.contains(offset))
    }

    /// The sequence that holds `offset`. Only facts of other owners ask for what is not the only one.
    fn key_of(&self, offset: Offset) -> Key {
        let trigger = self.trigger_of(offset);
        if self.policy.ordering != Ordering::Keyed || self.queues[trigger].pending.contains(offset) {
            return Key::shared(trigger);
        }
        let holder = self.sequences.iter().find(|(_, sequence)| sequence.queue.contains(offset));
        holder.map_or(Key::shared(trigger), |(&key, _)| key)
    }

    pub(super) fn unsettled_set(&self) -> OffsetSet {
        let mut all = self.queues[Trigger::Scheduled].pending.clone();
        all.union(&self.queues[Trigger::Manual].pending);
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
        let circuits = self.queues.all().map(|queue| queue.circuit.clone());
        let throttle = self.throttle;
        let held = self.is_held();
        let snapshot = self.snapshot(now);
        *self = Self::restore(&snapshot, policy, now).expect("a lane's own snapshot can be read");
        for (queue, circuit) in self.queues.all_mut().into_iter().zip(circuits) {
            queue.circuit = circuit;
        }
        self.throttle = throttle;
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
            let healed = self.queues[self.trigger_of(**offset)].healed;
            w.timestamp(if entry.failed < healed { wall } else { by_wall(entry.due) });
            w.option(entry.deadline.map(Timestamp::from_micros), Writer::timestamp);
        });
        w.bytes(&self.injected.intersection(&unsettled).to_bytes());
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
        // Snapshots of old know nothing that was injected.
        if !r.is_empty() {
            lane.injected = OffsetSet::from_bytes(r.bytes("injected")?, "injected")?;
        }
        if let Some(offset) = lane.injected.without(&unsettled).min() {
            return Err(Malformed::Value { field: "injected", value: offset.0 });
        }
        for (offset, entry) in entries {
            if !unsettled.contains(offset) {
                return Err(Malformed::Value { field: "entries", value: offset.0 });
            }
            if let Some(deadline) = entry.deadline {
                lane.deadlines.insert((deadline, offset, Key::shared(lane.trigger_of(offset))));
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
            for queue in self.queues.all_mut() {
                let due = queue.retries.first().map(|&(due, ..)| due);
                queue.circuit.suspect(now, due, random);
            }
        }
    }

    /// Puts unsettled deliveries where the ordering wants them; those at and above `next` when their records come.
    fn place(&mut self, mut unsettled: OffsetSet) {
        unsettled.remove_range(self.next, Offset(u64::MAX));
        self.place_in(Trigger::Manual, unsettled.intersection(&self.injected));
        self.place_in(Trigger::Scheduled, unsettled.without(&self.injected));
    }

    fn place_in(&mut self, trigger: Trigger, unsettled: OffsetSet) {
        let key = Key::shared(trigger);
        let queue = &mut self.queues[trigger];
        match self.policy.ordering {
            Ordering::Keyed => queue.pending = unsettled,
            Ordering::Strict => {
                let sequence = self.sequences.entry(key).or_default();
                sequence.queue = unsettled;
                sequence.state = State::Empty;
                self.activate(key);
            }
            Ordering::Unordered => {
                queue.pending = unsettled;
                for (&offset, entry) in &self.entries {
                    if queue.pending.remove(offset) {
                        queue.retries.insert((entry.due, offset, key));
                    }
                }
            }
        }
    }
}
