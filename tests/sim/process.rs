//! One process: the production services over a log, and how it ends.

use std::{path::Path, sync::Arc, time::Duration};

use fanfare_control::{Control, MainSecret};
use fanfare_core::{Clock, Entropy, KnownClaims, Policy, limits};
use fanfare_ingest::Ingest;
use fanfare_log::{
    Log,
    disk::{Disk, FaultyDisk},
    embedded::{Driver, EmbeddedLog, OpenError, Options},
    sim::{SimCluster, SimLog},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SimClock,
    history::History,
    lanes,
    plan::Plan,
    random::{Random, SeededEntropy},
    receivers::{Network, Receivers},
    watched::{SETTLE, WatchedLog},
};

/// What all processes of a world share.
pub(crate) struct Surroundings {
    pub(crate) plan: Plan,
    pub(crate) history: Arc<History>,
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) storage: Storage,
}

pub(crate) enum Storage {
    Disk(FaultyDisk),
    Cluster(SimCluster),
}

#[derive(Clone)]
enum Engine {
    Embedded(Arc<EmbeddedLog>),
    Cluster(Arc<SimLog>),
}

/// A process that runs.
pub(crate) struct Process {
    pub(crate) control: Control,
    pub(crate) ingest: Ingest,
    pub(crate) routed: fanfare_router::Handle,
    /// As the engine gives it.
    pub(crate) log: Arc<dyn Log>,
    pub(crate) dead: CancellationToken,
    /// Told when the process cannot go on and would exit.
    pub(crate) failed: Arc<Notify>,
    /// Told whenever a table was written.
    pub(crate) put: Arc<Notify>,
    engine: Engine,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Kill,
    PowerCut,
}

/// Why a process did not start.
pub(crate) enum StartError {
    /// Trouble that passes.
    Hindered(String),
    /// Never right.
    Broken(String),
}

impl Surroundings {
    /// Starts the `life`-th process at this place.
    pub(crate) async fn start(
        &self,
        place: usize,
        life: u64,
        clock: &Arc<SimClock>,
    ) -> Result<Process, StartError> {
        let plan = &self.plan;
        let dead = CancellationToken::new();
        let put = Arc::new(Notify::new());
        let random = |purpose| Random::of(plan.seed ^ (place as u64) << 32, purpose, life);
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(random("entropy")));
        let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
        let engine = self.engine(&clock)?;
        let bare: Arc<dyn Log> = match &engine {
            Engine::Embedded(log) => Arc::clone(log) as Arc<dyn Log>,
            Engine::Cluster(log) => Arc::clone(log) as Arc<dyn Log>,
        };
        let log: Arc<dyn Log> = Arc::new(WatchedLog {
            inner: Arc::clone(&bare),
            history: Arc::clone(&self.history),
            random: Mutex::new(random("log")),
            dead: dead.clone(),
            put: Arc::clone(&put),
        });
        let options = fanfare_control::Options {
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            main_secret: MainSecret::from_bytes([7; 32]),
            allow_http: false,
            message_partitions: plan.message_partitions,
            delivery_partitions: plan.delivery_partitions,
            policy: plan.policy(),
        };
        let control = Control::open(Arc::clone(&log), options).await.map_err(|error| match error {
            fanfare_control::OpenError::Append(_) | fanfare_control::OpenError::Read(_) => {
                StartError::Hindered(error.to_string())
            }
            error => StartError::Broken(error.to_string()),
        })?;
        lanes::compare(&*bare, &control, &*clock, &plan.policy(), &self.history).await;

        let router = fanfare_router::Service::new(fanfare_router::Options {
            log: Arc::clone(&log),
            control: control.clone(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            dedup_dir: None,
            inline: false,
        });
        let routed = router.handle();
        let known_claims: Arc<dyn KnownClaims> = Arc::new(routed.clone());
        let ingest = Ingest::new(fanfare_ingest::Options {
            log: Arc::clone(&log),
            // In a cluster the partition may be routed elsewhere: the routers decide.
            known_claims: matches!(engine, Engine::Embedded(_)).then_some(known_claims),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            retention: limits::RETENTION,
        });
        let delivery = fanfare_delivery::Service::new(
            fanfare_delivery::Options {
                log: Arc::clone(&log),
                control: control.clone(),
                clock: Arc::clone(&clock),
                entropy: Arc::clone(&entropy),
                retention: limits::RETENTION,
                disable_after: Some(limits::DISABLE_AFTER),
                in_flight: 64,
                drain: limits::DRAIN,
                board: fanfare_delivery::load::Board::in_memory(),
                drain_target: limits::DRAIN_TARGET,
                processor_time: None,
            },
            Network { receivers: Arc::clone(&self.receivers), dead: dead.clone() },
        );
        let stop = CancellationToken::new();
        let failed = Arc::new(Notify::new());
        let (router_stop, router_failed, history) =
            (stop.clone(), Arc::clone(&failed), Arc::clone(&self.history));
        let router = tokio::spawn(async move {
            if let Err(error) = router.run(router_stop).await {
                history.note(format_args!("{error}"));
                router_failed.notify_one();
            }
        });
        let delivery = tokio::spawn(delivery.run(stop.clone()));
        let tasks = Mutex::new(vec![router, delivery]);
        Ok(Process { control, ingest, routed, log: bare, dead, failed, put, engine, stop, tasks })
    }

    fn engine(&self, clock: &Arc<dyn Clock>) -> Result<Engine, StartError> {
        match &self.storage {
            Storage::Cluster(cluster) => Ok(Engine::Cluster(cluster.join())),
            Storage::Disk(disk) => {
                let disk = disk.reopened();
                let options = Options {
                    disk: Arc::new(disk) as Arc<dyn Disk>,
                    clock: Arc::clone(clock),
                    driver: Driver::Task,
                    segment_bytes: 24 << 10,
                    // So little that readers behind come to the disk.
                    tail_bytes: 4 << 10,
                    ..Options::new(
                        Path::new("/data"),
                        self.plan.message_partitions,
                        self.plan.delivery_partitions,
                    )
                };
                match EmbeddedLog::open(options) {
                    Ok(log) => Ok(Engine::Embedded(log)),
                    Err(error @ (OpenError::Full(_) | OpenError::Io { .. } | OpenError::Tables(_))) => {
                        Err(StartError::Hindered(error.to_string()))
                    }
                    Err(error) => Err(StartError::Broken(error.to_string())),
                }
            }
        }
    }

    /// The machine loses its power, or the process is killed, whatever runs.
    pub(crate) fn cut(&self, end: End) {
        self.history.cut();
        if let Storage::Disk(disk) = &self.storage {
            match end {
                End::Kill => disk.kill(),
                End::PowerCut => disk.power_cut(),
            }
        }
    }
}

impl Process {
    /// Ends without being asked.
    pub(crate) async fn end(&self, surroundings: &Surroundings, end: End) {
        self.dead.cancel();
        surroundings.cut(end);
        if let Engine::Cluster(log) = &self.engine {
            log.crash();
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        tokio::time::sleep(SETTLE).await;
    }

    /// Stops in good order, or is killed when that takes too long.
    pub(crate) async fn stop(&self, surroundings: &Surroundings) {
        self.stop.cancel();
        let tasks: Vec<_> = self.tasks.lock().drain(..).collect();
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let engine = self.engine.clone();
        let drained = timeout(Duration::from_mins(1), async move {
            for task in tasks {
                // A panic is noted where it happens.
                let _ = task.await;
            }
            if let Engine::Embedded(log) = &engine {
                log.close().await;
            }
        });
        let drained = drained.await.is_ok();
        self.dead.cancel();
        if !drained {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        if !drained || matches!(self.engine, Engine::Cluster(_)) {
            surroundings.cut(End::Kill);
        }
        if let Engine::Cluster(log) = &self.engine {
            log.crash();
        }
        tokio::time::sleep(SETTLE).await;
    }

    pub(crate) fn isolate(&self, hears_after: Duration) {
        if let Engine::Cluster(log) = &self.engine {
            log.isolate(hears_after);
        }
    }
}

impl Plan {
    /// For endpoints that do not say.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            lane_entries: self.lane_entries,
            park_after: Some(Duration::from_secs(40)),
            ..Policy::default()
        }
    }
}
