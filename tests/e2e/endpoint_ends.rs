//! An endpoint ends while messages wait for it: it is gone, deleted or disabled. What waited is cancelled, nothing more
//! is sent to it, and the other endpoint of its application gets everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use fanfare_core::Timestamp;
use serde_json::{Value, json};

use crate::support::{Client, Engine, Installation, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    one_that_answers_410_is_disabled,
    one_that_is_deleted,
    one_that_is_disabled_and_enabled_again,
    how_long_one_has_failed_is_known_after_kills,
}

const BACKLOG: usize = 20;
const LATER: usize = 5;
/// Paths at the recorder.
const ENDS: &str = "/ends";
const STAYS: &str = "/stays";
const MESSAGE: &str = r#"{"eventType":"number.counted","payload":{}}"#;

async fn one_that_answers_410_is_disabled(engine: Engine) {
    let mut world = World::with_backlog(&engine).await;
    world.answer_with(410);
    let endpoint = wait::until("it is disabled", wait::PATIENCE, async || {
        let endpoint = world.client.get(&world.path()).await.json(200);
        (endpoint["disabled"] == true).then_some(endpoint)
    })
    .await;
    assert_eq!(endpoint["disabledReason"], "the endpoint answered 410 Gone");
    world.its_backlog_is_cancelled().await;
    world.others_arrive_and_nothing_comes_to_it().await;

    let lane = world.stop().await.expect("a disabled endpoint is shown");
    assert_eq!((&lane["disabled"], &lane["pending"]), (&json!(true), &json!(0)), "{lane}");
}

async fn one_that_is_deleted(engine: Engine) {
    let mut world = World::with_backlog(&engine).await;
    assert_eq!(world.client.delete(&world.path()).await.status, 204);
    world.its_backlog_is_cancelled().await;
    world.others_arrive_and_nothing_comes_to_it().await;

    let lane = world.stop().await;
    assert_eq!(lane, None, "it is forgotten");
}

/// Only what is published while it is enabled is for it.
async fn one_that_is_disabled_and_enabled_again(engine: Engine) {
    let mut world = World::with_backlog(&engine).await;
    let disabled = world.client.patch(&world.path(), &json!({ "disabled": true })).await.json(200);
    assert_eq!((&disabled["disabled"], &disabled["disabledReason"]), (&json!(true), &Value::Null));
    world.its_backlog_is_cancelled().await;
    world.others_arrive_and_nothing_comes_to_it().await;

    world.answer_with(204);
    let before = world.ids(ENDS).len();
    let enabled = world.client.patch(&world.path(), &json!({ "disabled": false })).await.json(200);
    assert_eq!(enabled["disabled"], json!(false));
    let new = world.publish(LATER).await;
    wait::until("it gets what is new", wait::PATIENCE, async || {
        (world.ids(ENDS).len() >= before + LATER).then_some(())
    })
    .await;
    world.nothing_waits().await;
    assert_eq!(&world.ids(ENDS)[before..], new.as_slice(), "and nothing else");

    let lane = world.stop().await.expect("an enabled endpoint is shown");
    assert_eq!((&lane["disabled"], &lane["pending"]), (&json!(false), &json!(0)), "{lane}");
}

/// After so many hours of failures it is disabled: a restart must not begin them anew, and a success must.
async fn how_long_one_has_failed_is_known_after_kills(engine: Engine) {
    let mut world = World::with_backlog(&engine).await;
    let often = json!({ "retrySchedule": vec![2; 32] });
    world.client.patch(&world.path(), &often).await.json(200);
    let attempts = format!("/api/v1/app/{}/attempt/endpoint/{}", world.application, world.ends);
    wait::until("an attempt is told", wait::PATIENCE, async || {
        (world.client.get(&attempts).await.json(200)["data"] != json!([])).then_some(())
    })
    .await;
    let mut known = None;
    for _ in 0..2 {
        let lane;
        (world, lane) = world.killed_and_started_again().await;
        let since: Timestamp = lane["failingSince"].as_str().expect("it fails").parse().unwrap();
        let known = *known.get_or_insert(since);
        assert!(
            since.since(known).max(known.since(since)) < Duration::from_secs(1),
            "{since} is not {known}"
        );
        let before = world.ids(ENDS).len();
        wait::until("it is tried again", wait::PATIENCE, async || {
            (world.ids(ENDS).len() > before).then_some(())
        })
        .await;
    }
    world.answer_with(204);
    world.nothing_waits().await;
    let lane = world.stop().await.expect("it is shown");
    assert_eq!(lane["failingSince"], Value::Null, "{lane}");
}

/// Two endpoints of one application: one takes everything, the other one is about to end.
struct World {
    installation: Installation,
    server: Server,
    client: Client,
    recorder: Recorder,
    /// What the endpoint that ends answers.
    status: Arc<AtomicU16>,
    application: String,
    /// Id of the endpoint that ends.
    ends: String,
    published: Vec<String>,
}

impl World {
    /// The first message fails, all others wait behind it.
    async fn with_backlog(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = installation.start().await;
        let client = installation.client().await;
        let status = Arc::new(AtomicU16::new(500));
        let answered = Arc::clone(&status);
        let recorder = Recorder::behaving(move |receipt| {
            Reply::Status(if receipt.path == ENDS { answered.load(Ordering::Relaxed) } else { 204 })
        })
        .await;
        let application = client.application("ends").await;
        client.endpoint(&application, &recorder.url(STAYS), &json!({})).await;
        let ends = client.endpoint(&application, &recorder.url(ENDS), &json!({})).await;
        let published = Vec::new();
        let mut world = Self { installation, server, client, recorder, status, application, ends, published };
        world.publish(BACKLOG).await;
        wait::until("all of them wait", wait::PATIENCE, async || {
            (world.waiting().await == BACKLOG as u64).then_some(())
        })
        .await;
        world
    }

    /// Of the endpoint that ends.
    fn path(&self) -> String {
        format!("/api/v1/app/{}/endpoint/{}", self.application, self.ends)
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Publishes, waits until the other endpoint has it all, and gives the new ids.
    async fn publish(&mut self, count: usize) -> Vec<String> {
        let before = self.published.len();
        for _ in 0..count {
            let id = self.client.publish(&self.application, &[], MESSAGE).await.id(202);
            self.published.push(id);
        }
        wait::until("the other endpoint gets it all", wait::PATIENCE, async || {
            (self.ids(STAYS).len() >= self.published.len()).then_some(())
        })
        .await;
        assert_eq!(self.ids(STAYS), self.published);
        self.published[before..].to_vec()
    }

    /// Messages of the requests that came to this path.
    fn ids(&self, path: &str) -> Vec<String> {
        let receipts = self.recorder.receipts();
        let of_path = receipts.iter().filter(|receipt| receipt.path == path);
        of_path.map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    }

    /// All that waited ends so, though only the first message was ever sent.
    async fn its_backlog_is_cancelled(&self) {
        let cancelled = wait::until("its backlog is cancelled", wait::PATIENCE, async || {
            let cancelled =
                self.client.metric("fanfare_delivery_settled_total", r#"reason="cancelled""#).await;
            (cancelled > 0).then_some(cancelled)
        })
        .await;
        assert_eq!(cancelled, BACKLOG as u64);
        self.nothing_waits().await;
        assert!(self.ids(ENDS).iter().all(|id| *id == self.published[0]), "{:?}", self.ids(ENDS));
    }

    /// What is neither pending nor in flight cannot be sent any more.
    async fn nothing_waits(&self) {
        wait::until("nothing waits", wait::PATIENCE, async || (self.waiting().await == 0).then_some(()))
            .await;
    }

    async fn others_arrive_and_nothing_comes_to_it(&mut self) {
        let before = self.ids(ENDS);
        self.publish(LATER).await;
        self.nothing_waits().await;
        assert_eq!(self.ids(ENDS), before);
    }

    /// Deliveries that are not settled.
    async fn waiting(&self) -> u64 {
        self.client.metric("fanfare_delivery_backlog_messages", "").await
    }

    /// With what the log had of the endpoint that ends meanwhile.
    async fn killed_and_started_again(self) -> (Self, Value) {
        self.server.kill();
        let report = self.installation.inspect().await;
        let lane = lane_in(&report, &self.ends).expect("it is shown");
        let mut server = self.installation.spawn(&["--dev"]);
        server.ready().await;
        (Self { server, ..self }, lane)
    }

    /// Stops the server, and gives what the log has of the endpoint that ends.
    async fn stop(self) -> Option<Value> {
        let sent = self.ids(ENDS);
        self.server.terminate().await;
        let report = self.installation.inspect().await;
        assert_eq!(report["deadLetterCount"], 0, "what is cancelled is no dead letter: {report}");
        let receipts = self.recorder.receipts();
        assert_eq!(receipts.iter().filter(|receipt| receipt.path == ENDS).count(), sent.len());
        lane_in(&report, &self.ends)
    }
}

fn lane_in(report: &Value, endpoint: &str) -> Option<Value> {
    report["lanes"].as_array().unwrap().iter().find(|lane| lane["endpoint"] == endpoint).cloned()
}
