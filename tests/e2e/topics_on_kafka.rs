//! Topics that are not what an installation was made with: a plain line, and no process that works on them.

mod newer;
mod running;
mod sizes;

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Client, Installation, Server,
    installation::{Finished, finish, make_main_secret},
    wait,
};

/// An installation with a prefix of its own on the broker that all tests share.
struct OnKafka {
    installation: Installation,
    brokers: &'static str,
    prefix: String,
    directory: TempDir,
}

impl OnKafka {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        make_main_secret(directory.path());
        Self {
            installation: Installation::new(),
            brokers: fanfare_testkit::kafka::shared(),
            prefix: format!("topics-e2e-{:016x}.", RandomState::new().hash_one("installation")),
            directory,
        }
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("main-secret")
    }

    fn options<'a>(&'a self, secret: &'a str) -> Vec<&'a str> {
        let mut options = self.topic_options("3");
        // History has lines of its own for what it does not understand.
        options.extend(["--dev", "--history", "off", "--main-secret-file", secret]);
        options
    }

    fn topic_options<'a>(&'a self, delivery_partitions: &'a str) -> Vec<&'a str> {
        let mut options = vec!["--kafka", self.brokers, "--kafka-prefix", &self.prefix];
        options.extend(["--message-partitions", "2", "--delivery-partitions", delivery_partitions]);
        options
    }

    async fn start(&self) -> Server {
        let secret = self.secret();
        let mut server = self.installation.spawn(&self.options(secret.to_str().expect("it is UTF-8")));
        server.ready().await;
        server
    }

    /// A start that does not succeed.
    async fn start_in_vain(&self) -> Finished {
        let secret = self.secret();
        let mut command = self.installation.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(self.options(secret.to_str().expect("it is UTF-8")));
        finish(&mut command).await
    }

    async fn check(&self, delivery_partitions: &str) -> Finished {
        let mut command = self.installation.command(&["topics", "check"]);
        command.args(self.topic_options(delivery_partitions));
        finish(&mut command).await
    }

    async fn client(&self) -> Client {
        let secret = self.secret();
        let secret = secret.to_str().expect("it is UTF-8");
        let token = self.installation.token(&["--main-secret-file", secret]).await;
        self.installation.client_with(Some(&token))
    }

    /// An installation that was made, has taken a message and was stopped.
    async fn used() -> Self {
        let used = Self::new();
        let server = used.start().await;
        let client = used.client().await;
        let application = client.application("on kafka").await;
        client.publish(&application, &[], &message(1)).await.id(202);
        server.terminate().await;
        used
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.brokers).create().expect("there is a broker")
    }

    fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    async fn make_anew(&self, topic: &str, partitions: i32) {
        let (admin, name) = (self.admin(), self.name(topic));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let deleted = admin.delete_topics(&[&name], &options).await.expect("the broker answers");
        deleted[0].as_ref().expect("it was there");
        wait::until("the topic is made anew", wait::PATIENCE, async || {
            // The old one may still be on its way out.
            let anew = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
            let anew = if topic == "control" {
                anew.set("retention.ms", "-1").set("retention.bytes", "-1")
            } else {
                anew
            };
            let made = admin.create_topics([&anew], &options).await.expect("the broker answers");
            made[0].is_ok().then_some(())
        })
        .await;
    }
}

fn message(n: usize) -> String {
    json!({ "eventType": "number.counted", "payload": { "n": n } }).to_string()
}

/// One plain line that says all of `words`, and a status that is not success.
#[track_caller]
fn refused(finished: &Finished, words: &[&str]) {
    assert!(!finished.status.success(), "{finished:?}");
    let said = if finished.stdout.is_empty() { &finished.stderr } else { &finished.stdout };
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("fanfare: ") || line.contains("error  ")).collect();
    let [line] = lines.as_slice() else { panic!("not one line: {finished:?}") };
    for word in words {
        assert!(line.contains(word), "no `{word}` in: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_ends_the_start_with_a_plain_line() {
    let used = OnKafka::used().await;
    assert!(used.check("3").await.status.success(), "it is as it was made");
    used.make_anew("deliveries", 3).await;
    let name = used.name("deliveries");
    refused(&used.start_in_vain().await, &[&name, "was deleted and made again"]);
    refused(&used.check("3").await, &[&name, "was deleted and made again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_that_is_wrong_is_told_in_a_line_of_its_own() {
    let used = OnKafka::used().await;
    for topic in ["deliveries", "attempts"] {
        used.make_anew(topic, 3).await;
    }
    let told = |finished: &Finished, said: &str| {
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  error  ")).collect();
        let [deliveries, attempts] = errors[..] else { panic!("not two lines: {finished:?}") };
        for (line, topic) in [(deliveries, "deliveries"), (attempts, "attempts")] {
            let begins = format!("topic {} was deleted and made again: ", used.name(topic));
            assert!(line.starts_with(&begins), "{line}");
        }
    };
    let started = used.start_in_vain().await;
    told(&started, &started.stderr);
    let head = format!("fanfare: topics on Kafka at {} cannot be used:", used.brokers);
    let ended: Vec<&str> = started.stderr.lines().filter(|line| line.starts_with("fanfare: ")).collect();
    assert_eq!(ended, [head]);
    let checked = used.check("3").await;
    told(&checked, &checked.stdout);
}

/// An empty `control` looks like that of a new installation, which would lose what the other topics hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_control_plane_is_not_begun_anew() {
    let used = OnKafka::used().await;
    used.make_anew("control", 1).await;
    refused(&used.start_in_vain().await, &["`control` is empty", "`messages` holds records"]);
}

/// Load figures are of no use for long, so it does not matter which `load` they are in.
#[tokio::test(flavor = "multi_thread")]
async fn load_may_be_made_anew() {
    let used = OnKafka::used().await;
    let deleted = used.admin().delete_topics(&[&used.name("load")], &AdminOptions::new()).await;
    deleted.expect("the broker answers")[0].as_ref().expect("it was there");
    wait::until("the topic is missed", wait::PATIENCE, async || {
        let finished = used.check("3").await;
        (!finished.status.success() && finished.stdout.contains("missing on Kafka")).then_some(())
    })
    .await;
    refused(&used.start_in_vain().await, &["missing on Kafka", "topics apply"]);
    let mut apply = used.installation.command(&["topics", "apply"]);
    apply.args(used.topic_options("3"));
    assert!(finish(&mut apply).await.status.success());
    used.start().await.terminate().await;
}

/// Neither with the old number nor with the new one: places of endpoints rest on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_by_hand_is_refused() {
    let used = OnKafka::used().await;
    let name = used.name("deliveries");
    let more = NewPartitions::new(&name, 4);
    let added = used.admin().create_partitions(&[more], &AdminOptions::new()).await;
    added.expect("the broker answers")[0].as_ref().expect("it may be added");
    wait::until("the partition is seen", wait::PATIENCE, async || {
        let finished = used.check("3").await;
        (!finished.status.success()).then_some(())
    })
    .await;
    let words = [&*name, "has 4 partitions", "was made with 3"];
    refused(&used.check("3").await, &words);
    refused(&used.start_in_vain().await, &words);
    // As many as there are now; those topics that keep the old number are wrong then, too.
    let configured = used.check("4").await;
    assert!(
        !configured.status.success()
            && configured.stdout.contains(&words[1..].join(", but this installation "))
    );
}
