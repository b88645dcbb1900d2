//! Compacted topics.

use bytes::Bytes;

use super::{Engine, P0, P1, append_now, in_time, numbers, read_all, record};
use crate::contract::{Sync, Table, Topic};

/// A value that is there speaks only of records that are there.
pub async fn put_is_not_ahead_of_appends(engine: &impl Engine) {
    for round in 0..8_u64 {
        let log = engine.open().await;
        append_now(&log, Topic::Messages, P0, round * 10).await;
        for topic in [Topic::Attempts, Topic::Deliveries] {
            drop(
                log.append(topic, P0, vec![record(round * 10 + 1)], Sync::Lazy).await.expect("there is room"),
            );
        }
        let value = Bytes::from((round + 1).to_string());
        let entries = vec![(Bytes::from_static(b"covers"), Some(value.clone()))];
        let acknowledged = if round % 2 == 0 {
            in_time(log.put(Table::Lanes, P0, entries)).await.expect("the engine works");
            true
        } else {
            let writer = log.clone();
            let put = tokio::spawn(async move { writer.put(Table::Lanes, P0, entries).await });
            tokio::time::sleep(std::time::Duration::from_millis(round * 3)).await;
            put.abort();
            false
        };
        engine.crash(log).await;
        let log = engine.open().await;
        let found = log.scan(Table::Lanes, P0).await.expect("the engine works");
        let is_there = found.iter().any(|(_, found)| *found == value);
        assert!(is_there || !acknowledged, "round {round}: an acknowledged put is lost");
        if is_there {
            for topic in [Topic::Attempts, Topic::Deliveries] {
                let records = numbers(&read_all(&log, topic, P0).await);
                assert!(records.contains(&(round * 10 + 1)), "round {round}: {topic:?} is behind the table");
            }
        }
        engine.crash(log).await;
    }
}

/// Newest values by rising key, per table and partition; a removed key is gone.
pub async fn tables_keep_the_newest_value(engine: &impl Engine) {
    let log = engine.open().await;
    let key = |number: u8| Bytes::from(vec![number, 255 - number]);
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let put = async |table, partition, entries| {
        in_time(log.put(table, partition, entries)).await.expect("the engine works");
    };
    put(Table::Lanes, P0, vec![(key(9), value("a")), (key(3), value("b")), (key(5), value("c"))]).await;
    put(Table::Lanes, P1, vec![(key(3), value("other partition"))]).await;
    put(Table::Load, P0, vec![(key(3), value("other table"))]).await;
    put(Table::Lanes, P0, vec![(key(3), value("newer")), (key(5), None), (key(7), None)]).await;
    let expected = vec![(key(3), Bytes::from_static(b"newer")), (key(9), Bytes::from_static(b"a"))];
    assert_eq!(log.scan(Table::Lanes, P0).await, Ok(expected.clone()));
    engine.crash(log).await;
    let log = engine.open().await;
    assert_eq!(log.scan(Table::Lanes, P0).await, Ok(expected));
    assert_eq!(log.scan(Table::Lanes, P1).await.map(|entries| entries.len()), Ok(1));
    assert_eq!(log.scan(Table::Load, P0).await.map(|entries| entries.len()), Ok(1));
}
