#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use fanfare_core::{Fingerprint, Identity, MessageId};
use fanfare_log::{
    NewRecord, Sync,
    sim::{SimCluster, SimOptions},
};

use tokio::time::timeout;

use super::*;

const MESSAGES: usize = 200;
/// Far less than all contents take, however small.
const ROOM_BYTES: usize = 96 * KIB;
const PATIENCE: Duration = Duration::from_mins(1);

/// Offsets of messages with payloads of this size.
async fn messages(log: &dyn Log, payload_bytes: usize) -> Vec<Offset> {
    let message = Message {
        id: MessageId::from_bytes([1; 20]),
        organization: fanfare_core::OrganizationId::from_bytes([2; 20]),
        application: fanfare_core::ApplicationId::from_bytes([3; 20]),
        event_type: "test".to_owned(),
        event_id: None,
        channels: Vec::new(),
        ordering_key: None,
        tags: Vec::new(),
        accepted_at: fanfare_core::Timestamp::ZERO,
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity { key: None, event_id: None, body: Fingerprint::of(&[]), short_window: false },
        due_of: None,
        only_for: None,
    };
    let record = NewRecord { head: message.encode(), payload: vec![b'x'; payload_bytes].into() };
    let mut offsets = Vec::new();
    for _ in 0..MESSAGES {
        let pending =
            log.append(Topic::Messages, Partition(0), vec![record.clone()], Sync::Now).await.unwrap();
        offsets.push(pending.await.unwrap().start);
    }
    offsets
}

fn place(offset: Offset) -> Place {
    Place { topic: Topic::Messages, partition: Partition(0), offset }
}

fn contents(log: Arc<dyn Log>) -> Contents {
    Contents::with_room(log, ROOM_BYTES, 10 * ROOM_BYTES as u64)
}

#[tokio::test(start_paused = true)]
async fn what_is_only_remembered_never_keeps_room_from_what_is_to_be_sent() {
    for payload_bytes in [2, 300, 1_500, 20 * KIB] {
        let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
        let offsets = messages(&*log, payload_bytes).await;
        let contents = contents(log);
        for offset in offsets {
            let content = timeout(PATIENCE, contents.get(place(offset), true)).await;
            assert_eq!(content.expect("room was found").unwrap().payload.len(), payload_bytes);
        }
        assert_eq!(contents.room.available_permits() * KIB, ROOM_BYTES);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sent_is_bounded_and_counted_once() {
    let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
    let offsets = messages(&*log, ROOM_BYTES / 2).await;
    let contents = contents(log);
    let get = |number: usize| contents.get(place(offsets[number]), true);
    let (one, other) = tokio::join!(get(0), get(0));
    assert!(one.is_ok() && other.is_ok());
    let taken = ROOM_BYTES / KIB - contents.room.available_permits();
    assert_eq!(taken, (ROOM_BYTES / 2 + OVERHEAD_BYTES).div_ceil(KIB), "counted once");
    assert!(timeout(PATIENCE, get(1)).await.is_err(), "two of them do not fit");
    drop(one);
    assert!(timeout(PATIENCE, get(1)).await.is_err(), "the other lane still sends it");
    drop(other);
    assert!(timeout(PATIENCE, get(1)).await.unwrap().is_ok());
    assert!(
        timeout(PATIENCE, get(0)).await.unwrap().is_ok(),
        "what is remembered takes room when it is sent"
    );
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_read_at_once_and_forgotten_in_turn() {
    let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
    let offsets = messages(&*log, 300).await;
    let contents = contents(log);
    for (number, &offset) in offsets.iter().enumerate() {
        let content = contents.get(place(offset), false).await.unwrap();
        assert_eq!(content.payload.len(), 300, "message {number}");
        assert!(contents.runs.find(place(offset)).is_some());
    }
    let last = *offsets.last().unwrap();
    assert!(contents.runs.find(place(last.next())).is_none());

    let runs = Runs::new(3 * (1_000 + OVERHEAD_BYTES));
    for (offset, count) in [(10, 2), (20, 1), (10, 2), (30, 1)] {
        let loaded = || Loaded {
            payload: Bytes::from_static(&[0; 1_000]),
            traceparent: None,
            expires_at: None,
            room: Mutex::default(),
        };
        let contents = (0..count).map(|n| (Offset(offset + n), Arc::new(loaded())));
        runs.keep(place(Offset(offset)), contents.collect());
    }
    let kept: Vec<u64> = (0..40).filter(|&offset| runs.find(place(Offset(offset))).is_some()).collect();
    assert_eq!(kept, [20, 30], "the run read first has made way");
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_kept() {
    let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
    let offsets = messages(&*log, 300).await;
    let contents = contents(log);
    let mut tidying = std::pin::pin!(contents.tidy(|| 0));
    let kept =
        |offset| contents.cache.contains_key(&place(offset)) || contents.runs.find(place(offset)).is_some();
    for _ in 0..10 {
        contents.get(place(offsets[0]), true).await.unwrap();
        assert!(timeout(KEPT_UNASKED / 2, &mut tidying).await.is_err());
        assert!(kept(offsets[0]), "somebody asked lately");
    }
    assert!(timeout(2 * KEPT_UNASKED, &mut tidying).await.is_err());
    assert!(!offsets.iter().any(|&offset| kept(offset)));
    assert!(contents.get(place(offsets[0]), true).await.is_ok(), "it is read again");
}

#[tokio::test(start_paused = true)]
async fn what_was_erased_is_kept_no_longer_though_others_are_asked_for() {
    let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
    let offsets = messages(&*log, 300).await;
    let contents = contents(log);
    let erasures = std::sync::atomic::AtomicU64::new(0);
    let mut tidying = std::pin::pin!(contents.tidy(|| erasures.load(Ordering::Relaxed)));
    assert!(timeout(KEPT_UNASKED / 2, &mut tidying).await.is_err());
    let mut kept = Vec::new();
    for erased in [0, 1, 1, 2] {
        erasures.store(erased, Ordering::Relaxed);
        contents.get(place(offsets[0]), true).await.unwrap();
        assert!(timeout(KEPT_UNASKED, &mut tidying).await.is_err());
        kept.push(contents.cache.contains_key(&place(offsets[0])));
    }
    assert_eq!(kept, [true, false, true, false]);
}
