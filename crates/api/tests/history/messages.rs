//! `GET …/msg` and one of them.

use std::time::Duration;

use fanfare_core::Clock as _;
use serde_json::json;

use crate::told::{Draft, Told, named};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_filtered_and_read_page_by_page() {
    let told = Told::new().await;
    let (shop, other) = (told.application().await, told.application().await);
    let path = format!("{}/msg", shop.path);
    assert_eq!(
        told.get(&path).await,
        json!({ "data": [], "iterator": null, "prevIterator": null, "done": true })
    );

    let mut messages = Vec::new();
    for number in 0..12 {
        let draft = Draft {
            event_type: ["order.paid", "order.sent", "user.left"][number % 3],
            channels: [&["eu"][..], &["us", "eu"], &[]][number / 4],
            tags: [&["gold"][..], &[]][number % 2],
            payload: format!(r#"{{"number":{number},"nested":{{"text":"n{}"}}}}"#, number % 4),
            ..Draft::default()
        };
        messages.push(told.message(&shop, draft).await);
        told.message(&other, Draft::default()).await;
    }
    let all = named(&messages);
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    for limit in [1, 5, 12, 250] {
        assert_eq!(told.all_ids(&path, limit).await, newest_first, "{limit} at a time");
        assert_eq!(told.all_ids(&format!("{path}?order=ascending"), limit).await, all, "{limit} at a time");
    }
    // Clients know ids from elsewhere, too.
    assert_eq!(told.ids(&format!("{path}?iterator={}", all[2])).await, [&all[1], &all[0]].map(String::clone));

    let wanted = |want: &dyn Fn(usize) -> bool| -> Vec<String> {
        (0..12).rev().filter(|number| want(*number)).map(|number| all[number].clone()).collect()
    };
    let (fourth, ninth) = (messages[4].at, messages[9].at);
    let checks: [(String, Vec<String>); 10] = [
        ("event_types=order.paid".into(), wanted(&|number| number % 3 == 0)),
        ("event_types=order.paid,user.left".into(), wanted(&|number| number % 3 != 1)),
        ("event_types=order.paid&event_types=user.left".into(), wanted(&|number| number % 3 != 1)),
        ("event_types[]=order.sent".into(), wanted(&|number| number % 3 == 1)),
        ("channel=eu".into(), wanted(&|number| number < 8)),
        ("channel=us&tag=gold".into(), wanted(&|number| (4..8).contains(&number) && number % 2 == 0)),
        (format!("after={fourth}&before={ninth}"), wanted(&|number| (4..9).contains(&number))),
        ("pointer=/number&value=7".into(), wanted(&|number| number == 7)),
        ("pointer=/nested/text&value=n2".into(), wanted(&|number| number % 4 == 2)),
        ("event_types=no.such.type".into(), Vec::new()),
    ];
    for (query, expected) in checks {
        assert_eq!(told.all_ids(&format!("{path}?{query}"), 2).await, expected, "{query}");
        assert_eq!(told.ids(&format!("{path}?{query}")).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let told = Told::new().await;
    let path = format!("{}/msg", told.application().await.path);
    let refused = async |query: &str, field: &str| {
        let body = told.process.get(&format!("{path}?{query}")).await.is(422);
        assert_eq!(body["detail"][0]["loc"], json!(["query", field]), "{query}: {body}");
    };
    refused("limit=251", "limit").await;
    refused("limit=0", "limit").await;
    refused("before=yesterday", "before").await;
    refused("with_content=perhaps", "with_content").await;
    refused("channel=a%20b", "channel").await;
    refused("channel=a&channel=b", "channel").await;
    refused("event_types=a%20b", "event_types").await;
    refused("iterator=nonsense", "iterator").await;
    refused("iterator=-nonsense", "iterator").await;
    refused("status=2", "status").await;
    refused("endpoint=ep&status=9", "status").await;
    refused("pointer=/a", "value").await;
    refused("value=1", "pointer").await;
    refused("pointer=a&value=1", "pointer").await;
    for times in [
        "after=2026-01-02T00:00:00Z&before=2026-01-01T00:00:00Z",
        "after=2026-01-01T00:00:00Z&before=2026-01-01T00:00:00Z",
    ] {
        let body = told.process.get(&format!("{path}?{times}")).await.is(400);
        assert_eq!(body["code"], "invalid_range");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_found_by_each_of_its_names() {
    let told = Told::new().await;
    let (shop, other) = (told.application().await, told.application().await);
    let draft = Draft {
        event_id: Some("order-17"),
        channels: &["eu"],
        tags: &["gold"],
        payload: r#"{ "kept" : [1, 2.50 ] }"#.to_owned(),
        ..Draft::default()
    };
    let first = told.message(&shop, draft).await;
    let repeat = told.message(&shop, Draft::default()).await;
    told.twin(repeat, first, true).await;
    let path = format!("{}/msg", shop.path);
    let expected = json!({
        "id": first.id.to_string(),
        "eventId": "order-17",
        "eventType": "order.paid",
        "payload": { "kept": [1, 2.50] },
        "channels": ["eu"],
        "tags": ["gold"],
        "timestamp": first.at.to_string(),
    });
    for name in [first.id.to_string(), "order-17".to_owned(), repeat.id.to_string()] {
        assert_eq!(told.get(&format!("{path}/{name}")).await, expected, "{name}");
        let hidden = told.get(&format!("{path}/{name}?with_content=false")).await;
        assert_eq!(hidden["payload"], json!({}), "{name}");
        for strange in [&other.path, "/app/no-such-application"] {
            assert_eq!(told.process.get(&format!("{strange}/msg/{name}")).await.status, 404);
        }
    }
    for unknown in ["msg_2YjLQk4UkQdLmCOWTBRhQnQlWrk", "order-18", "msg_"] {
        let body = told.process.get(&format!("{path}/{unknown}")).await.is(404);
        assert_eq!(body["code"], "not_found");
    }
    // A repeat is no message of its own.
    assert_eq!(told.ids(&path).await, named(&[first]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_object_is_shown_beside_and_what_is_gone_as_gone() {
    let told = Told::new().await;
    let shop = told.application().await;
    let path = format!("{}/msg", shop.path);
    let raw = told.message(&shop, Draft { payload: "a,b\n1,2".to_owned(), ..Draft::default() }).await;
    let shown = told.get(&format!("{path}/{}", raw.id)).await;
    assert_eq!((&shown["payload"], &shown["rawPayload"]), (&json!({}), &json!("a,b\n1,2")));

    let expires_at = told.process.clock.now() + Duration::from_mins(1);
    let brief = told.message(&shop, Draft { expires_at: Some(expires_at), ..Draft::default() }).await;
    let one = format!("{path}/{}", brief.id);
    assert_eq!(told.get(&one).await["payload"], json!({ "a": 1 }));
    told.process.clock.advance(Duration::from_mins(2));
    assert_eq!(told.get(&one).await["payload"], json!({ "expired": true }));
    let listed = told.get(&path).await;
    assert_eq!(listed["data"][0]["payload"], json!({ "expired": true }));
}

/// Payloads of a page are bounded together: it ends early, and nothing is left out or shown twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_payloads_ends_early() {
    let told = Told::new().await;
    let shop = told.application().await;
    let mut messages = Vec::new();
    for number in 0..10 {
        let payload = json!({ "number": number, "pad": "x".repeat(600_000) }).to_string();
        messages.push(told.message(&shop, Draft { payload, ..Draft::default() }).await);
    }
    let path = format!("{}/msg", shop.path);
    let first = told.get(&path).await;
    assert_eq!((first["data"].as_array().unwrap().len(), &first["done"]), (3, &json!(false)));
    assert_eq!(told.ids(&format!("{path}?with_content=false")).await.len(), 10);
    let (mut seen, mut numbers, mut iterator) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = told.get(&format!("{path}?order=ascending{iterator}")).await;
        for message in page["data"].as_array().unwrap() {
            seen.push(message["id"].as_str().unwrap().to_owned());
            numbers.push(message["payload"]["number"].as_u64().unwrap());
        }
        if page["done"] == true {
            break;
        }
        iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
    }
    assert_eq!((seen, numbers), (named(&messages), (0..10).collect()));
    // Backwards the page keeps what is next to the one it was asked from.
    let back = told.ids(&format!("{path}?order=ascending&iterator=-{}", messages[9].id)).await;
    assert_eq!(back, named(&messages[6..9]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_endpoint_by_how_they_stand() {
    let told = Told::new().await;
    let shop = told.application().await;
    let (first, second) = (told.endpoint(&shop).await, told.endpoint(&shop).await);
    let delivered = told.delivered(&shop, &first).await;
    let dead = told.dead(&shop, &first, fanfare_core::Settlement::Rejected).await;
    let pending = told.sent(&shop, &first).await;
    let elsewhere = told.sent(&shop, &second).await;
    let path = format!("{}/msg", shop.path);
    let listed = async |query: &str| told.all_ids(&format!("{path}?endpoint={}{query}", first.id), 2).await;
    assert_eq!(listed("").await, named(&[pending.message, dead.message, delivered.message]));
    assert_eq!(listed("&status=0").await, named(&[delivered.message]));
    assert_eq!(listed("&status=fail").await, named(&[dead.message]));
    assert_eq!(listed("&status=1").await, named(&[pending.message]));
    assert_eq!(listed("&status=4").await, Vec::<String>::new());
    assert_eq!(told.ids(&path).await[0], elsewhere.message.id.to_string());
    assert_eq!(told.process.get(&format!("{path}?endpoint=no-such-endpoint")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_anybody_would_take_it() {
    let told = Told::new().await;
    let shop = told.application().await;
    let path = format!("{}/msg/precheck/active", shop.path);
    let active = async |body: serde_json::Value| {
        told.process.post(&path, body).await.is(200)["active"].as_bool().unwrap()
    };
    let paid = json!({ "eventType": "order.paid" });
    assert!(!active(paid.clone()).await);
    for name in ["order.paid", "order.sent"] {
        told.process.post("/event-type", json!({ "name": name, "description": "" })).await.is(201);
    }
    let endpoint = json!({ "url": "http://127.0.0.1:9/", "eventTypes": ["order.paid"], "channels": ["eu"] });
    let endpoint = told.process.post(&format!("{}/endpoint", shop.path), endpoint).await.is(201);
    assert!(!active(paid).await, "it takes only what names its channel");
    assert!(active(json!({ "eventType": "order.paid", "channels": ["us", "eu"] })).await);
    assert!(!active(json!({ "eventType": "order.sent", "channels": ["eu"] })).await);
    let id = endpoint["id"].as_str().unwrap();
    let disabled = json!({ "disabled": true });
    told.process.patch(&format!("{}/endpoint/{id}", shop.path), disabled).await.is(200);
    assert!(!active(json!({ "eventType": "order.paid", "channels": ["eu"] })).await);
    let refused = told.process.post(&path, json!({ "eventType": "", "channels": [] })).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "eventType"]));
    assert_eq!(refused["detail"][1]["loc"], json!(["body", "channels"]));
}
