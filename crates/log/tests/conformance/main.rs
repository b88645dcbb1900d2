//! Every engine against the one suite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "kafka")]
mod kafka;

use std::{path::Path, sync::Arc, time::Duration};

use fanfare_core::{Clock, Offset, Partition, Timestamp};
use fanfare_log::{
    Log, Topic,
    conformance::{self, Engine, PARTITIONS},
    disk::{Disk, FaultyDisk, RealDisk},
    embedded::{Driver, EmbeddedLog, Options},
    for_each_check,
    sim::{SimCluster, SimLog, SimOptions},
};
use parking_lot::Mutex;

/// Seeds per check on the engines that draw their faults.
const SEEDS: u64 = 12;

#[derive(Default)]
struct TestClock(Mutex<Duration>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000) + *self.0.lock()
    }
}

/// The embedded engine on some disk.
struct Embedded {
    options: Options,
    clock: Arc<TestClock>,
    faulty: Option<FaultyDisk>,
    running: Mutex<Vec<Arc<EmbeddedLog>>>,
    _directory: Option<tempfile::TempDir>,
}

impl Embedded {
    fn new(data_dir: &Path, disk: Arc<dyn Disk>, driver: Driver) -> Self {
        let clock = Arc::new(TestClock::default());
        let options = Options {
            disk,
            driver,
            clock: clock.clone(),
            retention_settle: Duration::ZERO,
            ..Options::new(data_dir, PARTITIONS, PARTITIONS)
        };
        Self { options, clock, faulty: None, running: Mutex::default(), _directory: None }
    }

    fn real() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = Self::new(directory.path(), Arc::new(RealDisk), Driver::Thread);
        Self { _directory: Some(directory), ..engine }
    }

    fn faulty(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        // Shorter and longer than what the engine gathers.
        disk.set_sync_delay(Duration::from_millis(1 + seed % 3 * 15));
        let engine = Self::new(Path::new("/data"), Arc::new(disk.clone()), Driver::Task);
        Self { faulty: Some(disk), ..engine }
    }

    /// Little fits a segment and little fits the memory.
    fn small(mut self) -> Self {
        self.options.segment_bytes = 8 << 10;
        self.options.tail_bytes = 2 << 10;
        self
    }
}

impl Engine for Embedded {
    async fn open(&self) -> Arc<dyn Log> {
        let mut options = self.options.clone();
        if let Some(disk) = &self.faulty {
            options.disk = Arc::new(disk.reopened());
        }
        let log = EmbeddedLog::open(options).unwrap();
        self.running.lock().push(log.clone());
        log
    }

    async fn crash(&self, log: Arc<dyn Log>) {
        drop(log);
        let running = std::mem::take(&mut *self.running.lock());
        if let Some(disk) = &self.faulty {
            disk.power_cut();
        }
        for log in running {
            log.kill().await;
        }
    }

    async fn join(&self, log: &Arc<dyn Log>) -> Arc<dyn Log> {
        log.clone()
    }

    fn fail_next_sync(&self) -> bool {
        self.faulty.as_ref().inspect(|disk| disk.fail_sync(1)).is_some()
    }

    async fn truncate(&self, log: &Arc<dyn Log>, partition: Partition) {
        *self.clock.0.lock() += Duration::from_hours(40 * 24);
        let before = log.bounds(Topic::Messages, partition).await.unwrap().start;
        for _ in 0..200 {
            if log.bounds(Topic::Messages, partition).await.unwrap().start > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("retention does not remove anything");
    }

    fn keeps_one_order(&self) -> bool {
        true
    }
}

struct Sim {
    cluster: SimCluster,
    running: Mutex<Vec<Arc<SimLog>>>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let cluster = SimCluster::new(SimOptions::new(seed, PARTITIONS, PARTITIONS));
        Self { cluster, running: Mutex::default() }
    }
}

impl Engine for Sim {
    async fn open(&self) -> Arc<dyn Log> {
        let log = self.cluster.join();
        self.running.lock().push(log.clone());
        log
    }

    async fn crash(&self, log: Arc<dyn Log>) {
        drop(log);
        for log in self.running.lock().drain(..) {
            log.crash();
        }
    }

    async fn join(&self, _log: &Arc<dyn Log>) -> Arc<dyn Log> {
        self.open().await
    }

    fn fail_next_sync(&self) -> bool {
        false
    }

    async fn truncate(&self, log: &Arc<dyn Log>, partition: Partition) {
        let bounds = log.bounds(Topic::Messages, partition).await.unwrap();
        self.cluster.truncate(Topic::Messages, partition, Offset(bounds.start.0.midpoint(bounds.end.0)));
    }

    fn keeps_one_order(&self) -> bool {
        false
    }
}

macro_rules! with_seeds {
    ($engine:expr; $($check:ident)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $check() {
                for seed in 0..SEEDS {
                    println!("seed {seed}");
                    conformance::$check(&$engine(seed)).await;
                }
            }
        )*
    };
}

macro_rules! on_the_machine {
    ($engine:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                conformance::$check(&$engine).await;
            }
        )*
    };
}

mod embedded_on_real_disk {
    use super::*;
    for_each_check!(on_the_machine, Embedded::real().small());
}

mod embedded_on_faulty_disk {
    use super::*;
    for_each_check!(with_seeds, Embedded::faulty);
}

mod embedded_on_faulty_disk_in_small_segments {
    use super::*;
    for_each_check!(with_seeds, |seed| Embedded::faulty(seed).small());
}

mod sim {
    use super::*;
    for_each_check!(with_seeds, Sim::new);
}
