//! The scaling hint: from the load figures of all delivery partitions to the number of workers that the load needs
//! (design §7).
//!
//! `workers = ceil((arrival + workable backlog / drain target) / capacity of a worker)`, at most the number of
//! partitions. Two things are beside the formula:
//! - A worker's room is in equal parts for the partitions it holds. So one busy partition among idle ones is faster the
//!   fewer partitions share a worker, and the busiest one may need more workers than the sum of all does.
//! - A number goes up at once and down only after it was lower for a whole drain target: a burst is drained by the
//!   workers that it asked for, and rates that swing do not make workers come and go.
//!
//! What is held (dead, paused, throttled endpoints; messages behind a failed one; full windows) never counts: no worker
//! could send it. Figures that are old do not count: their worker may be gone.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Timestamp,
    limits::LOAD_FRESH,
    load::{Limit, PartitionLoad},
};

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A backlog is to be gone after this.
    pub drain_target: Duration,
    pub min_workers: u32,
}

/// What is known of one delivery partition. There is one for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its newest figures, however old.
    pub load: Option<PartitionLoad>,
    /// Records of its log that no worker has looked at; of use only if the figures are old.
    pub unseen: u64,
    /// Lanes are known to have unsettled deliveries; of use only if there are no figures.
    pub unsettled: bool,
}

impl Observed {
    /// The figures, if they count.
    pub fn fresh(&self, now: Timestamp) -> Option<&PartitionLoad> {
        // A clock that is far ahead must not make figures count for ever.
        self.load.as_ref().filter(|load| now.since(load.at).max(load.at.since(now)) <= LOAD_FRESH)
    }

    /// Of a partition without a worker: what a worker would find to do.
    fn unowned_backlog(&self) -> u64 {
        self.unseen.saturating_add(self.load.as_ref().map_or(0, |load| load.workable))
    }

    /// Whether somebody has to be there: what is held is sent again when its time comes.
    fn is_awaited(&self, settings: &Settings, now: Timestamp) -> bool {
        let soon = now + settings.drain_target;
        let due = self.load.as_ref().and_then(|load| load.next_due).is_some_and(|due| due <= soon);
        let unowned = self.unowned_backlog() > 0 || (self.load.is_none() && self.unsettled);
        due || (self.fresh(now).is_none() && unowned)
    }
}

/// What the next hint has to know of the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Previous {
    at: Timestamp,
    desired: u32,
    capacity: Option<f64>,
    /// Since when fewer would do, and the most that were needed since.
    lower: Option<(Timestamp, u32)>,
}

/// The figures behind a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Processes whose figures count.
    pub live_workers: u32,
    pub partitions: u32,
    pub unowned_partitions: u32,
    pub arrival_per_sec: f64,
    pub delivered_per_sec: f64,
    /// Of a worker; `None` while nothing was delivered.
    pub capacity_per_sec: Option<f64>,
    pub in_flight: u64,
    /// Partitions without a worker included.
    pub workable: u64,
    pub held: u64,
    /// Of the workable, what is estimated of partitions without a worker.
    pub unowned: u64,
    /// Workers that the load of all partitions needs, before rounding.
    pub needed: f64,
    /// Workers that the busiest partition needs, before rounding.
    pub needed_by_busiest: f64,
}

/// So many workers, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    pub desired: u32,
    pub figures: Figures,
    pub reason: String,
    pub previous: Previous,
}

/// The number of delivery workers that the load needs now.
pub fn hint(
    settings: &Settings,
    partitions: &[Observed],
    previous: Option<&Previous>,
    now: Timestamp,
) -> Hint {
    // One that is old says nothing of what happened since.
    let previous =
        previous.filter(|previous| now.since(previous.at) <= LOAD_FRESH.max(settings.drain_target));
    let mut figures = add_up(settings, partitions, now);
    let known = figures.capacity_per_sec.or(previous.and_then(|previous| previous.capacity));
    let target = target_secs(settings);
    let demand = figures.arrival_per_sec + as_float(figures.workable) / target;
    figures.needed = known.map_or(0.0, |capacity| demand / capacity);

    let most = figures.partitions;
    let least = settings.min_workers.min(most);
    let awaited = partitions.iter().any(|one| one.is_awaited(settings, now));
    let (mut needed, mut reason) = if demand <= 0.0 && !awaited {
        (0, "nothing to do".to_owned())
    } else if let Some(capacity) = known {
        let needed = figures.needed.max(figures.needed_by_busiest);
        (round_up(needed).max(1), explain(settings, &figures, capacity))
    } else {
        let kept = previous.map_or(1, |previous| previous.desired.max(1));
        (kept, "there is work, and what a worker can do is not known yet".to_owned())
    };
    if needed > most {
        needed = most;
        reason.push_str("; more workers than partitions would be idle");
    }
    if needed < least {
        needed = least;
        reason = format!("{reason}; the least that is set is {least}");
    }
    let (desired, lower) = settle(settings, needed, previous, now);
    let desired = desired.clamp(least, most);
    if desired > needed {
        reason = format!(
            "{reason}; {needed} would do now, {desired} stay until that has been so for {target:.0} s"
        );
    }
    let previous = Previous { at: now, desired, capacity: known, lower };
    Hint { desired, figures, reason, previous }
}

/// Up at once; down after it was lower for a drain target, to the most that was needed meanwhile.
fn settle(
    settings: &Settings,
    needed: u32,
    previous: Option<&Previous>,
    now: Timestamp,
) -> (u32, Option<(Timestamp, u32)>) {
    let Some(previous) = previous.filter(|previous| needed < previous.desired) else {
        return (needed, None);
    };
    let (since, peak) = previous.lower.map_or((now, needed), |(since, peak)| (since, peak.max(needed)));
    if now.since(since) < settings.drain_target {
        return (previous.desired, Some((since, peak)));
    }
    (peak, (peak > needed).then_some((now, needed)))
}

fn add_up(settings: &Settings, partitions: &[Observed], now: Timestamp) -> Figures {
    let mut sum = Figures { partitions: count(partitions.len()), ..Figures::default() };
    let mut workers: BTreeMap<u128, Worker> = BTreeMap::new();
    for one in partitions {
        let Some(load) = one.fresh(now) else {
            sum.unowned_partitions += 1;
            sum.unowned = sum.unowned.saturating_add(one.unowned_backlog());
            continue;
        };
        sum.arrival_per_sec += load.arrival.per_sec();
        sum.delivered_per_sec += load.delivered.per_sec();
        sum.in_flight = sum.in_flight.saturating_add(load.in_flight);
        sum.workable = sum.workable.saturating_add(load.workable);
        sum.held = load.held.iter().fold(sum.held, |held, (_, more)| held.saturating_add(*more));
        let worker = workers.entry(load.owner).or_default();
        worker.partitions += 1;
        let Some(capacity) = load.capacity.filter(|capacity| capacity.rate.0 > 0) else { continue };
        worker.known += 1;
        worker.capacity += capacity.rate.per_sec();
        match capacity.limit {
            Limit::Processor => worker.limited_by_processor = true,
            Limit::Room => {
                // With k times as many workers so many fewer partitions share a worker's room.
                let demand = load.arrival.per_sec() + as_float(load.workable) / target_secs(settings);
                let workers = f64::from(sum.partitions) / f64::from(load.partitions_held.max(1));
                let needed = workers * demand / capacity.rate.per_sec();
                sum.needed_by_busiest = sum.needed_by_busiest.max(needed);
            }
        }
    }
    sum.workable = sum.workable.saturating_add(sum.unowned);
    sum.live_workers = count(workers.len());
    let capacities: Vec<f64> = workers.values().filter_map(Worker::capacity).collect();
    if !capacities.is_empty() {
        sum.capacity_per_sec = Some(capacities.iter().sum::<f64>() / as_float(capacities.len() as u64));
    }
    sum
}

/// What the partitions of one process say together.
#[derive(Default)]
struct Worker {
    partitions: u32,
    /// Of them, those that delivered something.
    known: u32,
    capacity: f64,
    limited_by_processor: bool,
}

impl Worker {
    fn capacity(&self) -> Option<f64> {
        if self.known == 0 {
            return None;
        }
        // Room that idle partitions have is there too; of the processor the busy ones have had all.
        let idle = f64::from(self.partitions) / f64::from(self.known);
        Some(if self.limited_by_processor { self.capacity } else { self.capacity * idle })
    }
}

fn explain(settings: &Settings, figures: &Figures, capacity: f64) -> String {
    let mut reason = format!(
        "{:.0} deliveries arrive each second, {} wait to be gone in {} s; a worker delivers {capacity:.0} each second",
        figures.arrival_per_sec,
        figures.workable,
        settings.drain_target.as_secs(),
    );
    if round_up(figures.needed_by_busiest) > round_up(figures.needed) {
        reason.push_str("; the busiest partition needs fewer others beside it on its worker");
    }
    reason
}

/// Finer than a second nothing is measured.
fn target_secs(settings: &Settings) -> f64 {
    settings.drain_target.as_secs_f64().max(1.0)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and is not negative"
)]
fn round_up(workers: f64) -> u32 {
    workers.ceil() as u32
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "a backlog of 2^53 does not occur")]
fn as_float(count: u64) -> f64 {
    count as f64
}
