#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod directory;
mod garbage;
mod model;
mod room;
mod wiping;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};

use super::{Driver, EmbeddedLog, OpenError, Options};
use crate::{
    contract::{Log, LogRecord, NewRecord, Sync, Topic},
    disk::FaultyDisk,
};

const PARTITIONS: u32 = 3;
const P0: Partition = Partition(0);

/// On the disk's newest handle, driven by tasks.
fn options(disk: &FaultyDisk) -> Options {
    Options {
        disk: Arc::new(disk.reopened()),
        driver: Driver::Task,
        segment_bytes: 32 << 10,
        tail_bytes: 4 << 10,
        ..Options::new("/data", PARTITIONS, PARTITIONS)
    }
}

fn open(disk: &FaultyDisk) -> Result<Arc<EmbeddedLog>, OpenError> {
    EmbeddedLog::open(options(disk))
}

fn record(number: u64, payload_bytes: usize) -> NewRecord {
    let fill = u8::try_from(number % 250).unwrap() + 1;
    NewRecord { head: Bytes::from(number.to_string()), payload: Bytes::from(vec![fill; payload_bytes]) }
}

fn number_of(found: &LogRecord) -> u64 {
    let number = std::str::from_utf8(&found.head).unwrap().parse().unwrap();
    let payload = found.payload.as_ref().unwrap();
    assert_eq!(*payload, record(number, payload.len()).payload);
    number
}

async fn append(log: &EmbeddedLog, topic: Topic, number: u64, payload_bytes: usize) -> Offset {
    let pending = log.append(topic, P0, vec![record(number, payload_bytes)], Sync::Now).await.unwrap();
    pending.await.unwrap().start
}

async fn read_all(log: &dyn Log, topic: Topic, partition: Partition) -> Vec<LogRecord> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let mut position = bounds.start;
    let mut records = Vec::new();
    while position < bounds.end {
        let batch = log.fetch(topic, partition, position, 8_192).await.unwrap();
        assert!(batch.next > position);
        records.extend(batch.records);
        position = batch.next;
    }
    records
}

async fn numbers(log: &dyn Log, topic: Topic, partition: Partition) -> Vec<u64> {
    read_all(log, topic, partition).await.iter().map(number_of).collect()
}

#[tokio::test(start_paused = true)]
async fn every_offset_is_found_behind_the_memory_and_across_segments() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    let mut offsets = Vec::new();
    for number in 0..400 {
        let size = usize::try_from(number * 37 % 900).unwrap() + if number % 50 == 0 { 20_000 } else { 0 };
        offsets.push(append(&log, Topic::Messages, number, size).await);
        append(&log, Topic::Deliveries, number, 0).await;
    }
    assert!(log.stats().segments > 5);
    for reopened in [false, true] {
        let log = if reopened {
            log.close().await;
            open(&disk).unwrap()
        } else {
            log.clone()
        };
        for (number, offset) in (0..).zip(&offsets) {
            let batch = log.fetch(Topic::Messages, P0, *offset, 0).await.unwrap();
            assert_eq!(batch.records.iter().map(number_of).collect::<Vec<_>>(), [number]);
        }
        assert_eq!(numbers(&*log, Topic::Deliveries, P0).await, (0..400).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn recovery_may_be_cut_off_anywhere() {
    for seed in 0..6 {
        let disk = FaultyDisk::new(seed);
        let log = open(&disk).unwrap();
        for number in 0..60 {
            append(&log, Topic::Messages, number, 700).await;
            append(&log, Topic::Control, number, 10).await;
        }
        disk.power_cut();
        log.kill().await;
        let mut opened = false;
        for changes in 0..200 {
            let options = options(&disk);
            disk.kill_after(changes);
            match EmbeddedLog::open(options) {
                Ok(log) => {
                    opened = true;
                    disk.power_cut();
                    log.kill().await;
                }
                Err(OpenError::Io { .. } | OpenError::Tables(_)) => disk.power_cut(),
                Err(error) => panic!("after {changes} changes: {error}"),
            }
            if changes % 5 == 0 || opened {
                let log = open(&disk).unwrap();
                assert_eq!(numbers(&*log, Topic::Messages, P0).await, (0..60).collect::<Vec<_>>());
                assert_eq!(numbers(&*log, Topic::Control, P0).await, (0..60).collect::<Vec<_>>());
                disk.power_cut();
                log.kill().await;
            }
            if opened {
                break;
            }
        }
        assert!(opened, "recovery comes to an end");
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_go_on_after_a_close_and_skip_after_a_crash() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    assert_eq!(append(&log, Topic::Deliveries, 0, 0).await, Offset(0));
    log.close().await;
    let log = open(&disk).unwrap();
    assert_eq!(append(&log, Topic::Deliveries, 1, 0).await, Offset(1), "nothing was lost");
    disk.power_cut();
    log.kill().await;
    let log = open(&disk).unwrap();
    let bounds = log.bounds(Topic::Deliveries, P0).await.unwrap();
    assert_eq!(bounds.end, Offset(2 + super::recovery::SKIPPED_OFFSETS));
    assert_eq!(bounds.high_watermark, bounds.end);
    assert_eq!(append(&log, Topic::Deliveries, 2, 0).await, bounds.end);
    assert_eq!(append(&log, Topic::Messages, 2, 0).await, Offset(0), "what nobody saw is not skipped");
    assert_eq!(numbers(&*log, Topic::Deliveries, P0).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn lazy_appends_are_readable_at_once_and_durable_soon() {
    let disk = FaultyDisk::new(1);
    disk.set_sync_delay(Duration::from_millis(1));
    let log = open(&disk).unwrap();
    let lazy = log.append(Topic::Attempts, P0, vec![record(7, 0)], Sync::Lazy).await.unwrap();
    let bounds = log.bounds(Topic::Attempts, P0).await.unwrap();
    assert_eq!((bounds.high_watermark, bounds.end), (Offset(0), Offset(1)));
    assert_eq!(numbers(&*log, Topic::Attempts, P0).await, [7]);
    tokio::time::timeout(fanfare_core::limits::LAZY_SYNC + Duration::from_millis(5), lazy)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(log.bounds(Topic::Attempts, P0).await.unwrap().high_watermark, Offset(1));
}

/// The faults of this disk can be found: without syncs something acknowledged is lost.
#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_sync_is_found_out() {
    let mut found = 0;
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let log = open(&disk).unwrap();
        disk.ignore_syncs();
        for number in 0..20 {
            append(&log, Topic::Messages, number, 2_000).await;
        }
        disk.power_cut();
        log.kill().await;
        let lost = match open(&disk) {
            Ok(log) => numbers(&*log, Topic::Messages, P0).await.len() < 20,
            Err(_) => true,
        };
        found += u32::from(lost);
    }
    assert_eq!(found, 10);
}

#[tokio::test(start_paused = true)]
async fn a_second_failed_sync_closes_the_log() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    append(&log, Topic::Messages, 0, 10).await;
    // The group's sync, then that of the new segment's header.
    disk.fail_sync(1);
    disk.fail_sync(2);
    let pending = log.append(Topic::Messages, P0, vec![record(1, 10)], Sync::Now).await.unwrap();
    assert!(!pending.await.unwrap_err().is_retryable());
    let later = log.append(Topic::Messages, P0, vec![record(2, 10)], Sync::Now).await;
    assert!(later.is_err_and(|error| !error.is_retryable()));
    assert!(log.wait(Topic::Messages, P0, Offset(1)).await.is_err(), "who waits is told");
    disk.power_cut();
    log.kill().await;
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await[0], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_end_with_the_log() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let log = EmbeddedLog::open(Options::new(directory.path(), 1, 1)).unwrap();
        append(&log, Topic::Messages, number, 100).await;
        let lazy = log.append(Topic::Attempts, P0, vec![record(number, 0)], Sync::Lazy).await.unwrap();
        log.close().await;
        lazy.await.unwrap();
    }
    let log = EmbeddedLog::open(Options::new(directory.path(), 1, 1)).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, [0, 1, 2]);
    assert_eq!(numbers(&*log, Topic::Attempts, P0).await, [0, 1, 2]);
    assert!(Path::new(directory.path()).join("tables.redb").exists());
}
