//! What became of an endpoint's deliveries, message by message, as the log has it. A few bits for each.

use std::time::Duration;

use fanfare_control::{Endpoint, job_number};
use fanfare_core::{
    AttemptRecord, Delivery, EndpointNumber, Fact, JobId, Offset, Outcome, Partition, Settlement, Timestamp,
    limits,
};
use fanfare_log::{Log, LogRecord, Topic, first_after};
use roaring::RoaringTreemap;

use super::runner::Error;
use crate::{
    inspect,
    recover::{self, RecoverError},
};

/// Clocks of two machines, and a record's way into the log.
pub(super) const APART: Duration = Duration::from_mins(1);
/// Of statuses: those without answer, 1xx, 2xx, …
const CLASSES: usize = 6;

/// Sets of messages, by their offsets in `messages`.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Sent to the endpoint by the router.
    pub(super) routed: RoaringTreemap,
    pub(super) attempted: RoaringTreemap,
    pub(super) delivered: RoaringTreemap,
    pub(super) dead: RoaringTreemap,
    pub(super) cancelled: RoaringTreemap,
    /// On their way: they will be delivered, or end in another way.
    pub(super) open: RoaringTreemap,
    /// By the class of the last answer.
    pub(super) classes: [RoaringTreemap; CLASSES],
    /// What the job has injected itself.
    pub(super) own: Own,
    /// Deliveries and facts below were looked at.
    pub(super) deliveries: Offset,
    pub(super) attempts: Offset,
}

/// What a job injected, as the log has it.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Its last message's offset.
    pub(super) highest: Option<u64>,
    pub(super) injected: u64,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) cancelled: u64,
    /// Not settled: offsets of the deliveries.
    pub(super) open: RoaringTreemap,
}

impl Own {
    /// Another of its records: repeats do not count.
    pub(super) fn found(&mut self, offset: Offset, sequence: u64) -> bool {
        if self.highest.is_some_and(|highest| sequence <= highest) {
            return false;
        }
        self.highest = Some(sequence);
        self.injected += 1;
        self.open.insert(offset.0);
        true
    }

    /// Whatever is settled by this fact.
    pub(super) fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Attempted(attempt) => {
                if attempt.outcome == Outcome::Delivered && self.open.remove(attempt.offset.0) {
                    self.delivered += 1;
                }
            }
            Fact::Settled { reason: Settlement::Purged, .. } | Fact::AnswerErased { .. } => {}
            Fact::Settled { offset, reason, .. } => {
                if self.open.remove(offset.0) {
                    self.settled(*reason, 1);
                }
            }
            Fact::SettledRange { from, to, reason, .. } => {
                let settled = self.open.range_cardinality(from.0..to.0);
                self.open.remove_range(from.0..to.0);
                self.settled(*reason, settled);
            }
        }
    }

    fn settled(&mut self, reason: Settlement, count: u64) {
        match reason {
            Settlement::Delivered | Settlement::Acknowledged => self.delivered += count,
            Settlement::Cancelled => self.cancelled += count,
            // What was dead before stays counted as that.
            Settlement::Purged => {}
            Settlement::Exhausted
            | Settlement::Rejected
            | Settlement::Expired
            | Settlement::IdempotencyConflict => self.dead += count,
        }
    }
}

/// Sets of deliveries, by their offsets in `deliveries`.
#[derive(Debug, Default)]
struct Facts {
    settled: RoaringTreemap,
    attempted: RoaringTreemap,
    delivered: RoaringTreemap,
    dead: RoaringTreemap,
    cancelled: RoaringTreemap,
    classes: [RoaringTreemap; CLASSES],
}

impl Facts {
    fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Attempted(attempt) => {
                let offset = attempt.offset.0;
                self.attempted.insert(offset);
                let class = usize::from(attempt.status / 100).min(CLASSES - 1);
                for (index, members) in self.classes.iter_mut().enumerate() {
                    if index == class {
                        members.insert(offset);
                    } else {
                        members.remove(offset);
                    }
                }
                if attempt.outcome == Outcome::Delivered {
                    self.settled.insert(offset);
                    self.delivered.insert(offset);
                }
            }
            // Nobody wants to hear of it any more.
            Fact::Settled { offset, reason: Settlement::Purged, .. } => {
                self.dead.remove(offset.0);
            }
            Fact::Settled { offset, reason, .. } => {
                if self.settled.insert(offset.0) {
                    self.of(*reason).insert(offset.0);
                }
            }
            Fact::SettledRange { from, to, reason, .. } => {
                let mut range = RoaringTreemap::new();
                range.insert_range(from.0..to.0);
                range -= &self.settled;
                self.settled |= &range;
                *self.of(*reason) |= range;
            }
            Fact::AnswerErased { .. } => {}
        }
    }

    fn of(&mut self, reason: Settlement) -> &mut RoaringTreemap {
        match reason {
            Settlement::Delivered | Settlement::Acknowledged => &mut self.delivered,
            Settlement::Cancelled => &mut self.cancelled,
            Settlement::Exhausted
            | Settlement::Rejected
            | Settlement::Expired
            | Settlement::IdempotencyConflict
            | Settlement::Purged => &mut self.dead,
        }
    }
}

/// Where it is read.
pub(super) struct Place<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) partition: Partition,
    pub(super) endpoint: &'a Endpoint,
    pub(super) policy: fanfare_core::Policy,
    pub(super) now: Timestamp,
}

impl Place<'_> {
    /// Of all messages that were accepted at `since` or later, as of now; and of the job itself.
    pub(super) async fn outcomes(&self, job: JobId, since: Timestamp) -> Result<Outcomes, Error> {
        let Self { log, partition, .. } = *self;
        let attempts = log.bounds(Topic::Attempts, partition).await?;
        let number = self.endpoint.number;
        let look_up = |asked: EndpointNumber| {
            (asked == number).then(|| (self.endpoint.application, self.policy.clone()))
        };
        let mut recovered = recover::recover_lanes(log, &look_up, partition, attempts.end, self.now).await?;
        let next = recovered.deliveries;
        let fresh = || recover::fresh_slot((self.endpoint.application, self.policy.clone()), next, self.now);
        let end = inspect::follow_tail(log, partition, &mut recovered, |asked| (asked == number).then(fresh))
            .await?;

        let mut facts = Facts::default();
        let begin = first_after(
            log,
            (Topic::Attempts, partition),
            (attempts.start, attempts.end),
            since - APART,
            written_down_at,
        );
        recover::fold(log, partition, begin.await?, attempts.end, Offset::ZERO, |fact| {
            if fact.endpoint() == number {
                facts.apply(&fact);
            }
        })
        .await?;

        let mut outcomes = Outcomes { deliveries: end, attempts: attempts.end, ..Outcomes::default() };
        let start = log.bounds(Topic::Deliveries, partition).await?.start;
        let mut position =
            first_after(log, (Topic::Deliveries, partition), (start, end), since - APART, |record| {
                Delivery::decode(&record.head).ok()?.written_at()
            })
            .await?;
        let lane = recovered.slots.get(&number).map(|slot| &slot.lane);
        let unsettled: RoaringTreemap = lane
            .into_iter()
            .flat_map(fanfare_core::lane::Lane::unsettled_offsets)
            .map(|offset| offset.0)
            .collect();
        let looked_at = lane.map_or(end, fanfare_core::lane::Lane::next);
        while position < end {
            let batch = log.fetch(Topic::Deliveries, partition, position, limits::CATCH_UP_RUN_BYTES).await?;
            for record in batch.records.iter().take_while(|record| record.offset < end) {
                let offset = record.offset;
                if recovered.rule.refused(offset) {
                    continue;
                }
                let delivery = Delivery::decode(&record.head)
                    .map_err(|source| RecoverError::Malformed { what: "a delivery record", source })?;
                if !delivery.endpoints().contains(&number) {
                    continue;
                }
                let settled = facts.settled.contains(offset.0);
                let open = if offset < looked_at { unsettled.contains(offset.0) } else { !settled };
                outcomes.enter(&delivery, offset, &facts, open, job);
            }
            if batch.next <= position {
                break;
            }
            position = batch.next;
        }
        Ok(outcomes)
    }
}

impl Outcomes {
    fn enter(&mut self, delivery: &Delivery, offset: Offset, facts: &Facts, open: bool, job: JobId) {
        let source = match delivery {
            Delivery::Routed { source, due_of, .. } => {
                let original = due_of.unwrap_or(source.offset).0;
                self.routed.insert(original);
                original
            }
            Delivery::Injected { job: number, sequence, offset: source, .. } => {
                if *number == job_number(job) && self.own.found(offset, *sequence) && !open {
                    self.own.open.remove(offset.0);
                    if facts.delivered.contains(offset.0) {
                        self.own.delivered += 1;
                    } else if facts.dead.contains(offset.0) {
                        self.own.dead += 1;
                    } else {
                        self.own.cancelled += 1;
                    }
                }
                source.0
            }
            Delivery::Alias { .. } | Delivery::Conflict { .. } => return,
        };
        let sets = [
            (&mut self.attempted, &facts.attempted),
            (&mut self.delivered, &facts.delivered),
            (&mut self.dead, &facts.dead),
            (&mut self.cancelled, &facts.cancelled),
        ];
        for (messages, deliveries) in sets {
            if deliveries.contains(offset.0) {
                messages.insert(source);
            }
        }
        if open {
            self.open.insert(source);
        }
        for (messages, deliveries) in self.classes.iter_mut().zip(&facts.classes) {
            if deliveries.contains(offset.0) {
                messages.insert(source);
            }
        }
    }
}

/// When a record of `attempts` was written.
fn written_down_at(record: &LogRecord) -> Option<Timestamp> {
    match AttemptRecord::decode(&record.head).ok()? {
        AttemptRecord::Claim { at, .. } => Some(at),
        AttemptRecord::Facts { facts, .. } => facts.first().map(|fact| match fact {
            Fact::Attempted(attempt) => attempt.at,
            Fact::Settled { at, .. } | Fact::SettledRange { at, .. } | Fact::AnswerErased { at, .. } => *at,
        }),
    }
}
