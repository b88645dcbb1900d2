//! Many messages in their order.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_core::limits;
use fanfare_ingest::{AcceptError, Accepted, MessageIn, Publish};
use fanfare_log::{AppendError, Log as _, Sync, Topic};

use super::support::{Process, memory_log::Disk};

type Outcome = Result<Accepted, AcceptError>;

fn publish(process: &Process, key: Option<&str>, payload: &str) -> Publish {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Publish {
        application: Arc::clone(&process.application),
        message: MessageIn::from_parts("order.paid".into(), None, &payload).unwrap(),
        idempotency_key: key.map(str::to_owned),
        traceparent: None,
        memory: None,
    }
}

async fn accept(process: &Process, publishes: &[Publish]) -> Vec<Outcome> {
    let append = |partition, records| process.log.append(Topic::Messages, partition, records, Sync::Now);
    process.ingest.accept_in_order(publishes, &append).await
}

fn numbered(number: u32, filler: usize) -> String {
    format!(r#"{{"n":{number},"x":"{}"}}"#, "x".repeat(filler))
}

/// The payloads that are in the log, without their filler.
fn payloads(process: &Process) -> Vec<String> {
    let begin = |payload: &Bytes| String::from_utf8_lossy(&payload[..6]).into_owned();
    process.records().iter().map(|record| begin(record.payload.as_ref().unwrap())).collect()
}

fn unavailable(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Err(AcceptError::Unavailable(_)))).count()
}

#[tokio::test]
async fn repeats_and_conflicts_are_told_among_themselves() {
    let process = Process::start().await;
    let publishes = [
        publish(&process, Some("a"), r#"{"n":1}"#),
        publish(&process, None, r#"{"n":2}"#),
        publish(&process, Some("a"), r#"{"n":1}"#),
        publish(&process, Some("a"), r#"{"n":3}"#),
        publish(&process, None, r#"{"n":2}"#),
    ];
    let outcomes = accept(&process, &publishes).await;
    let first = outcomes[0].clone().unwrap();
    assert!(!first.repeated);
    let second = outcomes[2].clone().unwrap();
    assert!(second.repeated && second.id == first.id, "{second:?}");
    assert!(matches!(outcomes[3], Err(AcceptError::Conflict(_))), "{:?}", outcomes[3]);
    assert_eq!(payloads(&process), [r#"{"n":1"#, r#"{"n":2"#, r#"{"n":2"#]);
    let ids: Vec<_> = process.messages().iter().map(|message| message.id).collect();
    assert_eq!(ids, [0, 1, 4].map(|index: usize| outcomes[index].clone().unwrap().id));

    let again = accept(&process, &publishes[..1]).await;
    assert_eq!(again[0].clone().unwrap().id, first.id, "known later too");
}

#[tokio::test]
async fn nothing_overtakes_what_failed() {
    let process = Process::start().await;
    // Two of them are one append's worth.
    let filler = limits::COMMIT_GROUP_BYTES / 2 - 100;
    let publishes: Vec<Publish> = (0..5)
        .map(|number| publish(&process, Some(&format!("k{number}")), &numbered(number, filler)))
        .collect();
    process.log.set_disk(Disk::Stalled);
    let taken = tokio::spawn({
        let (process, publishes) = (Arc::clone(&process), publishes.clone());
        async move { accept(&process, &publishes).await }
    });
    process.appended(2).await;
    process.log.set_disk(Disk::Failing(AppendError::Unavailable("gone".into())));
    assert_eq!(unavailable(&taken.await.unwrap()), 5);
    assert_eq!(process.records().len(), 2, "nothing is begun behind an append that is not durable");

    process.log.set_disk(Disk::Well);
    let outcomes = accept(&process, &publishes).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Accepted { repeated: false, .. }))));
    let numbers: Vec<String> = (0..5).map(|number| format!(r#"{{"n":{number}"#)).collect();
    assert_eq!(payloads(&process)[2..], numbers, "claims of what failed are free again");
}

#[tokio::test]
async fn what_is_too_large_holds_up_nobody() {
    let process = Process::start().await;
    let publishes = [1, 2].map(|number| publish(&process, None, &numbered(number, 0)));
    process.log.set_disk(Disk::Failing(AppendError::TooLarge { size_bytes: 2, limit_bytes: 1 }));
    for outcome in accept(&process, &publishes).await {
        assert!(matches!(outcome, Err(AcceptError::TooLarge(_))), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keyed_ones_wait_for_the_router() {
    let process = Process::start().await;
    process.publish(r#"{"eventType":"a","payload":{}}"#, &[]).await.id();
    process.router.behind.store(true, std::sync::atomic::Ordering::Relaxed);
    let publishes = [publish(&process, Some("a"), "{}"), publish(&process, None, "{}")];
    for outcome in accept(&process, &publishes).await {
        assert!(matches!(outcome, Err(AcceptError::CatchingUp)), "{outcome:?}");
    }
    assert_eq!(process.records().len(), 1);
}
