//! Contents that are erased: found by nobody, sent to nobody, and where the files are ours, nowhere on the disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use fanfare_core::{Clock as _, SystemClock};
use fanfare_testkit::files;
use serde_json::{Value, json};

use crate::support::{Client, Engine, Installation, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    what_is_erased_is_found_nowhere_and_sent_to_nobody,
    what_waits_for_its_time_is_erased_too,
    some_and_all_are_erased_also_over_a_kill,
    purged_dead_letters_are_listed_no_more_and_counted,
}

/// Paths at the recorder.
const TAKES: &str = "/takes";
const WAITS: &str = "/waits";
/// These answer with what they were sent.
const ECHOES: &str = "/echoes";
const REFUSES: &str = "/refuses";
/// Within this the bytes are gone from our own files.
const A_MINUTE: Duration = Duration::from_mins(1);

struct World {
    installation: Installation,
    server: Server,
    client: Client,
    recorder: Recorder,
    /// What the one that waits is answered.
    waits: Arc<AtomicU16>,
    /// `/api/v1/app/…`.
    path: String,
    application: String,
    is_kafka: bool,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = installation.start().await;
        let client = installation.client().await;
        let waits = Arc::new(AtomicU16::new(503));
        let answer = Arc::clone(&waits);
        let recorder = Recorder::behaving(move |receipt| match receipt.path.as_str() {
            WAITS => Reply::Status(answer.load(Ordering::SeqCst)),
            ECHOES => Reply::Echo(200),
            REFUSES => Reply::Echo(400),
            _ => Reply::Status(204),
        })
        .await;
        let application = client.application("erased").await;
        let path = format!("/api/v1/app/{application}");
        let is_kafka = engine.is_kafka();
        Self { installation, server, client, recorder, waits, path, application, is_kafka }
    }

    async fn endpoint(&self, path: &str, options: &Value) -> String {
        self.client.endpoint(&self.application, &self.recorder.url(path), options).await
    }

    async fn publish(&self, secret: &str, more: &Value) -> Value {
        let mut body = json!({ "eventType": "order.paid", "payload": { "secret": secret } });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.client.publish(&self.application, &[], &body.to_string()).await.json(202)
    }

    async fn payload(&self, id: &str) -> Value {
        self.client.get(&format!("{}/msg/{id}?with_content=true", self.path)).await.json(200)["payload"]
            .clone()
    }

    /// Of as many attempts: those that were answered with what was sent.
    async fn answers_are_not_kept(&self, id: &str, count: usize) {
        let path = format!("{}/attempt/msg/{id}", self.path);
        let answers = wait::until("the attempts are there", wait::PATIENCE, async || {
            let attempts = self.client.get(&path).await.json(200);
            let attempts = attempts["data"].as_array().unwrap().iter();
            let answers = attempts.map(|attempt| attempt["response"].as_str().unwrap().to_owned());
            let answers: Vec<String> = answers.filter(|answer| !answer.is_empty()).collect();
            (answers.len() == count).then_some(answers)
        })
        .await;
        assert!(answers.iter().all(|answer| answer.starts_with("(not kept:")), "{answers:?}");
    }

    fn arrived_at(&self, path: &str) -> Vec<String> {
        let receipts = self.recorder.receipts().into_iter();
        let there = receipts.filter(|receipt| receipt.path == path);
        there.map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    }

    async fn attempted(&self, path: &str, id: &str) {
        wait::until("it is attempted", wait::PATIENCE, async || {
            self.arrived_at(path).iter().any(|arrived| arrived == id).then_some(())
        })
        .await;
    }

    async fn dead_letters(&self, reason: &str, count: usize) -> Vec<Value> {
        let path = format!("{}/dead-letter?reason={reason}&limit=250", self.path);
        wait::until("dead letters are listed", wait::PATIENCE, async || {
            let listed = self.client.get(&path).await.json(200);
            let listed = listed["data"].as_array().unwrap().clone();
            (listed.len() == count).then_some(listed)
        })
        .await
    }

    /// Nothing to look for on Kafka: there bytes leave with retention.
    async fn is_nowhere_on_the_disk(&self, text: &str) {
        if self.is_kafka {
            return;
        }
        let data = self.installation.data();
        wait::until("the bytes are gone", A_MINUTE, async || {
            (!files::hold(&data, text.as_bytes())).then_some(())
        })
        .await;
    }

    async fn restart(self) -> Self {
        self.server.kill();
        let mut server = self.installation.spawn(&["--dev"]);
        server.ready().await;
        Self { server, ..self }
    }
}

async fn what_is_erased_is_found_nowhere_and_sent_to_nobody(engine: Engine) {
    let world = World::new(&engine).await;
    world.endpoint(TAKES, &json!({})).await;
    let waiting = world.endpoint(WAITS, &json!({ "retrySchedule": [3600] })).await;
    world.endpoint(ECHOES, &json!({})).await;
    world.endpoint(REFUSES, &json!({ "retrySchedule": [] })).await;
    let (secret, kept) = ("for-nobody-else-4711", "for-everybody-4712");
    let first = world.publish(secret, &json!({ "payloadRetentionPeriod": 30, "eventId": "first" })).await;
    assert_eq!(first["payloadRetentionPeriod"], 7, "no longer than the log keeps it");
    let id = first["id"].as_str().unwrap().to_owned();
    let other = world.publish(kept, &json!({})).await["id"].as_str().unwrap().to_owned();
    for id in [&id, &other] {
        world.attempted(TAKES, id).await;
    }
    for path in [WAITS, ECHOES, REFUSES] {
        world.attempted(path, &id).await;
    }
    world.answers_are_not_kept(&id, 2).await;
    assert_eq!(world.payload(&id).await, json!({ "secret": secret }));
    if !world.is_kafka {
        assert!(
            files::hold(&world.installation.data(), secret.as_bytes()),
            "or there is nothing to look for"
        );
    }

    let content = format!("{}/msg/first/content", world.path);
    assert_eq!(world.client.delete(&content).await.status, 204);
    let tried = world.arrived_at(WAITS).iter().filter(|arrived| **arrived == id).count();
    assert_eq!(world.payload(&id).await, json!({ "expired": true }));
    assert_eq!(world.payload(&other).await, json!({ "secret": kept }));
    let found = world.client.get(&format!("{}/msg/{id}", world.path)).await.json(200);
    assert_eq!(found["payloadRetentionPeriod"], first["payloadRetentionPeriod"]);
    assert_eq!(found["payloadExpiresAt"], first["payloadExpiresAt"]);
    let by_content = format!("{}/msg?with_content=true&pointer=/secret&value={secret}", world.path);
    assert_eq!(world.client.get(&by_content).await.json(200)["data"], json!([]), "nor found by what it was");
    let resend = format!("{}/msg/{id}/endpoint/{waiting}/resend", world.path);
    assert_eq!(world.client.post(&resend, &json!({})).await.json(400)["code"], "missing_payload");
    // Once more is as good as once; what there is not cannot be erased.
    assert_eq!(world.client.delete(&content).await.status, 204);
    let unknown = format!("{}/msg/msg_29HHYvqxq1Dw9rT7hHS0tl5tE22/content", world.path);
    assert_eq!(world.client.delete(&unknown).await.json(404)["code"], "not_found");

    world.waits.store(204, Ordering::SeqCst);
    let expired = world.dead_letters("expired", 1).await;
    assert_eq!(expired[0]["message"]["id"], id);
    // In order: the next one comes when this one is out of the way, and this one never.
    world.attempted(WAITS, &other).await;
    let now = world.arrived_at(WAITS).iter().filter(|arrived| **arrived == id).count();
    assert_eq!(now, tried, "sent after the answer");
    world.is_nowhere_on_the_disk(secret).await;

    let world = world.restart().await;
    assert_eq!(world.payload(&id).await, json!({ "expired": true }));
    assert_eq!(world.payload(&other).await, json!({ "secret": kept }));
    world.is_nowhere_on_the_disk(secret).await;
    world.server.terminate().await;
}

/// One is erased while it waits, another after it came: then it stands in the log twice.
async fn what_waits_for_its_time_is_erased_too(engine: Engine) {
    let world = World::new(&engine).await;
    world.endpoint(TAKES, &json!({})).await;
    let (before, after) = ("erased-before-its-time", "erased-after-its-time");
    let due = SystemClock.now() + Duration::from_secs(2);
    let later = json!({ "deliverAt": due.to_string() });
    let [first, second] = [world.publish(before, &later).await, world.publish(after, &later).await];
    let [first, second] = [&first, &second].map(|message| message["id"].as_str().unwrap().to_owned());
    let erase = async |id: &str| {
        let content = format!("{}/msg/{id}/content", world.path);
        assert_eq!(world.client.delete(&content).await.status, 204);
        assert_eq!(world.payload(id).await, json!({ "expired": true }));
    };
    erase(&first).await;
    world.attempted(TAKES, &second).await;
    erase(&second).await;
    let expired = world.dead_letters("expired", 1).await;
    assert_eq!(expired[0]["message"]["id"], first);
    assert_eq!(world.arrived_at(TAKES), [second]);
    world.is_nowhere_on_the_disk(before).await;
    world.is_nowhere_on_the_disk(after).await;
    world.server.terminate().await;
}

async fn some_and_all_are_erased_also_over_a_kill(engine: Engine) {
    let world = World::new(&engine).await;
    world.endpoint(WAITS, &json!({ "retrySchedule": [3600] })).await;
    let mut ids = Vec::new();
    for number in 0..120 {
        let secret = format!("one-of-many-{number}-of-them");
        ids.push(world.publish(&secret, &json!({})).await["id"].as_str().unwrap().to_owned());
    }
    let some = json!({ "ids": [&ids[0], &ids[1], "nothing"] });
    let answer = world.client.post(&format!("{}/msg/bulk-expunge", world.path), &some).await.json(200);
    let results = json!({ &ids[0]: "expunged", &ids[1]: "expunged", "nothing": "not-found" });
    assert_eq!(answer, json!({ "results": results }));
    assert_eq!(world.payload(&ids[1]).await, json!({ "expired": true }));
    assert_ne!(world.payload(&ids[2]).await, json!({ "expired": true }));
    for wrong in [json!({}), json!({ "ids": [] })] {
        let refused = world.client.post(&format!("{}/msg/bulk-expunge", world.path), &wrong).await.json(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["body", "ids"]));
    }

    let all = format!("{}/msg/expunge-all-contents", world.path);
    let task = world.client.post(&all, &json!({})).await.json(202);
    assert_eq!(task["task"], "application.purge_content");
    let world = world.restart().await;
    for id in &ids {
        assert_eq!(world.payload(id).await, json!({ "expired": true }));
    }
    let later = world.publish("after-all-that", &json!({})).await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/background-task/{}", task["id"].as_str().unwrap());
    let ended = wait::until("the job ends", A_MINUTE, async || {
        let task = world.client.get(&path).await.json(200);
        (task["status"] == "finished").then_some(task)
    })
    .await;
    if !world.is_kafka {
        assert_eq!((&ended["data"]["erased"], &ended["data"]["total"]), (&json!(120), &json!(120)));
    }
    world.is_nowhere_on_the_disk("one-of-many-").await;
    assert_eq!(world.payload(&later).await, json!({ "secret": "after-all-that" }));
    world.waits.store(204, Ordering::SeqCst);
    world.attempted(WAITS, &later).await;
    world.dead_letters("expired", 120).await;
    let sent = world.recorder.receipts();
    let answered = sent.iter().filter(|receipt| receipt.is_success());
    assert!(answered.map(|receipt| receipt.header("webhook-id")).eq([later.as_str()]), "and nothing else");
    world.server.terminate().await;
}

async fn purged_dead_letters_are_listed_no_more_and_counted(engine: Engine) {
    let world = World::new(&engine).await;
    world.waits.store(400, Ordering::SeqCst);
    let refuses = json!({ "retrySchedule": [], "ordering": "unordered" });
    let endpoint = world.endpoint(WAITS, &refuses).await;
    for number in 0..6 {
        let kind = if number < 2 { "order.sent" } else { "order.paid" };
        world.publish(&format!("dead-{number}"), &json!({ "eventType": kind })).await;
    }
    let letters = world.dead_letters("exhausted", 6).await;
    let purge = format!("{}/dead-letter/purge", world.path);
    let asked = async |body: Value| world.client.post(&purge, &body).await;
    assert_eq!(
        asked(json!({ "ids": [letters[0]["id"]] })).await.json(200),
        json!({ "purged": 1, "done": true })
    );
    assert_eq!(asked(json!({ "ids": [letters[0]["id"]] })).await.json(200)["purged"], 0, "it is no more");
    world.dead_letters("exhausted", 5).await;
    let sent = asked(json!({ "endpointId": endpoint, "eventTypes": ["order.sent"] })).await.json(200);
    let left = 5 - usize::try_from(sent["purged"].as_u64().unwrap()).unwrap();
    assert!((3..=4).contains(&left), "{sent}");
    world.dead_letters("exhausted", left).await;
    for (wrong, field) in [
        (json!({ "reasons": ["idempotency_conflict"] }), "reasons"),
        (json!({ "ids": ["no-id"] }), "ids"),
        (json!({ "before": "yesterday" }), "before"),
        (json!({ "statusCodeClass": 404 }), "statusCodeClass"),
    ] {
        assert_eq!(asked(wrong).await.json(422)["detail"][0]["loc"][1], field);
    }
    // What is not understood is not passed over: all would be purged.
    for (wrong, field) in [
        (json!({ "endpoint": endpoint }), "endpoint"),
        (json!({ "endpointId": null }), "endpointId"),
        (json!({ "ids": null }), "ids"),
        (json!({ "reasons": [] }), "reasons"),
        (json!({ "tag": "no name" }), "tag"),
        (json!({ "eventTypes": ["\0"] }), "eventTypes"),
    ] {
        let refused = asked(wrong).await.json(422);
        assert!(refused["detail"].to_string().contains(field), "{refused}");
    }
    let of_class = asked(json!({ "statusCodeClass": 500 })).await.json(200);
    assert_eq!(of_class, json!({ "purged": 0, "done": true }), "all were answered 400");
    assert_eq!(
        asked(json!({ "statusCodeClass": 400 })).await.json(200),
        json!({ "purged": left, "done": true })
    );
    world.dead_letters("exhausted", 0).await;

    let reconciliation = format!("{}/endpoint/{endpoint}/reconciliation", world.path);
    let counts = async |client: &Client| client.get(&reconciliation).await.json(200)["counts"].clone();
    let before = counts(&world.client).await;
    assert_eq!(
        (&before["accepted"], &before["purged"], &before["deadLettered"]),
        (&json!(6), &json!(6), &json!(0))
    );
    // What is purged is not recovered either.
    let replay = format!("{}/endpoint/{endpoint}/dead-letter/replay", world.path);
    let task = world.client.post(&replay, &json!({})).await.json(202);
    let path = format!("/api/v1/background-task/{}", task["id"].as_str().unwrap());
    let ended = wait::until("the job ends", wait::PATIENCE, async || {
        let task = world.client.get(&path).await.json(200);
        (task["status"] == "finished").then_some(task)
    })
    .await;
    assert_eq!(ended["data"]["sent"], 0);

    world.server.kill();
    let rebuilt = world.installation.run(&["history", "rebuild"]).await;
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let mut server = world.installation.spawn(&["--dev"]);
    server.ready().await;
    assert_eq!(counts(&world.client).await, before, "it stands in the log");
    server.terminate().await;
}
