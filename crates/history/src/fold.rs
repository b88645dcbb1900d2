//! From records to rows: pure. Whoever calls has read the rows that it needs ([`named_deliveries`], [`Fold::track`]) and
//! writes what it hands out ([`Fold::take`]) in one transaction.
//!
//! - What a delivery record counts for is decided by [`IntakeRule`], as in the worker: both refuse the same.
//! - Of facts of an older epoch than the newest claim only "delivered" counts, as in the worker.
//! - Settled is final, but for two things: a dead letter may be purged; and what an endpoint received, it received. An answer 2xx that comes after a
//!   cancellation makes the delivery delivered.
//! - All of it is a function of each partition's records in order, not of how partitions interleave or where batches
//!   end: so tables that are made again are the same.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use fanfare_core::{
    Attempt, AttemptRecord, Delivery, EndpointNumber, Fact, Intake, IntakeRule, Message, MessageId, Offset,
    Outcome, Partition, Settlement, Timestamp, WorkerCheckpoint,
    codec::{Malformed, Reader, Writer},
};

use crate::{
    changes::{
        ANSWERS, ATTEMPTS_BY_ANSWER, Changes, DeliveryKey, MessageKind, NewAttempt, NewMessage, Shadow,
        Source, State, answer_of, hour_of, hour_of_tick, minute_of_tick,
    },
    keys::{MessageKey, Tick},
    rows::Standing,
};

/// Unsettled deliveries remembered from batch to batch, so that their facts need no read.
const TRACKED: usize = 200_000;

/// The state of a fold over all partitions.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    rules: BTreeMap<Partition, IntakeRule>,
    /// What a worker had decided, where the log begins in the middle.
    decided: BTreeMap<Partition, Decided>,
    facts: BTreeMap<Partition, FactsState>,
    positions: BTreeMap<(Source, Partition), Offset>,
    /// Rows of `deliveries` as they are once [`Self::take`]n changes are written.
    tracked: HashMap<DeliveryKey, State>,
    /// Of messages that an endpoint has several deliveries of.
    groups: HashMap<(EndpointNumber, MessageKey), BTreeSet<Offset>>,
    endpoints: HashSet<EndpointNumber>,
    changed: BTreeSet<DeliveryKey>,
    moved: BTreeSet<(Source, Partition)>,
    changes: Changes,
    newest: Option<Timestamp>,
}

/// Of records below `checkpoint.deliveries` a worker decided when their predecessors were still in the log.
#[derive(Debug)]
struct Decided {
    checkpoint: WorkerCheckpoint,
    rule: IntakeRule,
}

/// What is to be remembered of a partition of `attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FactsState {
    newest_claim: Offset,
    /// Of the record at the position so many facts are folded.
    done: u32,
    /// Of the next fact, a range, deliveries below are folded.
    range_from: Option<Offset>,
}

/// A range of an endpoint's deliveries that share one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) endpoint: EndpointNumber,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    reason: Settlement,
    at: Timestamp,
}

/// How far facts of a record went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    All,
    /// The next fact is a range: its rows have to be read, step by step.
    AtRange(Range),
}

impl Fold {
    /// Goes on where the tables are.
    pub(crate) fn restore(
        &mut self,
        source: Source,
        partition: Partition,
        next: Offset,
        state: &[u8],
    ) -> Result<(), Malformed> {
        self.positions.insert((source, partition), next);
        match source {
            Source::Messages => {}
            Source::Deliveries => {
                let checkpoint = WorkerCheckpoint::decode(state)?;
                if checkpoint.deliveries > next {
                    self.begin_behind(partition, checkpoint);
                } else {
                    self.rules.insert(partition, IntakeRule::restore(&checkpoint));
                }
            }
            Source::Attempts => {
                self.facts.insert(partition, FactsState::decode(state)?);
            }
        }
        Ok(())
    }

    /// The log of a partition of `deliveries` begins in the middle, and this is what its worker knows: below its position
    /// its decisions count, and from there on the rule goes on as it does for the worker.
    pub(crate) fn begin_behind(&mut self, partition: Partition, checkpoint: WorkerCheckpoint) {
        let rule = IntakeRule::restore(&checkpoint);
        self.decided.insert(partition, Decided { checkpoint, rule });
    }

    pub(crate) fn position(&self, source: Source, partition: Partition) -> Offset {
        self.positions.get(&(source, partition)).copied().unwrap_or_default()
    }

    /// Everything below was looked at.
    pub(crate) fn pass(&mut self, source: Source, partition: Partition, next: Offset) {
        let position = self.positions.entry((source, partition)).or_default();
        *position = next.max(*position);
        self.moved.insert((source, partition));
    }

    /// Records below `start` left the log before they were looked at.
    pub(crate) fn lose(&mut self, source: Source, partition: Partition, start: Offset) {
        match source {
            Source::Messages => {}
            Source::Deliveries if self.decided.contains_key(&partition) => {}
            Source::Deliveries => self.rules.entry(partition).or_default().resume_after_loss(),
            Source::Attempts => {
                let facts = self.facts.entry(partition).or_default();
                (facts.done, facts.range_from) = (0, None);
            }
        }
        self.pass(source, partition, start);
    }

    pub(crate) fn message(&mut self, partition: Partition, offset: Offset, message: Box<Message>) {
        let key = MessageKey { partition, offset };
        let minute = minute_of_tick(Tick::of(message.accepted_at));
        self.newest = self.newest.max(Some(message.accepted_at));
        self.changes.saw((Source::Messages, partition, false, minute), offset);
        let kind = if message.due_of.is_some() { MessageKind::Due } else { MessageKind::Message };
        self.changes.messages.insert(key, NewMessage { message, kind, first: None });
        self.pass(Source::Messages, partition, offset.next());
    }

    /// A record that cannot be read is passed over, as everybody does.
    pub(crate) fn unreadable(&mut self, source: Source, partition: Partition, offset: Offset) {
        if source == Source::Deliveries {
            self.rules.entry(partition).or_default().refuse(offset);
        }
        self.pass(source, partition, offset.next());
    }

    pub(crate) fn delivery(&mut self, partition: Partition, offset: Offset, delivery: &Delivery) {
        self.pass(Source::Deliveries, partition, offset.next());
        if !self.takes(partition, offset, delivery) {
            return;
        }
        match delivery {
            Delivery::Routed { source, id, endpoints, due_of, .. } => {
                let original = due_of.unwrap_or(source.offset);
                let message = MessageKey { partition: source.partition, offset: original };
                let is_late = due_of.is_some();
                self.route(partition, offset, (message, *id, is_late), endpoints, None);
            }
            Delivery::Injected { job, id, partition: of, offset: original, endpoints, .. } => {
                let message = MessageKey { partition: *of, offset: *original };
                self.route(partition, offset, (message, *id, true), endpoints, Some(*job));
            }
            Delivery::Alias { source, first, .. } => {
                self.twin(source.partition, source.offset, MessageKind::Alias, *first);
            }
            Delivery::Conflict { source, first, .. } => {
                self.twin(source.partition, source.offset, MessageKind::Conflict, *first);
            }
        }
    }

    fn takes(&mut self, partition: Partition, offset: Offset, delivery: &Delivery) -> bool {
        if let Some(decided) = self.decided.get(&partition) {
            if offset < decided.checkpoint.deliveries {
                return !decided.rule.refused(offset);
            }
            if let Some(decided) = self.decided.remove(&partition) {
                self.rules.insert(partition, decided.rule);
            }
        }
        let intake = self.rules.entry(partition).or_default().decide(offset, delivery);
        matches!(intake, Intake::Take | Intake::TakeAfterLoss)
    }

    fn twin(&mut self, partition: Partition, offset: Offset, kind: MessageKind, first: MessageId) {
        let key = MessageKey { partition, offset };
        match self.changes.messages.get_mut(&key) {
            Some(new) => (new.kind, new.first) = (kind, Some(first)),
            None => self.changes.twins.push((key, kind, first)),
        }
    }

    fn route(
        &mut self,
        partition: Partition,
        offset: Offset,
        (message, id, is_late): (MessageKey, MessageId, bool),
        endpoints: &[EndpointNumber],
        job: Option<u64>,
    ) {
        let accepted = Tick::of_id(id.as_bytes());
        let moment = (Source::Deliveries, partition, is_late, minute_of_tick(accepted));
        self.changes.saw(moment, offset);
        self.changes.routes.insert((message, partition, offset), endpoints.to_vec());
        for &endpoint in endpoints {
            if self.endpoints.insert(endpoint) {
                self.changes.endpoints.insert(endpoint, partition);
            }
            let state = State {
                message,
                accepted,
                standing: Standing::Pending,
                attempts: 0,
                first_at: None,
                last_at: None,
                last_status: None,
                settled_at: None,
                due: None,
                job,
                shadow: Shadow::Alone,
            };
            self.changes.count(endpoint, hour_of_tick(accepted), state.standing.code(), 1);
            self.tracked.insert((endpoint, offset), state);
            self.changed.insert((endpoint, offset));
            if job.is_some() {
                let of_batch = (message, partition, Offset::ZERO)..=(message, partition, offset);
                let routes = self.changes.routes.range(of_batch);
                let offsets =
                    routes.filter(|(_, endpoints)| endpoints.contains(&endpoint)).map(|(key, _)| key.2);
                self.groups.entry((endpoint, message)).or_default().extend(offsets);
                self.regroup(endpoint, message);
            }
        }
    }

    /// Of several deliveries of one message to one endpoint, one counts: the first that was delivered, else the last.
    fn regroup(&mut self, endpoint: EndpointNumber, message: MessageKey) {
        let Some(offsets) = self.groups.get(&(endpoint, message)) else { return };
        if offsets.len() < 2 {
            return;
        }
        let delivered = |offset: &&Offset| {
            let state = self.tracked.get(&(endpoint, **offset));
            state.is_some_and(|state| state.standing == Standing::Settled(Settlement::Delivered))
        };
        let counts = offsets.iter().find(delivered).or(offsets.last()).copied();
        for &offset in &offsets.clone() {
            let Some(state) = self.tracked.get_mut(&(endpoint, offset)) else { continue };
            let shadow = if Some(offset) == counts { Shadow::Counts } else { Shadow::Shadowed };
            if state.shadow == shadow {
                continue;
            }
            let by = i64::from(shadow != Shadow::Shadowed) - i64::from(state.shadow != Shadow::Shadowed);
            self.changes.count(endpoint, hour_of_tick(state.accepted), state.standing.code(), by);
            state.shadow = shadow;
            self.changed.insert((endpoint, offset));
        }
    }

    pub(crate) fn is_tracked(&self, key: &DeliveryKey) -> bool {
        self.tracked.contains_key(key)
    }

    /// A row as the tables have it.
    pub(crate) fn track(&mut self, key: DeliveryKey, state: State) {
        if state.shadow != Shadow::Alone {
            self.groups.entry((key.0, state.message)).or_default().insert(key.1);
        }
        self.tracked.entry(key).or_insert(state);
    }

    /// A row of a message that is about to be delivered to the endpoint again.
    pub(crate) fn track_twin(&mut self, key: DeliveryKey, state: State) {
        self.groups.entry((key.0, state.message)).or_default().insert(key.1);
        self.tracked.entry(key).or_insert(state);
    }

    /// Folds a record's facts, those that are folded already left out, up to the first range.
    pub(crate) fn record(&mut self, partition: Partition, offset: Offset, record: &AttemptRecord) -> Folded {
        let mut state = self.facts.remove(&partition).unwrap_or_default();
        let folded = match record {
            AttemptRecord::Claim { .. } => {
                state.newest_claim = state.newest_claim.max(offset);
                Folded::All
            }
            AttemptRecord::Facts { epoch, facts } => {
                let stale = *epoch < state.newest_claim;
                self.fold_facts(&mut state, stale, facts)
            }
        };
        if folded == Folded::All {
            (state.done, state.range_from) = (0, None);
            self.pass(Source::Attempts, partition, offset.next());
        } else {
            self.pass(Source::Attempts, partition, offset);
        }
        self.facts.insert(partition, state);
        folded
    }

    fn fold_facts(&mut self, state: &mut FactsState, stale: bool, facts: &[Fact]) -> Folded {
        for fact in &facts[facts.len().min(state.done as usize)..] {
            let counts = !stale || fact.survives_its_epoch();
            match fact {
                _ if !counts => {}
                Fact::Attempted(attempt) => self.attempted(attempt),
                Fact::Settled { endpoint, offset, reason, at } => {
                    self.settled((*endpoint, *offset), *reason, *at);
                }
                Fact::SettledRange { endpoint, from, to, reason, at } => {
                    let from = state.range_from.unwrap_or(*from).max(*from);
                    if from < *to {
                        return Folded::AtRange(Range {
                            endpoint: *endpoint,
                            from,
                            to: *to,
                            reason: *reason,
                            at: *at,
                        });
                    }
                }
                Fact::AnswerErased { endpoint, offset, number, made_at, .. } => {
                    self.answer_erased(*endpoint, Tick::of(*made_at), *offset, *number);
                }
            }
            state.done += 1;
            state.range_from = None;
        }
        Folded::All
    }

    /// A step of a range: these are its unsettled deliveries below `until`, which are tracked.
    pub(crate) fn range_step(
        &mut self,
        partition: Partition,
        range: &Range,
        keys: &[DeliveryKey],
        until: Offset,
    ) {
        for &key in keys {
            self.settled(key, range.reason, range.at);
        }
        self.facts.entry(partition).or_default().range_from = Some(until);
        self.moved.insert((Source::Attempts, partition));
    }

    fn attempted(&mut self, attempt: &Attempt) {
        let key = (attempt.endpoint, attempt.offset);
        // Its delivery record left the log before it was looked at, or was refused.
        let Some(state) = self.tracked.get_mut(&key) else { return };
        // Told twice.
        if state.attempts == attempt.number && state.last_at.map(Tick::of) == Some(Tick::of(attempt.at)) {
            return;
        }
        let again = state.first_at.is_some();
        state.first_at = state.first_at.or(Some(attempt.at));
        state.last_at = state.last_at.max(Some(attempt.at));
        // By number, not by time: clocks of owners differ.
        if attempt.number >= state.attempts {
            state.last_status = Some(attempt.status);
        }
        state.attempts = state.attempts.max(attempt.number);
        let (message, settled) = (state.message, state.standing.is_settled());
        if !settled && attempt.outcome == Outcome::Failed {
            state.due = attempt.due;
        }
        self.changed.insert(key);
        let answer = answer_of(attempt);
        self.changes.count(attempt.endpoint, hour_of(attempt.at), ATTEMPTS_BY_ANSWER + answer, 1);
        let row = (attempt.endpoint, answer, Tick::of(attempt.at), attempt.offset, attempt.number);
        // The first that was told stays, as in the tables.
        self.changes.attempts.entry(row).or_insert_with(|| NewAttempt {
            attempt: attempt.clone(),
            message,
            again,
        });
        match attempt.outcome {
            Outcome::Delivered => self.stand(key, Standing::Settled(Settlement::Delivered), attempt.at),
            Outcome::Failed if !settled => self.stand(key, Standing::Retrying, attempt.at),
            Outcome::Failed => {}
        }
    }

    /// In this batch, and in earlier ones.
    fn answer_erased(&mut self, endpoint: EndpointNumber, tick: Tick, offset: Offset, number: u32) {
        for answer in 0..ANSWERS {
            if let Some(new) = self.changes.attempts.get_mut(&(endpoint, answer, tick, offset, number)) {
                new.attempt.response = Bytes::new();
            }
        }
        self.changes.erased_answers.push((endpoint, tick, offset, number));
    }

    fn settled(&mut self, key: DeliveryKey, reason: Settlement, at: Timestamp) {
        if reason == Settlement::Purged {
            let is_dead = self.tracked.get(&key).is_some_and(|state| state.standing.is_dead_letter());
            if is_dead {
                self.stand(key, Standing::Settled(reason), at);
            }
            return;
        }
        let unsettled = self.tracked.get(&key).is_some_and(|state| !state.standing.is_settled());
        if unsettled {
            self.stand(key, Standing::Settled(reason), at);
        }
    }

    fn stand(&mut self, key: DeliveryKey, standing: Standing, at: Timestamp) {
        let Some(state) = self.tracked.get_mut(&key) else { return };
        if state.standing == standing {
            return;
        }
        let old = std::mem::replace(&mut state.standing, standing);
        if standing.is_settled() {
            state.settled_at = Some(Tick::of(at));
            state.due = None;
        }
        self.changed.insert(key);
        let (hour, message) = (hour_of_tick(state.accepted), state.message);
        if state.shadow != Shadow::Shadowed {
            self.changes.count(key.0, hour, old.code(), -1);
            self.changes.count(key.0, hour, standing.code(), 1);
        }
        self.regroup(key.0, message);
    }

    /// Messages of which an endpoint has several deliveries, among them one of these: all have to be known.
    pub(crate) fn in_groups(&self, keys: impl IntoIterator<Item = DeliveryKey>) -> BTreeSet<MessageKey> {
        let states = keys.into_iter().filter_map(|key| self.tracked.get(&key));
        states.filter(|state| state.shadow != Shadow::Alone).map(|state| state.message).collect()
    }

    /// What the batch changed, with the positions behind it.
    pub(crate) fn take(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.changes);
        for key in std::mem::take(&mut self.changed) {
            let Some(state) = self.tracked.get(&key) else { continue };
            changes.deliveries.insert(key, state.clone());
            if state.standing.is_settled() {
                self.tracked.remove(&key);
            }
        }
        self.groups.clear();
        if self.tracked.len() > TRACKED {
            self.tracked.clear();
        }
        for (source, partition) in std::mem::take(&mut self.moved) {
            let state = match source {
                Source::Messages => Bytes::new(),
                Source::Deliveries if self.decided.contains_key(&partition) => {
                    self.decided[&partition].checkpoint.encode()
                }
                Source::Deliveries => {
                    let mut checkpoint = WorkerCheckpoint::default();
                    self.rules.entry(partition).or_default().save(&mut checkpoint);
                    checkpoint.encode()
                }
                Source::Attempts => self.facts.entry(partition).or_default().encode(),
            };
            changes.positions.insert((source, partition), (self.position(source, partition), state));
        }
        changes
    }

    /// The time of what came last.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    pub(crate) fn is_changed(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Below `start` nothing is kept.
    pub(crate) fn truncate(&mut self, partition: Partition, start: Offset) {
        if let Some(rule) = self.rules.get_mut(&partition) {
            rule.truncate(start);
        }
    }
}

/// Deliveries that a record's facts speak of one by one.
pub(crate) fn named_deliveries(record: &AttemptRecord) -> impl Iterator<Item = DeliveryKey> {
    let facts = match record {
        AttemptRecord::Facts { facts, .. } => facts.as_slice(),
        AttemptRecord::Claim { .. } => &[],
    };
    facts.iter().filter_map(|fact| match fact {
        Fact::Attempted(attempt) => Some((attempt.endpoint, attempt.offset)),
        Fact::Settled { endpoint, offset, .. } => Some((*endpoint, *offset)),
        Fact::SettledRange { .. } | Fact::AnswerErased { .. } => None,
    })
}

/// The highest delivery that a record's facts speak of: it has to be folded before.
pub(crate) fn highest_delivery(record: &AttemptRecord) -> Option<Offset> {
    let AttemptRecord::Facts { facts, .. } = record else { return None };
    let offsets = facts.iter().map(|fact| match fact {
        Fact::Attempted(attempt) => attempt.offset,
        Fact::Settled { offset, .. } | Fact::AnswerErased { offset, .. } => *offset,
        Fact::SettledRange { to, .. } => Offset(to.0.saturating_sub(1)),
    });
    offsets.max()
}

impl FactsState {
    fn encode(&self) -> Bytes {
        let mut w = Writer::record(1, 1);
        w.offset(self.newest_claim);
        w.uint(u64::from(self.done));
        w.option(self.range_from, Writer::offset);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, _) = Reader::record(bytes, 1)?;
        Ok(Self {
            newest_claim: r.offset("newest_claim")?,
            done: r.uint32("done")?,
            range_from: r.option("range_from", |r| r.offset("range_from"))?,
        })
    }
}
