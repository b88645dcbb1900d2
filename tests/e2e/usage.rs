//! Usage: what is counted per application is what was published and sent, no more and no less.

use serde_json::{Value, json};

use crate::support::{Client, Engine, Installation, Recorder, on_every_engine, wait};

on_every_engine! {
    counts_are_what_was_published,
}

/// Applications, with how many endpoints each has and how many messages are published for it.
const APPLICATIONS: [(&str, usize, usize); 3] = [("busy", 3, 20), ("quiet", 1, 2), ("idle", 1, 0)];

async fn counts_are_what_was_published(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let url = recorder.url("/hook");
    client.post("/api/v1/event-type", &json!({ "name": "a", "description": "" })).await.json(201);
    for (uid, endpoints, messages) in APPLICATIONS {
        client.post("/api/v1/app", &json!({ "name": uid, "uid": uid })).await.json(201);
        for _ in 0..endpoints {
            client.endpoint(uid, &url, &json!({ "eventTypes": ["a"] })).await;
        }
        for n in 0..messages {
            let key = format!("key-{n}");
            for _ in 0..2 {
                // The repeat is no message.
                let body = r#"{"eventType":"a","payload":{}}"#;
                client.publish(uid, &[("idempotency-key", &key)], body).await.id(202);
            }
        }
    }
    let expected: Vec<[usize; 3]> = APPLICATIONS
        .iter()
        .map(|(_, endpoints, messages)| [*messages, messages * endpoints, messages * endpoints])
        .collect();
    // Attempts are written down a moment after they were answered.
    let usage = wait::until("all of it is counted", wait::PATIENCE, async || {
        let usage = client.get("/api/v1/usage").await.json(200);
        let data = usage["data"].as_array().unwrap();
        let counts: Vec<_> = data.iter().map(counts).collect();
        (counts == expected).then_some(usage)
    })
    .await;
    for (app, (uid, _, messages)) in usage["data"].as_array().unwrap().iter().zip(APPLICATIONS) {
        assert_eq!(app["appUid"], uid);
        let days = app["days"].as_array().unwrap();
        assert_eq!(days.is_empty(), messages == 0, "{app}");
        let sum = days.iter().map(counts).fold([0; 3], |sum, day| [0, 1, 2].map(|n| sum[n] + day[n]));
        assert_eq!(sum, counts(app), "days add up: {app}");
    }
    // One more, deleted endpoints included.
    let last = client.get("/api/v1/app/busy/endpoint").await.json(200);
    let path = format!("/api/v1/app/busy/endpoint/{}", last["data"][0]["id"].as_str().unwrap());
    assert_eq!(client.delete(&path).await.status, 204);
    let page = client.get("/api/v1/usage?limit=1").await.json(200);
    assert_eq!((counts(&page["data"][0]), &page["done"]), (expected[0], &json!(false)));
    let past =
        client.get("/api/v1/usage?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z").await.json(200);
    assert!(past["data"].as_array().unwrap().iter().all(|app| counts(app) == [0; 3]), "{past}");

    reports_say_the_same(&client).await;
    server.terminate().await;
}

async fn reports_say_the_same(client: &Client) {
    let (since, until) = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    let wanted = json!({ "since": since, "until": until, "appIds": ["quiet", "nobody", "busy"] });
    let made = client.post("/api/v1/stats/usage/app", &wanted).await.json(200);
    assert_eq!((&made["task"], &made["unresolvedAppIds"]), (&json!("application.stats"), &json!(["nobody"])));
    let task = finished(client, &made).await;
    let stats = task["data"]["appStats"].as_array().unwrap();
    let stats: Vec<_> = stats.iter().map(|app| (&app["appUid"], &app["messageDestinations"])).collect();
    assert_eq!(stats, [(&json!("quiet"), &json!(2)), (&json!("busy"), &json!(60))]);

    let none = json!({ "since": since, "until": until, "appIds": ["nobody"] });
    let refused = client.post("/api/v1/stats/usage/app", &none).await.json(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "appIds"]));
    let early = json!({ "since": since, "until": "2020-01-02T00:00:00Z" });
    let task = finished(client, &client.post("/api/v1/stats/usage/app", &early).await.json(200)).await;
    let stats = task["data"]["appStats"].as_array().unwrap();
    assert_eq!(stats.len(), APPLICATIONS.len(), "all of them: {task}");
    assert!(stats.iter().all(|app| app["messageDestinations"] == 0), "{task}");

    let made = client.send("PUT", "/api/v1/stats/usage/event-types", &[], "").await.json(200);
    assert_eq!(made["task"], "event-type.aggregate");
    let task = finished(client, &made).await;
    let types = task["data"]["appEventTypes"].as_array().unwrap();
    let types: Vec<_> = types.iter().map(|app| (&app["appUid"], &app["eventTypes"])).collect();
    let (two, one) = (json!({ "a": 2 }), json!({ "a": 1 }));
    assert_eq!(types, [(&json!("busy"), &two), (&json!("quiet"), &one), (&json!("idle"), &one)]);
    let listed = client.get("/api/v1/background-task?task=application.stats").await.json(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
}

/// The task of a report as it is read by its id.
async fn finished(client: &Client, made: &Value) -> Value {
    assert_eq!(made["status"], "finished", "{made}");
    let path = format!("/api/v1/background-task/{}", made["id"].as_str().unwrap());
    let task = client.get(&path).await.json(200);
    assert_eq!((&task["id"], &task["task"], &task["status"]), (&made["id"], &made["task"], &made["status"]));
    task
}

fn counts(of: &Value) -> [usize; 3] {
    ["messages", "deliveries", "attempts"].map(|name| of[name].as_u64().unwrap().try_into().unwrap())
}
