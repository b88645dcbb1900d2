//! What the journal takes: `cargo bench -p fanfare-log`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::Partition;
use fanfare_log::{
    Log, NewRecord, Sync, Topic,
    embedded::{EmbeddedLog, Options},
};
use tokio::time::Instant;

const PARTITIONS: u32 = 16;
const CALLERS: u32 = 32;

fn open(directory: &tempfile::TempDir) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(Options::new(directory.path(), PARTITIONS, PARTITIONS))
        .expect("a fresh directory opens")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads start")
}

fn record(size_bytes: usize) -> NewRecord {
    NewRecord { head: Bytes::from_static(&[7; 100]), payload: Bytes::from(vec![7; size_bytes]) }
}

/// Records of 1 KB that 32 callers each wait for.
async fn synced(log: &Arc<EmbeddedLog>, records: u64) -> Duration {
    let begin = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let log = log.clone();
        let share = records / u64::from(CALLERS) + 1;
        callers.spawn(async move {
            let record = record(1_024);
            for _ in 0..share {
                let partition = Partition(caller % PARTITIONS);
                let pending = log.append(Topic::Messages, partition, vec![record.clone()], Sync::Now).await;
                pending.expect("there is room").await.expect("the disk works");
            }
        });
    }
    callers.join_all().await;
    begin.elapsed()
}

/// Small facts that nobody waits for, with the last one synced.
async fn lazy(log: &Arc<EmbeddedLog>, records: u64) -> Duration {
    let begin = Instant::now();
    let fact = NewRecord::head(Bytes::from_static(&[7; 60]));
    for number in 0..records {
        let partition = Partition(u32::try_from(number % u64::from(PARTITIONS)).expect("small"));
        let pending = log.append(Topic::Attempts, partition, vec![fact.clone()], Sync::Lazy).await;
        drop(pending.expect("there is room"));
    }
    let last = log.append(Topic::Attempts, Partition(0), vec![fact], Sync::Now).await;
    last.expect("there is room").await.expect("the disk works");
    begin.elapsed()
}

/// One durable message, then ten deliveries and ten facts that follow it lazily.
async fn mixed(log: &Arc<EmbeddedLog>, messages: u64) -> Duration {
    let follower = log.clone();
    let small = NewRecord::head(Bytes::from_static(&[7; 80]));
    let follow = tokio::spawn(async move {
        for _ in 0..messages {
            for number in 0..10 {
                let partition = Partition(number % PARTITIONS);
                for topic in [Topic::Deliveries, Topic::Attempts] {
                    drop(follower.append(topic, partition, vec![small.clone()], Sync::Lazy).await);
                }
            }
        }
    });
    let took = synced(log, messages).await;
    follow.await.expect("no panic");
    took
}

fn journal(criterion: &mut Criterion) {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = open(&directory);
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.bench_function("append 1 KB, 32 callers, synced", |bencher| {
        bencher.iter_custom(|records| runtime.block_on(synced(&log, records)));
    });
    group.bench_function("append 60 B, lazy", |bencher| {
        bencher.iter_custom(|records| runtime.block_on(lazy(&log, records)));
    });
    group.bench_function("mixed: 1 KB synced + 20 small lazy", |bencher| {
        bencher.iter_custom(|messages| runtime.block_on(mixed(&log, messages)));
    });
    group.finish();
    runtime.block_on(log.close());
}

/// A start after a kill, with a gigabyte of small records behind it.
fn start(criterion: &mut Criterion) {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _guard = runtime.enter();
    let mut log = open(&directory);
    runtime.block_on(async {
        for number in 0..1_000_u32 {
            let records = vec![record(1_024); 900];
            let topic = if number % 2 == 0 { Topic::Messages } else { Topic::Deliveries };
            let pending = log.append(topic, Partition(number % PARTITIONS), records, Sync::Now).await;
            pending.expect("there is room").await.expect("the disk works");
        }
        log.kill().await;
    });
    criterion.bench_function("journal/start with 1 GB", |bencher| {
        bencher.iter_custom(|starts| {
            let mut took = Duration::ZERO;
            for _ in 0..starts {
                let begin = Instant::now();
                log = open(&directory);
                took += begin.elapsed();
                runtime.block_on(log.kill());
            }
            took
        });
    });
}

criterion_group!(benches, journal, start);
criterion_main!(benches);
