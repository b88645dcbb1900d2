//! Idempotency keys: one message each, over a kill too; and a window full of them, what it costs in memory, and that it
//! is known right after a kill.
//!
//! `FANFARE_KEYS=20000000 cargo test --release --test e2e -- keys::` is the long run.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fanfare_core::{
    ApplicationId, ClaimEntry, Clock as _, Fingerprint, MessageId, Offset, Partition, SystemClock, Timestamp,
    limits,
};
use fanfare_log::{
    Log as _, Topic,
    embedded::{EmbeddedLog, Options},
};
use fanfare_router::dedup::{DedupTable, Tuning};
use serde_json::json;

use crate::support::{Client, Engine, Installation, Recorder, on_every_engine, wait};

/// Keys of the short form.
const SHORT: usize = 40;
/// Growth of resident memory by the claims, sealed or not.
const GROWTH_BYTES: u64 = 200_000_000;
const CONNECTIONS: usize = 32;

on_every_engine!(a_key_stands_for_one_message);

/// Where one process does everything, the answers say so. On Kafka, after a kill, the router alone knows: a repeat gets an
/// id of its own that is never delivered, and a conflict is a dead letter.
async fn a_key_stands_for_one_message(engine: Engine) {
    let installation = Installation::on(&engine);
    let client = installation.client().await;
    let server = installation.start().await;
    let recorder = Recorder::start().await;
    let application = client.application("keys").await;
    client.endpoint(&application, &recorder.url("/keys"), &json!({})).await;
    let firsts = publish_all(&client, &application, SHORT).await;
    server.kill();
    let mut server = installation.spawn(&["--dev"]);
    server.ready().await;

    let mut conflicting = BTreeSet::new();
    for (n, first) in firsts.iter().enumerate() {
        let key = format!("new-{n}");
        if n % 2 == 0 {
            let (status, id) = publish(&client, &application, &key, n).await;
            assert_eq!(status, 202, "{key}: {id}");
            assert!(id == *first || engine.is_kafka(), "{key}: {id} and {first}");
            assert_eq!(
                publish(&client, &application, &key, n).await,
                (202, id),
                "{key}: it was just answered"
            );
            assert_eq!(publish(&client, &application, &key, n + 1).await.0, 409, "{key}");
        } else {
            let (status, body) = publish(&client, &application, &key, n + 1).await;
            match &engine {
                Engine::Embedded => assert!(status == 409 && body.contains(first), "{key}: {status} {body}"),
                Engine::Kafka(_) => {
                    assert_eq!(status, 202, "{key}: {body}");
                    conflicting.insert(first.clone());
                }
            }
        }
    }
    let (_, last) = publish(&client, &application, "last", 0).await;
    let delivered = || -> BTreeSet<String> {
        let receipts = recorder.receipts();
        receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    };
    let patience = wait::PATIENCE * 2;
    wait::until("the last arrives", patience, async || delivered().contains(&last).then_some(())).await;
    assert_eq!(delivered(), firsts.into_iter().chain([last]).collect::<BTreeSet<_>>());
    server.terminate().await;

    let report = installation.inspect().await;
    let letters = report["deadLetters"].as_array().unwrap();
    assert!(letters.iter().all(|letter| letter["reason"] == "idempotency_conflict"), "{report}");
    let stands_for = |letter: &serde_json::Value| letter["first"].as_str().unwrap_or_default().to_owned();
    assert_eq!(letters.iter().map(stands_for).collect::<BTreeSet<_>>(), conflicting);
}

/// How many keys are put in through the router's own code, and how many over HTTP.
fn sizes() -> (u64, usize) {
    let keys =
        std::env::var("FANFARE_KEYS").map_or(200_000, |keys| keys.parse().expect("FANFARE_KEYS is a number"));
    let over_http = if keys >= 10_000_000 { 100_000 } else { 2_000 };
    (keys - over_http as u64, over_http)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_is_small_and_known_right_after_a_kill() {
    let (old, over_http) = sizes();
    let installation = Installation::new();
    let client = installation.client().await;
    let server = installation.start().await;
    let application = client.application("keys").await;
    assert_eq!(publish(&client, &application, "first", 1).await.0, 202);
    let before = server.resident_bytes();
    server.terminate().await;

    put_in(&installation.data(), &application, old).await;

    let server = installation.start().await;
    let ids = publish_all(&client, &application, over_http).await;
    let growth = server.resident_bytes().saturating_sub(before);
    println!("{} keys: resident memory grew by {} MB", old + over_http as u64, growth / 1_000_000);
    assert!(growth <= GROWTH_BYTES, "resident memory grew by {growth} bytes");

    server.kill();
    // Not ready yet, perhaps: what is answered must be right all the same.
    let mut server = installation.spawn(&["--dev"]);
    server.listening().await;
    for n in (0..over_http).step_by(over_http / 100) {
        let key = format!("new-{n}");
        assert_eq!(publish(&client, &application, &key, n).await, (202, ids[n].clone()), "{key}");
        let (status, body) = publish(&client, &application, &key, n + 1).await;
        assert_eq!(status, 409, "{key}: {body}");
        assert!(body.contains(&ids[n]), "{key}: {body} does not name {}", ids[n]);
    }
    for n in (0..old).step_by(usize::try_from(old / 100).unwrap()) {
        let (status, body) = publish(&client, &application, &format!("old-{n}"), 0).await;
        assert_eq!(status, 409, "old {n}: {body}");
        assert!(body.contains(&old_id(n).to_string()), "old {n}: {body}");
    }
    server.terminate().await;
}

/// Status, and the id or the text of the problem.
async fn publish(client: &Client, application: &str, key: &str, n: usize) -> (u16, String) {
    let body = format!(r#"{{"eventType":"key.used","payload":{{"n":{n}}}}}"#);
    let answer = client.publish(application, &[("idempotency-key", key)], &body).await;
    match answer.status {
        202 => (202, answer.id(202)),
        status => (status, String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

async fn publish_all(client: &Client, application: &str, count: usize) -> Vec<String> {
    let mut publishers = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS {
        let (client, application) = (client.another(), application.to_owned());
        publishers.spawn(async move {
            let mut ids = Vec::new();
            for n in (first..count).step_by(CONNECTIONS) {
                let (status, id) = publish(&client, &application, &format!("new-{n}"), n).await;
                assert_eq!(status, 202, "{id}");
                ids.push((n, id));
            }
            ids
        });
    }
    let mut ids: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    ids.sort_unstable();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Puts `count` claims into the window of a data directory whose server is stopped, as if they had been routed.
async fn put_in(data: &Path, application: &str, count: u64) {
    let log = open(data);
    let view = fanfare_control::replay(&*log).await.expect("control can be read");
    let installation = view.installation().expect("the server made it").id;
    let id: ApplicationId = application.parse().expect("the server made it");
    let partition = view.application_by_id(id).expect("it was created").partition;
    let table = DedupTable::open(&dedup(data, partition), installation, partition, Tuning::default());
    let table = Arc::new(table.expect("the router left it whole"));
    let expires_at = SystemClock.now() + limits::DEDUP_WINDOW;
    let claims = (0..count).map(|n| old_claim(id, n, expires_at));
    let put = fanfare_router::load_claims(&*log, partition, &table, claims).await.expect("there is room");
    assert_eq!(put, count);
    drop(table);
    log.close().await;
}

/// With as many partitions as the directory has.
fn open(data: &Path) -> Arc<EmbeddedLog> {
    let reader = EmbeddedLog::open(Options { read_only: true, ..Options::new(data, 1, 1) });
    let reader = reader.expect("the server left it whole");
    let (messages, deliveries) = (reader.partitions(Topic::Messages), reader.partitions(Topic::Deliveries));
    EmbeddedLog::open(Options::new(data, messages, deliveries)).expect("nobody else has it")
}

fn dedup(data: &Path, partition: Partition) -> std::path::PathBuf {
    data.join("dedup").join(partition.to_string())
}

fn old_id(n: u64) -> MessageId {
    let mut bytes = [7; 20];
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(bytes)
}

fn old_claim(application: ApplicationId, n: u64, expires_at: Timestamp) -> ClaimEntry {
    let key = format!("old-{n}");
    ClaimEntry {
        claim: Fingerprint::of(&[b"key", application.as_bytes(), key.as_bytes()]),
        body: Fingerprint([9; 16]),
        id: old_id(n),
        offset: Offset::ZERO,
        expires_at,
    }
}
