#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanfare_control::View;
use fanfare_core::{Id, MessageId, Timestamp};
use fanfare_log::Bounds;

use super::{
    report::{AttemptOut, DeadLetterOut, LaneOut, RetryOut},
    *,
};

fn message() -> MessageId {
    Id::from_bytes([7; 20])
}

fn report() -> Report {
    let mut report =
        Report::new(&Place::DataDir("/data".into()), &View::default(), Timestamp::from_secs(1_000));
    let bounds = Bounds { start: fanfare_core::Offset(3), ..Bounds::default() };
    report.add_topic(Topic::Messages, Partition(2), bounds);
    report.partitions.push(report::PartitionOut { partition: 0, checkpoint: None });
    report.lane_count = 12;
    report.lanes.push(LaneOut {
        endpoint: "ep_one".into(),
        url: "http://one.test/hook".into(),
        ordering: "strict",
        cursor: 17,
        next: 29,
        pending: 12,
        held_by: Some("ordering"),
        held_because: Some("it failed".into()),
        retries: vec![RetryOut {
            offset: 17,
            message: Some(message()),
            attempts: 2,
            due: Timestamp::from_secs(1_001).to_string(),
            due_in_ms: 1_250,
        }],
        retry_count: 1,
        attempts: vec![AttemptOut {
            message: None,
            offset: 17,
            attempt_number: 2,
            trigger: "scheduled",
            outcome: "failed",
            status: Some(500),
            error: Some("status"),
            at: Timestamp::from_secs(999).to_string(),
            duration_us: 12_340,
            due: None,
        }],
        ..LaneOut::default()
    });
    report.dead_letter_count = 2;
    report.dead_letters.push(DeadLetterOut {
        endpoint: None,
        endpoint_number: Some(4),
        message: Some(message()),
        reason: "rejected",
        partition: 0,
        offset: 9,
        at: Timestamp::from_secs(998).to_string(),
        first: None,
        order: Timestamp::from_secs(998),
    });
    report.dead_letters.push(DeadLetterOut {
        endpoint: None,
        endpoint_number: None,
        message: Some(message()),
        reason: "idempotency_conflict",
        partition: 0,
        offset: 10,
        at: Timestamp::from_secs(998).to_string(),
        first: Some(message()),
        order: Timestamp::from_secs(998),
    });
    report
}

#[test]
fn the_table_has_everything_a_person_asks_for() {
    let text = table::render(&report());
    let id = message().to_string();
    for needle in [
        "LANES (1 of 12)",
        "  ep_one    strict    0          17      29    12       0       1        ordering",
        "held: it failed",
        &format!("retry {id} at offset 17: 2 attempts, due in 1.2 s"),
        "1970-01-01 00:16:39Z offset 17 attempt 2: failed (500) in 12.3 ms",
        "DEAD LETTERS (2)",
        "number 4 (deleted)",
        &format!("{id}  rejected "),
        &format!("none: the key is of {id}  {id}  idempotency_conflict  0/10"),
    ] {
        assert!(text.contains(needle), "no {needle:?} in:\n{text}");
    }
    assert!(text.lines().all(|line| line.trim_end() == line), "blanks at the end of a line:\n{text}");
}

#[test]
fn only_a_topic_shows_only_that() {
    let mut report = report();
    report.partitions.clear();
    let text = table::render(&report);
    assert!(text.ends_with("  messages  2          3      0\n"), "{text}");
}

#[test]
fn the_json_is_one_object_with_the_names_of_the_api() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["deadLetters"][0]["reason"], "rejected");
    assert_eq!(json["deadLetters"][0]["message"], message().to_string());
    assert_eq!(json["deadLetters"][1]["first"], message().to_string());
    assert_eq!(json["lanes"][0]["heldBecause"], "it failed");
    assert_eq!(json["lanes"][0]["attempts"][0]["attemptNumber"], 2);
    assert!(json["deadLetters"][0].get("order").is_none());
}
