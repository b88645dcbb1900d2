//! The suite against real Kafka.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use fanfare_core::Partition;
use fanfare_log::{
    Log, Topic,
    conformance::{self, Engine, PARTITIONS},
    for_each_check,
    kafka::{KafkaLog, Options},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

/// On the broker that all tests share. A process is a log of its own; a crash ends it with whatever was on its way.
struct Kafka {
    options: Options,
    running: Mutex<Vec<Arc<KafkaLog>>>,
}

impl Kafka {
    fn new() -> Self {
        // The checks notice that nothing moves; that takes longer than a drain.
        let drain = Duration::from_mins(1);
        let prefix = format!("conformance-{:016x}.", RandomState::new().hash_one("installation"));
        let brokers = fanfare_testkit::kafka::shared();
        let options = Options { drain, prefix, ..Options::new(brokers, PARTITIONS, PARTITIONS) };
        Self { options, running: Mutex::default() }
    }
}

impl Engine for Kafka {
    async fn open(&self) -> Arc<dyn Log> {
        let log = KafkaLog::open(self.options.clone()).await.unwrap();
        self.running.lock().push(log.clone());
        log
    }

    async fn crash(&self, log: Arc<dyn Log>) {
        drop(log);
        let running = std::mem::take(&mut *self.running.lock());
        for log in running {
            log.kill().await;
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
        let middle = i64::try_from(bounds.start.0.midpoint(bounds.end.0)).unwrap();
        let topic = format!("{}messages", self.options.prefix);
        let mut below = TopicPartitionList::new();
        let number = i32::try_from(partition.0).unwrap();
        below.add_partition_offset(&topic, number, rdkafka::Offset::Offset(middle)).unwrap();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.options.brokers).create().unwrap();
        admin.delete_records(&below, &AdminOptions::new()).await.unwrap();
    }

    fn keeps_one_order(&self) -> bool {
        false
    }

    fn settles_within(&self) -> Duration {
        Duration::from_secs(4)
    }
}

macro_rules! on_kafka {
    ($engine:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                conformance::$check(&$engine).await;
            }
        )*
    };
}

for_each_check!(on_kafka, Kafka::new());
