//! Operational webhooks: each event comes signed, with its fields, and each fact is one message, over kills too; nobody
//! is told of what happens to the endpoints that are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{Client, Engine, Installation, Receipt, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    each_event_comes_signed_with_its_fields,
    an_endpoint_that_answers_410_is_told_of,
    each_fact_is_one_message_over_kills,
    what_happens_to_operational_endpoints_is_told_to_nobody,
    operational_endpoints_are_like_others_and_out_of_their_reach,
}

/// Where operational webhooks arrive; every other path is an endpoint of an application.
const TOLD: &str = "/told";
const BASE: &str = "/api/v1/operational-webhook/endpoint";
/// The owner of all applications that carry operational webhooks.
const MANAGEMENT: &str = "org_00000000000SvixManagement00";
/// A payload that every endpoint takes.
const FINE: &str = r#"{"fine":true}"#;
const MESSAGE: &str = r#"{"eventType":"order.paid","eventId":"order-1","payload":{}}"#;

async fn each_event_comes_signed_with_its_fields(engine: Engine) {
    let world = World::new(&engine).await;
    let application =
        world.client.post("/api/v1/app", &json!({ "name": "shop", "uid": "shop" })).await.id(201);
    let named = |endpoint: &str, uid: &str| json!({ "appId": application, "appUid": "shop", "endpointId": endpoint, "endpointUid": uid });
    let options = json!({ "uid": "hook", "ordering": "unordered", "retrySchedule": [1, 1, 1, 1, 1, 1] });
    let endpoint = world.client.endpoint(&application, &world.recorder.url("/shop"), &options).await;
    world.told("endpoint.created", &named(&endpoint, "hook")).await;

    // Four failures, then it is well again.
    world.answer_with(500);
    let message = world.client.publish(&application, &[], MESSAGE).await.id(202);
    let about = |endpoint: &str, uid: &str, status: u16| {
        let mut about = named(endpoint, uid);
        about["msgId"] = message.as_str().into();
        about["msgEventId"] = "order-1".into();
        about["eventType"] = "order.paid".into();
        about["lastAttempt"] = json!({ "responseStatusCode": status });
        about
    };
    let failing = world.told("message.attempt.failing", &about(&endpoint, "hook", 500)).await;
    world.is_attempt(&application, &message, &failing["lastAttempt"]).await;
    world.answer_with(204);
    let recovered = world.told("message.attempt.recovered", &about(&endpoint, "hook", 204)).await;
    world.is_attempt(&application, &message, &recovered["lastAttempt"]).await;

    let path = format!("/api/v1/app/{application}/endpoint/{endpoint}");
    world.client.patch(&path, &json!({ "description": "d" })).await.json(200);
    world.told("endpoint.updated", &named(&endpoint, "hook")).await;
    world.client.patch(&path, &json!({ "disabled": true })).await.json(200);
    let mut disabled = named(&endpoint, "hook");
    disabled["trigger"] = "manual".into();
    world.told("endpoint.disabled", &disabled).await;
    world.client.patch(&path, &json!({ "disabled": false })).await.json(200);
    world.told("endpoint.enabled", &named(&endpoint, "hook")).await;
    assert_eq!(world.client.delete(&path).await.status, 204);
    world.told("endpoint.deleted", &named(&endpoint, "hook")).await;

    // One attempt and it is a dead letter.
    world.answer_with(418);
    let options = json!({ "uid": "once", "retrySchedule": [] });
    let once = world.client.endpoint(&application, &world.recorder.url("/shop"), &options).await;
    let again = r#"{"eventType":"order.paid","payload":{}}"#;
    let message = world.client.publish(&application, &[], again).await.id(202);
    let mut dead = named(&once, "once");
    dead["msgId"] = message.as_str().into();
    dead["lastAttempt"] = json!({ "responseStatusCode": 418 });
    let exhausted = world.told("message.attempt.exhausted", &dead).await;
    world.is_attempt(&application, &message, &exhausted["lastAttempt"]).await;
    dead["reason"] = "exhausted".into();
    world.told("message.dead_letter", &dead).await;

    world.conflict(&engine, &application).await;
    world.stop().await;
}

async fn an_endpoint_that_answers_410_is_told_of(engine: Engine) {
    let world = World::new(&engine).await;
    let application = world.client.application("shop").await;
    world.answer_with(410);
    let endpoint = world.client.endpoint(&application, &world.recorder.url("/gone"), &json!({})).await;
    world.client.publish(&application, &[], MESSAGE).await.id(202);
    let disabled = json!({ "appId": application, "endpointId": endpoint, "trigger": "automatic" });
    let told = world.told("endpoint.disabled", &disabled).await;
    let since = told["failSince"].as_str().unwrap_or_else(|| panic!("since when: {told}"));
    since.parse::<fanfare_core::Timestamp>().unwrap();
    world.stop().await;
}

/// Endpoints that are made, and messages that are given up, while the server is killed again and again.
async fn each_fact_is_one_message_over_kills(engine: Engine) {
    const LIVES: usize = 4;
    const EACH: usize = 6;
    let mut world = World::new(&engine).await;
    world.answer_with(500);
    let application = world.client.application("shop").await;
    let options = json!({ "ordering": "unordered", "retrySchedule": [] });
    let mut endpoints =
        BTreeSet::from([world.client.endpoint(&application, &world.recorder.url("/shop"), &options).await]);
    let mut messages = BTreeSet::new();
    for life in 0..LIVES {
        for n in 0..EACH {
            let body = json!({ "eventTypes": ["never.sent"], "uid": format!("e-{life}-{n}") });
            let event_type = json!({ "name": "never.sent", "description": "" });
            if endpoints.len() == 1 {
                world.client.post("/api/v1/event-type", &event_type).await.json(201);
            }
            endpoints.insert(world.client.endpoint(&application, &world.recorder.url("/other"), &body).await);
            // What goes well between them keeps the circuit closed.
            for payload in [FINE, "{}", FINE] {
                let message = format!(r#"{{"eventType":"a","payload":{payload}}}"#);
                let id = world.client.publish(&application, &[], &message).await.id(202);
                if payload != FINE {
                    messages.insert(id);
                }
            }
        }
        world.kill_and_restart().await;
    }
    let facts = |event: &str, field: &str| {
        let mut facts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for receipt in world.receipts() {
            let payload: Value = serde_json::from_slice(&receipt.body).unwrap();
            if payload["type"] == event {
                let fact = payload["data"][field].as_str().unwrap().to_owned();
                facts.entry(fact).or_default().insert(receipt.header("webhook-id").to_owned());
            }
        }
        facts
    };
    let told = [
        ("endpoint.created", "endpointId", &endpoints),
        ("message.attempt.exhausted", "msgId", &messages),
        ("message.dead_letter", "msgId", &messages),
    ];
    for (event, field, expected) in told {
        wait::until(&format!("{event} of all"), wait::PATIENCE, async || {
            (facts(event, field).len() >= expected.len()).then_some(())
        })
        .await;
    }
    // What comes behind all that was told again, if anything was.
    let last = world.client.endpoint(&application, &world.recorder.url("/other"), &json!({})).await;
    world.told("endpoint.created", &json!({ "endpointId": last })).await;
    endpoints.insert(last);
    let told = [
        ("endpoint.created", "endpointId", &endpoints),
        ("message.attempt.exhausted", "msgId", &messages),
        ("message.dead_letter", "msgId", &messages),
    ];
    for (event, field, expected) in told {
        let facts = facts(event, field);
        assert_eq!(facts.keys().cloned().collect::<BTreeSet<_>>(), *expected, "{event}");
        for (fact, ids) in facts {
            assert_eq!(ids.len(), 1, "{event} of {fact} was told by {ids:?}");
        }
    }
    world.stop().await;
}

async fn what_happens_to_operational_endpoints_is_told_to_nobody(engine: Engine) {
    let world = World::new(&engine).await;
    world.answer_with(500);
    // Who has a token for the organization that carries them is told nothing either: what it is told would be news again.
    let token = world.installation.token(&["--org", MANAGEMENT]).await;
    let management = world.installation.client_with(Some(&token));
    management.post(BASE, &json!({ "url": world.recorder.url("/news-of-news") })).await.id(201);
    // It fails at everything it is told, and each failure is its last.
    let body = json!({ "url": world.recorder.url("/fails"), "retrySchedule": [], "ordering": "unordered" });
    let failing = world.client.post(BASE, &body).await.id(201);
    let application = world.client.application("shop").await;
    let mut endpoints = Vec::new();
    for _ in 0..5 {
        endpoints.push(world.client.endpoint(&application, &world.recorder.url("/shop"), &json!({})).await);
    }
    wait::until("it failed at all of them", wait::PATIENCE, async || {
        let dead = world.client.metric("fanfare_delivery_settled_total", r#"reason="exhausted""#).await;
        (dead >= 5).then_some(())
    })
    .await;
    let path = format!("{BASE}/{failing}");
    world.client.patch(&path, &json!({ "description": "d" })).await.json(200);
    assert_eq!(world.client.delete(&path).await.status, 204);
    let last = world.client.endpoint(&application, &world.recorder.url("/shop"), &json!({})).await;
    world.told("endpoint.created", &json!({ "endpointId": last })).await;
    endpoints.push(last);

    let mut told = Vec::new();
    for receipt in world.receipts() {
        let payload: Value = serde_json::from_slice(&receipt.body).unwrap();
        assert_eq!(payload["type"], "endpoint.created", "{payload}");
        told.push(payload["data"]["endpointId"].as_str().unwrap().to_owned());
    }
    assert_eq!(told, endpoints);
    assert!(world.recorder.receipts().iter().all(|receipt| receipt.path != "/news-of-news"));
    world.stop().await;
}

async fn operational_endpoints_are_like_others_and_out_of_their_reach(engine: Engine) {
    let world = World::new(&engine).await;
    let client = &world.client;
    let body = json!({
        "url": world.recorder.url("/other"), "uid": "mine", "description": "d", "metadata": { "a": "b" },
        "filterTypes": ["endpoint.created"], "throttleRate": 7,
    });
    let made = client.post(BASE, &body).await.json(201);
    let id = made["id"].as_str().unwrap();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    for field in ["createdAt", "updatedAt"] {
        assert!(made[field].is_string(), "{made}");
    }
    let path = format!("{BASE}/mine");
    assert_eq!(client.get(&path).await.json(200), made);
    let replaced = json!({ "url": world.recorder.url("/new"), "uid": "mine" });
    let replaced = client.send("PUT", &format!("{BASE}/{id}"), &[], &replaced.to_string()).await.json(200);
    assert_eq!((&replaced["filterTypes"], &replaced["description"]), (&Value::Null, &json!("")));
    assert_eq!(
        client.send("PUT", &format!("{path}/headers"), &[], r#"{"headers":{"x-a":"b"}}"#).await.status,
        204
    );
    let headers = client.get(&format!("{path}/headers")).await.json(200);
    assert_eq!(headers, json!({ "headers": { "x-a": "b" }, "sensitive": [] }));
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    client.post(&format!("{path}/secret/rotate"), &json!({ "key": key })).await.json(200);
    assert_eq!(client.get(&format!("{path}/secret")).await.json(200)["key"], key);
    let listed = client.get(BASE).await.json(200);
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [id, world.told_at.as_str()], "the newest first");

    // What would be told nothing is refused.
    for (field, value) in [("filterTypes", json!(["order.paid"])), ("channels", json!(["a"]))] {
        let mut wrong = json!({ "url": world.recorder.url("/x") });
        wrong[field] = value;
        let answer = client.post(BASE, &wrong).await.json(422);
        let named = if field == "filterTypes" { "eventTypes" } else { field };
        assert_eq!(answer["detail"][0]["loc"], json!(["body", named]), "{answer}");
    }

    // They belong to an application that nobody else's routes reach.
    let management = world.installation.token(&["--org", MANAGEMENT]).await;
    let owner = world.installation.client_with(Some(&management));
    let applications = owner.get("/api/v1/app").await.json(200);
    let [application] = &applications["data"].as_array().unwrap()[..] else { panic!("{applications}") };
    let application = application["id"].as_str().unwrap();
    assert_eq!(client.get("/api/v1/app").await.json(200)["data"], json!([]));
    for path in [
        format!("/api/v1/app/{application}"),
        format!("/api/v1/app/{application}/endpoint/{id}"),
        format!("/api/v1/app/{application}/msg"),
        "/api/v1/app/org_23rb8YdGqMT0qIzpgGwdXfHirMu".to_owned(),
    ] {
        assert_eq!(client.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(client.publish(application, &[], MESSAGE).await.status, 404);
    assert_eq!(client.get("/api/v1/event-type").await.json(200)["data"], json!([]));

    assert_eq!(client.delete(&path).await.status, 204);
    assert_eq!(client.get(&path).await.status, 404);
    world.stop().await;
}

/// One operational endpoint that is told everything, and takes it.
struct World {
    installation: Installation,
    server: Option<Server>,
    client: Client,
    recorder: Recorder,
    /// What all endpoints but that one answer.
    status: Arc<AtomicU16>,
    told_at: String,
    webhook: Webhook,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = Some(installation.start().await);
        let client = installation.client().await;
        let status = Arc::new(AtomicU16::new(204));
        let answered = Arc::clone(&status);
        let recorder = Recorder::behaving(move |receipt| {
            let well = receipt.path == TOLD || receipt.body == FINE;
            Reply::Status(if well { 204 } else { answered.load(Ordering::Relaxed) })
        })
        .await;
        let told_at = client.post(BASE, &json!({ "url": recorder.url(TOLD) })).await.id(201);
        let secret = client.get(&format!("{BASE}/{told_at}/secret")).await.json(200);
        let webhook = Webhook::new(secret["key"].as_str().unwrap()).unwrap();
        Self { installation, server, client, recorder, status, told_at, webhook }
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What came to the operational endpoint, each of it signed.
    fn receipts(&self) -> Vec<Receipt> {
        let receipts: Vec<Receipt> =
            self.recorder.receipts().into_iter().filter(|receipt| receipt.path == TOLD).collect();
        for receipt in &receipts {
            self.webhook.verify(&receipt.body, &receipt.headers).unwrap();
        }
        receipts
    }

    /// Waits until an event was told with these fields, and gives its data.
    async fn told(&self, event: &str, fields: &Value) -> Value {
        let told = async || {
            for receipt in self.receipts() {
                let payload: Value = serde_json::from_slice(&receipt.body).unwrap();
                if payload["type"] == event && has(&payload["data"], fields) {
                    return Some(payload["data"].clone());
                }
            }
            None
        };
        wait::until(&format!("{event} with {fields}"), wait::PATIENCE, told).await
    }

    /// It is the one that the API shows.
    async fn is_attempt(&self, application: &str, message: &str, told: &Value) {
        let path =
            format!("/api/v1/app/{application}/msg/{message}/attempt/{}", told["id"].as_str().unwrap());
        let shown = self.client.get(&path).await.json(200);
        assert_eq!(
            (&shown["responseStatusCode"], &shown["timestamp"]),
            (&told["responseStatusCode"], &told["timestamp"])
        );
    }

    /// Where one process does everything, a conflict is answered and never becomes a record.
    async fn conflict(&self, engine: &Engine, application: &str) {
        if !engine.is_kafka() {
            return;
        }
        let another = Installation::on(engine);
        std::fs::copy(self.installation.main_secret(), another.main_secret()).unwrap();
        let server = another.start().await;
        let key = [("idempotency-key", "one")];
        let first = self.client.publish(application, &key, r#"{"eventType":"a","payload":{}}"#).await.id(202);
        let there = another.client().await;
        let second = there.publish(application, &key, r#"{"eventType":"b","payload":{}}"#).await.id(202);
        let fields = json!({ "appId": application, "appUid": "shop", "eventType": "b", "msgId": second,
            "firstMsgId": first });
        self.told("message.idempotency_conflict", &fields).await;
        server.terminate().await;
    }

    async fn kill_and_restart(&mut self) {
        self.server.take().expect("it runs").kill();
        self.server = Some(self.installation.start().await);
    }

    async fn stop(mut self) {
        self.server.take().expect("it runs").terminate().await;
    }
}

/// Whether it has all of these fields, whatever else it has.
fn has(data: &Value, fields: &Value) -> bool {
    match fields.as_object() {
        Some(fields) => fields.iter().all(|(name, value)| has(&data[name], value)),
        None => data == fields,
    }
}
