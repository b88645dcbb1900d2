//! What is sent again in bulk: which messages, in order, beside live traffic, over a kill, and as long as somebody wants it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fanfare_core::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::support::{Client, Engine, Installation, Receipt, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    recover_sends_what_failed_or_was_cancelled,
    replay_missing_sends_what_was_never_sent,
    bulk_replay_and_dead_letters_go_by_their_filters,
    a_job_goes_on_over_a_kill_beside_live_traffic,
    a_job_is_paused_resumed_and_cancelled,
    what_makes_no_job_is_refused,
}

const PATH: &str = "/hook";

async fn recover_sends_what_failed_or_was_cancelled(engine: Engine) {
    let mut world = World::new(&engine, &json!({ "retrySchedule": [] })).await;
    // A third of them is refused, and so is a dead letter at once.
    world.refuse(|number| number % 3 == 0);
    let first = world.publish(0..30, "n").await;
    world.arrived(30).await;
    let task = world.job("recover", &json!({ "since": world.since })).await;
    assert_eq!((&task["status"], &task["task"]), (&json!("running"), &json!("endpoint.recover")));
    world.refuse(|_| false);
    let ended = world.ended(&task).await;
    // While it is refused again, it is a dead letter again.
    assert_eq!(ended["data"]["sent"], 10, "{ended}");

    // What waits when the endpoint is disabled is cancelled.
    world.patch(&json!({ "retrySchedule": [60] })).await;
    world.refuse(|number| number >= 30);
    let later = world.publish(30..35, "n").await;
    world.arrived_of(&later[0], 1).await;
    // What is not routed when the endpoint is disabled is never sent to it: nothing of that could be recovered.
    wait::until("they are routed", wait::PATIENCE, async || {
        (world.client.metric("fanfare_router_messages_total", "").await >= 35).then_some(())
    })
    .await;
    world.patch(&json!({ "disabled": true })).await;
    // In the log, where a job looks.
    let stats = format!("/api/v1/app/{}/endpoint/{}/stats", world.application, world.endpoint);
    wait::until("they are cancelled", wait::PATIENCE, async || {
        let stats = world.client.get(&stats).await.json(200);
        (stats["canceled"] == 5).then_some(())
    })
    .await;
    world.refuse(|_| false);
    world.patch(&json!({ "disabled": false })).await;
    let before = world.ids().len();
    let ended = world.run("recover", &json!({ "since": world.since })).await;
    assert_eq!(ended["data"]["delivered"], ended["data"]["total"], "{ended}");
    assert_eq!(ended["data"]["pending"], 0);
    // Of those that failed first, the first job delivered some.
    let again = world.ids().split_off(before);
    let failed = first.iter().step_by(3).filter(|id| again.contains(id));
    let expected: Vec<String> = failed.chain(&later).cloned().collect();
    assert_eq!(again, expected);
    // Now all of them are delivered.
    let ended = world.run("recover", &json!({ "since": world.since })).await;
    assert_eq!((&ended["data"]["total"], &ended["data"]["sent"]), (&json!(0), &json!(0)), "{ended}");
    world.stop().await;
}

async fn replay_missing_sends_what_was_never_sent(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let sent = world.publish(0..5, "n").await;
    world.arrived(5).await;
    let key = [("idempotency-key", "once")];
    let first = world.client.publish(&world.application, &key, &body(5, "n")).await.id(202);
    let again = world.client.publish(&world.application, &key, &body(5, "n")).await.id(202);
    world.arrived(6).await;
    // Another endpoint, that was not there yet.
    world
        .client
        .post("/api/v1/event-type", &json!({ "name": "n.wanted", "description": "" }))
        .await
        .json(201);
    let unwanted = world.publish(6..8, "n").await;
    let wanted = world.publish(8..12, "n.wanted").await;
    world.arrived(12).await;
    let options = json!({ "eventTypes": ["n.wanted"] });
    world.endpoint = world.client.endpoint(&world.application, &world.recorder.url(PATH), &options).await;
    let ended = world.run("replay-missing", &json!({ "since": world.since })).await;
    assert_eq!((&ended["task"], &ended["data"]["sent"]), (&json!("endpoint.replay"), &json!(4)), "{ended}");
    assert_eq!(world.ids()[12..], wanted);
    // What it has is not missing; what it wants now, is.
    world.patch(&json!({ "eventTypes": null })).await;
    let ended = world.run("replay-missing", &json!({ "since": world.since })).await;
    let mut expected = sent;
    expected.push(first.clone());
    expected.extend(unwanted);
    assert_eq!(world.ids()[16..], expected, "{ended}; {first} {again}");
    world.stop().await;
}

async fn bulk_replay_and_dead_letters_go_by_their_filters(engine: Engine) {
    let mut world = World::new(&engine, &json!({ "retrySchedule": [] })).await;
    world.refuse(|number| number % 2 == 1);
    let mut all = world.publish(0..10, "a").await;
    let between = SystemClock.now().to_string();
    all.extend(world.publish(10..20, "b").await);
    world.arrived(20).await;
    world.refuse(|_| false);
    let letters = format!("/api/v1/app/{}/dead-letter", world.application);
    let letter = wait::until("dead letters are listed", wait::PATIENCE, async || {
        let listed = world.client.get(&letters).await.json(200)["data"].clone();
        let of = listed.as_array().unwrap().iter().find(|letter| letter["message"]["id"] == all[3])?;
        Some(of["id"].as_str().unwrap().to_owned())
    })
    .await;
    let since = &world.since.clone();
    let odd = |ids: &[String]| -> Vec<String> { ids.iter().skip(1).step_by(2).cloned().collect() };
    let even = |ids: &[String]| -> Vec<String> { ids.iter().step_by(2).cloned().collect() };
    for (kind, selection, expected) in [
        ("bulk-replay", json!({ "since": since, "eventTypes": ["a"], "status": 0 }), even(&all[..10])),
        (
            "bulk-replay",
            json!({ "since": since, "statusCodeClass": 500, "eventTypes": ["b"] }),
            odd(&all[10..]),
        ),
        ("dead-letter/replay", json!({ "ids": [letter] }), vec![all[3].clone()]),
        ("bulk-replay", json!({ "since": since, "tag": "t7" }), vec![all[7].clone(), all[17].clone()]),
        ("bulk-replay", json!({ "since": since, "channel": "c3" }), vec![all[3].clone(), all[13].clone()]),
        (
            "dead-letter/replay",
            json!({ "messageIds": [all[5], all[1], all[0]] }),
            vec![all[1].clone(), all[5].clone()],
        ),
        // Those that were sent again above are no dead letters any more.
        ("dead-letter/replay", json!({}), vec![all[9].clone()]),
        ("bulk-replay", json!({ "since": between }), all[10..].to_vec()),
        ("bulk-replay", json!({ "since": since }), all.clone()),
    ] {
        let before = world.ids().len();
        let ended = world.run(kind, &selection).await;
        assert_eq!(world.ids()[before..], expected, "{kind} {selection}: {ended}");
        for field in ["delivered", "sent", "messagesSent", "total"] {
            assert_eq!(ended["data"][field], expected.len(), "{field}: {ended}");
        }
    }
    assert_eq!(world.client.get(&format!("{letters}/{letter}")).await.status, 404, "it was delivered since");
    world.stop().await;
}

/// An ordered endpoint; each message comes again once, in order, but for what was on its way at the kill; new messages stay
/// in order among themselves.
async fn a_job_goes_on_over_a_kill_beside_live_traffic(engine: Engine) {
    const OLD: u64 = 600;
    const LIVE: u64 = 200;
    let mut world = World::new(&engine, &json!({})).await;
    let old = world.publish(0..OLD, "n").await;
    world.arrived(old.len()).await;
    let task = world.job("bulk-replay", &json!({ "since": world.since, "maxPerSecond": 200 })).await;
    let mut live = world.publish(OLD..OLD + LIVE / 2, "n").await;
    world.arrived(old.len() + live.len() + 100).await;
    world.server.take().expect("it runs").kill();
    let mut server = world.installation.spawn(&["--dev"]);
    server.ready().await;
    world.server = Some(server);
    live.extend(world.publish(OLD + LIVE / 2..OLD + LIVE, "n").await);
    let ended = world.ended(&task).await;
    let data = &ended["data"];
    assert_eq!((&data["state"], &data["pending"]), (&json!("finished"), &json!(0)), "{ended}");
    assert_eq!((&data["sent"], &data["delivered"]), (&json!(OLD), &json!(OLD)), "{ended}");
    wait::until("all new ones come", wait::PATIENCE, async || {
        live.iter().all(|id| world.ids().contains(id)).then_some(())
    })
    .await;

    let ids = world.ids();
    assert_eq!(ids[..old.len()], old);
    let first_of = |wanted: &[String]| -> Vec<String> {
        let mut seen = Vec::new();
        for id in ids[old.len()..].iter().filter(|id| wanted.contains(id)) {
            if !seen.contains(id) {
                seen.push(id.clone());
            }
        }
        seen
    };
    assert_eq!(first_of(&old), old, "in order, none left out");
    assert_eq!(first_of(&live), live, "in order, none left out");
    let repeats = ids.len() - 2 * old.len() - live.len();
    assert!(repeats < 50, "{repeats} came once more than a kill explains");
    world.stop().await;
}

async fn a_job_is_paused_resumed_and_cancelled(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let old = world.publish(0..200, "n").await;
    world.arrived(200).await;
    let task = world.job("bulk-replay", &json!({ "since": world.since, "maxPerSecond": 40 })).await;
    world.arrived(205).await;
    let paused = world.steer(&task, "pause").await.json(200);
    assert_eq!((&paused["status"], &paused["data"]["state"]), (&json!("running"), &json!("paused")));
    let standing = wait::until("what was injected has come", wait::PATIENCE, async || {
        let task = world.task(&task).await;
        let data = &task["data"];
        (data["sent"].as_u64() > Some(0) && data["pending"] == 0).then(|| data["sent"].as_u64().unwrap())
    })
    .await;
    assert!(standing < 200, "{standing} were sent before it was paused");
    // A second job waits its turn behind one that is paused no more than behind one that is gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let standing = world.ids().len();
    assert!(standing < 400, "it went on");
    world.steer(&task, "resume").await.json(200);
    world.arrived(standing + 5).await;
    let cancelled = world.steer(&task, "cancel").await.json(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["data"]["state"]),
        (&json!("finished"), &json!("cancelled"))
    );
    world.steer(&task, "cancel").await.json(200);
    assert_eq!(world.steer(&task, "resume").await.json(409)["code"], "conflict");
    // What is new comes, and behind it nothing of what was old.
    let new = world.publish(200..201, "n").await.remove(0);
    world.arrived_of(&new, 1).await;
    let then = world.ids().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.ids().len(), then);
    assert!(world.ids()[200..].iter().zip(&old).take(standing - 200).all(|(again, old)| again == old));

    let listed = world.client.get("/api/v1/background-task").await.json(200);
    assert_eq!(listed["data"][0]["id"], task["id"]);
    let running = world.client.get("/api/v1/background-task?status=running").await.json(200);
    assert_eq!(running["data"], json!([]));
    world.stop().await;
}

async fn what_makes_no_job_is_refused(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let path = |kind: &str| format!("/api/v1/app/{}/endpoint/{}/{kind}", world.application, world.endpoint);
    for (kind, selection, field) in [
        ("recover", json!({}), "since"),
        ("recover", json!({ "since": "yesterday" }), "since"),
        ("recover", json!({ "since": "2100-01-01T00:00:00Z" }), "since"),
        ("replay-missing", json!({ "since": world.since, "until": "2020-01-01T00:00:00Z" }), "until"),
        ("bulk-replay", json!({ "since": world.since, "status": 1 }), "status"),
        ("bulk-replay", json!({ "since": world.since, "statusCodeClass": 7 }), "statusCodeClass"),
        ("bulk-replay", json!({ "since": world.since, "maxPerSecond": 0 }), "maxPerSecond"),
        ("dead-letter/replay", json!({ "messageIds": ["x"] }), "messageIds"),
        ("recover", json!({ "since": world.since, "status": 4 }), "status"),
        ("replay-missing", json!({ "since": world.since, "statusCodeClass": 500 }), "statusCodeClass"),
        // Passed over, each of them would send all.
        ("dead-letter/replay", json!({ "ids": null }), "ids"),
        ("dead-letter/replay", json!({ "ids": ["msgep_29HHYvqxq1Dw9rT7hHS0tl5tE22"] }), "ids"),
        ("dead-letter/replay", json!({ "reasons": ["rejected"] }), "reasons"),
    ] {
        let refused = world.client.post(&path(kind), &selection).await.json(422);
        assert!(refused["detail"].to_string().contains(field), "{kind} {selection}: {refused}");
    }
    for unknown in ["qtask_29HHYvqxq1Dw9rT7hHS0tl5tE22", "x"] {
        world.client.get(&format!("/api/v1/background-task/{unknown}")).await.json(404);
    }
    let key = [("idempotency-key", "once")];
    let body = json!({ "since": world.since }).to_string();
    let first = world.client.send("POST", &path("recover"), &key, &body).await.id(202);
    assert_eq!(world.client.send("POST", &path("recover"), &key, &body).await.id(202), first);
    // Of a deleted endpoint no job goes on.
    world.patch(&json!({ "disabled": true })).await;
    let held = world.client.post(&path("bulk-replay"), &json!({ "since": world.since })).await.json(202);
    let endpoint = format!("/api/v1/app/{}/endpoint/{}", world.application, world.endpoint);
    assert_eq!(world.client.delete(&endpoint).await.status, 204);
    let ended = world.ended(&held).await;
    assert!(["failed", "finished"].contains(&ended["status"].as_str().unwrap()), "{ended}");
    world.stop().await;
}

fn body(number: u64, event_type: &str) -> String {
    let digit = number % 10;
    format!(
        r#"{{"eventType":"{event_type}","payload":{{"number":{number}}},"channels":["c{digit}"],"tags":["t{digit}"]}}"#
    )
}

type Refuses = Arc<Mutex<Box<dyn Fn(u64) -> bool + Send>>>;

/// One endpoint.
struct World {
    installation: Installation,
    server: Option<Server>,
    client: Client,
    recorder: Recorder,
    refuses: Refuses,
    application: String,
    endpoint: String,
    /// Before anything was published.
    since: String,
}

impl World {
    async fn new(engine: &Engine, options: &Value) -> Self {
        let installation = Installation::on(engine);
        let server = Some(installation.start().await);
        let client = installation.client().await;
        let refuses: Refuses = Arc::new(Mutex::new(Box::new(|_| false)));
        let refusing = Arc::clone(&refuses);
        let recorder = Recorder::behaving(move |receipt| {
            let refused = refusing.lock().unwrap()(number(receipt));
            Reply::Status(if refused { 500 } else { 204 })
        })
        .await;
        let application = client.application("again").await;
        let endpoint = client.endpoint(&application, &recorder.url(PATH), options).await;
        let made = client.get(&format!("/api/v1/app/{application}")).await.json(200);
        let since = made["createdAt"].as_str().unwrap().to_owned();
        Self { installation, server, client, recorder, refuses, application, endpoint, since }
    }

    fn refuse(&self, which: impl Fn(u64) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Box::new(which);
    }

    async fn publish(&self, numbers: std::ops::Range<u64>, event_type: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for number in numbers {
            ids.push(self.client.publish(&self.application, &[], &body(number, event_type)).await.id(202));
        }
        ids
    }

    async fn patch(&self, changes: &Value) {
        let path = format!("/api/v1/app/{}/endpoint/{}", self.application, self.endpoint);
        self.client.patch(&path, changes).await.json(200);
    }

    /// Begins a job.
    async fn job(&self, kind: &str, selection: &Value) -> Value {
        let path = format!("/api/v1/app/{}/endpoint/{}/{kind}", self.application, self.endpoint);
        self.client.post(&path, selection).await.json(202)
    }

    async fn task(&self, task: &Value) -> Value {
        let path = format!("/api/v1/background-task/{}", task["id"].as_str().unwrap());
        self.client.get(&path).await.json(200)
    }

    async fn steer(&self, task: &Value, order: &str) -> crate::support::Answer {
        let path = format!("/api/v1/background-task/{}/{order}", task["id"].as_str().unwrap());
        self.client.send("POST", &path, &[], "").await
    }

    /// Waits until a job has ended.
    async fn ended(&self, task: &Value) -> Value {
        wait::until("the job ends", wait::PATIENCE * 3, async || {
            let task = self.task(task).await;
            (task["status"] != "running").then_some(task)
        })
        .await
    }

    async fn run(&self, kind: &str, selection: &Value) -> Value {
        let task = self.job(kind, selection).await;
        self.ended(&task).await
    }

    fn ids(&self) -> Vec<String> {
        let receipts = self.recorder.receipts();
        receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    }

    async fn arrived(&self, count: usize) {
        self.recorder.received(count).await;
    }

    async fn arrived_of(&self, message: &str, count: usize) {
        wait::until("it comes", wait::PATIENCE, async || {
            (self.ids().iter().filter(|id| *id == message).count() >= count).then_some(())
        })
        .await;
    }

    async fn stop(&mut self) {
        self.server.take().expect("it runs").terminate().await;
    }
}

/// What the message's payload says.
fn number(receipt: &Receipt) -> u64 {
    let payload: Value = serde_json::from_slice(&receipt.body).unwrap();
    payload["number"].as_u64().unwrap()
}
