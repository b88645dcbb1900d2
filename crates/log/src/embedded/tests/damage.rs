//! Bytes that are not what was written.

use std::path::PathBuf;

use fanfare_core::Clock;

use super::*;
use crate::contract::{ReadError, Table};

/// Segments of the main journal by rising number.
fn segments(disk: &FaultyDisk) -> Vec<PathBuf> {
    let mut paths = disk.paths();
    paths.retain(|path| path.starts_with("/data/journal"));
    paths
}

fn find(disk: &FaultyDisk, path: &Path, bytes: &[u8]) -> usize {
    let contents = disk.contents(path).unwrap();
    contents.windows(bytes.len()).position(|window| window == bytes).unwrap()
}

async fn written(numbers: std::ops::Range<u64>) -> FaultyDisk {
    let disk = FaultyDisk::new(3);
    let log = open(&disk).unwrap();
    for number in numbers {
        append(&log, Topic::Messages, number, 100).await;
    }
    disk.kill();
    log.kill().await;
    disk
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_below_the_proven_sync_is_an_error_and_above_it_a_torn_tail() {
    for bit in 0..64 {
        let disk = written(0..10).await;
        let path = segments(&disk).pop().unwrap();
        let at = find(&disk, &path, b"FBAT") as u64;
        disk.flip_bit(&path, (at + 52) * 8 + bit).unwrap();
        assert!(matches!(open(&disk), Err(OpenError::Corrupt(_))), "bit {bit} of a proven batch");
    }
    let disk = written(0..10).await;
    let path = segments(&disk).pop().unwrap();
    let last = disk.contents(&path).unwrap().windows(4).rposition(|window| window == b"FBAT").unwrap() as u64;
    disk.flip_bit(&path, (last + 60) * 8).unwrap();
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, (0..9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_zeroed_page_below_the_proven_sync_is_an_error() {
    let disk = written(0..100).await;
    let path = segments(&disk).pop().unwrap();
    disk.edit(&path, |bytes| bytes[4_096..8_192].fill(0)).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Corrupt(_))));
}

#[tokio::test(start_paused = true)]
async fn garbage_behind_the_end_is_cut() {
    let disk = written(0..10).await;
    let path = segments(&disk).pop().unwrap();
    disk.edit(&path, |bytes| bytes.extend(b"FBAT garbage FBAT".repeat(300))).unwrap();
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_payload_is_an_error_for_its_reader_and_a_wiped_one_is_none() {
    let disk = written(0..10).await;
    let path = segments(&disk).pop().unwrap();
    let payload = record(4, 100).payload;
    let at = find(&disk, &path, &payload);
    disk.flip_bit(&path, at as u64 * 8).unwrap();
    let log = open(&disk).unwrap();
    let read = log.fetch(Topic::Messages, P0, Offset(4), 1).await;
    assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
    let others = log.fetch(Topic::Messages, P0, Offset(5), 10_000).await.unwrap();
    assert!(others.records.iter().map(number_of).eq(5..others.next.0), "the others are as they were");
    disk.kill();
    log.kill().await;

    let at = find(&disk, &path, &payload[1..]) - 1;
    disk.edit(&path, |bytes| bytes[at..at + 100].fill(0)).unwrap();
    let log = open(&disk).unwrap();
    let read = log.fetch(Topic::Messages, P0, Offset(4), 1).await.unwrap();
    assert_eq!(read.records[0].payload, None, "wiped");
    assert_eq!(read.records[0].head, record(4, 0).head);
}

#[tokio::test(start_paused = true)]
async fn a_segment_without_footer_is_scanned() {
    let disk = written(0..800).await;
    let all = segments(&disk);
    assert!(all.len() > 3);
    for path in &all[..all.len() - 1] {
        disk.edit(path, |bytes| bytes.truncate(bytes.len() - 1)).unwrap();
    }
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, (0..800).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_an_error() {
    let disk = written(0..800).await;
    let middle = segments(&disk).swap_remove(1);
    let handle = disk.reopened();
    crate::disk::Disk::unlink(&handle, &middle).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Corrupt(_))));
}

#[tokio::test(start_paused = true)]
async fn tables_ahead_of_the_journal_are_an_error() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    append(&log, Topic::Messages, 0, 100).await;
    log.close().await;
    let backup: Vec<_> =
        segments(&disk).into_iter().map(|path| (disk.contents(&path).unwrap(), path)).collect();
    let log = open(&disk).unwrap();
    for number in 1..50 {
        append(&log, Topic::Messages, number, 1_000).await;
    }
    log.put(Table::Lanes, P0, vec![(Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")))])
        .await
        .unwrap();
    log.close().await;
    let handle = disk.reopened();
    for path in segments(&disk) {
        crate::disk::Disk::unlink(&handle, &path).unwrap();
    }
    for (bytes, path) in backup {
        crate::disk::Disk::create(&handle, &path).unwrap();
        disk.edit(&path, |contents| *contents = bytes).unwrap();
    }
    let error = open(&disk).err().unwrap();
    assert!(matches!(error, OpenError::TablesAhead { .. }), "{error}");
}

#[derive(Default)]
struct StepClock(parking_lot::Mutex<Duration>);

impl Clock for StepClock {
    fn now(&self) -> fanfare_core::Timestamp {
        fanfare_core::Timestamp::from_secs(1_700_000_000) + *self.0.lock()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_removes_nothing_until_it_is_confirmed() {
    let disk = FaultyDisk::new(1);
    let clock = Arc::new(StepClock::default());
    let log = EmbeddedLog::open(Options { clock: clock.clone(), ..options(&disk) }).unwrap();
    let run = async |duration: Duration| {
        for _ in 0..duration.as_secs() {
            *clock.0.lock() += Duration::from_secs(1);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    for number in 0..200 {
        append(&log, Topic::Messages, number, 1_000).await;
    }
    run(Duration::from_mins(15)).await;
    *clock.0.lock() += Duration::from_hours(24 * 365);
    run(Duration::from_mins(8)).await;
    assert_eq!(log.bounds(Topic::Messages, P0).await.unwrap().start, Offset(0), "not believed yet");
    run(Duration::from_mins(8)).await;
    assert_eq!(log.bounds(Topic::Messages, P0).await.unwrap().start, Offset(200), "believed");
    assert_eq!(append(&log, Topic::Messages, 200, 10).await, Offset(200));
    disk.power_cut();
    log.kill().await;
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, [200]);
    assert_eq!(log.bounds(Topic::Messages, P0).await.unwrap().start, Offset(200), "also after a start");
}
