//! The roles as processes on Apache Kafka.

mod ready;
mod unseen;

use std::{
    collections::{BTreeSet, HashSet},
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fanfare_testkit::kafka::{Cluster, Settings};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Client, Engine, Installation, Receipt, Recorder, Reply, Server,
    installation::{finish, make_main_secret},
    wait,
};

/// One installation: a prefix on the broker that all tests share, and the main secret of all its processes.
struct Shared {
    directory: TempDir,
    brokers: String,
    prefix: String,
}

/// A process with directory and port of its own.
struct Member {
    installation: Installation,
    server: Option<Server>,
}

const MESSAGES: usize = 150;

impl Shared {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        make_main_secret(directory.path());
        let prefix = format!("e2e-{:016x}.", RandomState::new().hash_one("installation"));
        Self { directory, brokers: fanfare_testkit::kafka::shared().to_owned(), prefix }
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("main-secret")
    }

    fn spawn(&self, installation: &Installation, roles: &str) -> Server {
        let secret = self.secret();
        installation.spawn(&[
            "--dev",
            "--role",
            roles,
            "--kafka",
            &self.brokers,
            "--kafka-prefix",
            &self.prefix,
            "--message-partitions",
            "2",
            "--delivery-partitions",
            "4",
            "--main-secret-file",
            secret.to_str().expect("temporary directories are named in UTF-8"),
        ])
    }

    async fn start(&self, roles: &str) -> Member {
        let installation = Installation::new();
        let mut server = self.spawn(&installation, roles);
        server.ready().await;
        Member { installation, server: Some(server) }
    }

    async fn kill_and_restart(&self, member: &mut Member, roles: &str) {
        member.server.take().expect("it runs").kill();
        let mut server = self.spawn(&member.installation, roles);
        server.ready().await;
        member.server = Some(server);
    }

    async fn client(&self, member: &Member) -> Client {
        let secret = self.secret();
        let secret = secret.to_str().expect("temporary directories are named in UTF-8");
        let token = member.installation.token(&["--main-secret-file", secret]).await;
        member.installation.client_with(Some(&token))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_as_processes_deliver_in_order_over_kills() {
    let shared = Shared::new();
    let front = shared.start("ingest,api").await;
    let mut router = shared.start("router").await;
    let mut worker = shared.start("delivery").await;
    let client = shared.client(&front).await;
    let recorder = Recorder::start().await;
    let application = client.application("on kafka").await;
    for endpoint in ["first", "second"] {
        client.endpoint(&application, &recorder.url(&format!("/{endpoint}")), &json!({})).await;
    }

    let mut accepted = Vec::new();
    for n in 0..MESSAGES {
        let body = json!({ "eventType": "number.counted", "payload": { "n": n } }).to_string();
        accepted.push(client.publish(&application, &[], &body).await.id(202));
        match n {
            50 => shared.kill_and_restart(&mut worker, "delivery").await,
            100 => shared.kill_and_restart(&mut router, "router").await,
            _ => {}
        }
    }
    for path in ["/first", "/second"] {
        let received = wait::until("all messages arrive", wait::PATIENCE * 2, async || {
            let firsts = firsts(&recorder.receipts(), path);
            (firsts.len() == MESSAGES).then_some(firsts)
        });
        assert_eq!(received.await, accepted, "{path}: each message, in the order of publishing");
    }
    for member in [front, router, worker] {
        member.server.expect("it runs").terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_another_secret_stops_with_a_plain_line() {
    let shared = Shared::new();
    let first = shared.start("ingest,api").await;
    make_main_secret(shared.directory.path());
    let other = Installation::new();
    let mut command = other.command(&["serve", "--listen", "127.0.0.1:0", "--kafka", &shared.brokers]);
    command.args([
        "--kafka-prefix",
        &shared.prefix,
        "--message-partitions",
        "2",
        "--delivery-partitions",
        "4",
    ]);
    command.arg("--main-secret-file").arg(shared.secret());
    let finished = finish(&mut command).await;
    assert!(!finished.status.success());
    assert_eq!(finished.stderr.trim().lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("main secret"), "{}", finished.stderr);
    first.server.expect("it runs").terminate().await;
}

/// The ids that came to an endpoint, each at its first attempt.
fn firsts(receipts: &[Receipt], path: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let ids =
        receipts.iter().filter(|receipt| receipt.path == path).map(|receipt| receipt.header("webhook-id"));
    ids.filter(|id| seen.insert(*id)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_planned_made_checked_and_deleted() {
    let shared = Shared::new();
    let installation = Installation::new();
    let topics = async |task: &str, partitions: &str, more: &[&str]| {
        let mut command = installation.command(&["topics", task, "--kafka", &shared.brokers]);
        command.args(["--kafka-prefix", &shared.prefix, "--message-partitions", partitions]);
        command.args(["--delivery-partitions", "3"]).args(more);
        finish(&mut command).await
    };
    let missing = topics("check", "2", &[]).await;
    assert!(!missing.status.success(), "{missing:?}");
    let planned = topics("plan", "2", &[]).await;
    assert!(planned.status.success() && planned.stdout.contains("will be"), "{planned:?}");
    assert!(!topics("check", "2", &[]).await.status.success(), "a plan makes nothing");
    assert!(topics("apply", "2", &[]).await.status.success());
    let checked = topics("check", "2", &["--json"]).await;
    assert!(checked.status.success(), "{checked:?}");
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert!(report["lines"].as_array().unwrap().iter().all(|line| line["level"] != "error"), "{report}");

    let other = topics("check", "5", &[]).await;
    assert!(
        !other.status.success() && other.stdout.contains("partitions"),
        "their number is fixed: {other:?}"
    );

    let told = topics("delete", "2", &[]).await;
    assert!(told.status.success() && told.stdout.contains("will be deleted"), "{told:?}");
    assert!(topics("check", "2", &[]).await.status.success(), "it was only told");
    let deleted = topics("delete", "2", &["--yes"]).await;
    assert!(deleted.status.success() && deleted.stdout.contains("was deleted"), "{deleted:?}");
    assert!(!topics("check", "2", &[]).await.status.success(), "they are gone");
    let again = topics("delete", "2", &["--yes"]).await;
    assert!(again.status.success() && again.stdout.contains("there are no topics"), "{again:?}");
}

/// Nobody listens there: which address and why, again and again until the time is up.
#[tokio::test(flavor = "multi_thread")]
async fn no_broker_at_the_start() {
    let installation = Installation::on(&Engine::kafka_at("127.0.0.1:1"));
    let serve = ["serve", "--dev", "--listen", "127.0.0.1:0", "--kafka-wait-secs", "3"];
    let finished = installation.run(&serve).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let (log, said): (Vec<&str>, Vec<&str>) = finished.stderr.lines().partition(|line| line.starts_with('{'));
    let [line] = said.as_slice() else { panic!("not one line: {finished:?}") };
    assert!(line.contains("Kafka at 127.0.0.1:1 ") && line.contains("refused"), "{line}");
    let tries = log.iter().filter(|line| line.contains("trying again")).collect::<Vec<_>>();
    assert!(!tries.is_empty() && tries.iter().all(|line| line.contains("127.0.0.1:1")), "{finished:?}");
    assert!(!finished.stdout.contains("listening"), "it was ready for nobody: {finished:?}");
}

/// An operator who gives up waiting need not kill it.
#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_there_is_no_broker() {
    let installation = Installation::on(&Engine::kafka_at("127.0.0.1:1"));
    let server = installation.spawn(&["--dev"]);
    wait::until("it tries again", wait::PATIENCE, async || (server.said("trying again") > 0).then_some(()))
        .await;
    server.terminate().await;
}

/// What is on its way cannot be written down then: the next start does as after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_the_broker_is_away() {
    let cluster = tokio::task::block_in_place(|| Cluster::start(&Settings::new(1)).expect("Kafka starts"));
    let broker = &cluster.brokers()[0];
    let installation = Installation::on(&Engine::kafka_at(&cluster.bootstrap()));
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("broker away").await;
    client.endpoint(&application, &recorder.url("/"), &json!({})).await;
    let body = json!({ "eventType": "number.counted", "payload": {} }).to_string();
    let mut accepted = BTreeSet::new();
    for _ in 0..20 {
        accepted.insert(client.publish(&application, &[], &body).await.id(202));
    }
    tokio::task::block_in_place(|| broker.kill().expect("it runs"));
    server.terminate().await;

    tokio::task::block_in_place(|| broker.start(1).expect("Kafka starts"));
    let server = installation.start().await;
    wait::until("all that was accepted arrives", wait::PATIENCE * 2, async || {
        let receipts = recorder.receipts();
        let came = receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned());
        (came.collect::<BTreeSet<_>>() == accepted).then_some(())
    })
    .await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_needs_topics() {
    let installation = Installation::on(&Engine::kafka());
    for _ in 0..2 {
        let finished = installation.run(&["inspect"]).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains("missing on Kafka"), "looking makes nothing: {finished:?}");
    }
}

/// Kafka removes records that an endpoint still waits for: they end as expired, and what comes later is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn retention_past_a_cursor_is_no_silent_skip() {
    let engine = Engine::kafka();
    let Engine::Kafka(topics) = &engine else { panic!("{engine:?} has no topics") };
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let is_down = Arc::new(AtomicBool::new(true));
    let recorder = Recorder::behaving({
        let is_down = Arc::clone(&is_down);
        move |_| Reply::Status(if is_down.load(Ordering::Relaxed) { 500 } else { 204 })
    })
    .await;
    let application = client.application("late").await;
    client.endpoint(&application, &recorder.url("/late"), &json!({})).await;
    let publish = async |n: u32| {
        let body = json!({ "eventType": "number.counted", "payload": { "n": n } }).to_string();
        client.publish(&application, &[], &body).await.id(202)
    };
    for n in 0..LATE {
        publish(n).await;
    }
    wait::until("all wait for the endpoint", wait::PATIENCE, async || {
        let report = installation.inspect().await;
        (report["lanes"][0]["pending"] == LATE).then_some(())
    })
    .await;
    server.terminate().await;
    let failed = recorder.receipts().len();
    remove_records(&topics.brokers, &topics.prefix).await;
    is_down.store(false, Ordering::Relaxed);

    let server = installation.start().await;
    let last = publish(LATE).await;
    let receipts = recorder.received(failed + 1).await;
    assert_eq!(receipts[failed].header("webhook-id"), last, "the others are gone");
    let expired = client.metric("fanfare_delivery_settled_total", r#"reason="expired""#).await;
    assert_eq!(expired, u64::from(LATE));
    server.terminate().await;
}

const LATE: u32 = 10;

/// All deliveries, as retention would.
async fn remove_records(brokers: &str, prefix: &str) {
    let mut below = TopicPartitionList::new();
    for partition in 0..4 {
        let topic = format!("{prefix}deliveries");
        below.add_partition_offset(&topic, partition, Offset::End).unwrap();
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    admin.delete_records(&below, &AdminOptions::new()).await.unwrap();
}
