//! Payloads that are overwritten.

use super::{Engine, P0, append_now, in_time, read_all, record};
use crate::contract::Topic;

/// Where the engine cannot, everything stays; where it can, all of what was asked for is gone, also after a crash.
pub async fn wiped_payloads_are_gone_and_the_rest_stays(engine: &impl Engine) {
    let log = engine.open().await;
    let mut offsets = Vec::new();
    for number in 0..60 {
        offsets.push(append_now(&log, Topic::Messages, P0, number).await);
    }
    let wiped = vec![offsets[1], offsets[31], offsets[59]];
    let can = in_time(log.wipe(Topic::Messages, P0, wiped.clone())).await.expect("the engine works");
    append_now(&log, Topic::Messages, P0, 60).await;
    let check = async |log: &std::sync::Arc<dyn crate::contract::Log>| {
        let records = read_all(log, Topic::Messages, P0).await;
        assert_eq!(records.len(), 61, "records stay");
        for (number, found) in (0..).zip(records) {
            let expected = record(number);
            let gone = can && wiped.contains(&found.offset);
            assert_eq!(found.head, expected.head);
            assert_eq!(found.payload, (!gone).then_some(expected.payload), "{}", found.offset);
        }
    };
    check(&log).await;
    engine.crash(log).await;
    check(&engine.open().await).await;
}
