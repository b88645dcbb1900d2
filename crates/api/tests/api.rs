//! The control plane's routes, over the embedded log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use fanfare_control::default_organization;
use fanfare_core::{Clock as _, SystemClock};
use http::Method;
use serde_json::{Value, json};

use support::Process;

#[tokio::test]
async fn an_application_from_creation_to_deletion() {
    let process = Process::start(false).await;
    let made =
        process.post("/app", json!({"name": "Shop", "uid": "shop", "rateLimit": 5, "metadata": {"a": "b"}}));
    let made = made.await.is(201);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("app_") && id.len() == 31);
    assert_eq!((&made["throttleRate"], &made["rateLimit"]), (&json!(5), &json!(5)));
    assert!(made["createdAt"].as_str().unwrap().ends_with('Z'));

    for name in [id, "shop"] {
        assert_eq!(process.get(&format!("/app/{name}")).await.is(200), made);
    }
    let conflict = process.post("/app", json!({"name": "Other", "uid": "shop"})).await.is(409);
    assert!(conflict["detail"].as_str().unwrap().contains("`shop`"));
    let got = process.post("/app?get_if_exists=true", json!({"name": "Other", "uid": "shop"})).await.is(200);
    assert_eq!(got, made);

    let patched = process.patch("/app/shop", json!({"name": "Shop 2", "rateLimit": null, "unknown": 1}));
    let patched = patched.await.is(200);
    assert_eq!((&patched["name"], &patched["uid"]), (&json!("Shop 2"), &json!("shop")));
    assert!(patched["throttleRate"].is_null());
    assert_eq!(patched["metadata"], json!({"a": "b"}));

    let replaced = process.put("/app/shop", json!({"name": "Shop 3"})).await.is(200);
    assert_eq!((&replaced["uid"], &replaced["metadata"]), (&json!("shop"), &json!({})));
    assert_eq!(process.put("/app/new", json!({"name": "New"})).await.is(201)["uid"], "new");
    process.put("/app/newer", json!({"name": "New", "uid": "other"})).await.is(422);

    assert_eq!(process.delete("/app/shop").await, 204);
    process.get("/app/shop").await.is(404);
    process.post("/app", json!({"name": "Again", "uid": "shop"})).await.is(201);
}

#[tokio::test]
async fn applications_page_by_page() {
    let process = Process::start(false).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let made = process.post("/app", json!({"name": format!("A{number}")})).await.is(201);
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    let first = process.get("/app?limit=2").await.is(200);
    let shown = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().into()).collect()
    };
    assert_eq!(shown(&first), ids[..2]);
    assert_eq!((&first["done"], &first["iterator"]), (&json!(false), &json!(ids[1])));
    assert_eq!(first["prevIterator"], format!("-{}", ids[0]));
    let rest = process.get(&format!("/app?limit=3&iterator={}", ids[1])).await.is(200);
    assert_eq!((shown(&rest), &rest["done"]), (ids[2..].to_vec(), &json!(true)));
    let back = process.get(&format!("/app?limit=2&iterator=-{}", ids[2])).await.is(200);
    assert_eq!(shown(&back), ids[..2]);
    let descending = process.get("/app?order=descending").await.is(200);
    assert_eq!(shown(&descending), ids.iter().rev().cloned().collect::<Vec<_>>());
    process.get("/app?limit=251").await.is(422);
}

#[tokio::test]
async fn applications_may_be_left_out_by_their_endpoints() {
    let process = Process::start(false).await;
    for (uid, endpoints) in [
        ("none", vec![]),
        ("live", vec![("https://example.com", false), ("https://example.com/2", true)]),
        ("off", vec![("https://example.com", true)]),
        ("play", vec![("https://play.svix.com/in/a", false)]),
    ] {
        process.put(&format!("/app/{uid}"), json!({"name": uid})).await.is(201);
        for (url, disabled) in endpoints {
            let body = json!({"url": url, "disabled": disabled});
            process.post(&format!("/app/{uid}/endpoint"), body).await.is(201);
        }
    }
    for (query, expected) in [
        ("", vec!["none", "live", "off", "play"]),
        ("?exclude_apps_with_no_endpoints=true", vec!["live", "off", "play"]),
        ("?exclude_apps_with_disabled_endpoints=true", vec!["none", "live", "play"]),
        ("?exclude_apps_with_svix_play_endpoints=true", vec!["none", "live", "off"]),
        (
            "?exclude_apps_with_no_endpoints=true&exclude_apps_with_disabled_endpoints=true&limit=1",
            vec!["live"],
        ),
    ] {
        let list = process.get(&format!("/app{query}")).await.is(200);
        // They were made within the 4 ms that ids tell apart.
        let uids = |uid: &Value| uid["uid"].as_str().unwrap().to_owned();
        let uids: BTreeSet<String> = list["data"].as_array().unwrap().iter().map(uids).collect();
        assert_eq!(uids, expected.into_iter().map(str::to_owned).collect(), "{query}");
    }
}

#[tokio::test]
async fn a_post_with_a_key_is_carried_out_once() {
    let process = Process::start(false).await;
    let key = [("idempotency-key", "auto_1")];
    let post = async |path: &'static str, body: &'static str| {
        process.send(Method::POST, path, Some(body), &key).await
    };
    let first = post("/app", r#"{"name": "A"}"#).await.is(201);
    assert_eq!(post("/app", r#"{"name": "A"}"#).await.is(201), first);
    assert_ne!(post("/app?get_if_exists=true", r#"{"name": "A"}"#).await.is(201)["id"], first["id"]);
    let conflict = post("/app", r#"{"name": "B"}"#).await.is(409);
    assert!(conflict["detail"].as_str().unwrap().contains("Idempotency-Key"));
    assert_eq!(process.get("/app").await.is(200)["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_endpoint_from_creation_to_deletion() {
    let process = Process::start(false).await;
    process.post("/app", json!({"name": "Shop", "uid": "shop"})).await.is(201);
    process.post("/event-type", json!({"name": "order.paid", "description": "d"})).await.is(201);
    let made = process.post(
        "/app/shop/endpoint",
        json!({"url": "https://example.com/hook", "uid": "main", "filterTypes": ["order.paid"], "rateLimit": 9,
            "channels": ["eu"], "ordering": "keyed", "retrySchedule": [1, 2], "parkAfterSecs": 5,
            "maxInFlight": 7, "timeoutSecs": 3, "headers": {"X-Team": "a"}}),
    );
    let made = made.await.is(201);
    assert!(made["id"].as_str().unwrap().starts_with("ep_"));
    assert_eq!(made["eventTypes"], json!(["order.paid"]));
    assert_eq!(made["filterTypes"], made["eventTypes"]);
    assert_eq!((&made["throttleRate"], &made["rateLimit"]), (&json!(9), &json!(9)));
    assert_eq!(
        (&made["version"], &made["disabled"], &made["description"]),
        (&json!(1), &json!(false), &json!(""))
    );
    assert_eq!((&made["ordering"], &made["retrySchedule"]), (&json!("keyed"), &json!([1, 2])));
    assert_eq!((&made["parkAfterSecs"], &made["block"]), (&json!(5), &json!(false)));
    assert!(made.get("secret").is_none() && made.get("headers").is_none());
    assert_eq!(process.get("/app/shop/endpoint/main").await.is(200), made);
    let before = process.written().await;
    process.post("/app/shop/endpoint", json!({"url": "https://a.example", "uid": "main"})).await.is(409);
    assert_eq!(process.written().await, before);

    let path = "/app/shop/endpoint/main";
    let patched =
        process.patch(path, json!({"eventTypes": null, "block": true, "disabled": true})).await.is(200);
    assert_eq!((&patched["filterTypes"], &patched["channels"]), (&Value::Null, &json!(["eu"])));
    assert_eq!((&patched["parkAfterSecs"], &patched["block"]), (&Value::Null, &json!(true)));
    let patched =
        process.patch(path, json!({"parkAfterSecs": 9, "filterTypes": ["order.paid"]})).await.is(200);
    assert_eq!((&patched["parkAfterSecs"], &patched["block"]), (&json!(9), &json!(false)));
    assert_eq!(patched["eventTypes"], json!(["order.paid"]));

    // A PUT sets what it says and nothing else, but headers have routes of their own.
    let replaced = process.put(path, json!({"url": "https://example.com/2"})).await.is(200);
    assert_eq!((&replaced["uid"], &replaced["ordering"]), (&json!("main"), &Value::Null));
    let headers = process.get("/app/shop/endpoint/main/headers").await.is(200);
    assert_eq!(headers, json!({"headers": {"x-team": "a"}, "sensitive": []}));
    process.put("/app/shop/endpoint/second", json!({"url": "https://example.com"})).await.is(201);
    // The newest first.
    let listed = process.get("/app/shop/endpoint").await.is(200);
    let uids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|item| item["uid"].clone()).collect();
    assert_eq!(uids.len(), 2);
    assert_eq!(listed["done"], true);

    assert_eq!(process.delete(path).await, 204);
    assert_eq!(process.delete(path).await, 404);
}

/// What was moved here is still called by the id that it had.
#[tokio::test]
async fn a_uid_may_be_an_id_from_elsewhere() {
    let elsewhere = Process::start(false).await;
    let made = elsewhere.put("/app/a", json!({"name": "A"})).await.is(201);
    let (app, hook) = (made["id"].as_str().unwrap(), json!({"url": "https://example.com"}));
    let made = elsewhere.put("/app/a/endpoint/e", hook.clone()).await.is(201);
    let endpoint = made["id"].as_str().unwrap();

    let process = Process::start(false).await;
    // Without a uid the path names one that is not there.
    process.put(&format!("/app/{app}"), json!({"name": "A"})).await.is(404);
    for (status, name) in [(201, "A"), (200, "B")] {
        let put = process.put(&format!("/app/{app}"), json!({"name": name, "uid": app})).await.is(status);
        assert_eq!((&put["uid"], &put["name"]), (&json!(app), &json!(name)));
        assert_ne!(put["id"], json!(app));
    }
    let path = format!("/app/{app}/endpoint/{endpoint}");
    process.put(&path, hook.clone()).await.is(404);
    process.put(&path, json!({"url": "https://example.com", "uid": endpoint})).await.is(201);
    let found = process.get(&path).await.is(200);
    assert_eq!(found["uid"], json!(endpoint));
    assert_eq!(process.patch(&path, json!({"description": "d"})).await.is(200)["id"], found["id"]);
    process
        .post(&format!("/app/{app}/endpoint"), json!({"url": "https://a.example", "uid": endpoint}))
        .await
        .is(409);

    // The id of something that is here is taken.
    let own = process.get(&format!("/app/{app}")).await.is(200)["id"].clone();
    process.post("/app", json!({"name": "C", "uid": own})).await.is(409);
    process.put("/app/c", json!({"name": "C"})).await.is(201);
    process.patch("/app/c", json!({"uid": own})).await.is(409);
    let path = format!("/app/{app}/endpoint");
    process.post(&path, json!({"url": "https://a.example", "uid": found["id"]})).await.is(409);
    // What was done to it is found by that name too.
    let log = process.get(&format!("/audit-log?application={app}")).await.is(200);
    let done = log["data"].as_array().unwrap().iter().filter(|entry| entry["refused"] == false);
    assert_eq!(done.count(), 4);
}

#[tokio::test]
async fn headers_are_set_and_hidden() {
    let process = Process::start(false).await;
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    process.put("/app/a/endpoint/e", json!({"url": "https://example.com"})).await.is(201);
    let path = "/app/a/endpoint/e/headers";
    process
        .put(path, json!({"headers": {"Authorization": "Bearer x", "X-A": "1", "x-b": "2"}}))
        .await
        .is(204);
    process.patch(path, json!({"headers": {"x-b": null, "X-C": "3"}})).await.is(204);
    let shown = process.get(path).await.is(200);
    assert_eq!(shown, json!({"headers": {"x-a": "1", "x-c": "3"}, "sensitive": ["authorization"]}));
    for (name, value) in
        [("webhook-id", "1"), ("Content-Type", "a"), ("a b", "1"), ("x", "a\nb"), ("host", "a")]
    {
        let refused = process.patch(path, json!({"headers": {name: value}})).await.is(422);
        assert_eq!(refused["detail"][0]["loc"][1], "headers", "{name}");
    }
    assert_eq!(process.get(path).await.is(200), shown);
}

#[tokio::test]
async fn secrets_are_chosen_made_and_rotated() {
    let process = Process::start(false).await;
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    let chosen = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({"url": "https://example.com", "uid": "e", "secret": chosen});
    process.post("/app/a/endpoint", body).await.is(201);
    let path = "/app/a/endpoint/e/secret";
    assert_eq!(process.get(path).await.is(200)["key"], chosen);
    let rotated = process.send(Method::POST, "/app/a/endpoint/e/secret/rotate", None, &[]).await.is(200);
    let made = rotated["key"].as_str().unwrap();
    assert!(made.starts_with("whsec_") && made != chosen);
    assert_eq!(process.get(path).await.is(200), rotated);
    let endpoint = process.control.view().application(default_organization(), "a").unwrap().id;
    let endpoint = process.control.view().endpoint(endpoint, "e").unwrap();
    assert_eq!(process.control.signer(&endpoint, SystemClock.now()).unwrap().keys().len(), 2);
    for wrong in ["whsec_!", "abc", "whsec_YQ==", "whpk_AAAA"] {
        let refused = process.post("/app/a/endpoint/e/secret/rotate", json!({"key": wrong})).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["body", "key"]), "{wrong}");
    }
    let no_kind = json!({"type": "rsa"});
    let refused = process.post("/app/a/endpoint/e/secret/rotate", no_kind).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "type"]));
    // No other answer shows it.
    let shown = process.get("/app/a/endpoint/e").await.is(200).to_string();
    assert!(!shown.contains(made));
}

/// Its owner gets what verifies, and nobody gets what signs.
#[tokio::test]
async fn of_an_ed25519_key_the_public_half_is_shown() {
    let process = Process::start(false).await;
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    let body = json!({"url": "https://example.com", "uid": "e", "secretType": "ed25519"});
    process.post("/app/a/endpoint", body).await.is(201);
    let (path, rotate) = ("/app/a/endpoint/e/secret", "/app/a/endpoint/e/secret/rotate");
    let key = async || process.get(path).await.is(200)["key"].as_str().unwrap().to_owned();
    let made = key().await;
    assert!(made.starts_with("whpk_"), "{made}");
    // Of the same kind, unless another one is asked for.
    let rotated = process.post(rotate, json!({})).await.is(200);
    let next = key().await;
    assert!(next.starts_with("whpk_") && next != made && rotated["key"] == next.as_str());
    let application = process.control.view().application(default_organization(), "a").unwrap().id;
    let endpoint = || process.control.view().endpoint(application, "e").unwrap();
    let signers = process.control.signer(&endpoint(), SystemClock.now()).unwrap();
    let publics: Vec<_> = signers.keys().iter().map(|key| key.public_key().unwrap()).collect();
    assert_eq!(publics, [next.clone(), made], "the former one signs beside it");

    let private =
        "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
    process.post(rotate, json!({"key": private, "gracePeriodSeconds": 0})).await.is(200);
    assert_eq!(key().await, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    process.post(rotate, json!({"type": "hmac"})).await.is(200);
    assert!(key().await.starts_with("whsec_"));
    for (body, field) in [
        (json!({"key": private, "type": "hmac"}), "type"),
        (json!({"gracePeriodSeconds": 604_801}), "gracePeriodSeconds"),
    ] {
        let refused = process.post(rotate, body).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["body", field]));
    }
    let patch = json!({"secretType": "ed25519"});
    let refused = process.patch("/app/a/endpoint/e", patch).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "secretType"]));
    process.patch("/app/a/endpoint/e", json!({"secretType": "hmac"})).await.is(200);
}

#[tokio::test]
async fn event_types_are_imported() {
    let process = Process::start(false).await;
    let hook = |text: &str| json!({"post": {"description": text}});
    let spec = |hooks: serde_json::Value| json!({"openapi": "3.1.0", "webhooks": hooks});
    let path = "/event-type/import/openapi";
    process.post("/event-type", json!({"name": "old", "description": ""})).await.is(201);
    process.post("/event-type", json!({"name": "a", "description": "One"})).await.is(201);
    let both = spec(json!({"a": hook("One"), "b": hook("Two")}));
    let planned = process.post(path, json!({"spec": both, "dryRun": true})).await.is(200);
    assert_eq!(planned["data"]["modified"], json!(["b"]), "the other one is the same");
    assert_eq!(planned["data"]["to_modify"][0]["name"], "b");
    assert_eq!(planned["data"]["to_modify"][0]["description"], "Two");
    process.get("/event-type/b").await.is(404);
    let raw = both.to_string();
    assert_eq!(process.post(path, json!({"specRaw": raw})).await.is(200)["data"]["modified"], json!(["b"]));
    assert_eq!(process.get("/event-type/b").await.is(200)["description"], "Two");

    let one = "openapi: 3.1.0\nwebhooks:\n  a:\n    post:\n      description: Changed\n";
    let all = json!({"specRaw": one, "replaceAll": true});
    let replaced = process.post(path, all.clone()).await.is(200);
    assert_eq!(replaced["data"]["modified"], json!(["a", "b", "old"]));
    assert_eq!(process.get("/event-type/old").await.is(200)["archived"], true);
    assert_eq!(process.get("/event-type/a").await.is(200)["description"], "Changed");
    assert_eq!(process.post(path, all).await.is(200)["data"]["modified"], json!([]), "again, nothing");
    // What was archived comes back.
    process.post(path, json!({"spec": both})).await.is(200);
    assert_eq!(process.get("/event-type/b").await.is(200)["archived"], false);
    process.post(path, json!({})).await.is(400);
    process.post(path, json!({"spec": {}, "specRaw": ""})).await.is(400);
    let refused = process.post(path, json!({"spec": spec(json!({"a b": hook("")}))})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "spec", "webhooks", "a b", "name"]));
}

#[tokio::test]
async fn feature_flags_have_a_former_form() {
    let process = Process::start(false).await;
    let body = json!({"name": "a", "description": "", "featureFlags": ["x", "y"]});
    let made = process.post("/event-type", body).await.is(201);
    assert_eq!((&made["featureFlags"], &made["featureFlag"]), (&json!(["x", "y"]), &json!("x")));
    let patched = process.patch("/event-type/a", json!({"featureFlag": "z"})).await.is(200);
    assert_eq!((&patched["featureFlags"], &patched["featureFlag"]), (&json!(["z"]), &json!("z")));
    let patched = process.patch("/event-type/a", json!({"featureFlags": null})).await.is(200);
    assert!(patched["featureFlags"].is_null() && patched["featureFlag"].is_null(), "{patched}");
    let body = json!({"name": "b", "description": "", "featureFlag": "x"});
    assert_eq!(process.post("/event-type", body).await.is(201)["featureFlags"], json!(["x"]));
    let refused = process.patch("/event-type/b", json!({"featureFlags": ["a b"]})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "featureFlags", "0"]));
}

#[tokio::test]
async fn an_event_type_from_creation_to_archive() {
    let process = Process::start(false).await;
    let made = process.post("/event-type", json!({"name": "a.b", "description": "d", "schemas": {"1": {}}}));
    let made = made.await.is(201);
    assert_eq!((&made["archived"], &made["deprecated"]), (&json!(false), &json!(false)));
    process.post("/event-type", json!({"name": "a.b", "description": "e"})).await.is(409);
    let patched = process.patch("/event-type/a.b", json!({"deprecated": true})).await.is(200);
    assert_eq!((&patched["deprecated"], &patched["description"]), (&json!(true), &json!("d")));
    assert_eq!(process.put("/event-type/c", json!({"description": "c"})).await.is(201)["name"], "c");
    assert_eq!(process.delete("/event-type/a.b").await, 204);
    assert_eq!(process.get("/event-type/a.b").await.is(200)["archived"], true);

    let names = async |query: &str| {
        let listed = process.get(&format!("/event-type?{query}")).await.is(200);
        let data = listed["data"].as_array().unwrap().clone();
        data.iter().map(|item| (item["name"].clone(), !item["schemas"].is_null())).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, [(json!("c"), false)]);
    let both = names("include_archived=true&with_content=true").await;
    assert_eq!(both, [(json!("a.b"), true), (json!("c"), false)]);
    process.post("/event-type", json!({"name": "a.b", "description": "back"})).await.is(201);
    assert_eq!(process.delete("/event-type/a.b?expunge=true").await, 204);
    process.get("/event-type/a.b").await.is(404);
}

#[tokio::test]
async fn a_token_opens_what_it_is_for() {
    let process = Process::start(false).await;
    let own = process.put("/app/own", json!({"name": "A"})).await.is(201);
    process.put("/app/other", json!({"name": "B"})).await.is(201);
    let own = own["id"].as_str().unwrap().parse().unwrap();
    let token = process.control.tokens().mint_application(default_organization(), own, SystemClock.now());
    let bearer = format!("Bearer {token}");
    let with_token = [("authorization", bearer.as_str())];
    let endpoint = Some(r#"{"url": "https://example.com"}"#);
    for (method, path, body, status) in [
        (Method::GET, "/app/own", None, 200),
        (Method::POST, "/app/own/endpoint", endpoint, 201),
        (Method::GET, "/app/other", None, 404),
        (Method::POST, "/app/other/endpoint", endpoint, 404),
        (Method::GET, "/app", None, 403),
        (Method::POST, "/app", Some(r#"{"name": "C"}"#), 403),
        (Method::DELETE, "/app/own", None, 403),
        (Method::POST, "/event-type", Some(r#"{"name": "c"}"#), 403),
        (Method::GET, "/event-type", None, 200),
    ] {
        let answer = process.send(method.clone(), path, body, &with_token).await;
        assert_eq!(answer.status, status, "{method} {path} {}", answer.body);
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_writes_nothing() {
    let process = Process::start(false).await;
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    process.put("/app/a/endpoint/e", json!({"url": "https://example.com"})).await.is(201);
    let before = process.written().await;
    let long = "x".repeat(257);
    let url = |url: &str| json!({"url": url}).to_string();
    let endpoint =
        |field: &str, value: Value| json!({"url": "https://example.com", field: value}).to_string();
    let (apps, endpoints, one) = ("/app", "/app/a/endpoint", "/app/a/endpoint/e");
    let post = Method::POST;
    for (method, path, body, status, names) in [
        (post.clone(), apps, "{".to_owned(), 422, "malformed JSON"),
        (post.clone(), apps, "[]".to_owned(), 422, "body"),
        (post.clone(), apps, r#"["a", null, null, null, null, null]"#.to_owned(), 422, "object"),
        (post.clone(), apps, "{}".to_owned(), 422, "name"),
        (post.clone(), apps, json!({"name": 7}).to_string(), 422, "name"),
        (post.clone(), apps, json!({"name": long}).to_string(), 422, "name"),
        (post.clone(), apps, json!({"name": "a", "uid": "a b"}).to_string(), 422, "uid"),
        (post.clone(), apps, json!({"name": "a", "uid": "app_x"}).to_string(), 422, "uid"),
        (
            post.clone(),
            apps,
            json!({"name": "a", "metadata": {"k": 1}}).to_string(),
            422,
            r#"["body","metadata","k"]"#,
        ),
        (
            post.clone(),
            apps,
            json!({"name": "a", "metadata": {"k": "x".repeat(5000)}}).to_string(),
            422,
            "metadata",
        ),
        (post.clone(), apps, json!({"name": "x".repeat(2 << 20)}).to_string(), 413, "1048576 bytes"),
        (post.clone(), "/app/nobody/endpoint", url("https://example.com"), 404, "application `nobody`"),
        (post.clone(), endpoints, "{}".to_owned(), 422, "url"),
        (post.clone(), endpoints, url("example.com"), 422, "absolute URL"),
        (post.clone(), endpoints, url("http://example.com"), 422, "https"),
        (post.clone(), endpoints, url("https://a:b@example.com"), 422, "user name"),
        (post.clone(), endpoints, url("https://127.0.0.1/"), 422, "private"),
        (post.clone(), endpoints, url("https://169.254.169.254/"), 422, "private"),
        (post.clone(), endpoints, url("https://[::ffff:10.0.0.1]/"), 422, "private"),
        (post.clone(), endpoints, url("https://localhost:1/"), 422, "private"),
        (post.clone(), endpoints, endpoint("uid", json!("ep_1")), 422, "uid"),
        (post.clone(), endpoints, endpoint("eventTypes", json!(["no.such"])), 422, "no.such"),
        (post.clone(), endpoints, endpoint("eventTypes", json!([])), 422, "eventTypes"),
        (post.clone(), endpoints, endpoint("channels", json!(["a b"])), 422, r#"["body","channels","0"]"#),
        (post.clone(), endpoints, endpoint("ordering", json!("random")), 422, "ordering"),
        (post.clone(), endpoints, endpoint("retrySchedule", json!([0])), 422, "retrySchedule"),
        (
            post.clone(),
            endpoints,
            endpoint("retrySchedule", json!(["5"])),
            422,
            r#"["body","retrySchedule","0"]"#,
        ),
        (post.clone(), endpoints, endpoint("maxInFlight", json!(0)), 422, "1 to 1024"),
        (post.clone(), endpoints, endpoint("timeoutSecs", json!(61)), 422, "1 to 60"),
        (post.clone(), endpoints, endpoint("version", json!(0)), 422, "version"),
        (post.clone(), endpoints, endpoint("rateLimit", json!(0)), 422, "throttleRate"),
        (post.clone(), endpoints, endpoint("secret", json!("hunter2")), 422, "whsec_"),
        (post.clone(), endpoints, endpoint("headers", json!({"Host": "a"})), 422, "Host"),
        (
            post.clone(),
            endpoints,
            json!({"url": "https://example.com", "parkAfterSecs": 5, "block": true}).to_string(),
            422,
            "parkAfterSecs",
        ),
        (Method::PATCH, one, json!({"url": null}).to_string(), 422, "url"),
        (Method::PATCH, one, json!({"url": "https://10.0.0.1"}).to_string(), 422, "private"),
        (Method::PATCH, one, json!({"disabled": "yes"}).to_string(), 422, "disabled"),
        (Method::PATCH, "/app/a/endpoint/none", "{}".to_owned(), 404, "endpoint `none`"),
        (post.clone(), "/event-type", json!({"name": "a b"}).to_string(), 422, "name"),
        (post.clone(), "/event-type", json!({"name": "a", "schemas": []}).to_string(), 422, "schemas"),
        (Method::PATCH, "/event-type/none", "{}".to_owned(), 404, "event type `none`"),
    ] {
        let answer = process.send(method, path, Some(&body), &[]).await;
        let text = answer.body.to_string();
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{path} {shown}: {text}");
        assert!(text.contains(names), "{path} {shown}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for token in ["", "Bearer", "Bearer x.y.z", "Basic abc"] {
        let answer = process.send(Method::GET, "/app", None, &[("authorization", token)]).await;
        assert_eq!(answer.is(401)["code"], "authentication_failed");
    }
    assert_eq!(process.written().await, before);
}

/// With `--dev` the same URLs are welcome.
#[tokio::test]
async fn dev_allows_loopback_and_http() {
    let process = Process::start(true).await;
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    process.post("/app/a/endpoint", json!({"url": "http://127.0.0.1:9/x"})).await.is(201);
    process.post("/app/a/endpoint", json!({"url": "ftp://127.0.0.1:9/x"})).await.is(422);
}

/// Changes at the same time: each is made on what the other left, and none is lost.
#[tokio::test]
async fn patches_at_the_same_time_all_count() {
    let process = Arc::new(Process::start(false).await);
    process.put("/app/a", json!({"name": "A"})).await.is(201);
    process.put("/app/a/endpoint/e", json!({"url": "https://example.com"})).await.is(201);
    let patches =
        [json!({"description": "d"}), json!({"timeoutSecs": 9}), json!({"maxInFlight": 3})].map(|patch| {
            let process = Arc::clone(&process);
            tokio::spawn(async move { process.patch("/app/a/endpoint/e", patch).await.is(200) })
        });
    for patch in patches {
        patch.await.unwrap();
    }
    let endpoint = process.get("/app/a/endpoint/e").await.is(200);
    assert_eq!((&endpoint["description"], &endpoint["timeoutSecs"]), (&json!("d"), &json!(9)));
    assert_eq!(endpoint["maxInFlight"], 3);
}
