#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connection::tls;

/// A server that answers one request after the other with what stands in its script. An empty answer breaks the
/// connection.
struct Script {
    url: String,
    /// The heads of what was asked.
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Script {
    async fn plays(answers: Vec<String>) -> Self {
        Self::plays_with(answers, None).await
    }

    async fn plays_with(answers: Vec<String>, secured: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, connections) = (Arc::default(), Arc::default());
        let script = Self {
            url: format!(
                "{}://localhost:{}",
                if secured.is_some() { "https" } else { "http" },
                address.port()
            ),
            asked: Arc::clone(&asked),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *connections.lock().unwrap() += 1;
                match &secured {
                    None => play(stream, &mut answers, &asked).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            play(stream, &mut answers, &asked).await;
                        }
                    }
                }
            }
        });
        script
    }

    fn client(&self) -> Client {
        self.client_with(tls(&[]).unwrap())
    }

    fn client_with(&self, tls: TlsConnector) -> Client {
        let patience =
            Patience { tries: 4, first: Duration::from_millis(1), longest: Duration::from_millis(4) };
        Client::new(Side::Source, self.url.parse().unwrap(), "secret-token".parse().unwrap(), tls, patience)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answers: &mut impl Iterator<Item = String>,
    asked: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        asked.lock().unwrap().push(String::from_utf8(std::mem::take(&mut head)).unwrap());
        let answer = answers.next().unwrap_or_default();
        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn ok() -> String {
    answer(200, "", r#"{"ok": true}"#)
}

#[tokio::test]
async fn one_connection_carries_the_token_and_is_kept() {
    let script = Script::plays(vec![ok(), answer(404, "", "{}"), ok()]).await;
    let mut client = script.client();
    assert_eq!(client.get("/app?limit=1").await.unwrap()["ok"], true);
    assert_eq!(client.find("/app/a").await.unwrap(), None);
    assert!(client.find("/app/b").await.unwrap().is_some());
    let asked = script.asked();
    assert!(asked[0].starts_with("GET /api/v1/app?limit=1 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked.iter().all(|head| head.contains("authorization: Bearer secret-token\r\n")), "{asked:?}");
    assert_eq!(*script.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn what_may_do_better_is_sent_again() {
    for trouble in
        [answer(429, "retry-after: 0\r\n", ""), answer(500, "", ""), answer(503, "", ""), String::new()]
    {
        let script = Script::plays(vec![ok(), trouble.clone(), trouble.clone(), ok()]).await;
        let mut client = script.client();
        client.get("/a").await.unwrap();
        assert_eq!(client.get("/b").await.unwrap()["ok"], true, "{trouble}");
        assert_eq!(script.asked().len(), 4, "{trouble}");
    }
}

#[tokio::test]
async fn what_never_does_better_ends_with_what_it_means() {
    for (trouble, says, is_final, asked) in [
        (answer(429, "", ""), "no room for requests (429", true, 4),
        (answer(502, "", ""), "no room for requests (502", true, 4),
        // Of this request alone.
        (
            answer(500, "", r#"{"detail": "boom"}"#),
            "answers 500 Internal Server Error to GET /b: boom",
            false,
            4,
        ),
        (String::new(), "cannot be reached any more", true, 4),
        (answer(429, "retry-after: 301\r\n", ""), "left alone for 301 s", true, 1),
        (
            answer(401, "", r#"{"detail": "bad token"}"#),
            "refuses the token (401 Unauthorized) on GET /b: bad token",
            true,
            1,
        ),
        (answer(403, "", "{}"), "refuses the token (403", true, 1),
        (answer(302, "location: https://b.example/x\r\n", ""), "redirects to https://b.example/x", true, 1),
        (answer(404, "", "<html>\n  gone\u{1b}[31m"), "to GET /b: <html> gone\u{fffd}[31m", false, 1),
        (
            answer(
                422,
                "",
                r#"{"detail": [{"loc": ["body", "url"], "msg": "is wrong"}, {"loc": ["body", "a", "0"], "msg": "too"}]}"#,
            ),
            "to GET /b: url: is wrong; a.0: too",
            false,
            1,
        ),
        (answer(200, "", "<html>"), "not compatible with Svix's API: an answer is not JSON", true, 1),
        (
            "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
                + &format!("1000001\r\n{}", "x".repeat(0x0100_0001)),
            "more than 16777216 bytes",
            false,
            1,
        ),
    ] {
        let script = Script::plays([ok()].into_iter().chain(vec![trouble; 4]).collect()).await;
        let mut client = script.client();
        client.get("/a").await.unwrap();
        let error = client.get("/b").await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!((error.is_final(), script.asked().len() - 1), (is_final, asked), "{error}");
    }
}

/// The URL may be wrong: whoever never answered is not waited for.
#[tokio::test]
async fn a_server_that_was_never_reached_is_named_at_once() {
    let script = Script::plays(vec![String::new(); 9]).await;
    let error = script.client().get("/a").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(script.asked().len(), 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = Script { url: format!("http://{}", listener.local_addr().unwrap()), ..script };
    drop(listener);
    let error = closed.client().get("/a").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach the source at {}: ", closed.url)), "{error}");
}

#[tokio::test]
async fn over_tls_the_server_must_be_who_it_says() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let script = Script::plays_with(vec![ok()], Some(TlsAcceptor::from(Arc::new(config)))).await;
    let error = script.client().get("/a").await.unwrap_err().to_string();
    assert!(error.contains("TLS: ") && error.contains("certificate"), "{error}");
    let mut trusting = script.client_with(tls(&[cert.der().clone()]).unwrap());
    assert_eq!(trusting.get("/a").await.unwrap()["ok"], true);
}
