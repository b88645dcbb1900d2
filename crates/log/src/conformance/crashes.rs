//! Crashes: what has to survive, and what may not come back.

use std::sync::Arc;

use fanfare_core::Partition;

use super::{Engine, P0, P1, PARTITIONS, append_now, in_time, numbers, read_all, read_from, record};
use crate::contract::{Log, Sync, Topic};

/// What was acknowledged is there after a crash.
pub async fn acknowledged_survives_a_crash(engine: &impl Engine) {
    let mut written = Vec::new();
    for round in 0..4_u64 {
        let log = engine.open().await;
        for number in round * 10..round * 10 + 10 {
            for topic in Topic::ALL {
                append_now(&log, topic, P0, number).await;
            }
            written.push(number);
        }
        engine.crash(log).await;
        let log = engine.open().await;
        for topic in Topic::ALL {
            assert_eq!(numbers(&read_all(&log, topic, P0).await), written, "{topic:?} after crash {round}");
        }
        engine.crash(log).await;
    }
}

/// Of what was not acknowledged a beginning survives: never a record without those before it.
pub async fn lost_is_only_a_tail(engine: &impl Engine) {
    let topics = [Topic::Messages, Topic::Deliveries, Topic::Attempts];
    let log = engine.open().await;
    let mut order = Vec::new();
    for number in 0..200_u64 {
        let topic = topics[usize::try_from(number % 3).expect("small")];
        let partition = Partition(u32::try_from(number / 3).expect("small") % PARTITIONS);
        let sync = if number % 50 == 0 { Sync::Now } else { Sync::Lazy };
        drop(log.append(topic, partition, vec![record(number)], sync).await.expect("there is room"));
        order.push((topic, partition, number));
        if number % 40 == 39 {
            tokio::task::yield_now().await;
        }
    }
    engine.crash(log).await;
    let log = engine.open().await;
    let mut survivors = Vec::new();
    for topic in topics {
        for partition in (0..PARTITIONS).map(Partition) {
            let found = numbers(&read_all(&log, topic, partition).await);
            let written = order.iter().filter(|(t, p, _)| (*t, *p) == (topic, partition));
            let expected: Vec<u64> = written.map(|(.., number)| *number).take(found.len()).collect();
            assert_eq!(found, expected, "{topic:?}/{partition} lost something in the middle");
            survivors.extend(found);
        }
    }
    if engine.keeps_one_order() {
        survivors.sort_unstable();
        let beginning: Vec<u64> = (0..survivors.len() as u64).collect();
        assert_eq!(survivors, beginning, "what survived is a beginning of all that was appended");
    }
}

/// An offset that a reader may have seen never stands for another record, also when the first one was lost.
pub async fn offsets_are_never_reused(engine: &impl Engine) {
    let mut highest = None;
    for round in 0..4_u64 {
        let log = engine.open().await;
        let first = append_now(&log, Topic::Deliveries, P0, round * 100).await;
        assert!(highest.is_none_or(|highest| first > highest), "round {round}: {first} after {highest:?}");
        for number in 1..40 {
            let lazy =
                log.append(Topic::Deliveries, P0, vec![record(round * 100 + number)], Sync::Lazy).await;
            drop(lazy.expect("there is room"));
        }
        let seen = read_from(&log, Topic::Deliveries, P0, first).await;
        highest = seen.iter().map(|record| record.offset).max().max(highest);
        let end = log.bounds(Topic::Deliveries, P0).await.expect("the engine works").end;
        engine.crash(log).await;
        let log = engine.open().await;
        let after = log.bounds(Topic::Deliveries, P0).await.expect("the engine works").end;
        if engine.keeps_one_order() {
            assert!(after >= end, "positions never go back: {after} after {end}");
        }
        engine.crash(log).await;
    }
}

/// What a read calls durable survives a crash, and what was answered is called so.
pub async fn what_is_called_durable_survives(engine: &impl Engine) {
    for round in 0..4_u64 {
        let log = engine.open().await;
        let answered = append_now(&log, Topic::Deliveries, P0, round * 100).await;
        for number in 1..40 {
            let lazy =
                log.append(Topic::Deliveries, P0, vec![record(round * 100 + number)], Sync::Lazy).await;
            drop(lazy.expect("there is room"));
        }
        let mut batch = log.fetch(Topic::Deliveries, P0, answered, 1 << 20).await.expect("the engine works");
        assert!(
            batch.durable > answered,
            "{answered} was answered, and all below {} is durable",
            batch.durable
        );
        batch.records.retain(|record| record.offset < batch.durable);
        engine.crash(log).await;
        let log = engine.open().await;
        let found = read_from(&log, Topic::Deliveries, P0, answered).await;
        assert!(found.starts_with(&batch.records), "round {round}: {found:?} of {:?}", batch.records);
        engine.crash(log).await;
    }
}

/// `messages`, `control` and `dedup` show nothing that a crash could take back.
pub async fn what_readers_saw_survives(engine: &impl Engine) {
    for (round, topic) in (0_u64..).zip([Topic::Messages, Topic::Control, Topic::Dedup].repeat(3)) {
        let log = engine.open().await;
        let start = log.bounds(topic, P0).await.expect("the engine works").end;
        let mut pending = Vec::new();
        for number in 0..20 {
            let number = round * 100 + number;
            let sync = if number % 7 == 0 { Sync::Now } else { Sync::Lazy };
            pending.push(log.append(topic, P0, vec![record(number)], sync).await.expect("there is room"));
            let bounds = log.bounds(topic, P0).await.expect("the engine works");
            assert_eq!(bounds.end, bounds.high_watermark, "{topic:?} shows only what is durable");
        }
        in_time(log.wait(topic, P0, start)).await.expect("the engine works");
        let seen = read_from(&log, topic, P0, start).await;
        engine.crash(log).await;
        drop(pending);
        let log = engine.open().await;
        let found = read_from(&log, topic, P0, start).await;
        assert!(!seen.is_empty() && found.starts_with(&seen), "{topic:?}: a record was shown, then lost");
        engine.crash(log).await;
    }
}

/// A crash during or right after recovery changes nothing: what the first recovery showed, the second one shows.
pub async fn recovery_over_a_cut_tail_twice(engine: &impl Engine) {
    let mut shown: Vec<u64> = Vec::new();
    for round in 0..5_u64 {
        let log = engine.open().await;
        append_now(&log, Topic::Messages, P0, round * 100).await;
        write_lazily(&log, round).await;
        engine.crash(log).await;
        let first = engine.open().await;
        let after_first = numbers(&read_all(&first, Topic::Messages, P0).await);
        let deliveries = read_all(&first, Topic::Deliveries, P1).await;
        assert!(after_first.starts_with(&shown) && after_first.contains(&(round * 100)));
        engine.crash(first).await;
        let second = engine.open().await;
        assert_eq!(numbers(&read_all(&second, Topic::Messages, P0).await), after_first);
        assert_eq!(read_all(&second, Topic::Deliveries, P1).await, deliveries, "recovered, then lost");
        engine.crash(second).await;
        shown = after_first;
    }
}

async fn write_lazily(log: &Arc<dyn Log>, round: u64) {
    for number in 1..30 {
        let number = round * 100 + number;
        drop(log.append(Topic::Messages, P0, vec![record(number)], Sync::Lazy).await.expect("there is room"));
        drop(
            log.append(Topic::Deliveries, P1, vec![record(number)], Sync::Lazy).await.expect("there is room"),
        );
    }
    tokio::task::yield_now().await;
}

/// One failed sync: what is acknowledged afterwards is durable, and everything goes on.
pub async fn failed_sync_loses_nothing(engine: &impl Engine) {
    let log = engine.open().await;
    let mut acknowledged = vec![0];
    append_now(&log, Topic::Messages, P0, 0).await;
    let fails = engine.fail_next_sync();
    let mut attempts = Vec::new();
    for number in 1..20 {
        let lazy = log.append(Topic::Attempts, P0, vec![record(number)], Sync::Lazy).await;
        attempts.push(lazy.expect("there is room"));
        let pending = log.append(Topic::Messages, P0, vec![record(number)], Sync::Now).await;
        if in_time(pending.expect("there is room")).await.is_ok() {
            acknowledged.push(number);
        }
    }
    assert!(acknowledged.len() >= 19, "one failed sync fails one append at most (injected: {fails})");
    for pending in attempts {
        // That it is durable, or unknown, is told in time.
        drop(in_time(pending).await);
    }
    assert_eq!(numbers(&read_all(&log, Topic::Attempts, P0).await), (1..20).collect::<Vec<_>>());
    engine.crash(log).await;
    let log = engine.open().await;
    let found = numbers(&read_all(&log, Topic::Messages, P0).await);
    assert!(acknowledged.iter().all(|number| found.contains(number)), "{found:?} lacks acknowledged records");
    assert!(found.is_sorted_by(|a, b| a < b), "nothing twice: {found:?}");
    append_now(&log, Topic::Messages, P0, 99).await;
}
