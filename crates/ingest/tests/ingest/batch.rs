//! Many messages by one request.

use std::sync::Arc;

use fanfare_core::limits;
use fanfare_log::AppendError;
use serde_json::{Value, json};

use super::support::{Answer, Process, memory_log::Disk};

const PATH: &str = "/api/v1/app/shop/msg/batch";

async fn post(process: &Process, body: &Value, headers: &[(&str, &str)]) -> Answer {
    process.post(PATH, body.to_string(), headers).await
}

fn entries(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["data"].as_array().unwrap().clone()
}

fn statuses(entries: &[Value]) -> Vec<u64> {
    entries.iter().map(|entry| entry["status"].as_u64().unwrap()).collect()
}

fn numbered(count: usize) -> Value {
    let messages: Vec<Value> =
        (0..count).map(|n| json!({ "eventType": "order.paid", "payload": { "n": n } })).collect();
    json!({ "messages": messages })
}

#[tokio::test]
async fn each_message_has_its_answer_in_its_place() {
    let process = Process::start().await;
    let body = r#"{"messages": [
        {"eventType": "order.paid", "payload": { "a" : 1.50 }, "tags": ["t"], "channels": ["c"], "orderingKey": "k"},
        {"eventType": "order paid", "payload": 7},
        {"eventType": "order.paid", "payload": {}, "idempotencyKey": "k"},
        {"eventType": "order.paid", "payload": {}, "idempotencyKey": "k"},
        {"eventType": "order.paid", "payload": {"other": 1}, "idempotencyKey": "k"},
        {"eventType": "order.paid", "payload": {}, "eventId": "e", "idempotencyKey": "k2"},
        {"eventType": "order.paid", "payload": {}, "eventId": "e", "idempotencyKey": "k3"},
        {"eventType": "order.paid", "payload": {}, "idempotencyKey": "not a key"},
        {"eventType": "order.paid", "payload": {}, "application": {"uid": "shop", "name": "Shop"}}
    ]}"#;
    let answer = process.post(&format!("{PATH}?with_content=true"), body, &[]).await;
    let entries = entries(&answer);
    assert_eq!(statuses(&entries), [202, 422, 202, 202, 409, 202, 409, 422, 422]);
    let first = &entries[0]["message"];
    assert!(answer.text.contains(r#""payload":{ "a" : 1.50 }"#), "{}", answer.text);
    assert_eq!((&first["tags"], &first["channels"]), (&json!(["t"]), &json!(["c"])));
    assert_eq!((&first["eventType"], &first["orderingKey"]), (&json!("order.paid"), &json!("k")));
    assert_eq!(entries[2]["message"]["id"], entries[3]["message"]["id"]);
    assert_eq!(entries[5]["message"]["eventId"], "e");

    let wrong = &entries[1]["error"];
    assert_eq!((&wrong["code"], &wrong["status"]), (&json!("validation_error"), &json!(422)));
    let places: Vec<&Value> = wrong["errors"].as_array().unwrap().iter().map(|error| &error["loc"]).collect();
    let place = |field: &str| json!(["body", "messages", "1", field]);
    assert_eq!(places, [&place("eventType"), &place("payload")]);
    assert_eq!(entries[7]["error"]["errors"][0]["loc"], json!(["body", "messages", "7", "idempotencyKey"]));
    assert_eq!(entries[8]["error"]["errors"][0]["loc"], json!(["body", "messages", "8", "application"]));
    assert!(entries[4]["error"]["detail"].as_str().unwrap().contains("Idempotency-Key"));
    assert!(entries[6]["error"]["detail"].as_str().unwrap().contains("eventId"));

    let ids: Vec<String> = process.messages().iter().map(|message| message.id.to_string()).collect();
    let taken = |index: usize| entries[index]["message"]["id"].as_str().unwrap().to_owned();
    assert_eq!(ids, [taken(0), taken(2), taken(5)], "in the order of the request");
    assert_eq!(process.messages()[0].tags, ["t"]);
    assert_eq!(process.records()[0].payload.as_deref(), Some(&br#"{ "a" : 1.50 }"#[..]));
}

#[tokio::test]
async fn all_of_them_are_one_append() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Stalled);
    let publishing = tokio::spawn({
        let process = Arc::clone(&process);
        async move { post(&process, &numbered(limits::BATCH_MESSAGES), &[]).await }
    });
    process.appended(1).await;
    assert_eq!(process.records().len(), limits::BATCH_MESSAGES, "nothing of it is durable yet");
    assert!(!publishing.is_finished());
    process.log.set_disk(Disk::Well);
    let entries = entries(&publishing.await.unwrap());
    assert_eq!(statuses(&entries), vec![202; limits::BATCH_MESSAGES]);
    assert_eq!(entries[0]["message"]["payload"], json!({}), "nobody asked for the contents");
}

#[tokio::test]
async fn a_request_that_is_sent_again_takes_nothing_in_twice() {
    let process = Process::start().await;
    let body = numbered(3);
    let ids = |answer: &Answer| -> Vec<Value> {
        entries(answer).iter().map(|entry| entry["message"]["id"].clone()).collect()
    };
    let first = ids(&post(&process, &body, &[("idempotency-key", "auto_1")]).await);
    assert_eq!(ids(&post(&process, &body, &[("idempotency-key", "auto_1")]).await), first);
    assert_eq!(process.records().len(), 3);
    assert!(process.messages().iter().all(|message| message.identity.short_window));
    // Another request, and one message alone under the same key, are other messages.
    assert_ne!(ids(&post(&process, &body, &[("idempotency-key", "auto_2")]).await), first);
    let alone = r#"{"eventType": "order.paid", "payload": {"n": 0}}"#;
    process.publish(alone, &[("idempotency-key", "auto_1")]).await.id();
    assert_eq!(process.records().len(), 7);
    // Its own key counts before that of the request.
    let own = json!({ "messages": [{ "eventType": "a", "payload": {}, "idempotencyKey": "own" }] });
    let first = ids(&post(&process, &own, &[("idempotency-key", "auto_3")]).await);
    assert_eq!(ids(&post(&process, &own, &[("idempotency-key", "auto_4")]).await), first);
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole() {
    let process = Process::start().await;
    let most = limits::BATCH_MESSAGES;
    let good = json!({ "eventType": "a", "payload": {} });
    for (body, place) in [
        (json!({}), json!(["body", "messages"])),
        (json!({ "messages": [] }), json!(["body", "messages"])),
        (json!({ "messages": 7 }), json!(["body", "messages"])),
        (json!({ "messages": [good, 7] }), json!(["body", "messages", "1"])),
        (json!({ "messages": [good, [good]] }), json!(["body", "messages", "1"])),
        (numbered(most + 1), json!(["body", "messages"])),
    ] {
        let answer = post(&process, &body, &[]).await;
        assert_eq!((answer.status, &answer.json()["detail"][0]["loc"]), (422, &place), "{}", answer.text);
    }
    let many = format!(r#"{{"messages":[{}0]}}"#, "0,".repeat(1 << 20));
    let answer = process.post(PATH, many, &[]).await;
    assert!(answer.status == 422 && answer.text.contains("1 to 500"), "{}", answer.text);
    let large =
        format!(r#"{{"messages":[{{"eventType":"a","payload":{{"x":"{}"}}}}]}}"#, "y".repeat(4 << 20));
    assert_eq!(process.post(PATH, large, &[]).await.status, 413);
    let right = json!({ "messages": [good] }).to_string();
    assert_eq!(process.post("/api/v1/app/nobody/msg/batch", right, &[]).await.status, 404);
    assert_eq!(process.records().len(), 0);
}

/// The limit of one message holds for each of many.
#[tokio::test]
async fn one_that_is_too_large_keeps_the_others_from_nothing() {
    let process = Process::start().await;
    let large = "y".repeat(limits::BODY_BYTES);
    let body = json!({ "messages": [
        { "eventType": "a", "payload": { "n": 1 } },
        { "eventType": "a", "payload": { "x": large } },
        { "eventType": "a", "payload": { "n": 2 } },
    ] });
    let entries = entries(&post(&process, &body, &[]).await);
    assert_eq!(statuses(&entries), [202, 413, 202]);
    assert_eq!(entries[1]["error"]["code"], "payload_too_large");
    assert_eq!(process.records().len(), 2);
}

#[tokio::test]
async fn where_nothing_was_taken_in_the_same_may_be_sent_again() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Failing(AppendError::Full { topic: "messages" }));
    let answer = post(&process, &numbered(3), &[("idempotency-key", "k")]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("disk_full")), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    process.log.set_disk(Disk::Well);
    let again = post(&process, &numbered(3), &[("idempotency-key", "k")]).await;
    assert_eq!(statuses(&entries(&again)), [202, 202, 202]);
}

/// It brings its application along, as one message does.
#[tokio::test]
async fn the_application_is_made_if_there_is_none() {
    let process = Process::start().await;
    let mut body = numbered(1);
    body["application"] = json!({ "uid": "new", "name": "New" });
    let answer = process.post("/api/v1/app/new/msg/batch", body.to_string(), &[]).await;
    assert_eq!(statuses(&entries(&answer)), [202]);
    assert_eq!(post(&process, &body, &[]).await.status, 422, "its uid is not that of the path");
}

#[tokio::test]
async fn a_batch_counts_for_as_many_as_it_has() {
    let process = Process::start().await;
    let settings = fanfare_control::ApplicationSettings {
        publish_rate: Some(2),
        ..process.application.settings.clone()
    };
    let command = fanfare_control::Command::UpdateApplication {
        id: process.application.id,
        expected_revision: None,
        settings,
    };
    process.control.submit(command, None).await.unwrap();
    let answer = post(&process, &numbered(300), &[]).await;
    assert_eq!(statuses(&entries(&answer)).len(), 300);
    assert_eq!(answer.headers["ratelimit"], r#""application";r=0;t=150"#);
    let refused = post(&process, &numbered(1), &[]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("rate_limited")));
    let alone = process.publish(r#"{"eventType":"a","payload":{}}"#, &[]).await;
    assert_eq!(alone.status, 429, "{}", alone.text);
    assert_eq!(alone.headers["ratelimit-policy"], r#""application";q=2;w=1"#);
    assert_eq!(alone.json()["violated-policies"], json!(["application"]));
    let wait: u64 = alone.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((100..=150).contains(&wait), "{wait}");
    assert_eq!(process.records().len(), 300);
}
