//! What a seed decides before anything runs: the installation, its endpoints, and what will go wrong when.

use std::time::Duration;

use fanfare_control::{EndpointSettings, Park};
use fanfare_core::Ordering;

use crate::random::Random;

/// Which engine the log is, and so what can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// One process on the embedded engine, on a disk that breaks.
    Embedded,
    /// Several processes on a cluster that behaves as Kafka does.
    Cluster,
}

/// Who stands behind the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Whatever the seed draws.
    Drawn,
    /// Those of the kill test: one that is well, one that fails now and then, one that is dead, one that never takes
    /// a certain message.
    KillTest,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) flavour: Flavour,
    pub(crate) cast: Cast,
    pub(crate) ordering_keys: u64,
    pub(crate) processes: usize,
    pub(crate) message_partitions: u32,
    pub(crate) delivery_partitions: u32,
    pub(crate) applications: u64,
    /// Of each application, before the first publish; more come later.
    pub(crate) endpoints: u64,
    /// Lanes remember so few deliveries one by one that some fall behind.
    pub(crate) lane_entries: usize,
    /// What each sync of the disk takes.
    pub(crate) sync_delay: Duration,
    /// After this publishers stop and everything heals.
    pub(crate) trouble_for: Duration,
    /// Between two publishes of one publisher, in milliseconds, at most.
    pub(crate) pause_millis: u64,
    /// Per process, in order.
    pub(crate) process_faults: Vec<Vec<(Duration, ProcessFault)>>,
    /// In order.
    pub(crate) log_faults: Vec<(Duration, LogFault)>,
}

/// What happens to one process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProcessFault {
    /// `kill -9`. It is started again after `down`; the start itself is cut short that many times.
    Kill {
        down: Duration,
        cut_starts: u32,
    },
    /// As a kill, and the disk loses what was not synced. `after_put`: as soon as a table has been written.
    PowerCut {
        down: Duration,
        cut_starts: u32,
        after_put: bool,
    },
    /// SIGTERM.
    Stop {
        down: Duration,
    },
    ClockStep {
        by: Duration,
        back: bool,
    },
    /// It loses its partitions and hears so only later.
    Isolate {
        hears_after: Duration,
    },
}

/// What happens to the disk or the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogFault {
    /// One of the next syncs fails.
    FailSync { nth: u64 },
    /// Less than the reserve is left for a while.
    Scarce { lasts: Duration },
    /// Nothing is left for a while.
    Full { lasts: Duration },
    /// Appends fail for a while, with unknown outcome.
    Failures { per_mille: u32, lasts: Duration },
    /// Durability takes long for a while.
    Slow { up_to: Duration, lasts: Duration },
    /// Partitions move to other processes.
    Shake { routers: bool },
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "plan", 0);
        let flavour = if seed.is_multiple_of(2) { Flavour::Embedded } else { Flavour::Cluster };
        let processes = match flavour {
            Flavour::Embedded => 1,
            Flavour::Cluster => 2 + usize::from(random.percent(30)),
        };
        let trouble_for = random.millis(8_000..30_000);
        let process_faults =
            (0..processes).map(|_| process_faults(flavour, trouble_for, &mut random)).collect();
        let log_faults = log_faults(flavour, trouble_for, &mut random);
        Self {
            seed,
            flavour,
            cast: Cast::Drawn,
            ordering_keys: 4,
            processes,
            message_partitions: 1 + u32::try_from(random.below(2)).unwrap(),
            delivery_partitions: 1 + u32::try_from(random.below(3)).unwrap(),
            applications: 1 + random.below(2),
            endpoints: 1 + random.below(4),
            lane_entries: random.pick(&[40, 40, 65_536]),
            sync_delay: Duration::from_millis(random.pick(&[1, 2, 5, 15, 60])),
            trouble_for,
            pause_millis: random.pick(&[150, 400, 1_000]),
            process_faults,
            log_faults,
        }
    }

    /// The kill test with the power cut instead: again and again, also during start and recovery, with nothing else
    /// wrong but the endpoints.
    pub(crate) fn power_cuts(seed: u64, cuts: u64) -> Self {
        let mut random = Random::of(seed, "power cuts", 0);
        let trouble_for = Duration::from_millis(600 * cuts);
        let faults = moments(cuts, trouble_for, &mut random).into_iter().map(|at| {
            let down = random.millis(1..100);
            let cut_starts = if random.percent(30) { 1 + small(&mut random, 3) } else { 0 };
            (at, ProcessFault::PowerCut { down, cut_starts, after_put: false })
        });
        Self {
            cast: Cast::KillTest,
            ordering_keys: 100,
            flavour: Flavour::Embedded,
            processes: 1,
            applications: 1,
            endpoints: 4,
            lane_entries: 65_536,
            sync_delay: Duration::from_millis(2),
            trouble_for,
            pause_millis: 50,
            process_faults: vec![faults.collect()],
            log_faults: Vec::new(),
            ..Self::of(seed)
        }
    }

    /// The settings of the `number`-th endpoint to be created.
    pub(crate) fn endpoint(&self, number: u64) -> EndpointSettings {
        let mut random = Random::of(self.seed, "endpoint", number);
        EndpointSettings {
            url: format!("https://{number}.example.com/hook"),
            ordering: Some(random.pick(&[
                Ordering::Strict,
                Ordering::Strict,
                Ordering::Keyed,
                Ordering::Unordered,
            ])),
            channels: random.percent(20).then(|| vec!["red".to_owned()]),
            park: if random.percent(70) {
                Park::AfterSecs(2 + small(&mut random, 10))
            } else {
                Park::Default
            },
            max_in_flight: Some(1 + small(&mut random, 8)),
            timeout_secs: Some(1 + small(&mut random, 3)),
            // Drawn last: what else a seed decides is as it was without.
            throttle_rate: random.percent(15).then(|| random.pick(&[5, 20])),
            ..EndpointSettings::default()
        }
    }
}

fn small(random: &mut Random, below: u64) -> u32 {
    u32::try_from(random.below(below)).unwrap()
}

/// `count` moments within `trouble_for`, in order.
fn moments(count: u64, trouble_for: Duration, random: &mut Random) -> Vec<Duration> {
    let until = u64::try_from(trouble_for.as_millis()).unwrap();
    let mut moments: Vec<Duration> = (0..count).map(|_| random.millis(500..until)).collect();
    moments.sort_unstable();
    moments
}

fn process_faults(
    flavour: Flavour,
    trouble_for: Duration,
    random: &mut Random,
) -> Vec<(Duration, ProcessFault)> {
    let count = random.below(6);
    let moments = moments(count, trouble_for, random);
    moments.into_iter().map(|at| (at, process_fault(flavour, random))).collect()
}

fn process_fault(flavour: Flavour, random: &mut Random) -> ProcessFault {
    let longest = if random.percent(70) { 300 } else { 6_000 };
    let down = random.millis(1..longest);
    let cut_starts = if random.percent(20) { 1 + small(random, 3) } else { 0 };
    let step = ProcessFault::ClockStep { by: random.millis(100..3_600_000), back: random.percent(50) };
    match (flavour, random.below(10)) {
        (_, 0) => step,
        (_, 1) => ProcessFault::Stop { down },
        (_, 2..=5) => ProcessFault::Kill { down, cut_starts },
        (Flavour::Embedded, _) => ProcessFault::PowerCut { down, cut_starts, after_put: random.percent(50) },
        (Flavour::Cluster, _) => ProcessFault::Isolate { hears_after: random.millis(100..20_000) },
    }
}

fn log_faults(flavour: Flavour, trouble_for: Duration, random: &mut Random) -> Vec<(Duration, LogFault)> {
    let count = random.below(4) + if flavour == Flavour::Cluster { 2 } else { 0 };
    let moments = moments(count, trouble_for, random);
    moments.into_iter().map(|at| (at, log_fault(flavour, random))).collect()
}

fn log_fault(flavour: Flavour, random: &mut Random) -> LogFault {
    let lasts = random.millis(50..4_000);
    match (flavour, random.below(4)) {
        (Flavour::Embedded, 0) => LogFault::Scarce { lasts },
        (Flavour::Embedded, 1) => LogFault::Full { lasts },
        (Flavour::Embedded, _) => LogFault::FailSync { nth: 1 + random.below(6) },
        (Flavour::Cluster, 0) => LogFault::Slow { up_to: random.millis(50..2_000), lasts },
        (Flavour::Cluster, 1) => LogFault::Shake { routers: random.percent(50) },
        (Flavour::Cluster, _) => LogFault::Failures { per_mille: random.pick(&[50, 200, 500]), lasts },
    }
}
