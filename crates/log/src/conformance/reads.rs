//! Reads: positions, bounds, truncation, waiting.

use std::{sync::Arc, time::Duration};

use fanfare_core::Offset;

use super::{Engine, P0, append_now, in_time, large, numbers, read_all, record};
use crate::contract::{Log, ReadError, Sync, Topic};

/// Reading goes over offsets that were never used, up to the end, which is a position.
pub async fn positions_pass_gaps(engine: &impl Engine) {
    let mut written = Vec::new();
    for round in 0..3 {
        let log = engine.open().await;
        for number in round * 50..round * 50 + 50 {
            append_now(&log, Topic::Deliveries, P0, number).await;
            written.push(number);
        }
        engine.crash(log).await;
    }
    let log = engine.open().await;
    let bounds = log.bounds(Topic::Deliveries, P0).await.expect("the engine works");
    assert_eq!(numbers(&read_all(&log, Topic::Deliveries, P0).await), written);
    let at_end = log.fetch(Topic::Deliveries, P0, bounds.end, 1_000).await.expect("the end is a position");
    assert!(at_end.records.is_empty() && at_end.next == bounds.end, "nothing at the end, and no way past it");
    for from in [bounds.start, Offset(bounds.end.0.saturating_sub(1))] {
        in_time(log.wait(Topic::Deliveries, P0, from)).await.expect("below the end nobody waits");
    }
}

/// Below the start a read says that something is gone; at the start it works.
pub async fn truncation_is_seen(engine: &impl Engine) {
    let log = engine.open().await;
    let mut first = None;
    for number in 0..30 {
        first = first.or(Some(append_now(&log, Topic::Messages, P0, number).await));
    }
    engine.truncate(&log, P0).await;
    let first = first.expect("appended above");
    let bounds = log.bounds(Topic::Messages, P0).await.expect("the engine works");
    assert!(bounds.start > first, "the beginning is gone");
    let error = log.fetch(Topic::Messages, P0, first, 1_000).await.expect_err("it is gone");
    assert_eq!(error, ReadError::Truncated { from: first, start: bounds.start });
    in_time(log.wait(Topic::Messages, P0, first)).await.expect("a reader that is too late does not wait");
    let rest = numbers(&read_all(&log, Topic::Messages, P0).await);
    assert!(rest.is_sorted() && rest.len() < 30 && rest.last().is_none_or(|last| *last == 29), "{rest:?}");
    append_now(&log, Topic::Messages, P0, 30).await;
    assert_eq!(numbers(&read_all(&log, Topic::Messages, P0).await).last(), Some(&30));
}

/// A read stops at its limit, but always gives one record.
pub async fn fetch_is_bounded_and_goes_on(engine: &impl Engine) {
    let log = engine.open().await;
    let sizes = [10, 300_000, 10, 10, 2_000_000, 70_000, 10, 20_000, 10];
    for size in sizes {
        let pending = log.append(Topic::Messages, P0, vec![large(size, 7)], Sync::Now).await;
        in_time(pending.expect("there is room")).await.expect("the engine works");
    }
    engine.crash(log).await;
    let log = engine.open().await;
    let end = log.bounds(Topic::Messages, P0).await.expect("the engine works").end;
    for max_bytes in [0, 50, 100_000, 10_000_000] {
        let mut found = Vec::new();
        let mut position = Offset::ZERO;
        while position < end {
            let batch = log.fetch(Topic::Messages, P0, position, max_bytes).await.expect("the engine works");
            let size: usize =
                batch.records.iter().map(|record| record.head.len() + payload_bytes(record)).sum();
            assert!(
                batch.records.len() <= 1 || size <= max_bytes,
                "{size} bytes where {max_bytes} were asked for"
            );
            assert!(batch.next > position, "each read goes on");
            found.extend(batch.records.iter().map(payload_bytes));
            position = batch.next;
        }
        assert_eq!(found, sizes, "with at most {max_bytes} bytes per read");
    }
}

fn payload_bytes(record: &crate::contract::LogRecord) -> usize {
    record.payload.as_ref().expect("nothing was wiped").len()
}

/// Who waits at the end is woken by the next record, and not before.
pub async fn wait_resolves_when_readable(engine: &impl Engine) {
    let log = engine.open().await;
    for topic in Topic::ALL {
        append_now(&log, topic, P0, 1).await;
        let end = log.bounds(topic, P0).await.expect("the engine works").end;
        let early = tokio::time::timeout(Duration::from_millis(30), log.wait(topic, P0, end)).await;
        assert!(early.is_err(), "{topic:?}: nothing is readable at the end");
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait(topic, P0, end).await }
        });
        tokio::task::yield_now().await;
        drop(log.append(topic, P0, vec![record(2)], Sync::Lazy).await.expect("there is room"));
        in_time(waiting).await.expect("no panic").expect("the engine works");
        let batch = log.fetch(topic, P0, end, 1_000).await.expect("the engine works");
        assert!(batch.records.len() == 1 || batch.next > end, "{topic:?}: woken for something");
    }
}

/// What one process was told is durable, another one that asks afterwards finds below the end.
pub async fn bounds_cover_other_processes(engine: &impl Engine) {
    let log = engine.open().await;
    let other = engine.join(&log).await;
    for number in 0..40 {
        let topic = [Topic::Control, Topic::Messages][usize::from(number % 2 == 1)];
        let (writer, reader) = if number % 3 == 0 { (&log, &other) } else { (&other, &log) };
        let offset = append_now(writer, topic, P0, number).await;
        let end = reader.bounds(topic, P0).await.expect("the engine works").end;
        assert!(end > offset, "{topic:?}: {offset} was durable, and the end is {end}");
    }
}

/// Records of the check below, and of how many bytes: more than any engine keeps in memory of one partition.
const PACED: u64 = 300;
const PACED_BYTES: usize = 32_000;

/// Readers that are fast, slow, or begin late see every record once, in order, while records come.
pub async fn readers_at_any_pace_see_the_same(engine: &impl Engine) {
    let log = engine.open().await;
    let mut readers = tokio::task::JoinSet::new();
    for (pace_ms, late_ms) in [(0, 0), (3, 0), (0, 40), (1, 20)] {
        readers.spawn(read_at_pace(
            log.clone(),
            Duration::from_millis(pace_ms),
            Duration::from_millis(late_ms),
        ));
    }
    for number in 0..PACED {
        let mut record = large(PACED_BYTES, 3);
        record.head = bytes::Bytes::copy_from_slice(&number.to_be_bytes());
        let sync = if number % 50 == 49 { Sync::Now } else { Sync::Lazy };
        let pending = log.append(Topic::Deliveries, P0, vec![record], sync).await.expect("there is room");
        if sync == Sync::Now {
            in_time(pending).await.expect("the engine works");
        }
    }
    while let Some(seen) = in_time(readers.join_next()).await {
        assert!(seen.expect("no panic").into_iter().eq(0..PACED), "a reader missed or repeated something");
    }
}

async fn read_at_pace(log: Arc<dyn Log>, pace: Duration, late: Duration) -> Vec<u64> {
    tokio::time::sleep(late).await;
    let mut position = log.bounds(Topic::Deliveries, P0).await.expect("the engine works").start;
    let mut seen = Vec::new();
    while seen.len() < usize::try_from(PACED).expect("few") {
        in_time(log.wait(Topic::Deliveries, P0, position)).await.expect("the engine works");
        let batch = log.fetch(Topic::Deliveries, P0, position, 100_000).await.expect("the engine works");
        for record in batch.records {
            let number = record.head.as_ref().try_into().expect("the check wrote eight bytes");
            seen.push(u64::from_be_bytes(number));
        }
        position = batch.next;
        tokio::time::sleep(pace).await;
    }
    seen
}
