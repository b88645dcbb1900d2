//! Publishing through the routes, over a log whose durability the test decides.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "ingest/batch.rs"]
mod batch;
#[path = "ingest/in_order.rs"]
mod in_order;
mod support;

use std::{sync::atomic::Ordering, time::Duration};

use axum::body::Body;
use fanfare_core::{Offset, limits};
use fanfare_log::{
    AppendError, Log as _, Topic,
    embedded::{self, EmbeddedLog},
};
use http::Request;
use support::{Process, memory_log::Disk, read};

const BODY: &str = r#"{"eventType": "order.paid", "payload": {"amount": 1.50}}"#;

#[tokio::test]
async fn a_message_is_kept_as_it_was_sent() {
    let process = Process::start().await;
    let payload = "{ \"b\": 1.50,\n \"a\":\"\\u00e4\", \"n\": 123456789012345678901234567890 }";
    let body = format!(
        r#"{{"eventType":"order.paid","payload":{payload},"eventId":"e-1","channels":["eu"],"orderingKey":"k","tags":["t"]}}"#
    );
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = process.publish(body, &[("traceparent", trace)]).await;
    let id = answer.id();
    let shown = answer.json();
    assert_eq!(shown["eventType"], "order.paid");
    assert_eq!(shown["eventId"], "e-1");
    assert_eq!(shown["channels"][0], "eu");
    assert_eq!(shown["orderingKey"], "k");
    assert_eq!(shown["payload"]["a"], "\u{e4}");
    assert!(answer.text.contains(payload), "{}", answer.text);

    let [record] = &process.records()[..] else { panic!("one record") };
    assert_eq!(record.payload.as_deref(), Some(payload.as_bytes()));
    let message = &process.messages()[0];
    assert_eq!(message.id.to_string(), id);
    assert_eq!(message.application, process.application.id);
    assert_eq!(message.traceparent.as_deref(), Some(trace));
    assert_eq!(shown["timestamp"], message.accepted_at.to_string());
    assert_eq!((message.event_id.as_deref(), message.ordering_key.as_deref()), (Some("e-1"), Some("k")));
}

#[tokio::test]
async fn the_content_is_shown_unless_it_is_not_wanted() {
    let process = Process::start().await;
    let answer = process.post("/api/v1/app/shop/msg/?with_content=false", BODY, &[]).await;
    answer.id();
    assert_eq!(answer.json()["payload"], serde_json::json!({}));
    assert!(answer.json()["eventId"].is_null() && answer.json()["channels"].is_null());
    let large = format!(r#"{{"eventType":"a","payload":{{"x":"{}"}}}}"#, "y".repeat(200_000));
    assert!(process.publish(large, &[]).await.text.len() > 200_000);
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_writes_nothing() {
    let process = Process::start().await;
    let other = fanfare_core::ApplicationId::from_bytes([1; 20]);
    let token = process.control.tokens().mint_application(
        fanfare_control::default_organization(),
        other,
        fanfare_core::Clock::now(&fanfare_core::SystemClock),
    );
    let foreign = format!("Bearer {token}");
    let control_before = process.log.records(Topic::Control).len();
    let shop = "/api/v1/app/shop/msg";
    let oversize = format!(r#"{{"eventType":"a","payload":{{"x":"{}"}}}}"#, "y".repeat(limits::BODY_BYTES));
    let long_key = "k".repeat(257);
    for (path, body, header, status, names) in [
        (shop, "{\"eventType\": ", None, 422, "malformed JSON"),
        (shop, r#"{"eventType": 7, "payload": {}}"#, None, 422, "eventType"),
        (shop, r#"{"eventType": "a", "payload": 7}"#, None, 422, "payload"),
        (shop, r#"{"eventType": "a"}"#, None, 422, "payload"),
        (shop, oversize.as_str(), None, 413, "1048576 bytes"),
        (shop, BODY, Some(("authorization", "Bearer nonsense")), 401, "token"),
        (shop, BODY, Some(("authorization", "Basic eA==")), 401, "Bearer <token>"),
        (shop, BODY, Some(("authorization", foreign.as_str())), 404, "application `shop`"),
        (shop, BODY, Some(("idempotency-key", long_key.as_str())), 422, "idempotency-key"),
        ("/api/v1/app/nobody/msg", BODY, None, 404, "application `nobody`"),
        ("/api/v1/app/app_bad/msg", BODY, None, 404, "app_bad"),
        ("/api/v1/app/%ff/msg", BODY, None, 400, "path"),
        ("/api/v1/app/shop/msg?with_content=7", BODY, None, 400, "with_content"),
        ("/api/v1/app/shop/message", BODY, None, 404, "no route"),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let answer = process.post(path, body.to_owned(), &headers).await;
        assert_eq!(answer.status, status, "{path} {answer:?}");
        assert!(answer.text.contains(names), "{path}: {}", answer.text);
        assert!(answer.json()["code"].is_string() && answer.json()["title"].is_string());
    }
    let wrong_type = Request::post(shop)
        .header("authorization", format!("Bearer {}", process.token))
        .header("content-type", "text/plain")
        .body(Body::from(BODY))
        .unwrap();
    assert_eq!(read(process.surface.answer(wrong_type).await).await.status, 415);
    let anonymous = Request::post(shop).body(Body::from(BODY)).unwrap();
    let answer = read(process.surface.answer(anonymous).await).await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (401, "authentication_failed"));
    assert_eq!(process.records().len(), 0);
    assert_eq!(process.log.records(Topic::Control).len(), control_before);
}

/// A body that does not say its length is cut off at the limit.
#[tokio::test]
async fn an_endless_body_is_refused() {
    let process = Process::start().await;
    let piece = bytes::Bytes::from(vec![b' '; 64 << 10]);
    let endless = futures_of(piece);
    let answer = process.publish(Body::new(endless), &[]).await;
    assert_eq!(answer.status, 413);
}

/// A body that gives the same piece for ever.
fn futures_of(
    piece: bytes::Bytes,
) -> impl http_body::Body<Data = bytes::Bytes, Error = std::io::Error> + Send {
    struct Endless(bytes::Bytes);
    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            std::task::Poll::Ready(Some(Ok(http_body::Frame::data(self.0.clone()))))
        }
    }
    Endless(piece)
}

#[tokio::test]
async fn one_key_is_one_message() {
    let process = Process::start().await;
    let first = process.publish(BODY, &[("idempotency-key", "k")]).await;
    let again = process.publish(BODY, &[("idempotency-key", "k")]).await;
    assert_eq!(again.id(), first.id());
    assert_eq!(again.json()["timestamp"], first.json()["timestamp"]);
    let other = r#"{"eventType": "order.paid", "payload": {"amount": 1.5}}"#;
    let conflict = process.publish(other, &[("idempotency-key", "k")]).await;
    assert_eq!((conflict.status, conflict.json()["code"].as_str().unwrap()), (409, "conflict"));
    assert!(
        conflict.text.contains("Idempotency-Key") && conflict.text.contains(&first.id()),
        "{}",
        conflict.text
    );
    assert_eq!(process.records().len(), 1);
    assert_ne!(process.publish(BODY, &[("idempotency-key", "k2")]).await.id(), first.id());
}

#[tokio::test]
async fn an_event_id_under_another_key_conflicts() {
    let process = Process::start().await;
    let body = r#"{"eventType": "a", "payload": {}, "eventId": "e"}"#;
    let first = process.publish(body, &[("idempotency-key", "k")]).await.id();
    assert_eq!(process.publish(body, &[("idempotency-key", "k")]).await.id(), first);
    assert_eq!(process.publish(body, &[]).await.id(), first);
    let conflict = process.publish(body, &[("idempotency-key", "k2")]).await;
    assert_eq!(conflict.status, 409);
    assert!(conflict.text.contains("eventId") && conflict.text.contains(&first), "{}", conflict.text);
    assert_eq!(process.records().len(), 1);
}

/// Twins at the same moment: both answers wait for the one append.
#[tokio::test]
async fn twins_share_one_append() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Stalled);
    let publish = || {
        let process = process.clone();
        tokio::spawn(async move { process.publish(BODY, &[("idempotency-key", "k")]).await })
    };
    let (first, twin) = (publish(), publish());
    process.appended(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && !twin.is_finished(), "answered before it was durable");
    process.log.set_disk(Disk::Well);
    assert_eq!(first.await.unwrap().id(), twin.await.unwrap().id());
    assert_eq!(process.records().len(), 1);
}

/// The first one's append fails: its twin takes its place.
#[tokio::test]
async fn a_twin_takes_the_place_of_one_that_failed() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Stalled);
    let first = tokio::spawn({
        let process = process.clone();
        async move { process.publish(BODY, &[("idempotency-key", "k")]).await }
    });
    process.appended(1).await;
    process.log.set_disk(Disk::Failing(AppendError::Unavailable("planted".into())));
    let failed = first.await.unwrap();
    assert_eq!((failed.status, failed.json()["code"].as_str().unwrap()), (503, "log_unavailable"));
    assert_eq!(failed.headers["retry-after"], "1");
    process.log.set_disk(Disk::Well);
    process.publish(BODY, &[("idempotency-key", "k")]).await.id();
    assert_eq!(process.records().len(), 2);
}

/// The client hangs up while its message is on the way to the disk: the claim stays with the message.
#[tokio::test]
async fn a_client_that_goes_away_leaves_its_claim() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Stalled);
    let gone = tokio::spawn({
        let process = process.clone();
        async move { process.publish(BODY, &[("idempotency-key", "k")]).await }
    });
    process.appended(1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    process.log.set_disk(Disk::Well);
    let again = process.publish(BODY, &[("idempotency-key", "k")]).await;
    assert_eq!(again.id(), process.messages()[0].id.to_string());
    assert_eq!(process.records().len(), 1);
}

/// After a start the router's table is not complete: a keyed publish waits, others do not.
#[tokio::test(start_paused = true)]
async fn keyed_publishes_wait_for_the_router() {
    let process = Process::start().await;
    process.router.behind.store(true, Ordering::Relaxed);
    process.publish(BODY, &[]).await.id();
    let answer = process.publish(BODY, &[("idempotency-key", "k")]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (503, "catching_up"));
    process.router.behind.store(false, Ordering::Relaxed);
    process.publish(BODY, &[("idempotency-key", "k")]).await.id();
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Failing(AppendError::Full { topic: "messages" }));
    let answer = process.publish(BODY, &[]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (503, "disk_full"));
    assert!(answer.headers.contains_key("retry-after"));
}

/// More publishes than the disk takes: each is answered in time, and health at once.
#[tokio::test(start_paused = true)]
async fn overload_is_answered_in_time() {
    let process = Process::start().await;
    process.log.set_disk(Disk::Stalled);
    let started = tokio::time::Instant::now();
    let publishes: Vec<_> = (0..limits::PUBLISHES_IN_PROGRESS + 500)
        .map(|_| {
            let process = process.clone();
            tokio::spawn(async move { process.publish(BODY, &[]).await })
        })
        .collect();
    process.appended(limits::PUBLISHES_IN_PROGRESS).await;
    let health = Request::get("/api/v1/health").body(Body::empty()).unwrap();
    assert_eq!(read(process.surface.answer(health).await).await.status, 200);
    assert_eq!(started.elapsed(), Duration::ZERO);
    for publish in publishes {
        let answer = publish.await.unwrap();
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(started.elapsed() <= Duration::from_secs(5));
    assert_eq!(process.records().len(), limits::PUBLISHES_IN_PROGRESS);
    process.log.set_disk(Disk::Well);
    tokio::task::yield_now().await;
    process.publish(BODY, &[]).await.id();
}

#[tokio::test]
async fn a_message_may_bring_its_application() {
    let process = Process::start().await;
    let body = |uid: &str| {
        format!(r#"{{"eventType":"a","payload":{{}},"application":{{"name":"New",{uid}"metadata":{{}}}}}}"#)
    };
    let path = "/api/v1/app/new/msg";
    for (uid, kind) in [("", "application_uid_missing"), ("\"uid\":\"other\",", "application_uid_mismatch")] {
        let answer = process.post(path, body(uid), &[]).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.json()["detail"][0]["type"], kind);
    }
    assert_eq!(process.records().len(), 0);
    process.post(path, body("\"uid\":\"new\","), &[]).await.id();
    process.post(path, body("\"uid\":\"new\","), &[]).await.id();
    let created = process.control.view().application(fanfare_control::default_organization(), "new").unwrap();
    assert_eq!(created.settings.name, "New");
    assert!(process.messages().iter().all(|message| message.application == created.id));
}

/// What was answered 202 stands in the journal, byte for byte, when the next process opens it.
#[tokio::test]
async fn an_accepted_message_outlives_the_process() {
    let directory = tempfile::TempDir::new().unwrap();
    let open = || EmbeddedLog::open(embedded::Options::new(directory.path(), 4, 4)).unwrap();
    let process = Process::over(open()).await;
    let id = process.publish(BODY, &[("idempotency-key", "k")]).await.id();
    assert_eq!(process.publish(BODY, &[("idempotency-key", "k")]).await.id(), id);
    process.log.close().await;
    let refused = process.publish(BODY, &[]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (503, "log_unavailable"));
    let partition = process.application.partition;
    drop(process);

    let process = Process::over(open()).await;
    assert_eq!(process.application.partition, partition);
    let batch = process.log.fetch(Topic::Messages, partition, Offset::ZERO, 1 << 20).await.unwrap();
    let [record] = &batch.records[..] else { panic!("one record") };
    assert_eq!(fanfare_core::Message::decode(&record.head).unwrap().id.to_string(), id);
    assert_eq!(record.payload.as_deref(), Some(&br#"{"amount": 1.50}"#[..]));
}
