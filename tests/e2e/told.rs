//! What the program tells of itself: pages name each metric and each code of an error, and no others; its log keeps
//! payloads and secrets to itself.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use crate::support::{
    Client, Engine, Installation, Recorder, Reply, Server, client::Address, on_every_engine, wait,
};

on_every_engine! {
    metrics_that_are_shown_are_told_of,
    logs_hold_no_payload_and_no_secret,
}

/// The constructors of errors that take a code.
const CONSTRUCTORS: [&str; 4] =
    ["ApiError::new(", "ApiError::unavailable(", "Self::new(", "Self::unavailable("];

/// Those that come with their first count, with a delivery, or after somebody has asked.
const AWAITED: [&str; 5] = [
    "fanfare_ingest_messages_repeated_total",
    "fanfare_ingest_messages_refused_total",
    "fanfare_router_lag_seconds",
    "fanfare_delivery_latency_seconds",
    "fanfare_scaling_desired_workers",
];

/// What no log line may hold.
const PAYLOAD: &str = "payload-that-nobody-else-may-read";
const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HEADER: &str = "header-that-nobody-else-may-read";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// What the program is made of: all that is in `src` and `crates/*/src`.
fn sources() -> Vec<String> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let mut folders: Vec<PathBuf> = crates.map(|entry| entry.unwrap().path().join("src")).collect();
    folders.push(root().join("src"));
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

/// The rows of a page's tables, cell by cell.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

/// Words that are names of metrics, or begin as they do.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("fanfare_"))
}

/// Those that have a row of their own, or share one.
fn metrics_told_of(page: &str) -> BTreeSet<&str> {
    rows(page).flat_map(|cells| metrics(cells[0])).collect()
}

/// String literals that name metrics. Meters have names of two parts, metrics of more.
fn metrics_of(source: &str) -> impl Iterator<Item = &str> {
    let literals = source.split('"').skip(1);
    literals.filter(|literal| {
        let is_name = literal.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_name && literal.starts_with("fanfare_") && literal.matches('_').count() > 1
    })
}

#[test]
fn pages_name_the_metrics_that_there_are() {
    let (page, sources) = (page("metrics.md"), sources());
    let there_are: BTreeSet<&str> = sources.iter().flat_map(|source| metrics_of(source)).collect();
    assert_eq!(metrics_told_of(&page), there_are);
    // In expressions, too.
    for name in rows(&page).flatten().flat_map(metrics) {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(*part));
        let name = of_histogram.unwrap_or(name);
        assert!(there_are.contains(name), "there is no {name}");
    }
}

/// Codes that a source gives to constructors of errors.
fn codes_of(source: &str) -> Vec<&str> {
    if !source.contains("ApiError") {
        return Vec::new();
    }
    let calls = CONSTRUCTORS.into_iter().flat_map(|call| source.match_indices(call));
    let codes = calls.filter_map(|(at, call)| {
        let (before, rest) = source[at + call.len()..].split_once('"')?;
        let (code, _) = rest.split_once('"')?;
        // At most a status stands before the code.
        let is_status = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "_:,".contains(c);
        let is_code = |c: char| c.is_ascii_lowercase() || c == '_';
        (before.chars().all(is_status) && code.chars().all(is_code)).then_some(code)
    });
    codes.collect()
}

#[test]
fn pages_name_the_codes_of_errors() {
    let (page, sources) = (page("errors.md"), sources());
    let told: BTreeSet<&str> =
        rows(&page).filter_map(|cells| cells[1].strip_prefix('`')?.strip_suffix('`')).collect();
    let given: BTreeSet<&str> = sources.iter().flat_map(|source| codes_of(source)).collect();
    assert_eq!(told, given);
}

async fn metrics_that_are_shown_are_told_of(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = failing_first(&[500]).await;
    let application = client.application("told of").await;
    client.endpoint(&application, &recorder.url("/"), &json!({})).await;
    let key = [("idempotency-key", "order-17")];
    let body = r#"{"eventType":"order.made","payload":{"order":17}}"#;
    for _ in 0..2 {
        client.publish(&application, &key, body).await.id(202);
    }
    client.publish(&application, &key, &body.replace("17", "18")).await.json(409);

    let shown = wait::until("metrics of all kinds are shown", wait::PATIENCE, async || {
        let shown = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
        let types = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let shown: BTreeSet<String> = types.flat_map(metrics).map(str::to_owned).collect();
        AWAITED.iter().all(|name| shown.contains(*name)).then_some(shown)
    })
    .await;
    let page = page("metrics.md");
    let told = metrics_told_of(&page);
    let untold: Vec<&String> = shown.iter().filter(|name| !told.contains(name.as_str())).collect();
    assert!(untold.is_empty(), "no page tells of {untold:?}");
    server.terminate().await;
}

/// However much it is asked to say, and whatever goes wrong.
async fn logs_hold_no_payload_and_no_secret(engine: Engine) {
    let installation = Installation::on(&engine);
    let address = Address::default();
    let mut command = installation.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.arg("--dev").env("RUST_LOG", "debug");
    let mut server = Server::spawn(&mut command, address.clone());
    server.ready().await;
    let token = installation.token(&[]).await;
    let client = Client::new(address.clone(), Some(token.clone()));
    let recorder = failing_first(&[500, 0]).await;
    let application = client.application("discreet").await;
    let options = json!({
        "secret": format!("whsec_{SECRET}"),
        "headers": { "x-api-key": HEADER },
        "timeoutSecs": 1,
    });
    let endpoint = client.endpoint(&application, &recorder.url("/"), &options).await;
    assert_eq!(client.secret(&application, &endpoint).await, format!("whsec_{SECRET}"));

    let body = json!({ "eventType": "card.used", "payload": { "card": PAYLOAD } }).to_string();
    client.publish(&application, &[], &body).await.id(202);
    let receipts = recorder.received(3).await;
    assert_eq!(receipts[2].header("x-api-key"), HEADER);
    assert!(String::from_utf8_lossy(&receipts[2].body).contains(PAYLOAD));
    // What is refused is not told either.
    client.publish(&application, &[], &body[..body.len() - 1]).await.json(422);
    let weak = json!({ "url": recorder.url("/"), "secret": format!("whsec_{}", &SECRET[..12]) });
    client.post(&format!("/api/v1/app/{application}/endpoint"), &weak).await.json(422);
    let stranger = Client::new(address, Some(format!("{token}A")));
    stranger.get("/api/v1/app").await.json(401);

    let main_secret = fs::read_to_string(installation.main_secret()).unwrap();
    let untold = [PAYLOAD, &SECRET[..12], HEADER, token.as_str(), main_secret.trim()];
    // What a person who tries it out is told on standard output is no line of the log.
    let lines: Vec<String> = server.lines().into_iter().filter(|line| line.starts_with('{')).collect();
    for line in &lines {
        assert!(!untold.iter().any(|secret| line.contains(*secret)), "{line}");
    }
    assert!(server.said("partition taken over") > 0, "it says what it does: {lines:?}");
    server.terminate().await;
}

/// An endpoint that gives these answers first, 0 for none at all, and then takes everything.
async fn failing_first(statuses: &'static [u16]) -> Recorder {
    let requests = AtomicUsize::new(0);
    Recorder::behaving(move |_| match statuses.get(requests.fetch_add(1, Ordering::Relaxed)) {
        Some(0) => Reply::Silence,
        Some(status) => Reply::Status(*status),
        None => Reply::Status(204),
    })
    .await
}
