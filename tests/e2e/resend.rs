//! A message once more, to one endpoint: whatever became of it before, beside live traffic, over a kill.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use serde_json::{Value, json};

use crate::support::{Answer, Client, Engine, Installation, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    a_message_is_sent_again_whatever_became_of_it,
    an_event_id_finds_the_message,
    what_cannot_be_sent_again_is_refused,
    live_messages_keep_their_order_beside_what_is_sent_again_over_a_kill,
    an_example_goes_to_its_endpoint_alone,
}

/// Paths at the recorder.
const ONE: &str = "/one";
const OTHER: &str = "/other";
const LIVE: usize = 60;
const AGAIN: usize = 40;

async fn a_message_is_sent_again_whatever_became_of_it(engine: Engine) {
    let mut world = World::new(&engine, &json!({ "retrySchedule": [] })).await;
    let delivered = world.publish(1).await;
    world.ones_are(&[&delivered]).await;
    world.answer_with(400);
    // One attempt, and it is a dead letter.
    let dead = world.publish(2).await;
    wait::until("it is a dead letter", wait::PATIENCE, async || {
        let dead = world.client.metric("fanfare_delivery_settled_total", r#"reason="exhausted""#).await;
        (dead == 1).then_some(())
    })
    .await;
    world.answer_with(204);
    for message in [&dead, &delivered] {
        assert_eq!(world.resend(message, &[]).await.json(202), json!({}));
    }
    world.ones_are(&[&delivered, &dead, &dead, &delivered]).await;
    // Of a request that is repeated with its key nothing more comes.
    let key = [("idempotency-key", "once")];
    for _ in 0..3 {
        world.resend(&delivered, &key).await.json(202);
    }
    let last = world.publish(3).await;
    world.ones_are(&[&delivered, &dead, &dead, &delivered, &delivered, &last]).await;
    wait::until("the last one comes to the other", wait::PATIENCE, async || {
        (world.ids(OTHER).len() >= 3).then_some(())
    })
    .await;
    assert_eq!(world.ids(OTHER), [&*delivered, &*dead, &*last], "nobody else is sent it again");

    let report = world.stop().await;
    let attempts = report["lanes"].as_array().unwrap().iter().find(|lane| lane["endpoint"] == world.one);
    let attempts = attempts.unwrap()["attempts"].as_array().unwrap();
    let manual = attempts.iter().filter(|attempt| attempt["trigger"] == "manual").count();
    assert_eq!(manual, 3, "{attempts:?}");
}

async fn an_event_id_finds_the_message(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let body = r#"{"eventType":"number.counted","eventId":"count-1","payload":{"number":1}}"#;
    let message = world.client.publish(&world.application, &[], body).await.id(202);
    world.resend("count-1", &[]).await.json(202);
    world.ones_are(&[&message, &message]).await;
    world.stop().await;
}

async fn what_cannot_be_sent_again_is_refused(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let message = world.publish(1).await;
    let another = world.client.application("another").await;
    let theirs = world.client.publish(&another, &[], &body(1)).await.id(202);
    for unknown in [theirs.as_str(), "msg_29HHYvqxq1Dw9rT7hHS0tl5tE22", "no-id"] {
        let code = &world.resend(unknown, &[]).await.json(404)["code"];
        assert_eq!(code, "not_found", "{unknown}");
    }
    let endpoint = format!("/api/v1/app/{}/endpoint/{}", world.application, world.one);
    world.client.patch(&endpoint, &json!({ "disabled": true })).await.json(200);
    assert_eq!(world.resend(&message, &[]).await.json(400)["code"], "endpoint_disabled");
    world.client.patch(&endpoint, &json!({ "disabled": false })).await.json(200);
    // Filters are not asked, but who is addressed by name is enough.
    world.client.patch(&endpoint, &json!({ "channels": ["elsewhere"] })).await.json(200);
    world.ones_are(&[&message]).await;
    world.resend(&message, &[]).await.json(202);
    world.ones_are(&[&message, &message]).await;
    world.stop().await;
}

/// An ordered endpoint with live traffic, to which old messages are sent again all the time; the process is killed in the
/// middle.
async fn live_messages_keep_their_order_beside_what_is_sent_again_over_a_kill(engine: Engine) {
    let mut world = World::new(&engine, &json!({})).await;
    let mut old = Vec::new();
    for number in 0..AGAIN {
        old.push(world.publish(number).await);
    }
    world.arrived(ONE, AGAIN).await;
    // While it refuses, all of it waits.
    world.answer_with(503);
    let mut live = Vec::new();
    for number in 0..LIVE {
        live.push(world.publish(AGAIN + number).await);
        if let Some(old) = old.get(number) {
            world.resend(old, &[]).await.json(202);
        }
    }
    world.server.take().expect("it runs").kill();
    world.answer_with(204);
    let mut server = world.installation.spawn(&["--dev"]);
    server.ready().await;
    world.server = Some(server);
    for old in &old {
        wait::until("it comes again", wait::PATIENCE * 3, async || {
            (world.taken().iter().filter(|id| *id == old).count() >= 2).then_some(())
        })
        .await;
    }
    wait::until("all live ones come", wait::PATIENCE * 3, async || {
        (live.iter().all(|id| world.taken().contains(id))).then_some(())
    })
    .await;

    let taken = world.taken();
    let mut firsts: Vec<&String> = Vec::new();
    for id in taken.iter().filter(|id| live.contains(id)) {
        if !firsts.contains(&id) {
            firsts.push(id);
        }
    }
    assert!(firsts.iter().copied().eq(&live), "live messages left their order");
    let mut again: Vec<&String> = Vec::new();
    for id in taken[AGAIN..].iter().filter(|id| old.contains(id)) {
        if !again.contains(&id) {
            again.push(id);
        }
    }
    assert!(again.iter().copied().eq(&old), "what was sent again left its order");
    // All live ones waited when the endpoint came back: they went first.
    let last_live = taken.iter().position(|id| Some(id) == live.last()).unwrap();
    let first_again = taken.iter().skip(AGAIN).position(|id| old.contains(id)).unwrap() + AGAIN;
    assert!(first_again > last_live, "{first_again} before {last_live}");
    world.stop().await;
}

async fn an_example_goes_to_its_endpoint_alone(engine: Engine) {
    let mut world = World::new(&engine, &json!({ "channels": ["never"] })).await;
    let path = format!("/api/v1/app/{}/endpoint/{}/send-example", world.application, world.one);
    let sent = world.client.post(&path, &json!({ "eventType": "svix.ping" })).await;
    assert_eq!(sent.json(200)["eventType"], "svix.ping");
    world.ones_are(&[&sent.id(200)]).await;

    let missing = world.client.post(&path, &json!({ "eventType": "invoice.paid" })).await;
    assert_eq!(missing.json(404)["code"], "not_found");
    let schemas = json!({ "1": { "examples": [{ "amount": 1 }, { "amount": 2 }] } });
    let event_type = json!({ "name": "invoice.paid", "description": "", "schemas": schemas });
    world.client.post("/api/v1/event-type", &event_type).await.json(201);
    let wanted = json!({ "eventType": "invoice.paid", "exampleIndex": 1 });
    let second = world.client.post(&path, &wanted).await;
    assert_eq!(second.json(200)["payload"], json!({ "amount": 2 }));
    world.ones_are(&[&sent.id(200), &second.id(200)]).await;
    let wanted = json!({ "eventType": "invoice.paid", "exampleIndex": 2 });
    assert_eq!(world.client.post(&path, &wanted).await.json(400)["code"], "invalid_scheme");
    assert!(world.ids(OTHER).is_empty(), "{:?}", world.ids(OTHER));
    // It is a message like any other: it can be sent again.
    world.resend(&second.id(200), &[]).await.json(202);
    world.ones_are(&[&sent.id(200), &second.id(200), &second.id(200)]).await;
    world.stop().await;
}

fn body(number: usize) -> String {
    format!(r#"{{"eventType":"number.counted","payload":{{"number":{number}}}}}"#)
}

/// Two endpoints of one application, of which one is sent to again.
struct World {
    installation: Installation,
    server: Option<Server>,
    client: Client,
    recorder: Recorder,
    /// What that one answers.
    status: Arc<AtomicU16>,
    application: String,
    one: String,
}

impl World {
    async fn new(engine: &Engine, options: &Value) -> Self {
        let installation = Installation::on(engine);
        let server = Some(installation.start().await);
        let client = installation.client().await;
        let status = Arc::new(AtomicU16::new(204));
        let answered = Arc::clone(&status);
        let recorder = Recorder::behaving(move |receipt| {
            Reply::Status(if receipt.path == ONE { answered.load(Ordering::Relaxed) } else { 204 })
        })
        .await;
        let application = client.application("again").await;
        client.endpoint(&application, &recorder.url(OTHER), options).await;
        let one = client.endpoint(&application, &recorder.url(ONE), options).await;
        Self { installation, server, client, recorder, status, application, one }
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    async fn publish(&self, number: usize) -> String {
        self.client.publish(&self.application, &[], &body(number)).await.id(202)
    }

    async fn resend(&self, message: &str, headers: &[(&str, &str)]) -> Answer {
        let Self { application, one, .. } = self;
        let path = format!("/api/v1/app/{application}/msg/{message}/endpoint/{one}/resend");
        self.client.send("POST", &path, headers, "").await
    }

    /// Messages of the requests that came to this path.
    fn ids(&self, path: &str) -> Vec<String> {
        let receipts = self.recorder.receipts();
        let of_path = receipts.iter().filter(|receipt| receipt.path == path);
        of_path.map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    }

    /// Of those that were taken.
    fn taken(&self) -> Vec<String> {
        let receipts = self.recorder.receipts();
        let taken = receipts.iter().filter(|receipt| receipt.path == ONE && receipt.is_success());
        taken.map(|receipt| receipt.header("webhook-id").to_owned()).collect()
    }

    async fn arrived(&self, path: &str, count: usize) -> Vec<String> {
        wait::until(&format!("{count} requests to {path}"), wait::PATIENCE, async || {
            let ids = self.ids(path);
            (ids.len() >= count).then_some(ids)
        })
        .await
    }

    /// What the one endpoint got, to the last request.
    async fn ones_are(&self, messages: &[&str]) {
        assert_eq!(self.arrived(ONE, messages.len()).await, messages);
    }

    /// Stops the server, and gives what the log has. Nothing more has come to the one endpoint meanwhile.
    async fn stop(&mut self) -> Value {
        let before = self.ids(ONE).len();
        self.server.take().expect("it runs").terminate().await;
        assert_eq!(self.ids(ONE).len(), before, "{:?}", self.ids(ONE));
        self.installation.inspect().await
    }
}
