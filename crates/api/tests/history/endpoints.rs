//! The messages of an endpoint, the endpoints of a message, and the numbers of both.

use fanfare_core::Settlement;
use serde_json::{Value, json};

use crate::told::{End, Told, id, named};

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_an_endpoint_with_how_they_stand() {
    let told = Told::new().await;
    let shop = told.application().await;
    let endpoint = told.endpoint(&shop).await;
    let path = format!("{}/msg", endpoint.path);
    let delivered = told.delivered(&shop, &endpoint).await;
    let dead = told.dead(&shop, &endpoint, Settlement::Exhausted).await;
    let cancelled = told.sent(&shop, &endpoint).await;
    told.settle(cancelled, Settlement::Cancelled).await;
    let sending = told.sent(&shop, &endpoint).await;
    told.attempt(sending, 1, End::Answer(500, ""), true).await;
    let pending = told.sent(&shop, &endpoint).await;

    let listed = told.get(&format!("{path}?expanded_statuses=true")).await;
    let shown: Vec<(Value, Value, Value)> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| {
            (message["status"].clone(), message["statusText"].clone(), message["standing"].clone())
        })
        .collect();
    let expected = [
        (1, "pending", "pending"),
        (3, "sending", "retrying"),
        (4, "canceled", "cancelled"),
        (2, "fail", "exhausted"),
        (0, "success", "delivered"),
    ];
    assert_eq!(shown, expected.map(|(status, text, standing)| (json!(status), json!(text), json!(standing))));
    let newest_first = named(&[pending, sending, cancelled, dead, delivered].map(|sent| sent.message));
    assert_eq!(told.all_ids(&path, 2).await, newest_first);
    let data = &listed["data"];
    assert!(data[1]["nextAttempt"].is_string() && data[0]["nextAttempt"].is_null());
    assert_eq!((&data[1]["attempts"], &data[3]["payload"]), (&json!(1), &json!({ "a": 1 })));
    assert!(data[3]["settledAt"].is_string());

    // Clients that never heard of cancelled deliveries are told what Svix tells them.
    let cancelled_as =
        async |query: &str| told.get(&format!("{path}?{query}")).await["data"][2]["statusText"].clone();
    assert_eq!(cancelled_as("").await, "success");
    assert_eq!(cancelled_as("expanded_statuses=false").await, "success");
    for (status, sent) in
        [("0", delivered), ("1", pending), ("2", dead), ("3", sending), ("canceled", cancelled)]
    {
        assert_eq!(told.ids(&format!("{path}?status={status}")).await, named(&[sent.message]), "{status}");
    }
    // An iterator that is a message's id.
    let behind = told.ids(&format!("{path}?iterator={}", cancelled.message.id)).await;
    assert_eq!(behind, newest_first[3..]);
    let before = told.ids(&format!("{path}?limit=1&iterator=-{}", cancelled.message.id)).await;
    assert_eq!(before, newest_first[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_a_message_deleted_ones_too() {
    let told = Told::new().await;
    let shop = told.application().await;
    let mut endpoints = Vec::new();
    for _ in 0..3 {
        endpoints.push(told.endpoint(&shop).await);
    }
    let message = told.message(&shop, crate::told::Draft::default()).await;
    for (number, endpoint) in endpoints.iter().enumerate() {
        let sent = told.route(message, endpoint).await;
        if number < 2 {
            told.attempt(sent, 1, End::Answer([200, 500][number], ""), number == 1).await;
        }
    }
    let path = format!("{}/msg/{}/endpoint", shop.path, message.id);
    let ids: Vec<String> = endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    assert_eq!(told.all_ids(&path, 2).await, ids);
    let listed = told.get(&path).await;
    let texts: Vec<&Value> =
        listed["data"].as_array().unwrap().iter().map(|shown| &shown["statusText"]).collect();
    assert_eq!(texts, ["success", "sending", "pending"]);
    let first = &listed["data"][0];
    assert_eq!((&first["url"], &first["version"]), (&json!("http://127.0.0.1:9/hook"), &json!(1)));
    assert!(first["createdAt"].is_string() && first["disabled"] == false && first["nextAttempt"].is_null());

    assert_eq!(told.process.delete(&endpoints[1].path).await, 204);
    let listed = told.get(&path).await;
    assert_eq!(crate::told::ids(&listed), ids);
    let deleted = &listed["data"][1];
    assert_eq!((&deleted["deleted"], &deleted["url"]), (&json!(true), &json!("")));
    assert!(
        deleted["createdAt"].is_string() && deleted["updatedAt"].is_string() && deleted["description"] == ""
    );
    // Its attempts still say whose they are.
    let attempts = told.get(&format!("{}/attempt/msg/{}", shop.path, message.id)).await;
    assert!(
        attempts["data"].as_array().unwrap().iter().any(|attempt| attempt["endpointId"] == json!(ids[1]))
    );
    // Iterators that are ids of endpoints.
    assert_eq!(told.ids(&format!("{path}?iterator={}", ids[0])).await, ids[1..]);
    assert_eq!(told.ids(&format!("{path}?limit=1&iterator=-{}", ids[2])).await, ids[1..2]);
    assert_eq!(told.ids(&format!("{path}?status=3")).await, ids[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_an_endpoint() {
    let told = Told::new().await;
    let shop = told.application().await;
    let (endpoint, another) = (told.endpoint(&shop).await, told.endpoint(&shop).await);
    for _ in 0..3 {
        told.delivered(&shop, &endpoint).await;
        told.delivered(&shop, &another).await;
    }
    told.dead(&shop, &endpoint, Settlement::Exhausted).await;
    told.dead(&shop, &endpoint, Settlement::Rejected).await;
    let sending = told.sent(&shop, &endpoint).await;
    told.attempt(sending, 1, End::Nothing, true).await;
    told.sent(&shop, &endpoint).await;
    let cancelled = told.sent(&shop, &endpoint).await;
    told.settle(cancelled, Settlement::Cancelled).await;

    let stats = told.get(&format!("{}/stats", endpoint.path)).await;
    let expected = json!({
        "success": 3, "pending": 1, "sending": 1, "fail": 2, "canceled": 1,
        "deadLetters": { "exhausted": 1, "rejected": 1 }, "purged": 0,
    });
    assert_eq!(stats, expected);
    let attempts = told.get(&format!("{}/attempt-stats", endpoint.path)).await;
    let expected = json!({ "success": 3, "fail": 3, "canceled": 0, "byStatusCodeClass": { "0": 1, "200": 3, "500": 2 } });
    assert_eq!(attempts, expected);
    let long_ago = "since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z";
    assert_eq!(told.get(&format!("{}/stats?{long_ago}", endpoint.path)).await["success"], 0);
    for (route, query) in [
        ("stats", "since=2020-01-02T00:00:00Z&until=2020-01-01T00:00:00Z"),
        ("stats", "since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z"),
        ("attempt-stats", "since=2020-01-01T00:00:00Z&until=2020-02-01T00:00:00Z"),
    ] {
        let refused = told.process.get(&format!("{}/{route}?{query}", endpoint.path)).await.is(400);
        assert_eq!(refused["code"], "invalid_range", "{route}?{query}");
    }
    let refused = told.process.get(&format!("{}/stats?since=noon", endpoint.path)).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["query", "since"]));
    assert!(!id(&told.get(&endpoint.path).await).is_empty());
}
