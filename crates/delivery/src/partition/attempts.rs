//! What goes out: a lane is asked what it may start, a request is sent, and what came of it is entered.

use std::{sync::Arc, time::Duration};

use fanfare_core::{
    Delivery, EndpointNumber, Fact, Offset, Settlement,
    lane::{Class, Finished, Poll, Start},
};

use super::{Wanted, Worker};
use crate::{
    contents::ContentError,
    flight::{self, Landed},
    send::Transport,
    slot::Unsendable,
};

/// A probe that found no room is tried again after this.
const PROBE_LATER: Duration = Duration::from_secs(1);

impl<T: Transport> Worker<T> {
    /// Starts what the lane allows.
    pub(super) fn advance(&mut self, number: EndpointNumber) {
        let now = self.steady.now();
        let mut settled = Vec::new();
        while let Some(slot) = self.slots.get_mut(&number) {
            if self.flights.len() >= self.budget || !self.facts.has_room() {
                if !slot.queued {
                    slot.queued = true;
                    self.turns.push(slot.application, number);
                    self.shared.meters.deferred.add(1);
                }
                break;
            }
            match slot.lane.poll(now, &mut settled) {
                Poll::Start(start) => {
                    if !self.start(number, start) {
                        break;
                    }
                }
                Poll::NeedKey(offset) => {
                    let Some(record) = self.window.get(offset) else {
                        if slot.asked_key != Some(offset) {
                            slot.asked_key = Some(offset);
                            self.wanted.entry(offset).or_default().push(Wanted::Key(number));
                        }
                        break;
                    };
                    slot.lane.offer_key(offset, ordering_key(&record));
                }
                Poll::Wait(wake) => {
                    self.set_timer(number, wake);
                    break;
                }
            }
        }
        self.settled(number, settled);
    }

    /// False if it had to be put off.
    fn start(&mut self, number: EndpointNumber, start: Start) -> bool {
        // Endpoints that are believed dead may take a tenth of what is sent, not more.
        if start.class == Class::Probe && self.probes_in_flight > self.budget / 10 {
            let now = self.steady.now();
            let slot = self.slots.get_mut(&number).expect("a lane that starts has a slot");
            slot.lane.finished(start.offset, Finished::Abandoned, now, 0, &mut Vec::new());
            self.set_timer(number, Some(now + PROBE_LATER));
            return false;
        }
        match self.window.get(start.offset) {
            Some(record) => self.launch(number, start, record),
            None => self.wanted.entry(start.offset).or_default().push(Wanted::Start(number, start)),
        }
        true
    }

    pub(super) fn launch(&mut self, number: EndpointNumber, start: Start, record: Arc<Delivery>) {
        if let Delivery::Injected { job, .. } = *record
            && self.shared.options.control.view().job_was_cancelled(job)
        {
            self.give_up(number, start.offset, Settlement::Cancelled);
            return self.queue(number);
        }
        let now = self.steady.now();
        let slot = self.slots.get_mut(&number).expect("a lane that starts has a slot");
        slot.touched = now;
        slot.dirty = true;
        match slot.target(number, &self.shared.options.control, self.shared.options.clock.now()) {
            Ok(target) => {
                self.probes_in_flight += usize::from(start.class == Class::Probe);
                let endpoint = (slot.application, number);
                let flight =
                    flight::fly(Arc::clone(&self.shared), self.partition, endpoint, target, record, start);
                self.flights.push(Box::pin(flight));
            }
            Err(error) => {
                if !matches!(error, Unsendable::Gone) {
                    tracing::error!(endpoint = %number, %error, "endpoint cannot be sent to");
                }
                // The sweep cancels what is pending for an endpoint that is gone.
                let mut settled = Vec::new();
                slot.lane.finished(start.offset, Finished::Abandoned, now, 0, &mut settled);
                slot.lane.hold(true, now);
                self.sweep.soon();
            }
        }
    }

    /// Enters what came of an attempt.
    pub(super) fn landed(&mut self, landed: &Landed) {
        self.probes_in_flight -= usize::from(landed.start.class == Class::Probe);
        let Some(slot) = self.slots.get_mut(&landed.endpoint) else { return };
        let now = self.steady.now();
        let random = self.shared.options.entropy.u64();
        let mut settled = Vec::new();
        slot.dirty = true;
        match &landed.result {
            Ok(answer) => {
                let finished = flight::judge(answer);
                let mut verdict =
                    slot.lane.finished(landed.start.offset, finished, now, random, &mut settled);
                verdict.due = verdict.due.map(|due| self.steady.by_wall(due, &*self.shared.options.clock));
                self.shared.meters.attempt(answer.error);
                if answer.error.is_none() {
                    self.shared.meters.settled(Settlement::Delivered, 1);
                    self.load.delivered(answer.duration);
                    if let Some(latency) = flight::latency(landed, answer) {
                        self.shared.meters.latency(latency);
                    }
                }
                if answer.status == 410 {
                    self.disable(landed.endpoint, "the endpoint answered 410 Gone");
                }
                self.facts.push(Fact::Attempted(flight::attempt(landed, answer, verdict)));
            }
            Err(ContentError::Gone) => {
                self.lost(landed.endpoint, landed.start.offset);
                return;
            }
            Err(error) => {
                tracing::error!(endpoint = %landed.endpoint, %error, "a message cannot be read");
                slot.lane.finished(landed.start.offset, Finished::Abandoned, now, random, &mut settled);
                slot.lane.hold(true, now);
                self.sweep.soon();
            }
        }
        self.settled(landed.endpoint, settled);
        self.advance_in_turn(landed.endpoint);
    }

    /// Others that waited for room in the budget come first.
    fn advance_in_turn(&mut self, number: EndpointNumber) {
        if self.turns.is_empty() { self.advance(number) } else { self.queue(number) }
    }

    /// The lane is asked again when it is its turn.
    fn queue(&mut self, number: EndpointNumber) {
        if let Some(slot) = self.slots.get_mut(&number).filter(|slot| !slot.queued) {
            slot.queued = true;
            self.turns.push(slot.application, number);
        }
    }

    /// The delivery's record or content is gone from the log: it can only be a dead letter.
    pub(super) fn lost(&mut self, number: EndpointNumber, offset: Offset) {
        self.give_up(number, offset, Settlement::Expired);
        self.advance(number);
    }

    /// Settles a delivery that was started, or was about to be, without an attempt.
    fn give_up(&mut self, number: EndpointNumber, offset: Offset, reason: Settlement) {
        let fact = self.settle_fact(number, offset, reason);
        if let Some(slot) = self.slots.get_mut(&number) {
            let now = self.steady.now();
            slot.dirty = true;
            slot.lane.finished(offset, Finished::Abandoned, now, 0, &mut Vec::new());
            slot.lane.apply(&fact, now);
        }
    }

    /// Tells the log of deliveries that the lane settled.
    fn settled(&mut self, number: EndpointNumber, settled: Vec<(Offset, Settlement)>) {
        for (offset, reason) in settled {
            self.settle_fact(number, offset, reason);
        }
    }

    pub(super) fn settle_fact(
        &mut self,
        endpoint: EndpointNumber,
        offset: Offset,
        reason: Settlement,
    ) -> Fact {
        self.shared.meters.settled(reason, 1);
        let fact = Fact::Settled { endpoint, offset, reason, at: self.shared.options.clock.now() };
        self.facts.push(fact.clone());
        fact
    }
}

pub(super) fn ordering_key(record: &Delivery) -> u64 {
    match record {
        Delivery::Routed { ordering_key, .. } | Delivery::Injected { ordering_key, .. } => *ordering_key,
        Delivery::Alias { .. } | Delivery::Conflict { .. } => 0,
    }
}
