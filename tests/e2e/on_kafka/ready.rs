//! Ready is who can do the work of its roles, and nobody else.

use std::net::TcpListener;

use super::*;

const ROLES: [&str; 4] = ["ingest", "router", "delivery", "api"];

async fn status(client: &Client, path: &str) -> u16 {
    client.get(path).await.status
}

async fn becomes(client: &Client, path: &str, wanted: u16) {
    let what = format!("{path} answers {wanted}");
    wait::until(&what, wait::PATIENCE * 2, async || (status(client, path).await == wanted).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_while_the_broker_is_away() {
    let cluster = tokio::task::block_in_place(|| Cluster::start(&Settings::new(1)).expect("Kafka starts"));
    let broker = &cluster.brokers()[0];
    let installation = Installation::on(&Engine::kafka_at(&cluster.bootstrap()));
    let server = installation.start().await;
    let client = installation.client().await;
    tokio::task::block_in_place(|| broker.kill().expect("it runs"));
    becomes(&client, "/readyz", 503).await;
    let said = client.get("/readyz").await.json(503);
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(&cluster.bootstrap())), "{said}");
    assert_eq!(status(&client, "/livez").await, 200, "it need not be started anew");
    assert_eq!(status(&client, "/api/v1/health").await, 500);
    // Nobody publishes: it finds out by itself.
    tokio::task::block_in_place(|| broker.start(1).expect("Kafka starts"));
    becomes(&client, "/readyz", 200).await;
    server.terminate().await;
}

/// Who waits for its Kafka is alive, says that it waits, and tries less and less often.
#[tokio::test(flavor = "multi_thread")]
async fn alive_while_it_waits_for_kafka() {
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
    let installation = Installation::on(&Engine::kafka_at("127.0.0.1:1"));
    let server = installation.spawn_at(&free.to_string(), &["--dev"]);
    let client = installation.client_with(None);
    let answers = async |path: &str| Some(client.try_send("GET", path, &[], "").await.ok()?.status);
    wait::until("it is alive", wait::PATIENCE, async || (answers("/livez").await? == 200).then_some(()))
        .await;
    assert_eq!(answers("/readyz").await, Some(503));
    let refused = client.post("/api/v1/app", &json!({ "name": "too soon" })).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");
    let pauses = wait::until("it has tried four times", wait::PATIENCE, async || {
        let pauses = server.numbers("retry_in_ms");
        (pauses.len() >= 4).then_some(pauses)
    })
    .await;
    assert!(pauses[..4].windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    server.terminate().await;
}

/// Each of the fifteen starts, is ready, and has the routes of its roles and no others.
#[tokio::test(flavor = "multi_thread")]
async fn every_combination_of_roles() {
    let shared = Shared::new();
    for number in 1_u8..16 {
        let plays = |role: usize| number & (1 << role) != 0;
        let roles: Vec<&str> = (0..4).filter(|role| plays(*role)).map(|role| ROLES[role]).collect();
        let roles = roles.join(",");
        let member = shared.start(&roles).await;
        let client = shared.client(&member).await;
        assert_eq!(status(&client, "/api/v1/scaling").await, 200, "{roles}");
        let application = client.post("/api/v1/app", &json!({ "name": roles })).await;
        assert_eq!(application.status, if plays(3) { 201 } else { 404 }, "{roles}: {application:?}");
        let answer = client.publish("app_nobody", &[], r#"{"eventType":"a.b","payload":{}}"#).await;
        // Messages are published at the path at which the API lists them.
        let is_listed = plays(3) && !plays(0);
        let message = answer.json(if is_listed { 405 } else { 404 });
        let is_route = !message["detail"].as_str().is_some_and(|detail| detail.contains("no route"));
        assert_eq!(is_route, plays(0) || is_listed, "{roles}: {message}");
        member.server.expect("it runs").terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_for_each_role() {
    let shared = Shared::new();
    let mut members = Vec::new();
    for role in ROLES {
        members.push(shared.start(role).await);
    }
    let (ingest, api) = (shared.client(&members[0]).await, shared.client(&members[3]).await);
    let recorder = Recorder::start().await;
    let application = api.application("apart").await;
    api.endpoint(&application, &recorder.url("/"), &json!({})).await;
    let body = json!({ "eventType": "number.counted", "payload": {} }).to_string();
    let id = ingest.publish(&application, &[], &body).await.id(202);
    assert_eq!(recorder.received(1).await[0].header("webhook-id"), id);
    for member in members {
        member.server.expect("it runs").terminate().await;
    }
}
