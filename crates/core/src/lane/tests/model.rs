//! The simplest model of a lane: a list of deliveries, searched from end to end. It knows neither searches for
//! proof of life nor the circuit.

use super::super::*;
use crate::RetrySchedule;

const WINDOW: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    InFlight,
    /// In flight, and whatever comes of it changes nothing any more.
    Cancelled,
    Settled(Settlement),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) offset: Offset,
    pub(super) key: u64,
    pub(super) trigger: Trigger,
    pub(super) state: State,
    pub(super) failures: u32,
    pub(super) due: Timestamp,
    /// Set by the first failure.
    pub(super) deadline: Timestamp,
}

impl Delivery {
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Settled(_))
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight | State::Cancelled)
    }

    fn is_untried(&self) -> bool {
        self.state == State::Waiting && self.failures == 0
    }
}

/// Without parking there are no searches.
pub(super) fn policy(ordering: Ordering) -> Policy {
    let retry_schedule = RetrySchedule::new(vec![2, 3]).unwrap();
    Policy { ordering, retry_schedule, park_after: None, max_in_flight: WINDOW, ..Policy::default() }
}

/// Delays after the first failure, the second, …; the last one repeats, and their sum is the deadline.
fn delays(ordering: Ordering) -> Vec<Duration> {
    let before_schedule: &[u64] = if ordering == Ordering::Unordered { &[] } else { &[200, 1_000, 5_000] };
    before_schedule.iter().chain(&[2_000, 3_000]).map(|&millis| Duration::from_millis(millis)).collect()
}

pub(super) struct Model {
    pub(super) ordering: Ordering,
    /// By rising offset.
    pub(super) deliveries: Vec<Delivery>,
}

impl Model {
    pub(super) fn push(&mut self, offset: Offset, key: u64, trigger: Trigger) {
        let (state, failures) = (State::Waiting, 0);
        let (due, deadline) = (Timestamp::ZERO, Timestamp::MAX);
        self.deliveries.push(Delivery { offset, key, trigger, state, failures, due, deadline });
    }

    pub(super) fn get(&mut self, offset: Offset) -> &mut Delivery {
        self.deliveries.iter_mut().find(|delivery| delivery.offset == offset).expect("it was pushed")
    }

    pub(super) fn offsets(&self, which: impl Fn(&Delivery) -> bool) -> Vec<Offset> {
        self.deliveries.iter().filter(|delivery| which(delivery)).map(|delivery| delivery.offset).collect()
    }

    pub(super) fn next(&self) -> Offset {
        self.deliveries.last().map_or(Offset::ZERO, |delivery| delivery.offset.next())
    }

    pub(super) fn cursor(&self) -> Offset {
        let first = self.deliveries.iter().find(|delivery| !delivery.is_settled());
        first.map_or(self.next(), |delivery| delivery.offset)
    }

    pub(super) fn has_window(&self) -> bool {
        let window = if self.ordering == Ordering::Strict { 1 } else { WINDOW as usize };
        self.offsets(Delivery::is_in_flight).len() < window
    }

    /// Whether nothing stands before it that has to be settled, or in an `unordered` lane started, first. What was routed
    /// and what was injected do not stand before each other.
    fn is_in_turn(&self, delivery: &Delivery) -> bool {
        let before = self.deliveries.iter().take_while(|other| other.offset < delivery.offset);
        let mut before = before.filter(|other| other.trigger == delivery.trigger);
        before.all(|other| match self.ordering {
            Ordering::Strict => other.is_settled(),
            Ordering::Keyed => other.is_settled() || other.key != delivery.key,
            Ordering::Unordered => !(other.is_untried() && delivery.is_untried()),
        })
    }

    /// What may start now: of what was injected something only where nothing that was routed may.
    pub(super) fn startable(&self, now: Timestamp) -> Vec<Offset> {
        let of = |trigger| {
            self.offsets(|delivery| {
                self.has_window()
                    && delivery.trigger == trigger
                    && delivery.state == State::Waiting
                    && delivery.due <= now
                    && self.is_in_turn(delivery)
            })
        };
        match of(Trigger::Scheduled) {
            none if none.is_empty() && self.may_inject() => of(Trigger::Manual),
            routed => routed,
        }
    }

    /// What was injected takes half the window at most, which is one of three.
    fn may_inject(&self) -> bool {
        self.offsets(|delivery| delivery.trigger == Trigger::Manual && delivery.is_in_flight()).is_empty()
    }

    /// How long a lane may sleep. Deadlines are looked at between attempts only.
    pub(super) fn sleeps_until(&self) -> Option<Timestamp> {
        let is_idle = self.offsets(Delivery::is_in_flight).is_empty();
        let waiting = self.deliveries.iter().filter(|delivery| delivery.state == State::Waiting);
        waiting
            .filter(|delivery| delivery.trigger == Trigger::Scheduled || self.may_inject())
            .filter(|delivery| self.is_in_turn(delivery))
            .map(|delivery| if is_idle { delivery.due.min(delivery.deadline) } else { delivery.due })
            .min()
    }

    /// Settles what has passed its deadline, up to one that is in flight.
    pub(super) fn expire(&mut self, now: Timestamp) -> Settled {
        let mut expired = Vec::new();
        loop {
            let unsettled = self.deliveries.iter_mut().filter(|delivery| !delivery.is_settled());
            let first = unsettled.min_by_key(|delivery| (delivery.deadline, delivery.offset));
            match first {
                Some(first) if first.deadline <= now && first.state == State::Waiting => {
                    first.state = State::Settled(Settlement::Exhausted);
                    expired.push((first.offset, Settlement::Exhausted));
                }
                _ => return expired,
            }
        }
    }

    /// Enters an outcome; says when the delivery is due again.
    pub(super) fn finish(&mut self, offset: Offset, finished: Finished, now: Timestamp) -> Option<Timestamp> {
        let delays = delays(self.ordering);
        let delivery = self.get(offset);
        let was = delivery.state;
        delivery.state = match finished {
            _ if was == State::Cancelled => State::Settled(Settlement::Cancelled),
            Finished::Delivered => State::Settled(Settlement::Delivered),
            Finished::Abandoned => State::Waiting,
            Finished::Failed(failure) => {
                delivery.failures += 1;
                if delivery.failures == 1 {
                    delivery.deadline = now + delays.iter().sum::<Duration>();
                }
                let delay = delays[delays.len().min(delivery.failures as usize) - 1];
                delivery.due = now + delay.max(failure.retry_after.unwrap_or_default());
                if now < delivery.deadline { State::Waiting } else { State::Settled(Settlement::Exhausted) }
            }
        };
        let is_due_again = matches!(finished, Finished::Failed(_)) && delivery.state == State::Waiting;
        is_due_again.then_some(delivery.due)
    }
}
