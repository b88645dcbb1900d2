//! The rounds a worker makes: endpoints that were changed, disabled or deleted, messages about to leave the log,
//! facts that others wrote, figures.

use std::{collections::HashMap, time::Duration};

use fanfare_control::{Command, CommandError};
use fanfare_core::{
    AttemptRecord, Delivery, EndpointNumber, Fact, Offset, Partition, Settlement, Timestamp, limits,
    planted::{Fault, planted},
};
use fanfare_log::{LogRecord, ReadError, Topic, first_after};
use tokio::time::{Instant, timeout};

use super::{Ending, Worker, cadence::Cadence};
use crate::{load, send::Transport, slot::Slot};

const EVERY: Duration = Duration::from_secs(1);
/// What was asked for by name comes this soon.
const SOON: Duration = Duration::from_millis(20);
/// How long everything waits for what others appended; longer each time that there was no answer.
const PATIENCE: Duration = Duration::from_millis(200);
const PATIENCE_MAX: Duration = Duration::from_secs(2);
const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Share of retention after which what is unsettled becomes a dead letter: while it can still be read and named.
const EXPIRE_AT: f64 = 0.9;
/// A wall clock that is off the steady one by more than this has stepped.
const STEP: Duration = Duration::from_mins(1);
/// A stepped clock is believed after it has run evenly for so long.
const CONFIRMED: Duration = Duration::from_mins(10);

pub(super) struct State {
    cadence: Cadence,
    expire_due: Instant,
    /// `control` was applied up to here when the endpoints were last looked through.
    control: Offset,
    /// Wall clock minus steady clock, in microseconds, and since when.
    skew: Option<(i64, Instant)>,
    patience: Duration,
    /// The oldest workable delivery that was read to know its age, and when its message was accepted.
    oldest: Option<(Offset, Timestamp)>,
}

impl State {
    pub(super) fn new(partition: Partition) -> Self {
        let cadence = Cadence::new(EVERY, partition);
        let (expire_due, control) = (Instant::now(), Offset::ZERO);
        Self { cadence, expire_due, control, skew: None, patience: PATIENCE, oldest: None }
    }

    pub(super) fn due(&self) -> Instant {
        self.cadence.due()
    }

    pub(super) fn soon(&mut self) {
        self.cadence.not_after(Instant::now() + SOON);
    }

    /// Whether the wall clock may be trusted to tell that something is old.
    fn confirmed(&mut self, wall: Timestamp, steady: Timestamp) -> bool {
        let skew = wall.as_micros().saturating_sub(steady.as_micros());
        let now = Instant::now();
        match self.skew {
            Some((known, since)) if u128::from(known.abs_diff(skew)) < STEP.as_micros() => {
                // The process's first reading is as good as any; a later step has to prove itself.
                known == 0 || now.duration_since(since) >= CONFIRMED
            }
            None => {
                self.skew = Some((0, now));
                u128::from(skew.unsigned_abs()) < STEP.as_micros()
            }
            Some(_) => {
                tracing::warn!(
                    skew_secs = skew / 1_000_000,
                    "the wall clock has stepped; nothing expires until it settles"
                );
                self.skew = Some((skew, now));
                false
            }
        }
    }
}

impl<T: Transport> Worker<T> {
    pub(super) async fn sweep(&mut self) {
        self.sweep.cadence.done();
        self.look_at_endpoints();
        if self.sweep.expire_due <= Instant::now() {
            self.sweep.expire_due = Instant::now() + EXPIRE_EVERY;
            self.expire().await;
        }
        let oldest = self.oldest_workable().await;
        self.report(oldest);
    }

    /// When the oldest delivery that nothing holds was accepted or injected. A lane far behind has its record read for it.
    async fn oldest_workable(&mut self) -> Option<Timestamp> {
        let now = self.steady.now();
        let workable = |slot: &&Slot| slot.backlog() > 0 && slot.lane.held_by(now).is_none();
        let oldest = self.slots.values().filter(workable).map(|slot| slot.lane.cursor()).min()?;
        if let Some(at) = self.window.get(oldest).and_then(|delivery| delivery.written_at()) {
            return Some(at);
        }
        if let Some((offset, at)) = self.sweep.oldest
            && offset == oldest
        {
            return Some(at);
        }
        if self.sweep.patience > PATIENCE {
            return None;
        }
        let log = &self.shared.options.log;
        let fetch = log.fetch(Topic::Deliveries, self.partition, oldest, 1);
        let batch = timeout(self.sweep.patience, fetch).await.ok()?.ok()?;
        let at = batch.records.iter().find_map(written_at)?;
        self.sweep.oldest = Some((oldest, at));
        Some(at)
    }

    /// Reads what was appended to `attempts`: late facts of a former owner count if something was delivered; a newer
    /// claim ends this worker. A log that does not answer now is asked again with the next round: what was read before
    /// goes out meanwhile.
    pub(super) async fn follow(&mut self) -> Result<(), Ending> {
        loop {
            let log = &self.shared.options.log;
            let fetch = log.fetch(Topic::Attempts, self.partition, self.followed, limits::CATCH_UP_RUN_BYTES);
            let batch = match timeout(self.sweep.patience, fetch).await {
                Ok(Ok(batch)) => batch,
                Ok(Err(error @ ReadError::Corrupt(_))) => return Err(Ending::Unknown(error.to_string())),
                Ok(Err(error)) if !error.is_retryable() => return Err(Ending::Failed(error.to_string())),
                unanswered => {
                    if let Ok(Err(error)) = unanswered {
                        tracing::debug!(partition = %self.partition, %error, "`attempts` cannot be read now");
                    }
                    self.sweep.patience = (self.sweep.patience * 2).min(PATIENCE_MAX);
                    return Ok(());
                }
            };
            self.sweep.patience = PATIENCE;
            for record in &batch.records {
                match AttemptRecord::decode(&record.head) {
                    Ok(AttemptRecord::Claim { .. })
                        if record.offset > self.epoch
                            && !planted(Fault::NewerClaimIgnored)
                            && !planted(Fault::EpochIgnored) =>
                    {
                        return Err(Ending::Superseded);
                    }
                    Ok(AttemptRecord::Facts { epoch, facts }) if epoch != self.epoch => {
                        self.apply_foreign(&facts);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        return Err(Ending::Unknown(format!("attempts {}: {error}", record.offset)));
                    }
                }
            }
            if batch.next <= self.followed || batch.records.is_empty() {
                self.followed = self.followed.max(batch.next);
                return Ok(());
            }
            self.followed = batch.next;
        }
    }

    fn apply_foreign(&mut self, facts: &[Fact]) {
        let now = self.steady.now();
        let counting = facts.iter().filter(|fact| fact.survives_its_epoch() && !fact.hides());
        for fact in counting {
            let number = fact.endpoint();
            // Its record may still be to come: without a lane nobody would remember.
            self.find_slot(number, self.tail);
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.dirty = true;
                slot.lane.apply(fact, now);
                self.advance(number);
            }
        }
    }

    /// Brings lanes in line with their endpoints, if `control` has moved on.
    fn look_at_endpoints(&mut self) {
        let control = self.shared.options.control.clone();
        let position = control.position();
        let changed = position != self.sweep.control;
        self.sweep.control = position;
        let now = self.steady.now();
        let numbers: Vec<EndpointNumber> = self.slots.keys().copied().collect();
        for number in numbers {
            let slot = &self.slots[&number];
            let (failing, held) = (slot.lane.failing_since(), slot.lane.is_held());
            let after = self.shared.options.disable_after;
            let is_over = |since| after.is_some_and(|after| now.since(since) > after);
            // One that is stopped cannot succeed.
            if !held && failing.is_some_and(is_over) {
                self.disable(number, "every attempt failed for too long");
            }
            if !changed && !held {
                continue;
            }
            let endpoint = control.view().endpoint_by_number(number);
            if endpoint.is_none_or(|endpoint| endpoint.settings.disabled) {
                self.cancel(number);
                continue;
            }
            let slot = self.slots.get_mut(&number).expect("listed above");
            slot.follow(number, &control, &self.steady);
            if slot.lane.is_held() {
                slot.lane.hold(false, now);
            }
            self.advance(number);
        }
    }

    /// What is pending for an endpoint that is disabled or deleted is cancelled by one record.
    fn cancel(&mut self, number: EndpointNumber) {
        let now = self.steady.now();
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if !slot.lane.is_held() {
            slot.lane.hold(true, now);
        }
        self.behind.remove(&(slot.lane.next(), number));
        slot.forget_target();
        let backlog = slot.backlog();
        slot.behind = false;
        slot.above = 0;
        slot.dirty |= backlog > 0 || slot.lane.failing_since().is_some();
        if let Some((from, to)) = slot.lane.settle_below(self.tail)
            && backlog > 0
        {
            self.facts.push(Fact::SettledRange {
                endpoint: number,
                from,
                to,
                reason: Settlement::Cancelled,
                at: self.shared.options.clock.now(),
            });
            self.shared.meters.settled(Settlement::Cancelled, backlog);
        }
        self.set_timer(number, None);
        self.shared.transport.forget(number);
    }

    /// Asks the control plane to disable an endpoint. It may have been done already, by anybody.
    pub(super) fn disable(&mut self, number: EndpointNumber, reason: &'static str) {
        let control = self.shared.options.control.clone();
        let Some(endpoint) = control.view().endpoint_by_number(number) else { return };
        if endpoint.settings.disabled {
            return;
        }
        // By the clock of everybody.
        let failing = self.slots.get(&number).and_then(|slot| slot.lane.failing_since());
        let failing_since =
            failing.map(|since| self.shared.options.clock.now() - self.steady.now().since(since));
        tokio::spawn(async move {
            let command = Command::DisableEndpointByPolicy {
                application: endpoint.application,
                id: endpoint.id,
                reason: reason.to_owned(),
                failing_since,
            };
            match control.submit(command, None).await {
                Ok(_) => tracing::warn!(endpoint = %endpoint.id, reason, "endpoint disabled"),
                // Deleted, disabled or changed by somebody else in the meantime.
                Err(CommandError::Refused(_)) => {}
                Err(error) => {
                    tracing::warn!(endpoint = %endpoint.id, %error, "endpoint could not be disabled");
                }
            }
        });
        self.sweep.soon();
    }

    /// Settles as expired what is about to leave the log.
    async fn expire(&mut self) {
        let wall = self.shared.options.clock.now();
        if !self.sweep.confirmed(wall, self.steady.now()) {
            return;
        }
        let cutoff = wall - self.shared.options.retention.mul_f64(EXPIRE_AT);
        let oldest =
            self.slots.values().filter(|slot| slot.backlog() > 0).map(|slot| slot.lane.cursor()).min();
        let Some(oldest) = oldest else { return };
        let log = std::sync::Arc::clone(&self.shared.options.log);
        let place = (Topic::Deliveries, self.partition);
        match first_after(&*log, place, (oldest, self.tail), cutoff, written_at).await {
            Ok(boundary) if boundary > oldest => self.expire_below(boundary),
            Ok(_) => {}
            Err(error) => tracing::warn!(partition = %self.partition, %error, "expiry put off"),
        }
    }

    pub(super) fn expire_below(&mut self, boundary: Offset) {
        self.want_nothing_below(boundary);
        let now = self.steady.now();
        let numbers: Vec<EndpointNumber> = self.slots.keys().copied().collect();
        for number in numbers {
            let slot = self.slots.get_mut(&number).expect("listed above");
            let from = slot.lane.cursor();
            if slot.backlog() == 0 || from >= boundary {
                continue;
            }
            tracing::warn!(endpoint = %number, %from, to = %boundary, "deliveries expired");
            let fact = Fact::SettledRange {
                endpoint: number,
                from,
                to: boundary,
                reason: Settlement::Expired,
                at: self.shared.options.clock.now(),
            };
            slot.dirty = true;
            if slot.behind {
                self.behind.remove(&(slot.lane.next(), number));
            }
            let before = slot.lane.unsettled();
            slot.lane.apply(&fact, now);
            let mut expired = before - slot.lane.unsettled();
            if slot.behind {
                slot.lane.pass(boundary);
                // How many of them stood below is not known without reading them: as many as have no place above.
                let left = slot.above.min(self.tail.0.saturating_sub(boundary.0));
                expired += slot.above - left;
                slot.above = left;
                self.behind.insert((slot.lane.next(), number));
            }
            self.facts.push(fact);
            self.shared.meters.settled(Settlement::Expired, expired);
            self.advance(number);
        }
    }

    /// Backlog by what holds it, and the age of the oldest delivery that nothing holds.
    fn report(&mut self, oldest: Option<Timestamp>) {
        let start = self.window_start();
        self.rule.truncate(start);
        self.budget = self.shared.room.share(self.budget);
        let contended = !self.turns.is_empty();
        let mut tally = if self.load.is_due() {
            Some(self.load.tally(self.budget, contended, self.shared.options.drain_target))
        } else {
            None
        };
        let mut held: HashMap<&'static str, u64> =
            fanfare_core::lane::HeldBy::ALL.into_iter().map(|by| (by.as_str(), 0)).collect();
        held.insert("workable", 0);
        let now = self.steady.now();
        for slot in self.slots.values_mut() {
            if let Some(tally) = &mut tally {
                tally.lane(slot, now);
            }
            let by = slot.lane.held_by(now).map_or("workable", fanfare_core::lane::HeldBy::as_str);
            *held.entry(by).or_default() += slot.backlog();
        }
        for (by, count) in held {
            self.shared.meters.backlog(self.partition.0, by, count);
        }
        let age = oldest.map_or(Duration::ZERO, |at| self.shared.options.clock.now().since(at));
        self.shared.meters.oldest_age(self.partition.0, age);
        let Some(tally) = tally else { return };
        let clock = &*self.shared.options.clock;
        let about = load::About {
            at: clock.now(),
            owner: self.shared.owner,
            epoch: self.epoch,
            tail: self.tail,
            oldest_workable: age,
            next_due: self.timers.first().map(|&(at, _)| self.steady.by_wall(at, clock)),
        };
        let load = tally.finish(&mut self.load, about, &self.shared.room, &self.shared.processor);
        self.load.show(&self.shared.options.board, self.partition, load);
    }

    /// Refusals below this need not be remembered: no lane will read there again.
    fn window_start(&self) -> Offset {
        let cursors = self.slots.values().map(|slot| slot.lane.cursor());
        cursors.min().map_or(self.tail, |cursor| cursor.min(self.tail))
    }
}

/// When the message of a delivery record was accepted or injected.
fn written_at(record: &LogRecord) -> Option<Timestamp> {
    Delivery::decode(&record.head).ok()?.written_at()
}
