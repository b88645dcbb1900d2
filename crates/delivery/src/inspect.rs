//! Looks at a partition without owning it: the same fold as a takeover (`recover`), but nothing is claimed, sent or
//! written. Works on any log, also on one opened for reading only beside the process that writes.
//!
//! What is not in the log cannot be seen: which requests are in flight, the circuit and the throttle. They are shown as the
//! next owner would have them: a throttle with nothing to spend, a circuit open where every attempt since the last success failed
//! ([`Lane::resume`](fanfare_core::lane::Lane::resume)).
//!
//! Memory is bounded by the lanes, as in the worker, and by [`Query`].

mod conflicts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
    num::NonZeroU32,
};

use bytes::Bytes;
use fanfare_control::View;
use fanfare_core::{
    Attempt, Delivery, EndpointNumber, Fact, Intake, MessageId, Offset, Ordering, Outcome, Partition, Policy,
    Settlement, Timestamp, Trigger, WorkerCheckpoint, lane::HeldBy, limits,
};
use fanfare_log::{Log, Topic};

pub use crate::recover::RecoverError as InspectError;
use crate::{
    recover::{self, Recovered},
    slot::Slot,
};

/// One read of delivery records whose messages are to be named.
const NAMING_RUN_BYTES: usize = 64 << 10;
/// Range settlements that are resolved into their messages; of more, the newest.
const RANGES: usize = 4_096;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only this endpoint.
    pub endpoint: Option<EndpointNumber>,
    /// Attempts kept per endpoint.
    pub attempts: usize,
    /// Dead letters kept, and retries per lane; all are counted.
    pub items: usize,
    /// For endpoints that do not say: as the server was started.
    pub policy: Policy,
    pub now: Timestamp,
}

/// A partition of `deliveries` as the log has it.
#[derive(Clone, Debug, Default)]
pub struct PartitionState {
    pub checkpoint: Option<WorkerCheckpoint>,
    /// End of `deliveries`: lanes that are not behind have looked at everything below.
    pub tail: Offset,
    /// Endpoints without a lane have nothing to do.
    pub lanes: BTreeMap<EndpointNumber, LaneState>,
    /// The last attempts, oldest first.
    pub attempts: BTreeMap<EndpointNumber, VecDeque<Attempt>>,
    /// The newest, in order of their time.
    pub dead_letters: Vec<DeadLetter>,
    pub dead_letter_count: u64,
    /// Messages of all offsets named here, as far as their delivery records are kept.
    pub messages: HashMap<Offset, MessageId>,
}

/// An endpoint's lane.
#[derive(Clone, Debug)]
pub struct LaneState {
    pub ordering: Ordering,
    /// All below is settled.
    pub cursor: Offset,
    /// Nothing at or above was looked at.
    pub next: Offset,
    /// Unsettled deliveries below `next`.
    pub pending: u64,
    /// Deliveries at and above `next` that the lane had no room for.
    pub behind: u64,
    /// Failed deliveries that will be tried again, by offset; at most [`Query::items`].
    pub retries: Vec<Retry>,
    pub retry_count: u64,
    pub held_by: Option<HeldBy>,
    /// Attempts a second at most.
    pub throttle_rate: Option<NonZeroU32>,
    /// Since when every attempt failed.
    pub failing_since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub offset: Offset,
    /// Made so far.
    pub attempts: u32,
    pub due: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// None: the message was for no endpoint, since its idempotency key stands for another one.
    pub endpoint: Option<EndpointNumber>,
    pub offset: Offset,
    pub reason: Settlement,
    pub at: Timestamp,
    /// The message that the idempotency key stands for.
    pub first: Option<MessageId>,
}

/// Reads one partition.
pub async fn partition(
    log: &dyn Log,
    view: &View,
    partition: Partition,
    query: &Query,
) -> Result<PartitionState, InspectError> {
    let attempts_end = log.bounds(Topic::Attempts, partition).await?.end;
    let look_up = |number| {
        let wanted = query.endpoint.is_none_or(|only| only == number);
        let endpoint = view.endpoint_by_number(number).filter(|_| wanted)?;
        Some((endpoint.application, view.policy(&endpoint, &query.policy)))
    };
    let mut recovered = recover::recover_lanes(log, &look_up, partition, attempts_end, query.now).await?;
    let next = recovered.deliveries;
    let tail = follow_tail(log, partition, &mut recovered, |number| {
        look_up(number).map(|found| recover::fresh_slot(found, next, query.now))
    })
    .await?;

    let mut history = History::of(log, partition, attempts_end, query).await?;
    if !history.ranges.is_empty() {
        history.resolve_ranges(log, partition, attempts_end, &recovered).await?;
    }
    if query.endpoint.is_none() {
        let conflicts = conflicts::find(log, partition, tail, &recovered.rule, query.items).await?;
        history.dead_letter_count += conflicts.count;
        history.dead_letters.extend(conflicts.letters);
    }
    let lanes = recovered.slots.iter_mut().map(|(&number, slot)| {
        // When it would be probed is of no interest.
        slot.lane.resume(query.now, 0);
        (number, LaneState::of(slot, history.attempts.get(&number), query))
    });
    let lanes: BTreeMap<_, _> = lanes.collect();
    let mut dead_letters: Vec<DeadLetter> = history.dead_letters.into();
    dead_letters.sort_by_key(|letter| (letter.at, letter.offset));
    dead_letters.drain(..dead_letters.len().saturating_sub(query.items));

    let mut named: BTreeSet<Offset> = dead_letters.iter().map(|letter| letter.offset).collect();
    named.extend(history.attempts.values().flatten().map(|attempt| attempt.offset));
    for lane in lanes.values() {
        named.extend((lane.pending > 0).then_some(lane.cursor));
        named.extend(lane.retries.iter().map(|retry| retry.offset));
    }
    Ok(PartitionState {
        checkpoint: recovered.checkpoint,
        tail,
        lanes,
        attempts: history.attempts,
        dead_letters,
        dead_letter_count: history.dead_letter_count,
        messages: name_messages(log, partition, &named).await?,
    })
}

/// Shows the lanes what the checkpoint does not cover, as their worker would. Gives the end.
pub(crate) async fn follow_tail(
    log: &dyn Log,
    partition: Partition,
    recovered: &mut Recovered,
    fresh: impl Fn(EndpointNumber) -> Option<Slot>,
) -> Result<Offset, InspectError> {
    let Recovered { slots, rule, deliveries, .. } = recovered;
    let end = log.bounds(Topic::Deliveries, partition).await?.end;
    let mut position = *deliveries;
    while position < end {
        let batch = log.fetch(Topic::Deliveries, partition, position, limits::CATCH_UP_RUN_BYTES).await?;
        for record in &batch.records {
            let delivery = decode(&record.head)?;
            if !matches!(rule.decide(record.offset, &delivery), Intake::Take | Intake::TakeAfterLoss) {
                continue;
            }
            for &number in delivery.endpoints() {
                let slot = match slots.entry(number) {
                    Entry::Occupied(slot) => slot.into_mut(),
                    Entry::Vacant(place) => {
                        let Some(slot) = fresh(number) else { continue };
                        place.insert(slot)
                    }
                };
                show(slot, record.offset, delivery.trigger());
            }
        }
        if batch.next <= position {
            break;
        }
        position = batch.next;
    }
    for slot in slots.values_mut().filter(|slot| !slot.behind) {
        slot.lane.pass(position);
    }
    Ok(position)
}

fn show(slot: &mut Slot, offset: Offset, trigger: Trigger) {
    if slot.behind {
        slot.above += u64::from(offset >= slot.lane.next());
    } else if slot.lane.has_room() {
        slot.lane.push(offset, trigger);
    } else {
        slot.lane.pass(offset);
        slot.behind = true;
        slot.above = 1;
    }
}

impl LaneState {
    fn of(slot: &Slot, attempts: Option<&VecDeque<Attempt>>, query: &Query) -> Self {
        let lane = &slot.lane;
        // What a failure was told, rather than when a search for proof of life might begin.
        let told: HashMap<Offset, Timestamp> =
            attempts.into_iter().flatten().filter_map(|it| Some((it.offset, it.due?))).collect();
        let retries = lane.retries().take(query.items).map(|(offset, attempts, due)| Retry {
            offset,
            attempts,
            due: told.get(&offset).copied().unwrap_or(due),
        });
        Self {
            ordering: lane.policy().ordering,
            cursor: lane.cursor(),
            next: lane.next(),
            pending: lane.unsettled(),
            behind: slot.above,
            retries: retries.collect(),
            retry_count: lane.retries().count() as u64,
            held_by: lane.held_by(query.now),
            throttle_rate: lane.policy().throttle_rate,
            failing_since: lane.failing_since(),
        }
    }
}

/// What the kept part of `attempts` tells.
struct History<'a> {
    query: &'a Query,
    attempts: BTreeMap<EndpointNumber, VecDeque<Attempt>>,
    dead_letters: VecDeque<DeadLetter>,
    dead_letter_count: u64,
    /// Ranges of dead letters, in order.
    ranges: VecDeque<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Range {
    endpoint: EndpointNumber,
    from: Offset,
    to: Offset,
    reason: Settlement,
    at: Timestamp,
}

impl<'a> History<'a> {
    async fn of(
        log: &dyn Log,
        partition: Partition,
        until: Offset,
        query: &'a Query,
    ) -> Result<Self, InspectError> {
        let mut history = Self {
            query,
            attempts: BTreeMap::new(),
            dead_letters: VecDeque::new(),
            dead_letter_count: 0,
            ranges: VecDeque::new(),
        };
        let start = log.bounds(Topic::Attempts, partition).await?.start;
        recover::fold(log, partition, start, until, Offset::ZERO, |fact| history.apply(fact)).await?;
        Ok(history)
    }

    fn apply(&mut self, fact: Fact) {
        if self.query.endpoint.is_some_and(|only| only != fact.endpoint()) {
            return;
        }
        match fact {
            Fact::Attempted(attempt) => {
                let attempts = self.attempts.entry(attempt.endpoint).or_default();
                attempts.push_back(Attempt { response: Bytes::new(), ..attempt });
                if attempts.len() > self.query.attempts {
                    attempts.pop_front();
                }
            }
            Fact::Settled { endpoint, offset, reason: Settlement::Purged, .. } => {
                self.purge(endpoint, offset);
            }
            Fact::Settled { endpoint, offset, reason, at } => {
                if reason.is_dead_letter() {
                    self.bury(endpoint, offset, reason, at);
                }
            }
            Fact::SettledRange { .. } => {
                if let Some(range) = Range::of_dead_letters(&fact) {
                    self.ranges.push_back(range);
                    if self.ranges.len() > RANGES {
                        self.ranges.pop_front();
                    }
                }
            }
            Fact::AnswerErased { .. } => {}
        }
    }

    /// Those of a range are not counted yet.
    fn purge(&mut self, endpoint: EndpointNumber, offset: Offset) {
        let is_its = |range: &Range| range.endpoint == endpoint && (range.from..range.to).contains(&offset);
        if !self.ranges.iter().any(is_its) {
            self.dead_letter_count = self.dead_letter_count.saturating_sub(1);
        }
        self.dead_letters.retain(|letter| (letter.endpoint, letter.offset) != (Some(endpoint), offset));
    }

    fn bury(&mut self, endpoint: EndpointNumber, offset: Offset, reason: Settlement, at: Timestamp) {
        let letter = DeadLetter { endpoint: Some(endpoint), offset, reason, at, first: None };
        self.dead_letter_count += 1;
        self.dead_letters.push_back(letter);
        if self.dead_letters.len() > self.query.items {
            self.dead_letters.pop_front();
        }
    }

    /// Finds the deliveries that each range ended: the endpoint's records in it, less those that had been settled one
    /// by one.
    async fn resolve_ranges(
        &mut self,
        log: &dyn Log,
        partition: Partition,
        until: Offset,
        recovered: &Recovered,
    ) -> Result<(), InspectError> {
        let mut open: HashMap<EndpointNumber, VecDeque<Range>> = HashMap::new();
        for range in &self.ranges {
            open.entry(range.endpoint).or_default().push_back(*range);
        }
        let ranges = open.clone();
        let mut settled: HashSet<(EndpointNumber, Offset)> = HashSet::new();
        let start = log.bounds(Topic::Attempts, partition).await?.start;
        recover::fold(log, partition, start, until, Offset::ZERO, |fact| {
            let Some(open) = open.get_mut(&fact.endpoint()) else { return };
            if let Some(range) = Range::of_dead_letters(&fact) {
                if open.front() == Some(&range) {
                    open.pop_front();
                }
            } else if let Some(offset) = settles(&fact)
                && open.iter().any(|range| (range.from..range.to).contains(&offset))
            {
                settled.insert((fact.endpoint(), offset));
            }
        })
        .await?;

        let mut position = self.ranges.iter().map(|range| range.from).min().unwrap_or_default();
        let end = self.ranges.iter().map(|range| range.to).max().unwrap_or_default();
        position = position.max(log.bounds(Topic::Deliveries, partition).await?.start);
        while position < end {
            let batch = log.fetch(Topic::Deliveries, partition, position, limits::CATCH_UP_RUN_BYTES).await?;
            for record in batch.records.iter().filter(|record| !recovered.rule.refused(record.offset)) {
                let offset = record.offset;
                for &endpoint in decode(&record.head)?.endpoints() {
                    let of_endpoint = ranges.get(&endpoint).into_iter().flatten();
                    let range = of_endpoint.clone().find(|range| (range.from..range.to).contains(&offset));
                    if let Some(&Range { reason, at, .. }) = range
                        && !settled.contains(&(endpoint, offset))
                    {
                        self.bury(endpoint, offset, reason, at);
                    }
                }
            }
            if batch.next <= position {
                break;
            }
            position = batch.next;
        }
        Ok(())
    }
}

impl Range {
    fn of_dead_letters(fact: &Fact) -> Option<Self> {
        match *fact {
            Fact::SettledRange { endpoint, from, to, reason, at } if reason.is_dead_letter() => {
                Some(Self { endpoint, from, to, reason, at })
            }
            _ => None,
        }
    }
}

/// The one delivery that a fact settles.
fn settles(fact: &Fact) -> Option<Offset> {
    match fact {
        Fact::Attempted(attempt) => (attempt.outcome == Outcome::Delivered).then_some(attempt.offset),
        Fact::Settled { offset, .. } => Some(*offset),
        Fact::SettledRange { .. } | Fact::AnswerErased { .. } => None,
    }
}

async fn name_messages(
    log: &dyn Log,
    partition: Partition,
    wanted: &BTreeSet<Offset>,
) -> Result<HashMap<Offset, MessageId>, InspectError> {
    let start = log.bounds(Topic::Deliveries, partition).await?.start;
    let mut messages = HashMap::with_capacity(wanted.len());
    let mut rest = wanted.range(start..).copied().peekable();
    while let Some(&offset) = rest.peek() {
        let batch = log.fetch(Topic::Deliveries, partition, offset, NAMING_RUN_BYTES).await?;
        for record in batch.records.iter().filter(|record| wanted.contains(&record.offset)) {
            messages.insert(record.offset, decode(&record.head)?.id());
        }
        let next = batch.next.max(offset.next());
        while rest.next_if(|offset| *offset < next).is_some() {}
    }
    Ok(messages)
}

fn decode(head: &[u8]) -> Result<Delivery, InspectError> {
    Delivery::decode(head).map_err(|source| InspectError::Malformed { what: "a delivery record", source })
}
