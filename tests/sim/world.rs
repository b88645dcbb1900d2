//! One run of one seed: trouble for a while, then none, until everything is settled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fanfare_core::KnownClaims as _;
use fanfare_log::{
    Group, Topic,
    disk::FaultyDisk,
    sim::{SimCluster, SimOptions},
};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SimClock,
    history::History,
    invariants, lanes,
    plan::{Flavour, LogFault, Plan, ProcessFault},
    process::{End, Process, StartError, Storage, Surroundings},
    producers::{FINISH, Habit, Producer},
    random::Random,
    receivers::{Receivers, publish_in},
    story::{Records, Subscriber, partitions},
};

/// Everything is settled within this once nothing is wrong any more.
const DRAIN: Duration = Duration::from_mins(20);
/// Longest wait for a table to be written.
const AFTER_PUT: Duration = Duration::from_secs(3);
/// Room that a full disk has left.
const LEFT_BYTES: u64 = 2_000;

pub(crate) struct World {
    pub(crate) surroundings: Surroundings,
    places: Vec<Place>,
    endpoints: AtomicU64,
    start: Instant,
}

struct Place {
    clock: Arc<SimClock>,
    process: Mutex<Option<Arc<Process>>>,
    lives: AtomicU64,
}

/// What a run came to.
#[derive(Debug)]
#[cfg_attr(feature = "planted", allow(dead_code, reason = "only what is broken counts then"))]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) events: u64,
    pub(crate) broken: Vec<String>,
}

/// Runs a plan on the runtime that this is called in, whose time is paused.
pub(crate) async fn run(plan: Plan) -> Outcome {
    let world = World::new(plan);
    let history = Arc::clone(&world.surroundings.history);
    history.note(format_args!("{:?}", world.surroundings.plan));
    world.live().await;
    let (trace, events) = history.trace();
    let (mut story, known_at, mut broken) = history.finish();
    if broken.is_empty()
        && let Some(process) = world.any_process()
    {
        match Records::read(&*process.log, publish_in).await {
            Ok(records) => {
                world.complete(&mut story, records, &process, &known_at);
                broken = invariants::broken(&story);
                if std::env::var_os("FANFARE_SIM_TRACE").is_some() {
                    for record in &story.records.deliveries {
                        println!("delivery {record:?}");
                    }
                    world.print_attempts().await;
                }
            }
            Err(error) => broken.push(format!("the log cannot be read: {error}")),
        }
    }
    Outcome { trace, events, broken }
}

impl World {
    fn new(plan: Plan) -> Arc<Self> {
        let start = Instant::now();
        let history = Arc::new(History::new(start));
        let receivers = Arc::new(Receivers::new(&plan, Arc::clone(&history)));
        let storage = match plan.flavour {
            Flavour::Embedded => {
                let disk = FaultyDisk::new(plan.seed);
                disk.set_sync_delay(plan.sync_delay);
                Storage::Disk(disk)
            }
            Flavour::Cluster => Storage::Cluster(SimCluster::new(SimOptions::new(
                plan.seed,
                plan.message_partitions,
                plan.delivery_partitions,
            ))),
        };
        let places = (0..plan.processes).map(|_| Place {
            clock: Arc::new(SimClock::new(start)),
            process: Mutex::default(),
            lives: AtomicU64::new(0),
        });
        Arc::new(Self {
            places: places.collect(),
            surroundings: Surroundings { plan, history, receivers, storage },
            endpoints: AtomicU64::new(0),
            start,
        })
    }

    /// A process that a producer might reach.
    pub(crate) fn process(&self, random: &mut Random) -> Option<Arc<Process>> {
        let index = usize::try_from(random.below(self.places.len() as u64)).unwrap();
        self.places[index].process.lock().clone()
    }

    fn any_process(&self) -> Option<Arc<Process>> {
        self.places.iter().find_map(|place| place.process.lock().clone())
    }

    pub(crate) fn next_endpoint(&self) -> u64 {
        self.endpoints.fetch_add(1, Ordering::Relaxed)
    }

    async fn live(self: &Arc<Self>) {
        let Surroundings { plan, history, receivers, .. } = &self.surroundings;
        let end = CancellationToken::new();
        let mut drivers = JoinSet::new();
        for index in 0..self.places.len() {
            let world = Arc::clone(self);
            let end = end.clone();
            drivers.spawn(async move { world.drive(index, end).await });
        }
        let world = Arc::clone(self);
        drivers.spawn(async move { world.trouble_log().await });

        let stop = CancellationToken::new();
        let mut producers = JoinSet::new();
        let mut random = Random::of(plan.seed, "world", 0);
        for application in 0..plan.applications {
            let id = self.create_application(&mut random).await;
            for _ in 0..plan.endpoints {
                self.create_endpoint(id, &mut random).await;
            }
            for (habit, number) in
                [Habit::Sequential, Habit::Sequential, Habit::Twins, Habit::Endpoints, Habit::Again]
                    .into_iter()
                    .zip(0..)
            {
                let producer =
                    Producer { world: Arc::clone(self), application: id, number: application * 10 + number };
                producers.spawn(producer.run(habit, stop.clone()));
            }
        }
        sleep_until(self.start + plan.trouble_for).await;
        receivers.heal();
        stop.cancel();
        let finished = timeout(FINISH, async { while producers.join_next().await.is_some() {} });
        if finished.await.is_err() {
            history.broken("what was published is answered: producers still wait".to_owned());
        }
        if let Err(waiting) = self.drained().await {
            history.broken(format!("everything is settled in the end: {waiting}"));
        }
        if let Some(process) = self.any_process() {
            let clock = &*self.places[0].clock;
            lanes::compare(&*process.log, &process.control, clock, &plan.policy(), history).await;
        }
        if history.is_broken() && std::env::var_os("FANFARE_SIM_TRACE").is_some() {
            self.print_attempts().await;
        }
        end.cancel();
        drivers.abort_all();
    }

    /// Waits until everything is routed and settled; says what is not.
    async fn drained(&self) -> Result<(), String> {
        let deadline = Instant::now() + DRAIN;
        let mut pause = Duration::from_secs(2);
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            let waiting = self.waiting().await;
            if waiting.is_none() || self.surroundings.history.is_broken() {
                return Ok(());
            }
            if let Some(waiting) = waiting.filter(|_| Instant::now() >= deadline) {
                return Err(waiting);
            }
        }
    }

    async fn print_attempts(&self) {
        let Some(process) = self.any_process() else { return };
        for partition in partitions(&*process.log, Topic::Attempts) {
            let query = fanfare_delivery::inspect::Query {
                endpoint: None,
                attempts: 0,
                items: 1_000,
                policy: self.surroundings.plan.policy(),
                now: fanfare_core::Clock::now(&*self.places[0].clock),
            };
            let view = process.control.view().clone();
            let state = fanfare_delivery::inspect::partition(&*process.log, &view, partition, &query).await;
            for (number, lane) in state.map(|state| state.lanes).unwrap_or_default() {
                println!("endpoint {number}: {lane:?}");
            }
            let from = fanfare_core::Offset::ZERO;
            let Ok(batch) = process.log.fetch(Topic::Attempts, partition, from, usize::MAX).await else {
                return;
            };
            for record in batch.records {
                println!(
                    "{partition} {}: {:?}",
                    record.offset,
                    fanfare_core::AttemptRecord::decode(&record.head)
                );
            }
        }
    }

    /// What there is still to do.
    async fn waiting(&self) -> Option<String> {
        let Surroundings { history, receivers, .. } = &self.surroundings;
        let processes: Vec<Arc<Process>> =
            self.places.iter().filter_map(|place| place.process.lock().clone()).collect();
        if processes.len() < self.places.len() {
            return Some("a process is down".to_owned());
        }
        let log = &*processes[0].log;
        for partition in partitions(log, Topic::Messages) {
            let Ok(bounds) = log.bounds(Topic::Messages, partition).await else {
                return Some("the log cannot be read".to_owned());
            };
            let routed = processes.iter().map(|process| process.routed.routed(partition)).max();
            if bounds.high_watermark.0 > 0 && routed < Some(bounds.end) {
                return Some(format!("partition {partition} is routed up to {routed:?} of {}", bounds.end));
            }
        }
        let Ok(records) = Records::read(log, publish_in).await else {
            return Some("the log cannot be read".to_owned());
        };
        let settlements = records.settlements();
        let publish_of = records.publish_of();
        for (record, id, endpoints) in records.routed().chain(records.injected()) {
            for endpoint in endpoints {
                let publish = publish_of[&id];
                if !settlements.contains_key(&(*endpoint, record.offset))
                    && !receivers.is_poison(*endpoint, publish)
                {
                    let at = history.now();
                    return Some(format!(
                        "#{publish} for endpoint {endpoint} (delivery {}) at {at:?}",
                        record.offset
                    ));
                }
            }
        }
        None
    }

    /// What the story lacks while it happens.
    fn complete(
        &self,
        story: &mut crate::story::Story,
        records: Records,
        process: &Process,
        known_at: &std::collections::BTreeMap<fanfare_core::EndpointNumber, Duration>,
    ) {
        let Surroundings { plan, receivers, .. } = &self.surroundings;
        let view = process.control.view().clone();
        let endpoints = view
            .applications(fanfare_control::default_organization())
            .flat_map(|application| view.endpoints_of(application.id).cloned().collect::<Vec<_>>());
        for endpoint in endpoints {
            let policy = view.policy(&endpoint, &plan.policy());
            story.poison.extend(
                story
                    .publishes
                    .keys()
                    .filter(|publish| receivers.is_poison(endpoint.number, **publish))
                    .map(|publish| (endpoint.number, *publish)),
            );
            story.subscribers.insert(
                endpoint.number,
                Subscriber {
                    application: endpoint.application,
                    ordering: policy.ordering,
                    park_after: policy.park_after,
                    rate: policy.throttle_rate,
                    channels: endpoint.settings.channels.clone(),
                    known_at: known_at.get(&endpoint.number).copied(),
                },
            );
        }
        story.records = records;
        story.one_authority = plan.flavour == Flavour::Embedded;
        let steps = |(_, fault): &(Duration, ProcessFault)| matches!(fault, ProcessFault::ClockStep { .. });
        story.clocks_even = !plan.process_faults.iter().flatten().any(steps);
        story.log_took_all = plan.log_faults.is_empty();
        let uncertain = |(_, fault): &(Duration, LogFault)| matches!(fault, LogFault::Failures { .. });
        story.appends_certain = !plan.log_faults.iter().any(uncertain);
        story.healed_at = plan.trouble_for;
    }
}

/// Trouble.
impl World {
    /// Runs the process of one place, with what goes wrong there, until `end`.
    async fn drive(&self, index: usize, end: CancellationToken) {
        let Surroundings { plan, history, .. } = &self.surroundings;
        let mut random = Random::of(plan.seed, "place", index as u64);
        let mut faults = plan.process_faults[index].iter().copied().peekable();
        self.start(index, 0, &mut random).await;
        loop {
            let Some(process) = self.places[index].process.lock().clone() else { return };
            let next = faults.peek().map(|(at, _)| self.start + *at);
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = process.failed.notified() => {
                    history.note(format_args!("process {index} exits"));
                    self.take_down(index);
                    process.end(&self.surroundings, End::Kill).await;
                    drop(process);
                    sleep(random.millis(10..500)).await;
                    self.start(index, 0, &mut random).await;
                }
                () = until(next) => {
                    let (_, fault) = faults.next().unwrap();
                    self.strike(index, process, fault, &mut random).await;
                }
            }
        }
    }

    async fn strike(&self, index: usize, process: Arc<Process>, fault: ProcessFault, random: &mut Random) {
        let Surroundings { history, .. } = &self.surroundings;
        history.note(format_args!("process {index}: {fault:?}"));
        let (down, cut_starts) = match fault {
            ProcessFault::ClockStep { by, back } => return self.places[index].clock.step(by, back),
            ProcessFault::Isolate { hears_after } => return process.isolate(hears_after),
            ProcessFault::Stop { down } => {
                self.take_down(index);
                process.stop(&self.surroundings).await;
                (down, 0)
            }
            ProcessFault::Kill { down, cut_starts } => {
                self.take_down(index);
                process.end(&self.surroundings, End::Kill).await;
                (down, cut_starts)
            }
            ProcessFault::PowerCut { down, cut_starts, after_put } => {
                if after_put {
                    // Without one it is cut all the same.
                    let _ = timeout(AFTER_PUT, process.put.notified()).await;
                }
                self.take_down(index);
                process.end(&self.surroundings, End::PowerCut).await;
                (down, cut_starts)
            }
        };
        drop(process);
        sleep(down).await;
        self.start(index, cut_starts, random).await;
    }

    fn take_down(&self, index: usize) {
        self.places[index].process.lock().take();
    }

    /// Starts a process, again and again until it runs. The first `cuts` starts are cut short.
    async fn start(&self, index: usize, cuts: u32, random: &mut Random) {
        let Surroundings { history, .. } = &self.surroundings;
        let place = &self.places[index];
        let mut cuts = cuts;
        loop {
            let life = place.lives.fetch_add(1, Ordering::Relaxed);
            let starting = self.surroundings.start(index, life, &place.clock);
            let started =
                if cuts > 0 { timeout(random.millis(0..60), starting).await } else { Ok(starting.await) };
            match started {
                Ok(Ok(process)) if cuts == 0 => {
                    history.note(format_args!("process {index} runs, life {life}"));
                    *place.process.lock() = Some(Arc::new(process));
                    return;
                }
                Ok(Ok(process)) => {
                    history.note(format_args!("process {index} is cut short at its start"));
                    process.end(&self.surroundings, random.pick(&[End::Kill, End::PowerCut])).await;
                }
                Ok(Err(StartError::Hindered(error))) => {
                    history.note(format_args!("process {index}: {error}"));
                }
                Ok(Err(StartError::Broken(error))) => {
                    return history.broken(format!("the log opens whatever happened: {error}"));
                }
                Err(_) => {
                    history.note(format_args!("process {index} is cut short while it starts"));
                    if matches!(self.surroundings.storage, Storage::Disk(_)) {
                        self.surroundings.cut(random.pick(&[End::Kill, End::PowerCut]));
                    }
                }
            }
            cuts = cuts.saturating_sub(1);
            sleep(random.millis(5..200)).await;
        }
    }

    async fn trouble_log(&self) {
        let Surroundings { plan, history, storage, .. } = &self.surroundings;
        for &(at, fault) in &plan.log_faults {
            sleep_until(self.start + at).await;
            history.note(format_args!("log: {fault:?}"));
            match storage {
                Storage::Disk(disk) => trouble_disk(disk, fault).await,
                Storage::Cluster(cluster) => trouble_cluster(cluster, plan, fault).await,
            }
        }
    }
}

async fn trouble_disk(disk: &FaultyDisk, fault: LogFault) {
    let (left_bytes, lasts) = match fault {
        LogFault::FailSync { nth } => return disk.fail_sync(nth),
        LogFault::Scarce { lasts } => (fanfare_core::limits::DISK_RESERVE_BYTES - 1, lasts),
        LogFault::Full { lasts } => (LEFT_BYTES, lasts),
        LogFault::Failures { .. } | LogFault::Slow { .. } | LogFault::Shake { .. } => return,
    };
    disk.set_capacity(disk.used_bytes() + left_bytes);
    sleep(lasts).await;
    disk.set_capacity(u64::MAX);
}

async fn trouble_cluster(cluster: &SimCluster, plan: &Plan, fault: LogFault) {
    match fault {
        LogFault::Failures { per_mille, lasts } => {
            cluster.set_failures(per_mille);
            sleep(lasts).await;
            cluster.set_failures(0);
        }
        LogFault::Slow { up_to, lasts } => {
            cluster.set_durable_after(Duration::from_millis(1)..up_to);
            sleep(lasts).await;
            let usual = SimOptions::new(plan.seed, 1, 1).durable_after;
            cluster.set_durable_after(usual);
        }
        LogFault::Shake { routers } => {
            cluster.shake_claims(if routers { Group::Router } else { Group::Delivery });
        }
        LogFault::FailSync { .. } | LogFault::Scarce { .. } | LogFault::Full { .. } => {}
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
