//! Messages that are not to be delivered before a time.

use std::time::Duration;

use fanfare_core::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::support::{Client, Engine, Installation, Recorder, on_every_engine, wait};

on_every_engine! {
    a_message_waits_for_its_time_over_a_kill,
    a_time_that_cannot_be_kept_is_refused,
}

/// Long enough for a start and a kill in between.
const AHEAD: Duration = Duration::from_secs(6);

fn body(number: u64, deliver_at: Option<Timestamp>) -> String {
    let deliver_at = deliver_at.map(|at| at.to_string());
    json!({ "eventType": "a", "payload": { "number": number }, "deliverAt": deliver_at }).to_string()
}

async fn a_message_waits_for_its_time_over_a_kill(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("later").await;
    client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let key = [("idempotency-key", "once")];
    let due = SystemClock.now() + AHEAD;
    let later = client.publish(&application, &key, &body(1, Some(due))).await.json(202);
    assert_eq!(later["deliverAt"].as_str().unwrap().parse(), Ok(due));
    let later = later["id"].as_str().unwrap().to_owned();
    let sooner = client.publish(&application, &[], &body(2, None)).await.id(202);
    let past = client.publish(&application, &[], &body(3, Some(due - AHEAD * 2))).await.id(202);
    // Sent again it is the same message still.
    assert_eq!(client.publish(&application, &key, &body(1, Some(due))).await.id(202), later);
    assert_eq!(client.publish(&application, &key, &body(1, None)).await.json(409)["code"], "conflict");
    recorder.received(2).await;
    let shown = message(&client, &application, &later).await;
    assert_eq!(shown["deliverAt"].as_str().unwrap().parse(), Ok(due));
    server.kill();
    let mut server = installation.spawn(&["--dev"]);
    server.ready().await;
    let before_it_came = wait::until("it comes", wait::PATIENCE, async || {
        let now = SystemClock.now();
        (ids(&recorder).contains(&later)).then_some(now)
    })
    .await;
    assert!(before_it_came >= due, "before its time");
    // What is published now comes after it, and nothing comes twice but what the kill explains.
    let last = client.publish(&application, &[], &body(4, None)).await.id(202);
    wait::until("the last one comes", wait::PATIENCE, async || ids(&recorder).contains(&last).then_some(()))
        .await;
    let ids = ids(&recorder);
    let firsts: Vec<&String> =
        ids.iter().enumerate().filter(|(at, id)| !ids[..*at].contains(id)).map(|(_, id)| id).collect();
    assert_eq!(firsts, [&sooner, &past, &later, &last]);
    assert_eq!(ids.iter().filter(|id| **id == later).count(), 1);

    // It is one message, and its attempts are found by it.
    let path = format!("/api/v1/app/{application}/attempt/msg/{later}");
    wait::until("its attempt is written down", wait::PATIENCE, async || {
        let attempts = client.get(&path).await.json(200);
        (attempts["data"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let listed = client.get(&format!("/api/v1/app/{application}/msg")).await.json(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 4, "{listed}");
    server.terminate().await;
}

async fn a_time_that_cannot_be_kept_is_refused(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let application = client.application("later").await;
    let too_far = SystemClock.now() + Duration::from_hours(24 * 365);
    for deliver_at in [json!("tomorrow"), json!(7), json!(too_far.to_string())] {
        let body = json!({ "eventType": "a", "payload": {}, "deliverAt": deliver_at }).to_string();
        let refused = client.publish(&application, &[], &body).await.json(422);
        assert!(refused["detail"].to_string().contains("deliverAt"), "{refused}");
    }
    server.terminate().await;
}

async fn message(client: &Client, application: &str, id: &str) -> Value {
    client.get(&format!("/api/v1/app/{application}/msg/{id}")).await.json(200)
}

fn ids(recorder: &Recorder) -> Vec<String> {
    let receipts = recorder.receipts();
    receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned()).collect()
}
