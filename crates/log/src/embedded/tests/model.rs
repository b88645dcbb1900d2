//! Random histories against the simplest model there is: a list.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        topic: Topic,
        partition: u32,
        payload_bytes: usize,
        records: u64,
        urgent: bool,
    },
    Wait {
        millis: u64,
    },
    FailSync {
        nth: u64,
    },
    PowerCut,
    Kill,
    Close,
    /// The process dies at a later change, perhaps in the middle of a recovery; then the power goes.
    DieSoon {
        changes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let topic = prop_oneof![
        Just(Topic::Messages),
        Just(Topic::Deliveries),
        Just(Topic::Attempts),
        Just(Topic::Dedup)
    ];
    let size = prop_oneof![6 => 0..2_000_usize, 1 => 10_000..40_000_usize];
    let append = (topic, 0..PARTITIONS, size, 1..4_u64, any::<bool>());
    prop_oneof![
        20 => append.prop_map(|(topic, partition, payload_bytes, records, urgent)| {
            Step::Append { topic, partition, payload_bytes, records, urgent }
        }),
        4 => (0..80_u64).prop_map(|millis| Step::Wait { millis }),
        1 => (1..4_u64).prop_map(|nth| Step::FailSync { nth }),
        1 => Just(Step::PowerCut),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
        1 => (0..40_u64).prop_map(|changes| Step::DieSoon { changes }),
    ]
}

struct Written {
    topic: Topic,
    partition: Partition,
    number: u64,
}

/// What was appended, in order, and how much of its beginning is known to be durable.
#[derive(Default)]
struct Model {
    written: Vec<Written>,
    durable: usize,
    pending: Vec<(usize, crate::contract::Pending)>,
    next_number: u64,
    highest: std::collections::HashMap<(Topic, Partition), Offset>,
}

impl Model {
    /// Learns which appends have resolved.
    async fn settle(&mut self) {
        for (end, pending) in std::mem::take(&mut self.pending) {
            let mut pending = pending;
            match futures_util::poll!(&mut pending) {
                std::task::Poll::Ready(Ok(_)) => self.durable = self.durable.max(end),
                std::task::Poll::Ready(Err(_)) => {}
                std::task::Poll::Pending => self.pending.push((end, pending)),
            }
        }
    }

    /// After a crash a beginning of the list is left, with everything that was known to be durable.
    async fn check(&mut self, log: &EmbeddedLog) {
        self.pending.clear();
        let mut found = std::collections::HashSet::new();
        for topic in [Topic::Messages, Topic::Deliveries, Topic::Attempts, Topic::Dedup] {
            for partition in (0..PARTITIONS).map(Partition) {
                let records = read_all(log, topic, partition).await;
                assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
                let numbers: Vec<u64> = records.iter().map(number_of).collect();
                let of_partition =
                    self.written.iter().filter(|w| (w.topic, w.partition) == (topic, partition));
                let expected: Vec<u64> = of_partition.map(|w| w.number).take(numbers.len()).collect();
                assert_eq!(numbers, expected, "{topic:?}/{partition}");
                found.extend(numbers);
            }
        }
        let survivors = self.written.iter().take_while(|w| found.contains(&w.number)).count();
        assert_eq!(survivors, found.len(), "what survived is a beginning of what was appended");
        assert!(survivors >= self.durable, "{survivors} survived of {} durable", self.durable);
        self.written.truncate(survivors);
        self.durable = survivors;
    }

    async fn append(&mut self, log: &EmbeddedLog, step: &Step) {
        let Step::Append { topic, partition, payload_bytes, records, urgent } = *step else { unreachable!() };
        let partition = Partition(partition);
        let numbers = self.next_number..self.next_number + records;
        self.next_number = numbers.end;
        let records = numbers.clone().map(|number| record(number, payload_bytes)).collect();
        let before = log.bounds(topic, partition).await.unwrap();
        let sync = if urgent { Sync::Now } else { Sync::Lazy };
        let Ok(pending) = log.append(topic, partition, records, sync).await else { return };
        self.written.extend(numbers.map(|number| Written { topic, partition, number }));
        self.pending.push((self.written.len(), pending));
        let after = log.bounds(topic, partition).await.unwrap();
        if !topic.shows_only_synced() {
            let highest = self.highest.insert((topic, partition), after.end);
            assert!(
                highest.is_none_or(|highest| before.end >= highest),
                "an offset that was seen comes again"
            );
        }
    }
}

/// A start that meets a failing sync ends with an error; the next one goes on.
fn reopen(disk: &FaultyDisk) -> Arc<EmbeddedLog> {
    for _ in 0..20 {
        match open(disk) {
            Ok(log) => return log,
            Err(OpenError::Io { .. } | OpenError::Tables(_)) => disk.power_cut(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("does not open again")
}

async fn run(seed: u64, steps: Vec<Step>) {
    let disk = FaultyDisk::new(seed);
    disk.set_sync_delay(Duration::from_millis(3));
    let mut model = Model::default();
    let mut log = open(&disk).unwrap();
    for step in &steps {
        match step {
            Step::Append { .. } => model.append(&log, step).await,
            Step::Wait { millis } => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Step::FailSync { nth } => disk.fail_sync(*nth),
            Step::PowerCut | Step::Kill | Step::Close => {
                model.settle().await;
                match step {
                    Step::PowerCut => disk.power_cut(),
                    Step::Kill => disk.kill(),
                    _ => log.close().await,
                }
                model.settle().await;
                log.kill().await;
                log = reopen(&disk);
                model.check(&log).await;
            }
            Step::DieSoon { changes } => {
                model.settle().await;
                disk.kill();
                log.kill().await;
                let dying = options(&disk);
                disk.kill_after(*changes);
                if let Ok(dying) = EmbeddedLog::open(dying) {
                    tokio::time::sleep(Duration::from_millis(*changes)).await;
                    dying.kill().await;
                }
                disk.power_cut();
                log = reopen(&disk);
                model.check(&log).await;
            }
        }
        model.settle().await;
    }
    disk.power_cut();
    log.kill().await;
    model.check(&reopen(&disk)).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_survives_is_a_beginning_with_all_that_was_acknowledged(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed, steps));
    }
}
