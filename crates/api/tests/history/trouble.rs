//! Where there is no history to be read.

use serde_json::json;

use crate::support::Process;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_history_says_so() {
    let process = Process::start(true).await;
    let application = process.post("/app", json!({ "name": "shop" })).await.is(201);
    let path = format!("/app/{}", application["id"].as_str().unwrap());
    let endpoint =
        process.post(&format!("{path}/endpoint"), json!({ "url": "http://127.0.0.1:9/" })).await.is(201);
    let endpoint = endpoint["id"].as_str().unwrap();
    for route in [
        "msg".to_owned(),
        "msg/order-17".to_owned(),
        "msg/order-17/attempt".to_owned(),
        "msg/order-17/endpoint".to_owned(),
        "attempt/msg/order-17".to_owned(),
        format!("attempt/endpoint/{endpoint}"),
        format!("endpoint/{endpoint}/msg"),
        format!("endpoint/{endpoint}/stats"),
        format!("endpoint/{endpoint}/attempt-stats"),
        format!("endpoint/{endpoint}/reconciliation"),
        "dead-letter".to_owned(),
    ] {
        let refused = process.get(&format!("{path}/{route}")).await.is(503);
        assert_eq!(refused["code"], "history_off", "{route}");
    }
    let precheck =
        process.post(&format!("{path}/msg/precheck/active"), json!({ "eventType": "a" })).await.is(200);
    assert_eq!(precheck["active"], true);
}
