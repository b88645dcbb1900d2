//! Appends: order, gaps, turns.

use super::{Engine, P0, P1, PARTITIONS, append_now, in_time, large, numbers, read_all, record};
use crate::contract::{Sync, Topic};
use fanfare_core::{Offset, Partition};

/// Records stand in the order of the calls, next to those of the same call, and none is missing.
pub async fn appends_are_gapless_and_in_order(engine: &impl Engine) {
    let log = engine.open().await;
    let mut pending = Vec::new();
    let mut number = 0;
    for round in 0..60 {
        for topic in Topic::ALL {
            let partition = Partition(round % log.partitions(topic).min(PARTITIONS));
            let records: Vec<_> = (number..number + 1 + u64::from(round % 4)).map(record).collect();
            number += records.len() as u64;
            let sync = if round % 3 == 0 { Sync::Now } else { Sync::Lazy };
            pending.push((
                topic,
                partition,
                records.len(),
                log.append(topic, partition, records, sync).await,
            ));
        }
    }
    let mut ends: Vec<(Topic, Partition, Offset)> = Vec::new();
    for (topic, partition, count, appended) in pending {
        let range = in_time(appended.expect("there is room")).await.expect("the engine works");
        assert!(range.end.0 - range.start.0 >= count as u64, "one offset per record at least");
        let behind = ends
            .iter()
            .filter(|(t, p, _)| (*t, *p) == (topic, partition))
            .all(|(.., end)| *end <= range.start);
        assert!(behind, "a later call stands behind an earlier one");
        ends.push((topic, partition, range.end));
    }
    let mut seen = 0;
    for topic in Topic::ALL {
        for partition in (0..log.partitions(topic)).map(Partition) {
            let found = numbers(&read_all(&log, topic, partition).await);
            assert!(found.is_sorted(), "{topic:?}/{partition} is in the order of the calls: {found:?}");
            seen += found.len() as u64;
        }
    }
    assert_eq!(seen, number, "nothing is missing, nothing twice");
}

/// A queue of large appends does not keep small ones waiting until it is empty.
pub async fn large_appends_let_small_ones_pass(engine: &impl Engine) {
    let log = engine.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for fill in 0..6 {
        let log = log.clone();
        tasks.spawn(async move {
            let appended = log.append(Topic::Messages, P0, vec![large(9 << 20, fill)], Sync::Now).await;
            appended.expect("there is room").await.expect("the engine works");
            true
        });
    }
    let small = log.clone();
    tasks.spawn(async move {
        append_now(&small, Topic::Messages, P1, 1).await;
        false
    });
    let mut large_before = 0;
    while let Some(was_large) = in_time(tasks.join_next()).await {
        if was_large.expect("no panic") {
            large_before += 1;
        } else {
            break;
        }
    }
    assert!(large_before < 6, "the small append was the last of all");
}

/// What resolves says that what stands before it is durable: in the same partition, or, on an engine that keeps one
/// order, anywhere.
pub async fn pending_covers_what_stands_before(engine: &impl Engine) {
    let mut log = engine.open().await;
    let topics = [Topic::Deliveries, Topic::Control, Topic::Messages, Topic::Attempts];
    for (number, last) in (0..).zip([Topic::Messages, Topic::Control, Topic::Attempts]) {
        for topic in topics {
            let lazy =
                log.append(topic, P0, vec![record(2 * number)], Sync::Lazy).await.expect("there is room");
            drop(lazy);
        }
        append_now(&log, last, P0, 2 * number + 1).await;
        engine.crash(log).await;
        log = engine.open().await;
        for topic in topics.into_iter().filter(|topic| engine.keeps_one_order() || *topic == last) {
            let found = numbers(&read_all(&log, topic, P0).await);
            assert!(
                found.contains(&(2 * number)),
                "{topic:?} lost what stood before a durable record of {last:?}"
            );
        }
    }
}

/// A router's checkpoint that is there speaks only of records that are there.
pub async fn checkpoints_cover_what_they_speak_of(engine: &impl Engine) {
    let mut log = engine.open().await;
    let partitions = || (0..PARTITIONS).map(Partition);
    for round in 0..6_u64 {
        for topic in [Topic::Deliveries, Topic::Attempts] {
            for partition in partitions() {
                let lazy = log.append(topic, partition, vec![record(round)], Sync::Lazy).await;
                drop(lazy.expect("there is room"));
            }
        }
        let checkpoint = log.append(Topic::Dedup, P1, vec![record(round)], Sync::Lazy).await;
        let checkpoint = checkpoint.expect("there is room");
        let is_acknowledged = round % 2 == 0;
        if is_acknowledged {
            in_time(checkpoint).await.expect("the engine works");
        } else {
            drop(checkpoint);
            tokio::time::sleep(std::time::Duration::from_millis(3 * round)).await;
        }
        engine.crash(log).await;
        log = engine.open().await;
        let is_there = numbers(&read_all(&log, Topic::Dedup, P1).await).contains(&round);
        assert!(is_there || !is_acknowledged, "round {round}: an acknowledged checkpoint is lost");
        for topic in [Topic::Deliveries, Topic::Attempts] {
            for partition in partitions() {
                let found = numbers(&read_all(&log, topic, partition).await);
                assert!(
                    !is_there || found.contains(&round),
                    "round {round}: {topic:?} is behind its checkpoint"
                );
            }
        }
    }
}
