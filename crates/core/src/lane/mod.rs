//! The lane: the ordered work of one endpoint on one delivery partition, as a state machine.
//!
//! A lane is told which records are for it ([`Lane::push`]), asked what to start ([`Lane::poll`]) and told what
//! became of it ([`Lane::finished`]). It remembers what is unsettled and nothing else: an outage costs bits, not
//! copies. What it decides follows from its inputs alone; `now` is the worker's steady time, which never steps.
//!
//! Invariants
//! - All below the cursor is settled; nothing at or above `next` was looked at.
//! - A delivery is in flight at most once; at most `Policy::window` are.
//! - In any time t at most `1 + rate × (t + THROTTLE_SLACK)` attempts start, where the policy sets a rate.
//! - In a `strict` lane (`keyed`: among messages with one key) the first attempt of a delivery starts after all
//!   before it are settled, except in a search for proof of life.
//! - What was injected is a queue of its own: it starts only where nothing that was routed can, its failures neither open
//!   the circuit for what was routed nor hold it up, and among itself it keeps the same order.
//! - Settled is final.
//! - Applying a fact twice changes nothing; a lane restored from a snapshot and the facts after it has the same
//!   unsettled deliveries as the one that wrote them.

mod circuit;
mod fold;
mod held;
mod outcome;
mod pick;
mod queue;
mod sequence;
mod set;
#[cfg(test)]
mod tests;
mod throttle;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

pub use self::held::HeldBy;
use self::{
    queue::Queues,
    sequence::{Key, Sequence},
    set::OffsetSet,
    throttle::Throttle,
};
use crate::{
    Offset, Ordering, Policy, Settlement, Timestamp, Trigger, limits,
    planted::{Fault, planted},
};

/// What [`Lane::poll`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Start this attempt; report it to [`Lane::finished`].
    Start(Start),
    /// The lane has to know the ordering key of this delivery: call [`Lane::offer_key`], then poll again.
    NeedKey(Offset),
    /// Nothing to start before this time, unless something happens.
    Wait(Option<Timestamp>),
}

/// An attempt to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub offset: Offset,
    /// 1-based.
    pub attempt_number: u32,
    pub class: Class,
}

/// Which share of the process's budget an attempt takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    First,
    Retry,
    /// Of an endpoint believed dead.
    Probe,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    Delivered,
    Failed(Failure),
    /// It was not made (no room to record its outcome, drain): as if it had never been started.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Tells at once that the endpoint cannot take anything now: no connection, or it asked for a pause.
    Immediate,
    Ordinary,
}

/// How a failure was entered, for the record of the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// When the delivery is due again; `None` when it is settled.
    pub due: Option<Timestamp>,
    pub deadline_used: Duration,
}

/// What a lane remembers of a delivery that was tried.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Attempts made, the one in flight not counted.
    attempts: u32,
    in_flight: Option<Flight>,
    first_failed_at: Timestamp,
    due: Timestamp,
    /// Value of [`Lane::used_at`], in microseconds, at which its deadline has passed; set by the first failure.
    deadline: Option<i64>,
    /// The lane's event number of its latest failure, to be compared with other keys' successes.
    failed: u64,
    /// It was settled by a fact while it is in flight here: the outcome changes nothing any more.
    settled_elsewhere: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    /// The sequence it belongs to; in `unordered` lanes only its queue.
    key: Key,
    class: Class,
}

impl Entry {
    fn new(event: u64) -> Self {
        Self {
            attempts: 0,
            in_flight: None,
            first_failed_at: Timestamp::MAX,
            due: Timestamp::ZERO,
            deadline: None,
            failed: event,
            settled_elsewhere: false,
        }
    }

    fn has_failed(&self) -> bool {
        self.attempts > 0
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Lane {
    policy: Policy,
    next: Offset,
    queues: Queues,
    sequences: HashMap<Key, Sequence>,
    /// Deliveries that were tried.
    entries: BTreeMap<Offset, Entry>,
    /// Deadlines on the lane's own clock.
    deadlines: BTreeSet<(i64, Offset, Key)>,
    /// At or above `next`, known to be settled already (from facts read before the records).
    settled_ahead: OffsetSet,
    throttle: Option<Throttle>,
    in_flight: usize,
    unsettled: u64,
    /// Those of the unsettled that were injected.
    injected: OffsetSet,
    /// Numbers what happens, so that "after" needs no clock.
    event: u64,
    /// Latest success per key: of the key of the latest success, and of any other key.
    successes: [Option<(u64, Key)>; 2],
    failing_since: Option<Timestamp>,
    /// Time during which the lane could send, up to `running_since`.
    used_micros: i64,
    running_since: Option<Timestamp>,
    /// A policy with another ordering waits until nothing is in flight.
    next_policy: Option<Policy>,
}

/// A lane behind is refilled when less than this share of its room is in use.
const REFILL_SHARE: usize = 4;

impl Lane {
    /// A lane with nothing unsettled that looks at records from `next` on.
    pub fn new(policy: Policy, next: Offset, now: Timestamp) -> Self {
        Self {
            throttle: policy.throttle_rate.map(Throttle::full),
            policy,
            next,
            queues: Queues::default(),
            sequences: HashMap::new(),
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            settled_ahead: OffsetSet::default(),
            in_flight: 0,
            unsettled: 0,
            injected: OffsetSet::default(),
            event: 0,
            successes: [None; 2],
            failing_since: None,
            used_micros: 0,
            running_since: Some(now),
            next_policy: None,
        }
    }

    /// The record at `offset` is for this endpoint: routed (`Scheduled`) or injected (`Manual`). Records below `next` are
    /// known already.
    pub fn push(&mut self, offset: Offset, trigger: Trigger) {
        if offset < self.next {
            return;
        }
        self.next = offset.next();
        if self.settled_ahead.remove(offset) {
            return;
        }
        // A fact of a failed attempt may have come before its record: then it is counted already.
        if !self.entries.contains_key(&offset) {
            self.unsettled += 1;
        }
        if trigger == Trigger::Manual {
            self.injected.insert(offset);
        }
        let key = Key::shared(trigger);
        let queue = &mut self.queues[trigger];
        match self.policy.ordering {
            Ordering::Strict if planted(Fault::StrictRunsAhead) => {
                self.enqueue(Key::new(trigger, offset.0 % 2), offset);
            }
            Ordering::Strict => self.enqueue(key, offset),
            Ordering::Keyed => {
                queue.pending.insert(offset);
            }
            Ordering::Unordered => match self.entries.get(&offset) {
                Some(entry) if entry.failed < queue.healed => {
                    queue.overdue.insert((entry.due, offset, key));
                }
                Some(entry) => {
                    queue.retries.insert((entry.due, offset, key));
                }
                None => {
                    queue.pending.insert(offset);
                }
            },
        }
    }

    /// Nothing below `to` that was not pushed is for this endpoint.
    pub fn pass(&mut self, to: Offset) {
        if to > self.next {
            self.settled_ahead.remove_range(self.next, to);
            self.next = to;
        }
    }

    /// Whether another record may be pushed. When not, `next` has to stay where it is.
    pub fn has_room(&self) -> bool {
        let pending = self.queues[Trigger::Scheduled].pending.len();
        let blocked = self.unsettled - self.injected.len() - pending;
        let entries = self.policy.lane_entries as u64;
        // What was injected takes no room from what was routed.
        pending < entries
            && self.injected.len() < limits::LANE_BLOCKED as u64
            && match self.policy.ordering {
                Ordering::Strict => blocked < entries,
                Ordering::Keyed => blocked < limits::LANE_BLOCKED as u64,
                Ordering::Unordered => true,
            }
    }

    /// Whether a lane behind should be shown more records: what it has not tried yet is running short. What failed
    /// and what waits behind that may stay for hours, and must not keep it from the rest.
    pub fn wants_more(&self) -> bool {
        let untried = match self.policy.ordering {
            Ordering::Strict => self.unsettled - self.injected.len(),
            Ordering::Keyed | Ordering::Unordered => self.queues[Trigger::Scheduled].pending.len(),
        };
        untried < (self.policy.lane_entries / REFILL_SHARE) as u64 && self.has_room()
    }

    /// The answer to [`Poll::NeedKey`].
    pub fn offer_key(&mut self, offset: Offset, key: u64) {
        let trigger = self.trigger_of(offset);
        if !self.queues[trigger].pending.remove(offset) {
            return;
        }
        let key = Key::new(trigger, key);
        if let Some(deadline) = self.entries.get(&offset).and_then(|entry| entry.deadline) {
            self.deadlines.remove(&(deadline, offset, Key::shared(trigger)));
            self.deadlines.insert((deadline, offset, key));
        }
        self.enqueue(key, offset);
    }

    /// All below is settled.
    pub fn cursor(&self) -> Offset {
        let queued = self.sequences.values().filter_map(|sequence| sequence.queue.min()).min();
        let tried = self.entries.keys().next().copied();
        let pending = self.queues.all().into_iter().filter_map(|queue| queue.pending.min()).min();
        [pending, queued, tried].into_iter().flatten().min().unwrap_or(self.next).min(self.next)
    }

    /// Nothing at or above was looked at.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Deliveries below `next` that are not settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Nothing unsettled and nothing to remember: the lane may be dropped once the tail has passed `next`.
    pub fn is_idle(&self) -> bool {
        self.unsettled == 0
            && self.in_flight == 0
            && self.settled_ahead.is_empty()
            && self.failing_since.is_none()
    }

    /// Since when every attempt failed; survives restarts.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether something that was routed is not settled.
    fn routed_waits(&self) -> bool {
        self.unsettled > self.injected.len()
    }

    /// Which queue an unsettled delivery is in.
    fn trigger_of(&self, offset: Offset) -> Trigger {
        if self.injected.contains(offset) { Trigger::Manual } else { Trigger::Scheduled }
    }

    /// Failed deliveries by offset: attempts made and when they are due.
    pub fn retries(&self) -> impl Iterator<Item = (Offset, u32, Timestamp)> + '_ {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.has_failed())
            .map(|(&offset, entry)| (offset, entry.attempts, entry.due))
    }

    /// Unsettled offsets in rising order.
    pub fn unsettled_offsets(&self) -> Vec<Offset> {
        self.unsettled_set().iter().collect()
    }

    /// Ends everything unsettled below `to`, and all that is not yet looked at below it, because the endpoint was
    /// ended. What is in flight ends by itself and changes nothing any more. How long it failed is forgotten: should it
    /// be enabled again, it begins anew. Says from where the range begins, if it is not empty.
    pub fn settle_below(&mut self, to: Offset) -> Option<(Offset, Offset)> {
        self.failing_since = None;
        let from = self.cursor();
        if from >= to {
            return None;
        }
        self.settle_range(from, to);
        self.next = self.next.max(to);
        self.settled_ahead.remove_range(Offset::ZERO, self.next);
        Some((from, to))
    }

    fn enqueue(&mut self, key: Key, offset: Offset) {
        let sequence = self.sequences.entry(key).or_default();
        sequence.queue.insert(offset);
        match sequence.state {
            sequence::State::Empty => self.activate(key),
            // Now there is something a search could try: the head's next attempt may have to come sooner.
            sequence::State::Waiting if sequence.queue.len() == 2 => self.reschedule_head(key),
            _ => {}
        }
    }

    /// Puts a sequence of which nothing is in flight where its head belongs.
    fn activate(&mut self, key: Key) {
        let Some(sequence) = self.sequences.get_mut(&key) else { return };
        let queue = &mut self.queues[key.trigger()];
        let Some(head) = sequence.queue.min() else {
            sequence.state = sequence::State::Empty;
            if !sequence.parked_last || self.sequences.len() > limits::LANE_ENTRIES {
                self.sequences.remove(&key);
            }
            return;
        };
        match self.entries.get_mut(&head) {
            Some(entry) if entry.has_failed() => {
                sequence.state = sequence::State::Waiting;
                if queue.overdue.contains(&(entry.due, head, key)) {
                    return;
                }
                queue.retries.remove(&(entry.due, head, key));
                if entry.failed < queue.healed {
                    entry.due = Timestamp::ZERO;
                }
                queue.retries.insert((entry.due, head, key));
            }
            _ => {
                sequence.state = sequence::State::Ready;
                queue.ready.push_back(key);
            }
        }
    }

    /// Takes the waiting head's time again, after what is behind it or its search has changed.
    fn reschedule_head(&mut self, key: Key) {
        let Some((head, search_at)) = self.search_at(key) else { return };
        let entry = self.entries.get_mut(&head).expect("a waiting head was tried");
        let retries = &mut self.queues[key.trigger()].retries;
        if search_at < entry.due && retries.remove(&(entry.due, head, key)) {
            entry.due = search_at;
            retries.insert((entry.due, head, key));
        }
    }

    /// The head of a sequence and when a search for proof of life may start from it; `None` unless it failed, others
    /// wait behind it and parking is on.
    fn search_at(&self, key: Key) -> Option<(Offset, Timestamp)> {
        let sequence = self.sequences.get(&key).filter(|sequence| sequence.queue.len() > 1)?;
        let head = sequence.queue.min()?;
        let entry = self.entries.get(&head).filter(|entry| entry.has_failed())?;
        let since = sequence.searched_at.map_or(entry.first_failed_at, |at| at.max(entry.first_failed_at));
        Some((head, since + self.policy.park_after?))
    }

    /// Forgets an unsettled delivery: it is settled. Leaves its sequence's state to the caller.
    fn forget(&mut self, offset: Offset, key: Key) {
        let queue = &mut self.queues[key.trigger()];
        let mut known = queue.pending.remove(offset);
        if let Some(sequence) = self.sequences.get_mut(&key) {
            known |= sequence.queue.remove(offset);
        }
        if let Some(entry) = self.entries.remove(&offset) {
            known = true;
            queue.unschedule(entry.due, offset, key);
            if let Some(deadline) = entry.deadline {
                self.deadlines.remove(&(deadline, offset, key));
            }
        }
        self.injected.remove(offset);
        self.unsettled -= u64::from(known);
    }
}

/// Settled deliveries of a lane, for the log.
pub type Settled = Vec<(Offset, Settlement)>;

/// `duration` made longer or shorter by up to [`limits::JITTER`], by `random`.
fn jitter(duration: Duration, random: u64) -> Duration {
    #[allow(clippy::cast_precision_loss, reason = "53 bits of randomness are plenty")]
    let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
    duration.mul_f64(1.0 + limits::JITTER * (2.0 * unit - 1.0))
}
