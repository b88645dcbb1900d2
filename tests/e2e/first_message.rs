//! The README's walk: an application, an event type, an endpoint, a message.

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{Engine, Installation, Recorder, on_every_engine};

/// Spaces, escapes, an order of names and numbers that a JSON library would write in another way.
const PAYLOAD: &str =
    r#"{ "z": 1.10,  "a": "Zo\u00eb \ud83c\udf89 ß", "big": 123456789012345678901234567890, "a2": [ ] }"#;

on_every_engine! {
    arrives_byte_for_byte_and_signed,
    one_idempotency_key_is_one_message,
    what_was_made_can_be_read_changed_and_deleted,
}

async fn arrives_byte_for_byte_and_signed(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;

    let application = client.application("first").await;
    client
        .post("/api/v1/event-type", &json!({ "name": "invoice.paid", "description": "Paid" }))
        .await
        .json(201);
    let wanted = json!({ "eventTypes": ["invoice.paid"] });
    let endpoint = client.endpoint(&application, &recorder.url("/hook"), &wanted).await;
    let secret = client.secret(&application, &endpoint).await;

    let unwanted =
        client.publish(&application, &[], r#"{"eventType":"invoice.sent","payload":{"n":1}}"#).await;
    unwanted.json(202);
    let body = format!(r#"{{"eventType":"invoice.paid","payload":{PAYLOAD}}}"#);
    let message = client.publish(&application, &[], &body).await.id(202);

    let receipt = recorder.received(1).await.remove(0);
    assert_eq!(String::from_utf8_lossy(&receipt.body), PAYLOAD);
    assert_eq!(receipt.path, "/hook");
    assert_eq!(receipt.header("webhook-id"), message);
    assert_eq!(receipt.header("content-type"), "application/json");
    Webhook::new(&secret).unwrap().verify(&receipt.body, &receipt.headers).unwrap();

    server.terminate().await;
    assert_eq!(recorder.receipts().len(), 1, "the endpoint did not ask for invoice.sent");
}

async fn one_idempotency_key_is_one_message(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("repeats").await;
    client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let key = [("idempotency-key", "order-17")];
    let body = r#"{"eventType":"order.made","payload":{"order":17}}"#;

    let first = client.publish(&application, &key, body).await.id(202);
    let again = client.publish(&application, &key, body).await.id(202);
    assert_eq!(first, again);
    let other = client.publish(&application, &key, &body.replace("17", "18")).await.json(409);
    assert_eq!(other["code"], "conflict");

    // A crash changes nothing about it.
    server.kill();
    let server = installation.start().await;
    let again = client.publish(&application, &key, body).await.id(202);
    // On Kafka the router alone decides what another process took: the second id is an alias.
    assert!(first == again || engine.is_kafka(), "{first} and {again}");
    client.publish(&application, &key, &body.replace("17", "18")).await.json(409);

    let last = client.publish(&application, &[], r#"{"eventType":"order.made","payload":{}}"#).await.id(202);
    let deadline = crate::support::wait::PATIENCE;
    let ids = crate::support::wait::until("the last message arrives", deadline, async || {
        let receipts = recorder.receipts();
        let ids: Vec<String> = receipts.iter().map(|it| it.header("webhook-id").to_owned()).collect();
        ids.contains(&last).then_some(ids)
    })
    .await;
    // At the crash the first delivery may have been forgotten: the same message again, never a second one.
    assert!(ids.iter().all(|id| *id == first || *id == last), "{ids:?}");
    server.terminate().await;
}

async fn what_was_made_can_be_read_changed_and_deleted(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let application = client.application("life").await;
    let path = format!("/api/v1/app/{application}");

    assert_eq!(client.get(&path).await.json(200)["name"], "life");
    assert_eq!(client.patch(&path, &json!({ "name": "lives" })).await.json(200)["name"], "lives");
    let endpoint =
        client.endpoint(&application, "http://127.0.0.1:9/hook", &json!({ "ordering": "keyed" })).await;
    let read = client.get(&format!("{path}/endpoint/{endpoint}")).await.json(200);
    assert_eq!((&read["ordering"], &read["url"]), (&json!("keyed"), &json!("http://127.0.0.1:9/hook")));
    assert_eq!(ids(&client.get(&format!("{path}/endpoint")).await.json(200)), [endpoint.as_str()]);

    assert_eq!(client.delete(&format!("{path}/endpoint/{endpoint}")).await.status, 204);
    assert_eq!(client.get(&format!("{path}/endpoint/{endpoint}")).await.status, 404);
    assert_eq!(client.delete(&path).await.status, 204);
    assert_eq!(client.get(&path).await.status, 404);
    server.terminate().await;
}

fn ids(list: &Value) -> Vec<String> {
    let data = list["data"].as_array().unwrap();
    data.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
