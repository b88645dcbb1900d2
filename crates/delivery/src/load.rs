//! Load figures: measured by each worker, shown where whoever computes the scaling hint finds them.
//!
//! **Capacity** is what a partition would deliver if there were enough to do, from what limits it:
//! - Room. While starts wait for room in the partition's budget, it is the rate reached. Otherwise the budget over the
//!   mean time of a delivery: that holds at any load, where the rate at low load says nothing.
//! - The processor, once the process keeps it busy for more than half of the time: deliveries over that share.
//!
//! Mean time and rate reached are medians of the last seconds, and the capacity is no less than what was delivered in
//! one of them: a hint goes up at once, so one second in which the machine or an endpoint stood still, or connections
//! were made, must not ask for workers.
//!
//! Of what waits in a lane, only what its own window and its rate (`throttleRate`) can take within the drain target is
//! workable; the rest is held, for no other worker would deliver it sooner. So a lane asks for no more of a worker than it
//! takes up, and yet, as long as it has a backlog, for that.

mod board;
mod room;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, collections::VecDeque, time::Duration};

use fanfare_core::{
    Offset, Partition, Policy, Timestamp,
    lane::HeldBy,
    limits,
    load::{Capacity, Limit, PartitionLoad, Rate},
};
use tokio::{task::JoinHandle, time::Instant};

pub use self::board::Board;
use self::room::BUSY;
pub(crate) use self::room::{Processor, Room};
use crate::slot::Slot;

/// What one worker counts between two reports.
pub(crate) struct Meter {
    since: Instant,
    delivered: u64,
    /// Time of the deliveries.
    spent: Duration,
    /// Mean time of a delivery, in each of the last seconds in which there were any.
    means: VecDeque<f64>,
    /// Rates of the last seconds since the budget is what it is, and whether starts waited for room all the time.
    rates: VecDeque<(f64, bool)>,
    was_contended: bool,
    budget: usize,
    /// Of the last seconds, the newest last.
    arrivals: VecDeque<Rate>,
    showing: Option<JoinHandle<()>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            delivered: 0,
            spent: Duration::ZERO,
            means: VecDeque::new(),
            rates: VecDeque::new(),
            was_contended: false,
            budget: 0,
            arrivals: VecDeque::from([Rate(0); limits::LOAD_ARRIVALS]),
            showing: None,
        }
    }

    pub(crate) fn delivered(&mut self, took: Duration) {
        self.delivered += 1;
        self.spent += took;
    }

    /// Whether it is time to report: a worker may make its rounds sooner.
    pub(crate) fn is_due(&self) -> bool {
        self.since.elapsed() > limits::LOAD_EVERY / 2
    }

    /// Begins a report: `contended` if starts wait for room in the budget.
    pub(crate) fn tally(&mut self, budget: usize, contended: bool, drain_target: Duration) -> Tally {
        let time = self.since.elapsed();
        self.since = Instant::now();
        let delivered = std::mem::take(&mut self.delivered);
        let spent = std::mem::take(&mut self.spent);
        let rate = as_float(delivered) / time.as_secs_f64().max(1e-3);
        if delivered > 0 {
            push_recent(&mut self.means, (spent.as_secs_f64() / as_float(delivered)).max(1e-6));
        }
        if budget == self.budget {
            // Only a whole second without free room shows what is reached.
            push_recent(&mut self.rates, (rate, contended && self.was_contended));
        } else {
            self.rates.clear();
        }
        (self.was_contended, self.budget) = (contended, budget);
        Tally {
            time,
            rate,
            delivered: Rate::of(delivered, time),
            mean_secs: median(self.means.iter().copied(), f64::total_cmp),
            reached: self.reached(),
            best: self.rates.iter().map(|(rate, _)| *rate).fold(0.0, f64::max),
            budget,
            drain_target,
            arrived: 0,
            workable: 0,
            in_flight: 0,
            held: [0; HeldBy::ALL.len()],
        }
    }

    /// The rate reached while starts wait for room.
    fn reached(&self) -> Option<f64> {
        let contended = self.rates.iter().rev().take_while(|(_, contended)| *contended);
        let rates: Vec<f64> = contended.map(|(rate, _)| *rate).collect();
        median(rates.iter().copied(), f64::total_cmp).filter(|_| rates.len() >= limits::LOAD_REACHED)
    }

    /// The rate at which deliveries keep coming. A burst counts by the backlog that it leaves; were it taken for a rate
    /// too, it would count twice.
    fn arrival(&mut self, newest: Rate) -> Rate {
        self.arrivals.pop_front();
        self.arrivals.push_back(newest);
        median(self.arrivals.iter().copied(), Ord::cmp).unwrap_or(newest)
    }

    /// Shows the figures, unless the ones before are still on their way.
    pub(crate) fn show(&mut self, board: &Board, partition: Partition, load: PartitionLoad) {
        if self.showing.as_ref().is_some_and(|showing| !showing.is_finished()) {
            return;
        }
        self.showing = board.show(partition, load);
    }
}

/// A report in the making.
pub(crate) struct Tally {
    time: Duration,
    rate: f64,
    delivered: Rate,
    mean_secs: Option<f64>,
    reached: Option<f64>,
    /// The highest rate of the last seconds.
    best: f64,
    budget: usize,
    drain_target: Duration,
    arrived: u64,
    workable: u64,
    in_flight: u64,
    held: [u64; HeldBy::ALL.len()],
}

/// What a report says beside the lanes.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) at: Timestamp,
    pub(crate) owner: u128,
    pub(crate) epoch: Offset,
    pub(crate) tail: Offset,
    pub(crate) oldest_workable: Duration,
    pub(crate) next_due: Option<Timestamp>,
}

impl Tally {
    pub(crate) fn lane(&mut self, slot: &mut Slot, now: Timestamp) {
        let arrived = u64::from(std::mem::take(&mut slot.arrived));
        let in_flight = slot.lane.in_flight() as u64;
        let waiting = slot.backlog().saturating_sub(in_flight);
        self.in_flight += in_flight;
        match slot.lane.held_by(now) {
            None | Some(HeldBy::Window | HeldBy::Throttle) => {
                let (possible, _) = self.possible(slot.lane.policy(), self.time);
                self.arrived += arrived.min(possible);
                let (possible, limit) = self.possible(slot.lane.policy(), self.drain_target);
                let workable = waiting.min(possible);
                self.workable += workable;
                self.hold(limit, waiting - workable);
            }
            Some(by) => self.hold(by, waiting),
        }
    }

    fn hold(&mut self, by: HeldBy, count: u64) {
        let place = HeldBy::ALL.iter().position(|&one| one == by);
        self.held[place.expect("all of them are listed")] += count;
    }

    /// Deliveries that a lane can make in this time, and what keeps it from more.
    fn possible(&self, policy: &Policy, time: Duration) -> (u64, HeldBy) {
        let by_window = self.within(policy.window(), time);
        let by_rate = policy.throttle_rate.map(|rate| {
            let micros = time.as_micros() * u128::from(rate.get());
            u64::try_from(micros.div_ceil(1_000_000)).unwrap_or(u64::MAX)
        });
        match by_rate {
            Some(by_rate) if by_rate < by_window => (by_rate, HeldBy::Throttle),
            _ => (by_window, HeldBy::Window),
        }
    }

    /// Deliveries that so many at once make in this time.
    fn within(&self, window: usize, time: Duration) -> u64 {
        let Some(mean_secs) = self.mean_secs else { return u64::MAX };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, and is positive"
        )]
        let count = (as_float(window as u64) * time.as_secs_f64() / mean_secs).ceil() as u64;
        count
    }

    pub(crate) fn finish(
        self,
        meter: &mut Meter,
        about: About,
        room: &Room,
        processor: &Processor,
    ) -> PartitionLoad {
        let held = HeldBy::ALL.into_iter().zip(self.held).filter(|&(_, count)| count > 0).collect();
        PartitionLoad {
            at: about.at,
            owner: about.owner,
            epoch: about.epoch,
            partitions_held: u32::try_from(room.held()).unwrap_or(u32::MAX),
            tail: about.tail,
            arrival: meter.arrival(Rate::of(self.arrived, self.time)),
            delivered: self.delivered,
            capacity: self.capacity(processor.share()),
            in_flight: self.in_flight,
            workable: self.workable,
            held,
            oldest_workable: about.oldest_workable,
            next_due: about.next_due,
        }
    }

    /// See the module's documentation.
    fn capacity(&self, processor_share: f64) -> Option<Capacity> {
        let mean_secs = self.mean_secs?;
        let budget = as_float(self.budget as u64);
        let room_share = self.rate * mean_secs / budget;
        if processor_share > BUSY && processor_share > room_share && self.delivered.0 > 0 {
            return Some(Capacity { rate: rate(self.rate / processor_share), limit: Limit::Processor });
        }
        let possible = budget / mean_secs;
        let reached = self.reached.map_or(possible, |reached| reached.min(possible));
        Some(Capacity { rate: rate(reached.max(self.best)), limit: Limit::Room })
    }
}

fn rate(per_sec: f64) -> Rate {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and is positive"
    )]
    let thousandths = (per_sec * 1e3).round() as u64;
    Rate(thousandths)
}

fn median<T: Copy>(values: impl Iterator<Item = T>, order: fn(&T, &T) -> Ordering) -> Option<T> {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable_by(order);
    sorted.get(sorted.len() / 2).copied()
}

fn push_recent<T>(values: &mut VecDeque<T>, newest: T) {
    if values.len() == limits::LOAD_RECENT {
        values.pop_front();
    }
    values.push_back(newest);
}

#[allow(clippy::cast_precision_loss, reason = "counts of a second")]
fn as_float(count: u64) -> f64 {
    count as f64
}
