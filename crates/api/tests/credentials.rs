//! Tokens that are taken back, API keys, and who may do what.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use base64::Engine as _;
use fanfare_control::{Command, Envelope, Grant, Scope, default_organization};
use fanfare_core::{Clock as _, Offset, OrganizationId, SystemClock, limits};
use http::Method;
use serde_json::{Value, json};

use support::Process;

/// Mints a token that opens the application with this uid.
async fn token_of(process: &Process, uid: &str) -> String {
    process.put(&format!("/app/{uid}"), json!({ "name": uid })).await;
    let application = process.control.view().application(default_organization(), uid).unwrap().id;
    process.control.mint(Grant::application(default_organization(), application))
}

#[tokio::test]
async fn whoever_logs_out_is_out_at_once_here_and_elsewhere() {
    let here = Process::start(false).await;
    let there = here.another().await;
    let reading = Grant { scope: Scope::Read, ..Grant::organization(default_organization()) };
    let tokens = [
        here.control.mint(Grant::organization(default_organization())),
        here.control.mint(reading),
        token_of(&here, "own").await,
    ];
    for token in &tokens {
        // Both remember that it is good.
        here.get_as(token, "/event-type").await.is(200);
        there.get_as(token, "/event-type").await.is(200);
        here.post_as(token, "/auth/logout", json!({})).await.is(204);
        let refused = here.get_as(token, "/event-type").await.is(401);
        assert!(refused["detail"].as_str().unwrap().contains("revoked"), "{refused}");
        there.control.apply_to_end().await.unwrap();
        there.get_as(token, "/event-type").await.is(401);
        here.post_as(token, "/auth/logout", json!({})).await.is(401);
    }
    here.get("/event-type").await.is(200);
}

#[tokio::test]
async fn all_tokens_of_an_application_expire_and_no_others() {
    let process = Process::start(false).await;
    let (own, other) = (token_of(&process, "own").await, token_of(&process, "other").await);
    let portal = async |body: Value| {
        let answer = process.post("/auth/app-portal-access/own", body).await.is(200);
        answer["token"].as_str().unwrap().to_owned()
    };
    let (one, two) = (portal(json!({"sessionId": "one"})).await, portal(json!({"sessionId": "two"})).await);
    let good = async |tokens: [&str; 5]| {
        let mut good = Vec::new();
        for token in tokens {
            good.push(process.get_as(token, "/auth/whoami").await.status == 200);
        }
        good
    };
    let all = [own.as_str(), &one, &two, &other, &process.token];
    assert_eq!(good(all).await, [true; 5]);

    let path = "/auth/app/own/expire-all";
    process.post_as(&own, path, json!({})).await.is(403);
    process.post("/auth/app/nobody/expire-all", json!({})).await.is(404);
    for (body, field) in [
        (json!({"expiry": -1}), "expiry"),
        (json!({"expiry": 604_801}), "expiry"),
        (json!({"sessionIds": ["a", ""]}), "sessionIds"),
        (json!({"sessionIds": vec!["a"; limits::SESSIONS_PER_EXPIRY + 1]}), "sessionIds"),
    ] {
        let refused = process.post(path, body).await.is(422);
        assert_eq!(refused["detail"][0]["loc"][1], field, "{refused}");
    }
    assert_eq!(good(all).await, [true; 5]);
    process.post(path, json!({"sessionIds": ["one", "three"]})).await.is(204);
    assert_eq!(good(all).await, [true, false, true, true, true]);
    // After a while, and the clock comes to it.
    process.post(path, json!({"expiry": 60})).await.is(204);
    assert_eq!(good(all).await, [true, false, true, true, true]);
    process.clock.advance(Duration::from_secs(61));
    assert_eq!(good(all).await, [false, false, false, true, true]);
    let fresh = portal(json!({})).await;
    process.post(path, json!({})).await.is(204);
    let fresher = portal(json!({})).await;
    let mixed = [fresh.as_str(), &fresher, &other, &other, &other];
    assert_eq!(good(mixed).await, [false, true, true, true, true], "in the same instant");
}

/// Or it would reach tokens that were made in between.
#[tokio::test]
async fn an_order_to_expire_that_is_sent_twice_is_one() {
    let process = Process::start(false).await;
    token_of(&process, "own").await;
    let path = "/auth/app/own/expire-all";
    let key = [("idempotency-key", "auto_1")];
    process.send(Method::POST, path, Some("{}"), &key).await.is(204);
    let token = token_of(&process, "own").await;
    let written = process.written().await;
    process.send(Method::POST, path, Some("{}"), &key).await.is(204);
    process.get_as(&token, "/auth/whoami").await.is(200);
    assert_eq!(process.written().await, written);
}

#[tokio::test]
async fn everybody_learns_who_they_are() {
    let process = Process::start(false).await;
    let me = process.get("/auth/whoami").await.is(200);
    assert_eq!((&me["envId"], &me["appId"]), (&json!("org_23rb8YdGqMT0qIzpgGwdXfHirMu"), &Value::Null));
    assert_eq!((&me["permissionSource"], &me["scopes"]), (&json!("SvixJwt"), &json!(["full"])));
    assert_eq!((&me["credential"], me["id"].as_str().unwrap().len()), (&json!("token"), 32));

    let application = process.put("/app/own", json!({"name": "A"})).await.is(201)["id"].clone();
    let body = json!({"readOnly": true, "sessionId": "s-1", "expiry": 3_600, "featureFlags": ["beta"]});
    let portal = process.post("/auth/app-portal-access/own", body).await.is(200);
    let me = process.get_as(portal["token"].as_str().unwrap(), "/auth/whoami").await.is(200);
    assert_eq!((&me["appId"], &me["scopes"]), (&application, &json!(["read"])));
    assert_eq!(me["sessionId"], "s-1");

    let key = process.post("/auth/api-key", json!({"name": "deploy"})).await.is(201);
    let me = process.get_as(key["key"].as_str().unwrap(), "/auth/whoami").await.is(200);
    assert_eq!(
        (&me["credential"], &me["id"], &me["name"]),
        (&json!("api_key"), &key["id"], &json!("deploy"))
    );
    assert_eq!((&me["permissionSource"], &me["expiresAt"]), (&json!("RegionalAuthToken"), &Value::Null));
}

#[tokio::test]
async fn a_portal_is_opened_with_a_link_that_brings_its_token() {
    let process = Process::start(false).await;
    process.post("/auth/app-portal-access/shop", json!({})).await.is(404);
    let missing = json!({"application": {"name": "Shop"}});
    let refused = process.post("/auth/app-portal-access/shop", missing).await.is(422);
    assert_eq!(refused["detail"][0]["type"], "application_uid_missing");
    let brought = json!({"application": {"name": "Shop", "uid": "shop"}, "capabilities": ["ViewBase"]});
    let opened = process.post("/auth/app-portal-access/shop", brought.clone()).await.is(200);
    let application = process.get("/app/shop").await.is(200)["id"].clone();
    assert_eq!(process.post("/auth/app-portal-access/shop", brought).await.status, 200, "it is there by now");
    let me = process.get_as(opened["token"].as_str().unwrap(), "/auth/whoami").await.is(200);
    assert_eq!((&me["appId"], &me["scopes"]), (&application, &json!(["read"])));

    let host = [("host", "hooks.example:8071")];
    let path = "/auth/dashboard-access/shop";
    let opened = process.send(Method::POST, path, None, &host).await.is(200);
    let url = opened["url"].as_str().unwrap();
    let (place, key) = url.split_once("#key=").unwrap();
    assert_eq!(place, "http://hooks.example:8071/api/v1");
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let key: Value = serde_json::from_slice(&key).unwrap();
    assert_eq!((&key["token"], &key["appId"]), (&opened["token"], &application));
    let endpoint = json!({"url": "https://example.com"});
    process.post_as(opened["token"].as_str().unwrap(), "/app/shop/endpoint", endpoint).await.is(201);
}

/// What only reads sees everything but what can be used to pretend.
#[tokio::test]
async fn a_token_that_only_reads_changes_nothing_and_sees_no_secret() {
    let process = Process::start(false).await;
    process.put("/app/own", json!({"name": "A"})).await.is(201);
    process.put("/app/own/endpoint/e", json!({"url": "https://example.com"})).await.is(201);
    let reading = Grant { scope: Scope::Read, ..Grant::organization(default_organization()) };
    let token = process.control.mint(reading);
    for path in ["/app", "/app/own/endpoint/e", "/app/own/endpoint/e/headers", "/event-type", "/audit-log"] {
        process.get_as(&token, path).await.is(200);
    }
    let written = process.written().await;
    for (method, path) in [
        (Method::GET, "/app/own/endpoint/e/secret"),
        (Method::GET, "/auth/api-key"),
        (Method::POST, "/app"),
        (Method::PUT, "/app/new"),
        (Method::PATCH, "/app/own/endpoint/e"),
        (Method::DELETE, "/app/own"),
        (Method::POST, "/app/own/endpoint/e/secret/rotate"),
        (Method::POST, "/auth/api-key"),
        (Method::POST, "/auth/app-portal-access/own"),
    ] {
        let refused = process.send_as(&token, method.clone(), path, Some("{}")).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (403, &json!("insufficient_access")),
            "{method} {path}"
        );
        assert!(refused.body["detail"].as_str().unwrap().contains("only reads"), "{}", refused.body);
    }
    assert_eq!(process.send_as(&token, Method::HEAD, "/app", None).await.status, 200);
    assert_eq!(process.written().await, written);
}

#[tokio::test]
async fn a_key_is_shown_once_and_works_wherever_a_token_does() {
    let here = Process::start(false).await;
    let there = here.another().await;
    let made = here.post("/auth/api-key", json!({"name": "deploy"})).await.is(201);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(id.starts_with("key_") && key.starts_with("fan_") && key.contains(&id[4..]), "{made}");
    assert_eq!((&made["scope"], &made["lastUsedAt"]), (&json!("full"), &Value::Null));
    // Another process has not heard of it.
    there.post_as(key, "/app", json!({"name": "Shop", "uid": "shop"})).await.is(201);
    here.get_as(key, "/app/shop").await.is(200);
    let listed = here.get("/auth/api-key").await.is(200);
    assert!(!listed.to_string().contains(&key[32..75]));
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["name"]), (&json!(id), &json!("deploy")));
    assert!(listed["data"][0]["lastUsedAt"].is_string(), "{listed}");
    let refused = here.post_as(key, "/auth/logout", json!({})).await.is(400);
    assert!(refused["detail"].as_str().unwrap().contains("DELETE"), "{refused}");

    let body = json!({"name": "viewer", "application": "shop", "scope": "read"});
    let narrow = here.post_as(key, "/auth/api-key", body).await.is(201);
    let narrow = narrow["key"].as_str().unwrap();
    here.put("/app/other", json!({"name": "Other"})).await.is(201);
    for (method, path, status) in [
        (Method::GET, "/app/shop", 200),
        (Method::GET, "/app/other", 404),
        (Method::GET, "/app", 403),
        (Method::GET, "/auth/api-key", 403),
        (Method::POST, "/app/shop/endpoint", 403),
    ] {
        let body = r#"{"url": "https://example.com"}"#;
        assert_eq!(
            here.send_as(narrow, method.clone(), path, Some(body)).await.status,
            status,
            "{method} {path}"
        );
    }

    let mistyped = format!("{}{}", &key[..80], if key.ends_with('x') { 'y' } else { 'x' });
    let refused = here.get_as(&mistyped, "/app").await.is(401);
    assert!(refused["detail"].as_str().unwrap().contains("mistyped"), "{refused}");
    assert_eq!(here.delete(&format!("/auth/api-key/{id}")).await, 204);
    assert_eq!(here.delete(&format!("/auth/api-key/{id}")).await, 404);
    here.get_as(key, "/app/shop").await.is(401);
    there.control.apply_to_end().await.unwrap();
    there.get_as(key, "/app/shop").await.is(401);
    // Keys of an application go with it.
    here.get_as(narrow, "/app/shop").await.is(200);
    assert_eq!(here.delete("/app/shop").await, 204);
    here.get_as(narrow, "/auth/whoami").await.is(401);
    assert_eq!(here.get("/auth/api-key").await.is(200)["data"], json!([]));
}

#[tokio::test]
async fn a_key_expires() {
    let process = Process::start(false).await;
    let at = (SystemClock.now() + Duration::from_mins(1)).to_string();
    let made = process.post("/auth/api-key", json!({"name": "a", "expiresAt": at})).await.is(201);
    assert_eq!(made["expiresAt"], at.as_str());
    let key = made["key"].as_str().unwrap();
    process.get_as(key, "/app").await.is(200);
    process.clock.advance(Duration::from_secs(61));
    let refused = process.get_as(key, "/app").await.is(401);
    assert!(refused["detail"].as_str().unwrap().contains("expired"), "{refused}");
}

#[tokio::test]
async fn bad_keys_are_refused_by_name_and_write_nothing() {
    let process = Process::start(false).await;
    let other: OrganizationId = OrganizationId::from_bytes([9; 20]);
    let foreign = process.control.mint(Grant::organization(other));
    let of_other = process.post_as(&foreign, "/auth/api-key", json!({"name": "theirs"})).await.is(201);
    let written = process.written().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"name": 7}), "name"),
        (json!({"name": "a", "scope": "write"}), "scope"),
        (json!({"name": "a", "application": "nobody"}), "application"),
        (json!({"name": "a", "expiresAt": "tomorrow"}), "expiresAt"),
        (json!({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt"),
    ] {
        let refused = process.post("/auth/api-key", body.clone()).await.is(422);
        assert_eq!(refused["detail"][0]["loc"][1], field, "{body}: {refused}");
    }
    let path = format!("/auth/api-key/{}", of_other["id"].as_str().unwrap());
    assert_eq!(process.delete(&path).await, 404, "another organization's");
    assert_eq!(process.delete("/auth/api-key/key_1").await, 404);
    process.get_as(of_other["key"].as_str().unwrap(), "/app").await.is(200);
    assert_eq!(process.written().await, written);
}

/// The secret was in the first answer alone: a repeat cannot give it again, and must not make a second key.
#[tokio::test]
async fn a_key_that_is_asked_for_twice_is_made_once() {
    let process = Process::start(false).await;
    let header = [("idempotency-key", "auto_1")];
    let body = Some(r#"{"name": "deploy"}"#);
    let made = process.send(Method::POST, "/auth/api-key", body, &header).await.is(201);
    let repeated = process.send(Method::POST, "/auth/api-key", body, &header).await.is(409);
    assert!(repeated["detail"].as_str().unwrap().contains(made["id"].as_str().unwrap()), "{repeated}");
    assert_eq!(process.get("/auth/api-key").await.is(200)["data"].as_array().unwrap().len(), 1);
}

/// Off the way of requests, gathered, and seldom.
#[tokio::test(start_paused = true)]
async fn the_use_of_a_key_is_written_down_now_and_then() {
    let process = Process::in_memory().await;
    let made = process.post("/auth/api-key", json!({"name": "deploy"})).await.is(201);
    let (id, key) = (made["id"].as_str().unwrap().parse().unwrap(), made["key"].as_str().unwrap());
    let used_at = || process.control.view().api_key(id).unwrap().used_at;
    let written = async || {
        let end = process.control.apply_to_end().await.unwrap();
        let is_use = |_: Offset, envelope: &Envelope| {
            matches!(envelope.command, Command::NoteApiKeyUse { .. }).then_some(())
        };
        process.control.look_back(end, 100, is_use).await.unwrap().found.len()
    };
    let pass = async |time: Duration| {
        process.clock.advance(time);
        tokio::time::sleep(time).await;
    };
    let use_for = async |minutes: u64| {
        for _ in 0..minutes * 4 {
            process.get_as(key, "/app").await.is(200);
            pass(Duration::from_secs(15)).await;
        }
        written().await
    };
    process.get_as(key, "/app").await.is(200);
    assert_eq!((written().await, used_at()), (0, None), "not on the way of the request");
    assert_eq!(use_for(5).await, 1);
    let first = used_at().unwrap();
    assert_eq!(use_for(4).await, 1, "once in ten minutes");
    assert_eq!(use_for(5).await, 2);
    assert!(used_at().unwrap() > first);
    // Used no more, it is written down at last when that was.
    let last = process.clock.now();
    process.get_as(key, "/app").await.is(200);
    for _ in 0..15 {
        pass(Duration::from_mins(1)).await;
    }
    assert_eq!(written().await, 3);
    assert!(used_at().unwrap() >= last);
    for _ in 0..30 {
        pass(Duration::from_mins(1)).await;
    }
    assert_eq!(written().await, 3);
}
