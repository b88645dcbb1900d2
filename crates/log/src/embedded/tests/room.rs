//! A disk that is full, and memory that must not be.

use fanfare_core::limits;

use super::*;
use crate::contract::{AppendError, Table};

#[tokio::test(start_paused = true)]
async fn a_nearly_full_disk_refuses_messages_and_takes_facts() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    append(&log, Topic::Messages, 0, 100).await;
    disk.set_capacity(disk.used_bytes() + limits::DISK_RESERVE_BYTES - 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!log.has_room(Topic::Messages) && log.has_room(Topic::Attempts));
    let refused = log.append(Topic::Messages, P0, vec![record(1, 100)], Sync::Now).await.err();
    assert_eq!(refused, Some(AppendError::Full { topic: "messages" }));
    append(&log, Topic::Attempts, 1, 100).await;
    append(&log, Topic::Control, 1, 100).await;
    log.put(Table::Lanes, P0, vec![(Bytes::from_static(b"k"), None)]).await.unwrap();
    disk.set_capacity(u64::MAX);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(log.has_room(Topic::Messages));
    append(&log, Topic::Messages, 1, 100).await;
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_waits_in_memory() {
    let disk = FaultyDisk::new(1);
    let log = open(&disk).unwrap();
    append(&log, Topic::Messages, 0, 100).await;
    disk.set_capacity(disk.used_bytes() + 1_000);
    let mut waiting = Vec::new();
    for number in 1..20 {
        let topic = if number % 2 == 0 { Topic::Messages } else { Topic::Attempts };
        waiting.push(log.append(topic, P0, vec![record(number, 300)], Sync::Now).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!log.has_room(Topic::Attempts), "no request may be sent now");
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, [0], "not durable, not shown");
    disk.set_capacity(u64::MAX);
    for pending in waiting {
        pending.await.unwrap();
    }
    assert!(log.has_room(Topic::Attempts));
    disk.power_cut();
    log.kill().await;
    let log = open(&disk).unwrap();
    assert_eq!(numbers(&*log, Topic::Messages, P0).await, (0..20).step_by(2).collect::<Vec<_>>());
    assert_eq!(numbers(&*log, Topic::Attempts, P0).await, (1..20).step_by(2).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_at_the_start_is_one_plain_line() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(100);
    let error = open(&disk).err().unwrap();
    assert!(error.to_string().starts_with("no room left on the device for /data"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn appends_wait_when_too_much_is_unsynced() {
    let disk = FaultyDisk::new(1);
    disk.set_sync_delay(Duration::from_millis(10));
    let log = open(&disk).unwrap();
    let mut appended = 0_u64;
    let mut waited = false;
    for number in 0..200 {
        let before = tokio::time::Instant::now();
        drop(log.append(Topic::Messages, P0, vec![record(number, 900_000)], Sync::Lazy).await.unwrap());
        waited |= before.elapsed() > Duration::ZERO;
        appended += 1;
        assert!(log.stats().unsynced_bytes <= limits::UNSYNCED_BYTES as u64);
    }
    assert!(waited, "{appended} appends of 0.9 MB never waited");
    let records = vec![record(0, 17 << 20), record(1, 17 << 20)];
    let error = log.append(Topic::Messages, P0, records, Sync::Now).await.err();
    assert!(matches!(error, Some(AppendError::TooLarge { .. })));
}
