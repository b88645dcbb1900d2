//! What left the log before a worker saw it.

use super::*;

/// Deliveries that Kafka removed before any worker saw them are told of, and what was kept is delivered: the router whose
/// session goes on does not know.
#[tokio::test(flavor = "multi_thread")]
async fn retention_past_a_worker_is_told_and_what_is_kept_is_delivered() {
    const REMOVED: usize = 10;
    const KEPT: usize = 10;
    let shared = Shared::new();
    let front = shared.start("ingest,router,api").await;
    let mut worker = shared.start("delivery").await;
    let client = shared.client(&front).await;
    let recorder = Recorder::start().await;
    let application = client.application("worker away").await;
    client.endpoint(&application, &recorder.url("/"), &json!({})).await;
    let publish = async |count: usize| {
        let body = json!({ "eventType": "number.counted", "payload": {} }).to_string();
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(client.publish(&application, &[], &body).await.id(202));
        }
        ids
    };
    let seen = publish(3).await;
    recorder.received(3).await;
    worker.server.take().expect("it runs").terminate().await;

    publish(REMOVED).await;
    routed(&client, 3 + REMOVED).await;
    remove_records(&shared.brokers, &shared.prefix).await;
    let kept = publish(KEPT).await;
    routed(&client, 3 + REMOVED + KEPT).await;

    let mut server = shared.spawn(&worker.installation, "delivery");
    server.expect_error("were lost in storage");
    server.ready().await;
    let later = publish(3).await;
    let receipts = recorder.received(3 + KEPT + 3).await;
    let came: Vec<&str> = receipts.iter().map(|receipt| receipt.header("webhook-id")).collect();
    assert_eq!(came, [seen, kept, later].concat());
    server.terminate().await;
    front.server.expect("it runs").terminate().await;
}

async fn routed(client: &Client, messages: usize) {
    wait::until("all is routed", wait::PATIENCE, async || {
        let routed = client.metric("fanfare_router_messages_total", "").await;
        (routed >= messages as u64).then_some(())
    })
    .await;
}
