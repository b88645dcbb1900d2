//! An operator lowers `max.message.bytes`: what is larger gets a plain answer, or another way, and nothing else is
//! disturbed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::admin::ConfigSource;
use tokio::task::JoinSet;

use super::*;
use crate::support::{Answer, Receipt, Recorder, Reply, random::Random};

const PARTITION_LIMIT: usize = 300_000;
/// What Kafka puts around a record is not for the record.
const RECORD_LIMIT: &str = "298976";
const LARGE: usize = 400_000;
const AS_MADE: usize = 12 << 20;

impl OnKafka {
    /// What `fanfare topics` says where bodies of this size are let in.
    async fn topics(&self, task: &str, body_bytes: usize) -> String {
        let body_bytes = body_bytes.to_string();
        let mut command = self.installation.command(&["topics", task, "--body-bytes", &body_bytes]);
        command.args(self.topic_options("3"));
        let finished = finish(&mut command).await;
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout
    }

    /// Sets the topic's limit and leaves its other settings as they are.
    async fn limit(&self, topic: &str, bytes: usize) {
        let (admin, name, value) = (self.admin(), self.name(topic), bytes.to_string());
        let resource = ResourceSpecifier::Topic(&name);
        let settings = async || {
            let described = admin.describe_configs([&resource], &AdminOptions::new()).await;
            described.expect("the broker answers").remove(0).expect("it tells them").entries
        };
        let own: Vec<(String, String)> = settings()
            .await
            .into_iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect();
        let alter = AlterConfig::new(ResourceSpecifier::Topic(&name));
        let alter = own.iter().fold(alter, |alter, (name, value)| alter.set(name, value));
        let alter = alter.set("max.message.bytes", &value);
        admin.alter_configs([&alter], &AdminOptions::new()).await.expect("the broker answers");
        wait::until("the setting is seen", wait::PATIENCE, async || {
            let is_set = |(name, now): (String, Option<String>)| {
                name == "max.message.bytes" && now.as_deref() == Some(&*value)
            };
            settings().await.into_iter().map(|entry| (entry.name, entry.value)).any(is_set).then_some(())
        })
        .await;
    }
}

/// A message whose payload no compression makes smaller.
fn noise(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut random = Random::seeded(RandomState::new().hash_one("noise"));
    let mut letter = || char::from(LETTERS[usize::try_from(random.below(64)).unwrap()]);
    let letters: String = (0..bytes).map(|_| letter()).collect();
    json!({ "eventType": "number.counted", "payload": { "noise": letters } }).to_string()
}

fn ids(receipts: &[Receipt]) -> BTreeSet<String> {
    receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned()).collect()
}

/// Waits until all that was accepted has arrived; gives all that has.
async fn arrived(recorder: &Recorder, accepted: &[String]) -> BTreeSet<String> {
    wait::until("all that was accepted arrives", wait::PATIENCE, async || {
        let ids = ids(&recorder.receipts());
        accepted.iter().all(|id| ids.contains(id)).then_some(ids)
    })
    .await
}

/// The same, and nothing else has.
async fn only(recorder: &Recorder, accepted: &[String]) {
    let arrived = arrived(recorder, accepted).await;
    assert_eq!(arrived, accepted.iter().cloned().collect::<BTreeSet<_>>());
}

fn too_large(answer: &Answer) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json(413);
    assert_eq!((&problem["status"], &problem["code"]), (&json!(413), &json!("payload_too_large")));
    assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(RECORD_LIMIT), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_a_limit_that_was_lowered_is_refused_and_nothing_else() {
    let on = OnKafka::new();
    let server = on.start().await;
    let client = on.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("large").await;
    client.endpoint(&application, &recorder.url("/large"), &json!({ "ordering": "unordered" })).await;
    let mut accepted = vec![client.publish(&application, &[], &noise(LARGE)).await.id(202)];

    // Others publish all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    for _ in 0..4 {
        let (client, application, stop) = (client.another(), application.clone(), Arc::clone(&stop));
        others.spawn(async move {
            let mut ids = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                ids.push(client.publish(&application, &[], &noise(200)).await.id(202));
            }
            ids
        });
    }
    on.limit("messages", PARTITION_LIMIT).await;
    // The broker does what it says a moment later.
    let first = wait::until("it is refused", wait::PATIENCE, async || {
        let answer = client.publish(&application, &[], &noise(LARGE)).await;
        if answer.status == 202 {
            accepted.push(answer.id(202));
        }
        (answer.status != 202).then_some(answer)
    });
    too_large(&first.await);
    let mut large = JoinSet::new();
    for _ in 0..4 {
        let (client, application) = (client.another(), application.clone());
        large.spawn(async move {
            client.publish(&application, &[("idempotency-key", "all")], &noise(LARGE)).await
        });
    }
    large.join_all().await.iter().for_each(too_large);
    // It took no claim with it.
    let small = client.publish(&application, &[("idempotency-key", "all")], &noise(250_000)).await;
    accepted.push(small.id(202));
    stop.store(true, Ordering::Relaxed);
    accepted.extend(others.join_all().await.into_iter().flatten());
    only(&recorder, &accepted).await;
    assert_eq!(server.said("max.message.bytes was changed"), 1);

    // Nobody has to start anything anew when it is raised again.
    on.limit("messages", AS_MADE).await;
    let raised = wait::until("it is taken", wait::PATIENCE, async || {
        let answer = client.publish(&application, &[], &noise(LARGE)).await;
        (answer.status == 202).then(|| answer.id(202))
    });
    accepted.push(raised.await);
    only(&recorder, &accepted).await;
    let metrics = client.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let broken = metrics.lines().find(|line| line.starts_with("fanfare_log_sessions_broken_total"));
    assert!(broken.is_none_or(|line| line.ends_with(" 0")), "{broken:?}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_limit_of_the_broker_is_the_limit_of_bodies_and_said_once() {
    let used = OnKafka::used().await;
    used.limit("messages", PARTITION_LIMIT).await;
    let server = used.start().await;
    let refused = format!("bodies above {} bytes are refused", PARTITION_LIMIT - (16 << 10));
    assert_eq!((server.said("max.message.bytes"), server.said(&refused)), (1, 1));
    let client = used.client().await;
    let application = client.application("small").await;
    assert_eq!(client.publish(&application, &[], &noise(290_000)).await.status, 413);
    // At once: what the broker measures is what is sent together.
    let mut publishers = JoinSet::new();
    for _ in 0..24 {
        let (client, application) = (client.another(), application.clone());
        publishers.spawn(async move { client.publish(&application, &[], &noise(130_000)).await.id(202) });
    }
    assert_eq!(publishers.join_all().await.len(), 24);
    server.terminate().await;
}

/// How much a topic has to take depends on the bodies that are let in.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_compared_with_what_the_largest_body_needs() {
    let used = OnKafka::used().await;
    used.limit("messages", PARTITION_LIMIT).await;
    let well = "the topics are what they must be\n";
    // A message's head, and what Kafka puts around it, may take the rest.
    let largest = PARTITION_LIMIT - (16 << 10);
    assert_eq!(used.topics("check", largest).await, well);
    for task in ["plan", "apply"] {
        let said = used.topics(task, largest).await;
        assert!(!said.contains("max.message.bytes"), "{said}");
    }
    let setting = format!("max.message.bytes of topic {}", used.name("messages"));
    for (task, expected) in [
        ("check", format!("warning  {setting} is {PARTITION_LIMIT}, less than {}: ", PARTITION_LIMIT + 1)),
        ("plan", format!("change  {setting} will be changed from {PARTITION_LIMIT} to {AS_MADE}\n")),
        ("apply", format!("change  {setting} was changed from {PARTITION_LIMIT} to {AS_MADE}\n")),
    ] {
        let said = used.topics(task, largest + 1).await;
        assert!(said.contains(&expected), "no `{expected}` in: {said}");
    }
    assert_eq!(used.topics("check", 10 << 20).await, well);

    // More than bodies need that nobody has let grow.
    used.limit("messages", 2 << 20).await;
    let server = used.start().await;
    assert_eq!(server.said("max.message.bytes"), 0);
    server.terminate().await;
}

/// Small payloads are copied beside their deliveries. Where they do not fit there they are read where they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_too_large_for_deliveries_is_delivered_all_the_same() {
    let on = OnKafka::new();
    let server = on.start().await;
    let client = on.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("inlined").await;
    client.endpoint(&application, &recorder.url("/inlined"), &json!({})).await;
    let mut accepted = Vec::new();
    on.limit("deliveries", 50_000).await;
    for bytes in [100, 200_000, 100, 150_000, 100] {
        accepted.push(client.publish(&application, &[], &noise(bytes)).await.id(202));
    }
    only(&recorder, &accepted).await;
    let came: Vec<String> =
        recorder.receipts().iter().map(|receipt| receipt.header("webhook-id").to_owned()).collect();
    let mut seen = BTreeSet::new();
    let firsts: Vec<String> = came.into_iter().filter(|id| seen.insert(id.clone())).collect();
    assert_eq!(firsts, accepted, "in order");
    assert_ne!(server.said("`deliveries` does not take payloads"), 0);
    server.terminate().await;
}

/// Nothing else would be right: a position without its claims is a repeat that nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_routers_checkpoint_that_is_too_large_is_a_plain_end_and_no_loss() {
    let on = OnKafka::new();
    let mut server = on.start().await;
    let client = on.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("keyed").await;
    client.endpoint(&application, &recorder.url("/keyed"), &json!({})).await;
    on.limit("dedup", 1_200).await;
    let mut publishers = JoinSet::new();
    for n in 0..60 {
        let (client, path) = (client.another(), format!("/api/v1/app/{application}/msg"));
        publishers.spawn(async move {
            let (key, body) = (format!("key-{n}"), message(n));
            // The server may end before it has answered all.
            let answer = client.try_send("POST", &path, &[("idempotency-key", &key)], &body).await.ok()?;
            (answer.status == 202).then(|| (key, answer.id(202)))
        });
    }
    let accepted: Vec<(String, String)> = publishers.join_all().await.into_iter().flatten().collect();
    assert_eq!(server.exited(wait::PATIENCE).await.code(), Some(1));
    assert_eq!(server.said("cannot append to `dedup`: record of "), 1, "one line that says why");
    drop(server);

    on.limit("dedup", AS_MADE).await;
    let server = on.start().await;
    let (keys, mut accepted): (Vec<String>, Vec<String>) = accepted.into_iter().unzip();
    let alias = client.publish(&application, &[("idempotency-key", &keys[0])], &message(0)).await;
    accepted.push(client.publish(&application, &[], &message(100)).await.id(202));
    let arrived = arrived(&recorder, &accepted).await;
    assert!(!arrived.contains(&alias.id(202)), "a repeat is known");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lanes_snapshot_that_is_too_large_is_told_and_deliveries_go_on() {
    let used = OnKafka::used().await;
    used.limit("lanes", 1_080).await;
    let mut server = used.start().await;
    server.expect_error("snapshots of lanes are not written");
    let client = used.client().await;
    let recorder =
        Recorder::behaving(|receipt| Reply::Status(if receipt.path == "/dead" { 500 } else { 204 })).await;
    let application = client.application("lanes").await;
    for path in ["/dead", "/alive"] {
        client.endpoint(&application, &recorder.url(path), &json!({})).await;
    }
    let mut accepted = Vec::new();
    let told = async || (server.said("snapshots of lanes are not written") > 0).then_some(());
    wait::until("it is told", wait::PATIENCE, async || {
        let body = message(accepted.len());
        accepted.push(client.publish(&application, &[], &body).await.id(202));
        told().await
    })
    .await;
    for n in 0..10 {
        accepted.push(client.publish(&application, &[], &message(n)).await.id(202));
    }
    let alive = || -> Vec<String> {
        let receipts = recorder.receipts().into_iter().filter(|receipt| receipt.path == "/alive");
        receipts.map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    };
    wait::until("all arrive", wait::PATIENCE, async || (alive().len() >= accepted.len()).then_some(())).await;
    assert_eq!(alive(), accepted, "each once, in order");
    assert_eq!(server.said("taking over again"), 0);
    server.terminate().await;
}
