//! The scaling hint against measured truth, with real Kafka and workers as processes.
//!
//! Endpoints take 50 ms. What they let a worker deliver is its room for deliveries in flight over these 50 ms, and
//! never more than their own `maxInFlight`. One burst goes to endpoints whose windows are wider than any worker's room;
//! another to endpoints whose windows together are wider than the room of two workers, and narrower than that of three:
//! there the endpoints are the limit, and no fourth worker would help.
//!
//! `FANFARE_SCALING=full` also holds the drain times against the target, and takes 100,000 messages for the dead
//! endpoint; the short form compares drain times with each other, for other tests run beside it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::{
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use crate::support::{Client, Installation, Server, installation::make_main_secret, wait};

const PARTITIONS: usize = 6;
/// Endpoints with wide windows.
const WIDE: usize = 2 * PARTITIONS;
/// Endpoints that take one delivery at a time. Two workers have room for four in a partition, three for six.
const NARROW: usize = 5 * PARTITIONS;
/// Room for deliveries in flight of one worker.
const ROOM: usize = 12;
const LATENCY: Duration = Duration::from_millis(50);
const TARGET: Duration = Duration::from_secs(10);
/// The burst for wide windows is what so many workers deliver in the drain target.
const BURST: f64 = 2.85;
/// The burst for narrow ones keeps them full for so much of the drain target.
const FULL: f64 = 1.08;
const PUBLISHERS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_names_the_workers_that_a_burst_needs_and_no_others() {
    let full = std::env::var("FANFARE_SCALING").is_ok_and(|form| form == "full");
    let cluster = Cluster::new();
    let (_front, client) = cluster.start("ingest,router,api").await;
    let first = cluster.start("delivery").await;
    let second = cluster.start("delivery").await;
    let slow = Slow::start().await;
    let wide = endpoints(&client, &slow, "wide windows", WIDE, 64).await;
    let narrow = endpoints(&client, &slow, "narrow windows", NARROW, 1).await;

    // Two workers: they say three are needed, and they are right.
    settled(&client, &wide, &slow, 2).await;
    let capacity = figure(&client, "capacityPerWorkerPerSec").await;
    let cases = [
        Case {
            application: wide.clone(),
            endpoints: WIDE,
            messages: (BURST * TARGET.as_secs_f64() * capacity) as usize / WIDE,
            sooner: 0.85,
        },
        // Two can drain this burst in nothing less than five quarters of what its windows let three do it in.
        Case {
            application: narrow,
            endpoints: NARROW,
            messages: (FULL * TARGET.as_secs_f64() / LATENCY.as_secs_f64()) as usize,
            sooner: 0.95,
        },
    ];
    println!("a worker delivers {capacity:.0} each second");
    let with_two = bursts(&client, &slow, &cases, "two").await;
    let third = cluster.start("delivery").await;
    settled(&client, &wide, &slow, 3).await;
    let with_three = bursts(&client, &slow, &cases, "three").await;
    for ((case, two), three) in cases.iter().zip(&with_two).zip(&with_three) {
        judge(case, two, three, full);
    }
    let most = with_three[1].most_desired;
    assert!(most <= *named(full).end(), "endpoints that get all they take ask for more: {with_three:?}");
    until(&client, "it falls back", |hint| desired(hint) == 1).await;

    // A dead endpoint's messages ask for nobody.
    let dead_application = client.application("dead").await;
    client.endpoint(&dead_application, &nobody_listens().await, &json!({})).await;
    let held = if full { 100_000 } else { 400 };
    let published = tokio::spawn(publish(client.another(), dead_application, held));
    let most =
        watch_until(&client, |hint| hint["figures"]["heldBacklog"].as_u64() >= Some(held as u64)).await;
    published.await.expect("publishing does not panic");
    assert_eq!(most, 1, "{held} messages are held");
    full_windows_ask_for_nobody(&client, &slow).await;

    // Any node tells, to whom it may.
    for (_, node) in [&first, &second, &third] {
        assert_eq!(hint(node).await["figures"]["partitions"], PARTITIONS);
    }
    let answer = client_without_token(&first.0).get("/api/v1/scaling").await;
    assert_eq!(answer.status, 401);
    let gauge = wait::until("the gauge is shown", PATIENCE, async || {
        let text = String::from_utf8(first.1.get("/metrics").await.body.to_vec()).expect("it is text");
        text.lines().find(|line| line.starts_with("fanfare_scaling_desired_workers{")).map(str::to_owned)
    });
    assert!(gauge.await.contains("role=\"delivery\""));

    // Figures of the dead do not count; work that is left wakes somebody.
    third.0.server.kill();
    until(&client, "two are left", |hint| hint["figures"]["liveWorkers"] == 2).await;
    until(&client, "they have all", |hint| hint["figures"]["unownedPartitions"] == 0).await;
    first.0.server.kill();
    second.0.server.kill();
    let unseen = 5;
    publish(client.another(), wide, unseen).await;
    let hint = until(&client, "nobody is left", |hint| hint["figures"]["liveWorkers"] == 0).await;
    assert_eq!(hint["figures"]["unownedPartitions"], PARTITIONS, "{hint}");
    assert_eq!(hint["figures"]["inFlight"], 0, "{hint}");
    let left = hint["figures"]["unownedBacklog"].as_u64();
    assert!(left >= Some((unseen * PARTITIONS) as u64), "estimated from the end of the log: {hint}");
    assert_eq!(desired(&hint), 1, "{hint}");
}

/// A burst that three workers drain in time, and two do not.
struct Case {
    application: String,
    endpoints: usize,
    messages: usize,
    /// Three are done after at most this part of the time that two take, whatever else the machine does.
    sooner: f64,
}

/// How a burst went.
#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
struct Drain {
    took: Duration,
    published_in: Duration,
    most_desired: u64,
    /// What was said of the first of them.
    why: Value,
}

/// What may be named for a burst that needs three. Beside other tests a worker does less than in peace, and then one or
/// two more are right; but not twice as many.
fn named(full: bool) -> RangeInclusive<u64> {
    if full { 3..=3 } else { 3..=5 }
}

fn judge(case: &Case, two: &Drain, three: &Drain, full: bool) {
    assert!(named(full).contains(&two.most_desired), "{two:?}");
    if full {
        let share = |drain: &Drain| drain.took.as_secs_f64() / TARGET.as_secs_f64();
        assert!((0.75..=1.25).contains(&share(three)), "three drain in time: {three:?}");
        assert!(share(two) > 1.25, "two do not: {two:?}");
    }
    assert!(three.took < two.took.mul_f64(case.sooner), "{three:?} after {two:?}");
}

async fn bursts(client: &Client, slow: &Slow, cases: &[Case], workers: &str) -> Vec<Drain> {
    let mut drains = Vec::new();
    for case in cases {
        let drain = burst(client, slow, case).await;
        println!("{} messages × {}, {workers} workers: {drain:?}", case.messages, case.endpoints);
        drains.push(drain);
    }
    drains
}

async fn burst(client: &Client, slow: &Slow, case: &Case) -> Drain {
    until(client, "quiet before the burst", |hint| desired(hint) == 1).await;
    let all = slow.received() + case.messages * case.endpoints;
    let start = Instant::now();
    let publishing = tokio::spawn(publish(client.another(), case.application.clone(), case.messages));
    let mut drain =
        Drain { took: Duration::ZERO, published_in: Duration::ZERO, most_desired: 0, why: Value::Null };
    wait::until("the burst is drained", PATIENCE, async || {
        if publishing.is_finished() && drain.published_in.is_zero() {
            drain.published_in = start.elapsed();
        }
        let hint = hint(client).await;
        if desired(&hint) > drain.most_desired {
            (drain.most_desired, drain.why) = (desired(&hint), hint);
        }
        (slow.received() >= all).then_some(())
    })
    .await;
    drain.took = start.elapsed();
    publishing.await.expect("publishing does not panic");
    drain
}

/// Endpoints that are given as much as they may take ask for no worker, however much waits for them.
async fn full_windows_ask_for_nobody(client: &Client, slow: &Slow) {
    const MESSAGES: usize = 1_000;
    until(client, "quiet before full windows", |hint| desired(hint) == 1).await;
    let application = endpoints(client, slow, "full windows", PARTITIONS, 1).await;
    let published = tokio::spawn(publish(client.another(), application.clone(), MESSAGES));
    // Counted as work, this would need two workers.
    let waiting = (MESSAGES * PARTITIONS * 2 / 3) as u64;
    let most =
        watch_until(client, |hint| hint["figures"]["heldBy"]["window"].as_u64() >= Some(waiting)).await;
    published.await.expect("publishing does not panic");
    assert_eq!(most, 1, "{waiting} messages wait behind full windows");
    let deleted = client.delete(&format!("/api/v1/app/{application}")).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    until(client, "nothing waits any more", |hint| hint["figures"]["heldBy"]["window"].is_null()).await;
}

/// An application with so many endpoints, spread over the partitions, that each take so many deliveries at once.
async fn endpoints(client: &Client, slow: &Slow, name: &str, count: usize, max_in_flight: u32) -> String {
    let application = client.application(name).await;
    for number in 0..count {
        let options = json!({"ordering": "unordered", "maxInFlight": max_in_flight});
        client.endpoint(&application, &slow.url(number), &options).await;
    }
    application
}

/// Waits until so many workers have equal parts, the room for them, and know what they can do.
async fn settled(client: &Client, application: &str, slow: &Slow, workers: usize) {
    until(client, "the workers have equal parts", |hint| {
        let mut owners: Vec<_> = partitions(hint).filter_map(|one| one["worker"].as_str()).collect();
        owners.sort_unstable();
        owners.len() == PARTITIONS
            && owners.chunk_by(|a, b| a == b).all(|held| held.len() == PARTITIONS / workers)
    })
    .await;
    let room = (ROOM * workers / PARTITIONS) as f64 / LATENCY.as_secs_f64();
    let mut all = slow.received();
    wait::until("all have their room", PATIENCE, async || {
        publish(client.another(), application.to_owned(), 5).await;
        all += 5 * WIDE;
        wait::until("warming up", PATIENCE, async || (slow.received() >= all).then_some(())).await;
        let hint = hint(client).await;
        let all_know = partitions(&hint).all(|one| one["capacityPerSec"].as_f64() > Some(0.75 * room));
        all_know.then_some(())
    })
    .await;
}

async fn publish(client: Client, application: String, messages: usize) {
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (client, application) = (client.another(), application.clone());
        publishers.spawn(async move {
            for n in (publisher..messages).step_by(PUBLISHERS) {
                let body = json!({"eventType": "number.counted", "payload": {"n": n}}).to_string();
                client.publish(&application, &[], &body).await.id(202);
            }
        });
    }
    while let Some(published) = publishers.join_next().await {
        published.expect("publishing does not panic");
    }
}

/// The hint for delivery.
async fn hint(client: &Client) -> Value {
    client.get("/api/v1/scaling").await.json(200)["roles"]["delivery"].take()
}

fn desired(hint: &Value) -> u64 {
    hint["desiredWorkers"].as_u64().unwrap_or_else(|| panic!("a number in {hint}"))
}

fn partitions(hint: &Value) -> impl Iterator<Item = &Value> {
    hint["partitions"].as_array().expect("a list").iter()
}

async fn figure(client: &Client, name: &str) -> f64 {
    let hint = hint(client).await;
    hint["figures"][name].as_f64().unwrap_or_else(|| panic!("{name} in {hint}"))
}

async fn until(client: &Client, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let found = wait::until(what, PATIENCE, async || Some(hint(client).await).filter(&is_so));
    found.await
}

/// The highest number named until it is so.
async fn watch_until(client: &Client, is_so: impl Fn(&Value) -> bool) -> u64 {
    let mut most = 0;
    wait::until("messages are held", PATIENCE * 4, async || {
        let hint = hint(client).await;
        most = most.max(desired(&hint));
        is_so(&hint).then_some(())
    })
    .await;
    most
}

/// A URL at which nobody listens.
async fn nobody_listens() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    format!("http://{}/", listener.local_addr().expect("it is bound"))
}

/// One installation: a prefix on the broker that all tests share, and the main secret of all its processes.
struct Cluster {
    directory: TempDir,
    prefix: String,
}

struct Node {
    installation: Installation,
    server: Server,
}

fn client_without_token(node: &Node) -> Client {
    node.installation.client_with(None)
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        let prefix = format!("scaling-{:016x}.", RandomState::new().hash_one("installation"));
        make_main_secret(directory.path());
        Self { directory, prefix }
    }

    async fn start(&self, roles: &str) -> (Node, Client) {
        let secret = self.directory.path().join("main-secret");
        let secret = secret.to_str().expect("temporary directories are named in UTF-8");
        let (partitions, room) = (PARTITIONS.to_string(), ROOM.to_string());
        let target = TARGET.as_secs().to_string();
        let installation = Installation::new();
        let mut server = installation.spawn(&[
            "--dev",
            "--role",
            roles,
            "--kafka",
            fanfare_testkit::kafka::shared(),
            "--kafka-prefix",
            &self.prefix,
            "--message-partitions",
            "2",
            "--delivery-partitions",
            &partitions,
            "--main-secret-file",
            secret,
            "--in-flight",
            &room,
            "--drain-target-secs",
            &target,
        ]);
        server.ready().await;
        let token = installation.token(&["--main-secret-file", secret]).await;
        let client = installation.client_with(Some(&token));
        (Node { installation, server }, client)
    }
}

/// Endpoints that take their time, and count.
struct Slow {
    base: String,
    received: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let received = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&received)));
        Self { base, received, accepting }
    }

    fn url(&self, number: usize) -> String {
        format!("{}/{number}", self.base)
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, received: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        let service = service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                // A sender that is killed in the middle is part of the test.
                drop(request.into_body().collect().await);
                tokio::time::sleep(LATENCY).await;
                received.fetch_add(1, Ordering::Relaxed);
                let answer = Response::builder().status(204).body(Full::<bytes::Bytes>::default());
                Ok::<_, Infallible>(answer.expect("a status is all it needs"))
            }
        });
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
