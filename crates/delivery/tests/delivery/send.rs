//! The transport against real receivers on loopback.

mod bad_endpoints;
mod connections;
mod support;
mod tls;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fanfare_core::{AttemptError, signature};
use fanfare_delivery::send::{Answer, HeaderPrefix, Http, Options, Target, TargetError, Transport as _};

use self::support::{AT, OK, Receiver, http, key, options, request, settings, target};

#[tokio::test]
async fn the_request_is_exact_and_its_signature_verifies() {
    let mut receiver = Receiver::answering(OK).await;
    let payload = Bytes::from_static(b"{ \"b\" : 1,\n  \"a\":\xc3\xa9 }");
    let custom = BTreeMap::from([
        ("X-Team".to_owned(), "billing".to_owned()),
        ("Host".to_owned(), "elsewhere.example".to_owned()),
        ("webhook-id".to_owned(), "msg_forged".to_owned()),
        ("Content-Length".to_owned(), "3".to_owned()),
    ]);
    let url = format!("{}/hooks/a%20b?c=d&e", receiver.url());
    let target = Target::new(settings(&url, &custom)).unwrap();
    let mut sent = request(target);
    sent.payload = payload.clone();
    sent.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    let id = sent.id.to_string();

    let answer = http().send(sent).await;

    assert_eq!((answer.status, answer.error, &answer.body[..]), (200, None, &b"ok"[..]));
    assert!(answer.duration > Duration::ZERO);
    let got = receiver.next().await;
    assert_eq!(got.body, payload);
    let head = got.head.split("\r\n").collect::<Vec<_>>();
    let signature = got.header("webhook-signature").unwrap().to_owned();
    let expected = [
        "POST /hooks/a%20b?c=d&e HTTP/1.1",
        &format!("Host: {}", receiver.address()),
        concat!("User-Agent: Fanfare-Webhooks/", env!("CARGO_PKG_VERSION")),
        "Content-Type: application/json",
        &format!("Webhook-Id: {id}"),
        "X-Team: billing",
        &format!("Webhook-Timestamp: {}", AT.as_secs()),
        &format!("Webhook-Signature: {signature}"),
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        &format!("Content-Length: {}", payload.len()),
    ];
    let (mut head, mut expected) = (head, expected.to_vec());
    assert_eq!(head[..2], expected[..2], "the request line and the host go first");
    head.sort_unstable();
    expected.sort_unstable();
    assert_eq!(head, expected);
    signature::verify(&[key().verifying_key()], &id, &AT.as_secs().to_string(), &signature, &payload, AT)
        .unwrap();
}

#[tokio::test]
async fn prefixes_are_the_installations_choice() {
    let mut receiver = Receiver::answering(OK).await;
    let prefixes = vec![HeaderPrefix::WEBHOOK, HeaderPrefix::SVIX, HeaderPrefix::custom("Acme").unwrap()];
    let http = Http::new(Options { prefixes, ..options() }).unwrap();

    let answer = http.send(request(target(&receiver.url()))).await;

    assert_eq!(answer.error, None);
    let got = receiver.next().await;
    for part in ["id", "timestamp", "signature"] {
        let standard = got.header(&format!("webhook-{part}")).unwrap();
        assert_eq!(got.header(&format!("svix-{part}")), Some(standard));
        assert_eq!(got.header(&format!("acme-{part}")), Some(standard));
    }
    assert!(HeaderPrefix::custom("a b").is_none());
}

#[tokio::test]
async fn only_2xx_is_success() {
    let cases: [(u16, Option<AttemptError>); 8] = [
        (200, None),
        (201, None),
        (204, None),
        (299, None),
        (304, Some(AttemptError::Status)),
        (410, Some(AttemptError::Status)),
        (500, Some(AttemptError::Status)),
        (999, Some(AttemptError::Status)),
    ];
    let http = http();
    for (status, error) in cases {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").leak()).await;
        let answer = http.send(request(target(&receiver.url()))).await;
        assert_eq!((answer.status, answer.error), (status, error));
    }
}

#[tokio::test]
async fn retry_after_is_read_from_refusals_only() {
    let cases = [
        ("HTTP/1.1 429 X\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nslow", 429, Some(30)),
        // 100 s after the time of the request.
        (
            "HTTP/1.1 503 X\r\nRetry-After: Tue, 14 Nov 2023 22:15:00 GMT\r\nContent-Length: 0\r\n\r\n",
            503,
            Some(100),
        ),
        ("HTTP/1.1 503 X\r\nRetry-After: 9999999\r\nContent-Length: 0\r\n\r\n", 503, Some(86_400)),
        ("HTTP/1.1 503 X\r\nRetry-After: later\r\nContent-Length: 0\r\n\r\n", 503, None),
        ("HTTP/1.1 200 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n", 200, None),
    ];
    let http = http();
    for (answer, status, seconds) in cases {
        let receiver = Receiver::answering(answer).await;
        let got = http.send(request(target(&receiver.url()))).await;
        assert_eq!((got.status, got.retry_after), (status, seconds.map(Duration::from_secs)), "{answer}");
    }
}

#[tokio::test]
async fn addresses_we_do_not_send_to_are_refused_unsent() {
    let receiver = Receiver::answering(OK).await;
    let guarded = Http::new(Options { allow_loopback: false, ..options() }).unwrap();
    let port = receiver.address().port();
    for host in ["127.0.0.1", "localhost", "a.localhost.", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let Answer { status, error, .. } =
            guarded.send(request(target(&format!("http://{host}:{port}/")))).await;
        assert_eq!((status, error), (0, Some(AttemptError::AddressRefused)), "{host}");
    }
    let secure_only = Http::new(Options { allow_http: false, ..options() }).unwrap();
    assert_eq!(
        secure_only.send(request(target(&receiver.url()))).await.error,
        Some(AttemptError::AddressRefused)
    );
    assert_eq!(receiver.accepted(), 0);

    let listed =
        Options { allow_loopback: false, allowed: vec!["127.0.0.0/8".parse().unwrap()], ..options() };
    let url = format!("http://localhost:{port}/");
    assert_eq!(Http::new(listed).unwrap().send(request(target(&url))).await.error, None);
}

#[test]
fn a_target_that_cannot_be_sent_to_is_refused() {
    let none = BTreeMap::new();
    let fails = |url: &str| Target::new(settings(url, &none)).unwrap_err();
    assert!(matches!(fails("hooks.example/a"), TargetError::Url(_)));
    assert!(matches!(fails("ftp://hooks.example/"), TargetError::Scheme));
    assert!(matches!(fails("https://user@hooks.example/"), TargetError::Credentials));
    let bad = BTreeMap::from([("x y".to_owned(), "1".to_owned())]);
    assert!(
        matches!(Target::new(settings("https://hooks.example/", &bad)), Err(TargetError::Header { name }) if name == "x y")
    );
    let split = BTreeMap::from([("x".to_owned(), "1\r\ny: 2".to_owned())]);
    assert!(Target::new(settings("https://hooks.example/", &split)).is_err());
}
