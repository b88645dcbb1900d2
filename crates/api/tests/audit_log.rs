//! Who changed what, as `control` has it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use fanfare_control::{Command, Grant, default_organization};
use fanfare_core::{Offset, OrganizationId, limits};
use fanfare_log::{NewRecord, Sync, Topic};
use http::Method;
use serde_json::{Value, json};

use support::Process;

fn shown<'a>(page: &'a Value, field: &str) -> Vec<&'a str> {
    let data = page["data"].as_array().unwrap().iter();
    data.map(|entry| entry[field].as_str().unwrap_or_else(|| panic!("no {field} in {entry}"))).collect()
}

#[tokio::test]
async fn every_change_is_there_with_who_made_it_and_from_where() {
    let process = Process::start(false).await;
    let application = process.put("/app/shop", json!({"name": "Shop"})).await.is(201)["id"].clone();
    let key = process.post("/auth/api-key", json!({"name": "deploy"})).await.is(201);
    let body = json!({
        "url": "https://example.com/hook", "uid": "e", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "headers": {"authorization": "hunter2"}, "metadata": {"note": "hunter3"},
    });
    let text = body.to_string();
    let spoofed = format!("Bearer {}", key["key"].as_str().unwrap());
    let headers = [("authorization", spoofed.as_str()), ("x-forwarded-for", "203.0.113.9")];
    let endpoint = process.send(Method::POST, "/app/shop/endpoint", Some(&text), &headers).await.is(201);
    process
        .post("/app/shop/endpoint/e/secret/rotate", json!({"key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS0"}))
        .await;
    let portal = process.post("/auth/app-portal-access/shop", json!({})).await.is(200);
    process.post_as(portal["token"].as_str().unwrap(), "/auth/logout", json!({})).await.is(204);
    let policy = {
        let view = process.control.view();
        let id = view.application(default_organization(), "shop").unwrap().id;
        let endpoint = view.endpoint(id, "e").unwrap().id;
        Command::DisableEndpointByPolicy {
            application: id,
            id: endpoint,
            reason: "it answered 410".into(),
            failing_since: None,
        }
    };
    process.control.submit(policy, None).await.unwrap();
    process.post("/event-type", json!({"name": "order.paid", "description": "d"})).await.is(201);
    process.post("/auth/app/shop/expire-all", json!({"expiry": 60, "sessionIds": ["hunter4"]})).await.is(204);
    assert_eq!(process.delete("/app/shop").await, 204);

    let log = process.get("/audit-log").await.is(200);
    assert_eq!(
        shown(&log, "action"),
        [
            "application.delete",
            "token.expire_all",
            "event_type.create",
            "endpoint.disable",
            "token.revoke",
            "endpoint.secret.rotate",
            "endpoint.create",
            "api_key.create",
            "application.create",
        ]
    );
    assert_eq!((&log["done"], &log["data"][0]["refused"]), (&json!(true), &json!(false)));
    let text = log.to_string();
    for secret in ["hunter", "whsec_", &key["key"].as_str().unwrap()[32..75]] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let me = process.get("/auth/whoami").await.is(200)["id"].clone();
    let entry = |action: &str| {
        let data = log["data"].as_array().unwrap().iter();
        data.clone().find(|entry| entry["action"] == action).unwrap_or_else(|| panic!("no {action}"))
    };
    let made = entry("endpoint.create");
    assert_eq!(made["principal"], json!({"kind": "api_key", "id": key["id"], "name": "deploy"}));
    assert_eq!((&made["endpoint"], &made["application"]), (&endpoint["id"], &application));
    assert_eq!(made["details"]["url"], "https://example.com/hook");
    assert_eq!(made["from"], "192.0.2.7", "what a header says is anybody's word");
    assert_eq!(entry("application.create")["principal"]["kind"], "organization_token");
    assert_eq!(entry("application.create")["principal"]["id"], me);
    assert_eq!(entry("token.revoke")["principal"]["kind"], "application_token");
    let disabled = entry("endpoint.disable");
    assert_eq!(disabled["principal"]["kind"], "fanfare");
    assert_eq!(
        (&disabled["details"]["reason"], &disabled["from"]),
        (&json!("it answered 410"), &Value::Null)
    );
    assert_eq!(entry("event_type.create")["eventType"], "order.paid");
    assert_eq!(entry("token.expire_all")["details"]["sessions"], 1);

    let found = async |query: &str| {
        let log = process.get(&format!("/audit-log?{query}")).await.is(200);
        shown(&log, "action").join(" ")
    };
    assert_eq!(found("action=endpoint.create").await, "endpoint.create");
    assert_eq!(found("principal=fanfare").await, "endpoint.disable");
    assert_eq!(found(&format!("principal={}", key["id"].as_str().unwrap())).await, "endpoint.create");
    let of_application = found(&format!("application={}", application.as_str().unwrap())).await;
    assert!(!of_application.contains("event_type") && of_application.contains("application.delete"));
    let at = entry("event_type.create")["at"].as_str().unwrap();
    assert_eq!(found(&format!("after={at}")).await, "application.delete token.expire_all");
    assert!(found(&format!("before={at}")).await.starts_with("endpoint.disable token.revoke"));
}

#[tokio::test]
async fn what_is_another_organizations_is_not_shown() {
    let process = Process::start(false).await;
    let foreign = process.control.mint(Grant::organization(OrganizationId::from_bytes([9; 20])));
    process.put("/app/ours", json!({"name": "A"})).await.is(201);
    let theirs =
        process.send_as(&foreign, Method::PUT, "/app/theirs", Some(r#"{"name": "B"}"#)).await.is(201);
    let path = "/app/theirs/endpoint/e";
    process.send_as(&foreign, Method::PUT, path, Some(r#"{"url": "https://example.com"}"#)).await.is(201);
    process.post_as(&foreign, "/auth/logout", json!({})).await.is(204);
    let log = process.get("/audit-log").await.is(200);
    assert_eq!(shown(&log, "action"), ["application.create"]);
    let id = theirs["id"].as_str().unwrap();
    assert_eq!(process.get(&format!("/audit-log?application={id}")).await.is(200)["data"], json!([]));
    process.get("/audit-log?application=theirs").await.is(422);
}

#[tokio::test]
async fn pages_meet_and_show_everything_once() {
    let process = Process::start(false).await;
    for number in 0..11 {
        process.put(&format!("/app/a{number}"), json!({"name": "A"})).await.is(201);
        process.post("/event-type", json!({"name": format!("t{number}"), "description": ""})).await.is(201);
    }
    let all = process.get("/audit-log?action=application.create").await.is(200);
    let all: Vec<String> = shown(&all, "id").into_iter().map(str::to_owned).collect();
    assert_eq!(all.len(), 11);
    let page = async |iterator: &str| {
        process
            .get(&format!("/audit-log?action=application.create&limit=3&iterator={iterator}"))
            .await
            .is(200)
    };
    let (mut seen, mut pages, mut iterator) = (Vec::new(), Vec::new(), String::new());
    loop {
        let next = page(&iterator).await;
        seen.extend(shown(&next, "id").into_iter().map(str::to_owned));
        let done = next["done"] == true;
        next["iterator"].as_str().unwrap().clone_into(&mut iterator);
        pages.push(next);
        if done {
            break;
        }
    }
    assert_eq!(seen, all);
    for back in pages.windows(2) {
        let before = page(back[1]["prevIterator"].as_str().unwrap()).await;
        assert_eq!(before["data"], back[0]["data"]);
    }
    // Nothing newer, until there is.
    let newest = pages[0]["prevIterator"].as_str().unwrap().to_owned();
    assert_eq!(page(&newest).await["data"], json!([]));
    process.put("/app/newest", json!({"name": "A"})).await.is(201);
    assert_eq!(page(&newest).await["data"].as_array().unwrap().len(), 1);

    for (query, parameter) in [
        ("limit=251", "limit"),
        ("iterator=x", "iterator"),
        ("iterator=--1", "iterator"),
        ("before=yesterday", "before"),
        ("after=7", "after"),
        ("action=fly", "action"),
    ] {
        let refused = process.get(&format!("/audit-log?{query}")).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["query", parameter]), "{query}");
    }
    process.get(&format!("/audit-log?iterator={}", u64::MAX)).await.is(200);
    process.get(&format!("/audit-log?iterator=-{}", u64::MAX)).await.is(200);
}

/// Where there is little to find among much, a page ends before it is full, and says where to go on.
#[tokio::test]
async fn the_work_of_one_page_is_bounded() {
    let process = Process::start(false).await;
    process.put("/app/first", json!({"name": "A"})).await.is(201);
    // Of another organization, as many as one page looks at and a few more.
    let foreign = OrganizationId::from_bytes([9; 20]);
    let record = format!(
        r#"{{"v":1,"at":0,"nonce":0,"command":{{"type":"archive_event_type","organization":"{foreign}","name":"x"}}}}"#
    );
    let many = vec![NewRecord::head(record.into()); usize::try_from(limits::AUDIT_OFFSETS).unwrap() + 10];
    let partition = fanfare_core::Partition(0);
    process.log.append(Topic::Control, partition, many, Sync::Now).await.unwrap().await.unwrap();
    let page = process.get("/audit-log").await.is(200);
    assert_eq!((&page["data"], &page["done"]), (&json!([]), &json!(false)));
    let iterator = page["iterator"].as_str().unwrap();
    let next = process.get(&format!("/audit-log?iterator={iterator}")).await.is(200);
    assert_eq!((shown(&next, "action"), &next["done"]), (vec!["application.create"], &json!(true)));
    let back = process
        .get(&format!("/audit-log?iterator=-{}", next["data"][0]["id"].as_str().unwrap()))
        .await
        .is(200);
    assert_eq!((&back["data"], &back["done"]), (&json!([]), &json!(false)));
    let end = process.control.position();
    let iterator: u64 = back["prevIterator"].as_str().unwrap()[1..].parse().unwrap();
    assert!(Offset(iterator) < end && iterator > limits::AUDIT_OFFSETS, "{iterator} of {end}");
}

/// Records of before records said who gave them; and one that did nothing.
#[tokio::test]
async fn old_records_are_shown_and_refused_ones_are_marked() {
    let process = Process::start(false).await;
    process.put("/app/shop", json!({"name": "Shop"})).await.is(201);
    let id = process.control.view().application(default_organization(), "shop").unwrap().id;
    let partition = fanfare_core::Partition(0);
    let put = async |command: String| {
        let record = format!(r#"{{"v":1,"at":1700000000000000,"nonce":1,"command":{command}}}"#);
        let records = vec![NewRecord::head(record.into())];
        process.log.append(Topic::Control, partition, records, Sync::Now).await.unwrap().await.unwrap();
    };
    put(format!(r#"{{"type":"update_application","id":"{id}","settings":{{"name":"Old","uid":"shop"}}}}"#))
        .await;
    put(format!(
        r#"{{"type":"update_application","id":"{id}","expected_revision":7,"settings":{{"name":"Late"}}}}"#
    ))
    .await;
    let log = process.get("/audit-log?action=application.update").await.is(200);
    assert_eq!(log["data"][0]["refused"], true);
    assert_eq!(
        (&log["data"][1]["refused"], &log["data"][1]["details"]["name"]),
        (&json!(false), &json!("Old"))
    );
    assert_eq!(log["data"][1]["principal"], json!({"kind": "unknown", "id": null, "name": null}));
    assert_eq!(process.get("/app/shop").await.is(200)["name"], "Old");
}
