//! Moving in, from one real Fanfare to another: everything arrives, over a kill and a source that stumbles; receivers go on
//! with the secrets they have; nothing is written that is there already.

mod proxy;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
};

use fanfare_core::{
    Clock as _, SystemClock,
    signature::{SigningKey, verify},
};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use self::proxy::{Act, Proxy};
use crate::support::{
    Client, Engine, Installation, Receipt, Recorder, Server,
    installation::{Finished, fanfare, finish},
    on_every_engine, wait,
};

on_every_engine! {
    everything_arrives_and_a_second_run_writes_nothing,
    endpoints_that_are_held_miss_nothing,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
/// More than a page.
const MANY: usize = 55;
/// Requests to the source before the tool is killed: it is among the many then.
const KILLED_AFTER: usize = 60;

/// Two installations, and what is set up at the first.
struct World {
    source: Installation,
    target: Installation,
    at_source: Client,
    at_target: Client,
    servers: [Server; 2],
    recorder: Recorder,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let (source, target) = (Installation::on(engine), Installation::on(&engine.another()));
        let servers = [source.start().await, target.start().await];
        let (at_source, at_target) = (source.client().await, target.client().await);
        Self { source, target, at_source, at_target, servers, recorder: Recorder::start().await }
    }

    /// The tool, from the source or from what stands before it.
    async fn command(&self, from: &str, options: &[&str]) -> Command {
        let tokens = tempfile::tempdir().unwrap().keep();
        let file = tokens.join("to-token");
        std::fs::write(&file, self.target.token(&[]).await + "\n").unwrap();
        let mut command = fanfare(&tokens);
        command.args(["move-in", "svix", "--from", from, "--to", &self.target.url(), "--json"]);
        command.arg("--to-token-file").arg(file).args(options);
        command.env("FANFARE_MOVE_IN_TOKEN", self.source.token(&[]).await);
        command
    }

    async fn run(&self, options: &[&str]) -> (Finished, Value) {
        self.run_from(&self.source.url(), options).await
    }

    async fn run_from(&self, from: &str, options: &[&str]) -> (Finished, Value) {
        let mut command = self.command(from, options).await;
        let finished = finish(&mut command).await;
        std::fs::remove_dir_all(command.get_current_dir().unwrap()).unwrap();
        let summary = serde_json::from_str(&finished.stdout);
        let summary = summary.unwrap_or_else(|error| panic!("{error} in {finished:?}"));
        (finished, summary)
    }

    /// All that was ever changed at the target.
    async fn written(&self) -> Vec<Value> {
        let log = self.at_target.get("/api/v1/audit-log?limit=250").await.json(200);
        let changed = |entry: &&Value| entry["refused"] == false;
        log["data"].as_array().unwrap().iter().filter(changed).cloned().collect()
    }

    async fn stop(self) {
        for server in self.servers {
            server.terminate().await;
        }
    }
}

/// Of each kind: made, changed, equal, not copied.
fn counts(summary: &Value) -> [[u64; 4]; 3] {
    ["eventTypes", "applications", "endpoints"].map(|kind| {
        ["made", "changed", "equal", "notCopied"].map(|count| summary[kind][count].as_u64().unwrap())
    })
}

/// What was not copied, by name.
fn not_copied(summary: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = summary["notCopied"].as_array().unwrap().iter();
    all.map(|item| (text(&item["name"]), text(&item["reason"]))).collect()
}

/// The ids of the things at the source that have no uid.
struct Ids {
    application: String,
    endpoint: String,
    signed: String,
}

async fn set_up(client: &Client, recorder: &Recorder) -> Ids {
    for (name, more) in [
        (
            "order.made",
            json!({ "description": "one", "schemas": { "1": { "type": "object" } }, "groupName": "order" }),
        ),
        ("order.paid", json!({ "description": "two", "featureFlags": ["beta"], "deprecated": true })),
        ("old.kind", json!({ "description": "gone", "archived": true })),
    ] {
        client.send("PUT", &format!("/api/v1/event-type/{name}"), &[], &more.to_string()).await.json(201);
    }
    let acme = json!({ "name": "Acme", "uid": "acme", "rateLimit": 500, "metadata": { "plan": "gold" }, "ordering": "keyed" });
    client.post("/api/v1/app", &acme).await.json(201);
    let options = json!({ "uid": "orders", "description": "d", "eventTypes": ["order.made", "old.kind"], "channels": ["eu"],
        "throttleRate": 400, "metadata": { "team": "a" }, "secret": SECRET, "retrySchedule": [1, 2],
        "headers": { "X-Team": "a", "Authorization": "Bearer theirs" } });
    client.endpoint("acme", &recorder.url("/orders"), &options).await;
    client.endpoint("acme", &recorder.url("/off"), &json!({ "uid": "off", "disabled": true })).await;
    // The target refuses it: it filters by a type that is nowhere any more.
    client.post("/api/v1/event-type", &json!({ "name": "gone.kind", "description": "" })).await.json(201);
    let options = json!({ "uid": "refused", "eventTypes": ["gone.kind"] });
    client.endpoint("acme", &recorder.url("/refused"), &options).await;
    assert_eq!(client.delete("/api/v1/event-type/gone.kind?expunge=true").await.status, 204);

    let application = client.application("Without uid").await;
    let endpoint = client.endpoint(&application, &recorder.url("/plain"), &json!({})).await;
    let options = json!({ "secret": PRIVATE, "block": true });
    let signed = client.endpoint(&application, &recorder.url("/signed"), &options).await;

    client.post("/api/v1/app", &json!({ "name": "Many", "uid": "many" })).await.json(201);
    for number in 0..MANY {
        client.endpoint("many", &recorder.url("/many"), &json!({ "uid": format!("n{number}") })).await;
    }
    Ids { application, endpoint, signed }
}

async fn everything_arrives_and_a_second_run_writes_nothing(engine: Engine) {
    let world = World::new(&engine).await;
    let ids = set_up(&world.at_source, &world.recorder).await;
    let (finished, summary) = world.run(&["--dry-run"]).await;
    let all = MANY as u64 + 4;
    assert_eq!(counts(&summary), [[3, 0, 0, 0], [3, 0, 0, 0], [all + 1, 0, 0, 0]], "{summary}");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(world.written().await.is_empty(), "a dry run writes nothing");

    killed_in_the_middle(&world).await;
    let half = world.written().await.len();
    assert!(half > 6 && half < 6 + MANY, "{half} changes were made until then");

    // It stumbles in every way that passes.
    let proxy = Proxy::start(world.source.address(), |number| match number % 24 {
        7 => Act::Break,
        13 => Act::Answer("HTTP/1.1 429 X\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"),
        19 => Act::Answer("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"),
        _ => Act::Forward,
    })
    .await;
    let (finished, summary) = world.run_from(&proxy.url(), &[]).await;
    drop(proxy);
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let [event_types, applications, endpoints] = counts(&summary);
    assert_eq!((event_types, applications), ([0, 0, 3, 0], [0, 0, 3, 0]), "what was there is left alone");
    assert_eq!((endpoints[0] + endpoints[2], endpoints[1], endpoints[3]), (all, 0, 1), "{summary}");
    assert_eq!(world.written().await.len() as u64, 6 + all, "each thing is written once");
    let missing = not_copied(&summary);
    let signed = format!("{}/{}", ids.application, ids.signed);
    for (name, says) in
        [("acme/orders", "authorization"), (signed.as_str(), "ed25519"), ("acme/refused", "gone.kind")]
    {
        assert!(missing[name].contains(says), "{missing:?}");
    }
    assert_eq!(missing.len(), 3, "{missing:?}");

    mended_by_the_operator(&world, &ids).await;
    let (finished, summary) = world.run(&[]).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(counts(&summary)[2], [0, 2, all - 2, 0], "they are enabled: {summary}");

    let written = world.written().await;
    let (finished, summary) = world.run(&[]).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(counts(&summary), [[0, 0, 3, 0], [0, 0, 3, 0], [0, 0, all, 0]], "{summary}");
    assert_eq!(world.written().await, written, "a second run writes nothing");

    both_show_the_same(&world).await;
    receivers_need_change_nothing(&world, &ids).await;
    world.stop().await;
}

async fn killed_in_the_middle(world: &World) {
    let proxy =
        Proxy::start(
            world.source.address(),
            |number| {
                if number < KILLED_AFTER { Act::Forward } else { Act::Stall }
            },
        )
        .await;
    let mut command = world.command(&proxy.url(), &[]).await;
    let mut tool = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let enough = async || (proxy.asked() > KILLED_AFTER).then_some(());
    wait::until("it is in the middle", wait::PATIENCE, enough).await;
    tool.kill().unwrap();
    tool.wait().unwrap();
    std::fs::remove_dir_all(command.get_current_dir().unwrap()).unwrap();
}

/// What the tool asked for.
async fn mended_by_the_operator(world: &World, ids: &Ids) {
    let at = &world.at_target;
    let orders = "/api/v1/app/acme/endpoint/orders";
    let signed = format!("/api/v1/app/{}/endpoint/{}", ids.application, ids.signed);
    for path in [orders, &signed] {
        assert_eq!(
            at.get(path).await.json(200)["disabled"],
            true,
            "it would be sent what its receiver refuses"
        );
    }
    let headers = json!({ "headers": { "authorization": "Bearer theirs" } });
    assert_eq!(at.patch(&format!("{orders}/headers"), &headers).await.status, 204);
    at.post(&format!("{signed}/secret/rotate"), &json!({ "key": PRIVATE })).await.json(200);
    assert_eq!(world.at_source.delete("/api/v1/app/acme/endpoint/refused").await.status, 204);
}

/// All that clients of both see, but for what belongs to each.
async fn both_show_the_same(world: &World) {
    let (source, target) = (everything(&world.at_source).await, everything(&world.at_target).await);
    assert_eq!(source.len(), 3 + 3 + MANY + 4);
    assert_eq!(source, target);
}

async fn everything(client: &Client) -> BTreeMap<String, Value> {
    let list = async |path: &str| client.get(path).await.json(200)["data"].as_array().unwrap().clone();
    let mut all = BTreeMap::new();
    for shown in list("/api/v1/event-type?include_archived=true&with_content=true").await {
        all.insert(shown["name"].to_string(), common(shown));
    }
    for application in list("/api/v1/app").await {
        let (name, path) = (called(&application), format!("/api/v1/app/{}/endpoint", called(&application)));
        all.insert(name.clone(), common(application));
        for endpoint in list(&format!("{path}?limit=250")).await {
            let uid = called(&endpoint);
            let more = async |what: &str| client.get(&format!("{path}/{uid}/{what}")).await.json(200);
            let (secret, headers) = (more("secret").await, more("headers").await);
            all.insert(format!("{name}/{uid}"), json!([common(endpoint), secret, headers]));
        }
    }
    all
}

fn called(shown: &Value) -> String {
    let name = [&shown["uid"], &shown["id"]].into_iter().find_map(Value::as_str);
    name.unwrap_or_else(|| panic!("{shown} has no name")).to_owned()
}

fn common(mut shown: Value) -> Value {
    for own in ["id", "uid", "createdAt", "updatedAt"] {
        shown.as_object_mut().unwrap().remove(own);
    }
    shown
}

/// Messages that the new server delivers are verified with what receivers have always had.
async fn receivers_need_change_nothing(world: &World, ids: &Ids) {
    let at = &world.at_target;
    let plain = world.at_source.secret(&ids.application, &ids.endpoint).await;
    let wanted = r#"{"eventType":"order.made","payload":{"n":1},"channels":["eu"]}"#;
    at.publish("acme", &[], wanted).await.json(202);
    at.publish(&ids.application, &[], r#"{"eventType":"order.made","payload":{"n":1}}"#).await.json(202);
    let receipts = world.recorder.received(3).await;
    let of = |path: &str| receipts.iter().find(|receipt| receipt.path == path).unwrap();
    let orders = of("/orders");
    assert_eq!((orders.header("x-team"), orders.header("authorization")), ("a", "Bearer theirs"));
    for (receipt, secret) in [(orders, SECRET), (of("/plain"), plain.as_str())] {
        let verified = Webhook::new(secret).unwrap().verify(&receipt.body, &receipt.headers);
        assert!(verified.is_ok(), "{}: {verified:?}", receipt.path);
    }
    assert!(is_signed_by(of("/signed"), PRIVATE));
    assert!(!is_signed_by(orders, PRIVATE));
}

fn is_signed_by(receipt: &Receipt, key: &str) -> bool {
    let key = key.parse::<SigningKey>().unwrap().verifying_key();
    let [id, timestamp, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| receipt.header(name));
    verify(&[key], id, timestamp, signature, &receipt.body, SystemClock.now()).is_ok()
}

/// As docs/moving-in.md has it: published to both, delivered by one at a time.
async fn endpoints_that_are_held_miss_nothing(engine: Engine) {
    let world = World::new(&engine).await;
    for name in ["shop", "other"] {
        let application = json!({ "name": name, "uid": name });
        world.at_source.post("/api/v1/app", &application).await.json(201);
        world.at_source.endpoint(name, &world.recorder.url("/hook"), &json!({ "uid": "hook" })).await;
    }
    let only = ["--disabled", "--application", "shop"];
    let (finished, summary) = world.run(&only).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(counts(&summary)[1..], [[1, 0, 0, 0], [1, 0, 0, 0]], "{summary}");
    assert_eq!(world.at_target.get("/api/v1/app/other").await.status, 404);

    // Both have the first; from then on only the target is sent any.
    let body =
        |number: u32| format!(r#"{{"eventType":"made","payload":{{"n":{number}}},"eventId":"n-{number}"}}"#);
    for client in [&world.at_target, &world.at_source] {
        client.publish("shop", &[], &body(0)).await.json(202);
    }
    world.recorder.received(1).await;
    let since = SystemClock.now().to_string();
    let mut later = Vec::new();
    for number in 1..4 {
        later.push(world.at_target.publish("shop", &[], &body(number)).await.id(202));
    }
    // A run that holds leaves them held, and one that does not is the switch.
    let (_, summary) = world.run(&only).await;
    assert_eq!(counts(&summary)[2], [0, 0, 1, 0], "{summary}");
    let (_, summary) = world.run(&["--application", "shop"]).await;
    assert_eq!(counts(&summary)[2], [0, 1, 0, 0], "{summary}");
    later.push(world.at_target.publish("shop", &[], &body(4)).await.id(202));
    world.recorder.received(2).await;
    let replay = json!({ "since": since });
    world.at_target.post("/api/v1/app/shop/endpoint/hook/replay-missing", &replay).await.json(202);
    let receipts = world.recorder.received(5).await;
    let ids = receipts[1..].iter().map(|receipt| receipt.header("webhook-id").to_owned());
    assert_eq!(ids.collect::<BTreeSet<_>>(), later.into_iter().collect());
    // One that is not there does not stop the others.
    let (finished, summary) = world.run(&["--application", "nobody", "--application", "shop"]).await;
    assert!(not_copied(&summary)["nobody"].contains("404"), "{summary}");
    assert_eq!((finished.status.code(), counts(&summary)[1]), (Some(1), [0, 0, 1, 1]), "{summary}");
    world.stop().await;
}

/// Each in one line that says what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_mistyped_ends_in_one_line() {
    let world = World::new(&Engine::Embedded).await;
    let (from, to) = (world.source.url(), world.target.url());
    let (token, to_token) = (world.source.token(&[]).await, world.target.token(&[]).await);
    let reader = world.source.token(&["--read-only"]).await;
    let application = world.at_source.application("a").await;
    world.at_source.endpoint(&application, &world.recorder.url("/"), &json!({})).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let nonsense = "nonsense".to_owned();
    for (from, token, to, to_token, says) in [
        (&nobody, &token, &to, &to_token, "cannot reach the source at"),
        (&world.recorder.url(""), &token, &to, &to_token, "is not compatible with Svix's API"),
        (&format!("{from}/livez"), &token, &to, &to_token, "404"),
        (&from, &nonsense, &to, &to_token, "the source at"),
        (&from, &token, &to, &nonsense, "the target at"),
        (&from, &reader, &to, &to_token, "(403 Forbidden)"),
        (&from, &token, &from, &token, "source and target are the same server"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = fanfare(directory.path());
        command.args(["move-in", "svix", "--from", from, "--to", to]);
        command.env("FANFARE_MOVE_IN_TOKEN", token).env("FANFARE_MOVE_IN_TO_TOKEN", to_token);
        let finished = finish(&mut command).await;
        assert_eq!(finished.status.code(), Some(1), "{says}: {finished:?}");
        let line = &finished.stderr;
        assert!(line.starts_with("fanfare: ") && line.lines().count() == 1, "{says}: {finished:?}");
        assert!(line.contains(says) && !line.contains(token.as_str()), "{says}: {finished:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let finished = finish(fanfare(directory.path()).args(["move-in", "svix", "--from", &from])).await;
    assert!(finished.stderr.contains("FANFARE_MOVE_IN_TOKEN"), "{finished:?}");
    world.stop().await;
}
