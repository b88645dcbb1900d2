//! Many messages by one request, and limits on how many may come.

use serde_json::{Value, json};

use crate::support::{Answer, Engine, Installation, Recorder, on_every_engine, wait};

on_every_engine! {
    a_batch_arrives_once_and_in_its_order,
    a_limit_is_kept_and_told_of,
}

const MESSAGES: usize = 300;

fn ids(answer: &Answer) -> Vec<String> {
    let entries = answer.json(202)["data"].as_array().unwrap().clone();
    let id = |entry: &Value| entry["message"]["id"].as_str().unwrap_or_else(|| panic!("{entry}")).to_owned();
    entries.iter().map(id).collect()
}

async fn a_batch_arrives_once_and_in_its_order(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("batches").await;
    client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let message =
        |n: usize| json!({ "eventType": "a", "payload": { "n": n }, "idempotencyKey": format!("k{n}") });
    let messages: Vec<Value> = (0..MESSAGES).map(message).collect();
    let path = format!("/api/v1/app/{application}/msg/batch");
    let body = json!({ "messages": messages });
    let first = ids(&client.post(&path, &body).await);
    assert_eq!(ids(&client.post(&path, &body).await), first, "sent again, nothing more is taken in");
    client.publish(&application, &[], r#"{"eventType":"a","payload":{"n":"last"}}"#).await.json(202);

    let receipts = recorder.received(MESSAGES + 1).await;
    let arrived: Vec<&str> = receipts.iter().map(|receipt| receipt.header("webhook-id")).collect();
    assert_eq!(arrived[..MESSAGES], first);
    for (n, receipt) in receipts[..MESSAGES].iter().enumerate() {
        assert_eq!(receipt.body, format!(r#"{{"n":{n}}}"#));
    }
    assert_eq!(receipts[MESSAGES].body, r#"{"n":"last"}"#);
    server.terminate().await;
}

async fn a_limit_is_kept_and_told_of(engine: Engine) {
    let installation = Installation::on(&engine);
    let mut server = installation.spawn(&["--dev", "--token-publish-rate", "5"]);
    server.ready().await;
    let client = installation.client().await;
    let application = client.application("limits").await;
    let publish = async || client.publish(&application, &[], r#"{"eventType":"a","payload":{}}"#).await;
    let taken = publish().await;
    taken.json(202);
    assert_eq!(taken.header("ratelimit-policy"), Some(r#""token";q=5;w=1"#));
    let refused = wait::until("the limit is reached", wait::PATIENCE, async || {
        let answer = publish().await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    let problem = refused.json(429);
    assert_eq!((&problem["code"], &problem["status"]), (&json!("rate_limited"), &json!(429)));
    assert_eq!(problem["violated-policies"], json!(["token"]));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.header("ratelimit").unwrap().contains("r=0"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Nobody else is held up by it, and it does not last.
    let other = installation.client_with(Some(&installation.token(&["--app", &application]).await));
    other.publish(&application, &[], r#"{"eventType":"a","payload":{}}"#).await.json(202);
    wait::until("there is room again", wait::PATIENCE, async || {
        (publish().await.status == 202).then_some(())
    })
    .await;
    server.terminate().await;
}
