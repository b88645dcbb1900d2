//! What Fanfare signs, judged by the official Standard Webhooks libraries for Rust, Python and JavaScript.

use std::{
    collections::BTreeMap,
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{Installation, Recorder};

const PAYLOAD: &str = r#"{ "name": "Zoë \u00eb 🎉", "amount": 1.10, "order": 12345678901234567890 }"#;
const SIX_MINUTES: i64 = 6 * 60;

/// A delivery, and what a consumer is to make of it.
struct Case {
    name: &'static str,
    secret: String,
    headers: HeaderMap,
    body: Bytes,
    genuine: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_library() {
    for case in cases().await {
        let webhook = Webhook::new(&case.secret).unwrap();
        assert_eq!(webhook.verify(&case.body, &case.headers).is_ok(), case.genuine, "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_library() {
    judged_by(&tools().join("python/bin/python"), "verify.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_library() {
    judged_by(&tools().join("node/bin/node"), "verify.mjs").await;
}

/// One real delivery, and the same changed in each way that must be noticed.
async fn cases() -> Vec<Case> {
    let installation = Installation::new();
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("official").await;
    let endpoint = client.endpoint(&application, &recorder.url("/one"), &json!({})).await;
    let another = client.endpoint(&application, "http://127.0.0.1:9/another", &json!({})).await;
    let secret = client.secret(&application, &endpoint).await;
    let anothers_secret = client.secret(&application, &another).await;
    let body = format!(r#"{{"eventType":"order.made","payload":{PAYLOAD}}}"#);
    client.publish(&application, &[], &body).await.json(202);
    let receipt = recorder.received(1).await.remove(0);
    server.terminate().await;

    let genuine = |name| Case {
        name,
        secret: secret.clone(),
        headers: receipt.headers.clone(),
        body: receipt.body.clone(),
        genuine: true,
    };
    let changed = receipt.body.iter().map(|byte| if *byte == b'Z' { b'z' } else { *byte }).collect();
    vec![
        genuine("genuine"),
        Case { body: changed, genuine: false, ..genuine("changed body") },
        Case { secret: anothers_secret, genuine: false, ..genuine("another endpoint's secret") },
        Case {
            headers: signed_earlier(&receipt.headers, &secret),
            genuine: false,
            ..genuine("old timestamp")
        },
    ]
}

/// The headers as a correct signature of six minutes ago: only its age is wrong.
fn signed_earlier(headers: &HeaderMap, secret: &str) -> HeaderMap {
    let text = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    let timestamp: i64 = text("webhook-timestamp").parse().unwrap();
    let earlier = timestamp - SIX_MINUTES;
    let webhook = Webhook::new(secret).unwrap();
    let signature = webhook.sign(text("webhook-id"), earlier, PAYLOAD.as_bytes()).unwrap();
    let mut headers = headers.clone();
    headers.insert("webhook-timestamp", HeaderValue::from(earlier));
    headers.insert("webhook-signature", signature.parse().unwrap());
    headers
}

/// Has a script of `tests/official` judge all cases; it prints `accepted` or `rejected` for each.
async fn judged_by(program: &Path, script: &str) {
    let cases = cases().await;
    let input: Vec<Value> = cases.iter().map(as_json).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official").join(script);
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask test`", program.display()));
    child.stdin.take().unwrap().write_all(Value::from(input).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let verdicts = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<&str> = verdicts.lines().collect();
    let expected: Vec<&str> =
        cases.iter().map(|case| if case.genuine { "accepted" } else { "rejected" }).collect();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(verdicts, expected, "for {names:?}");
}

fn as_json(case: &Case) -> Value {
    let headers: BTreeMap<&str, &str> =
        case.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    json!({ "secret": case.secret, "headers": headers, "body": str::from_utf8(&case.body).unwrap() })
}

fn tools() -> PathBuf {
    let tools = env::var_os("FANFARE_TOOLS");
    tools.expect("FANFARE_TOOLS is not set: run `cargo xtask test`, which installs the libraries").into()
}
