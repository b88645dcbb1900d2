//! What became of messages, as the API tells it: at once after a publish, over a kill, under load, and where the tables
//! have lost something.

mod on_postgres;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{Client, Engine, Installation, Recorder, Reply, Server, on_every_engine, wait};

on_every_engine! {
    what_was_published_is_found_at_once,
    it_tells_what_became_of_messages_also_after_a_kill,
    counts_add_up_at_any_moment_under_load,
    what_the_tables_lost_is_named,
}

const TAKES: &str = "/takes";
const CHOOSES: &str = "/chooses";

/// At the one that chooses. Not so many that it seems to be down.
fn is_refused(number: u64) -> bool {
    number.is_multiple_of(4)
}

struct World {
    installation: Installation,
    /// Options that say where the tables are.
    tables: Vec<String>,
    server: Server,
    client: Client,
    recorder: Recorder,
    /// `/api/v1/app/…`.
    path: String,
    application: String,
}

/// Somebody who only reads.
struct Asking {
    client: Client,
    path: String,
}

impl World {
    fn asking(&self) -> Asking {
        Asking { client: self.client.another(), path: self.path.clone() }
    }

    /// With its tables where they are unless somebody says so.
    async fn new(engine: &Engine) -> Self {
        Self::with_tables(engine, Vec::new()).await
    }

    async fn with_tables(engine: &Engine, tables: Vec<String>) -> Self {
        let installation = Installation::on(engine);
        let server = started(&installation, &tables).await;
        let client = installation.client().await;
        let recorder = Recorder::behaving(|receipt| {
            let payload: Value = serde_json::from_slice(&receipt.body).unwrap();
            let is_bad = receipt.path == CHOOSES && payload["number"].as_u64().is_some_and(is_refused);
            Reply::Status(if is_bad { 500 } else { 204 })
        })
        .await;
        let application = client.application("remembered").await;
        let path = format!("/api/v1/app/{application}");
        Self { installation, tables, server, client, recorder, path, application }
    }

    async fn endpoint(&self, path: &str) -> String {
        // Given up at the first failure.
        let options = json!({ "ordering": "unordered", "retrySchedule": [] });
        self.client.endpoint(&self.application, &self.recorder.url(path), &options).await
    }

    async fn publish(&self, number: usize) -> String {
        let kind = ["order.paid", "order.sent"][number % 2];
        let body = json!({ "eventType": kind, "payload": { "number": number }, "tags": [format!("t{}", number % 3)] });
        self.client.publish(&self.application, &[], &body.to_string()).await.id(202)
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(&format!("{}/{path}", self.path)).await.json(200)
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await;
        assert_eq!(list["done"], true, "{path} is longer than a page");
        list["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Until as many of an endpoint's messages stand so.
    async fn until_there_are(&self, endpoint: &str, field: &str, count: u64) {
        let path = format!("endpoint/{endpoint}/stats");
        wait::until(&format!("{count} are {field}"), wait::PATIENCE, async || {
            (self.get(&path).await[field] == count).then_some(())
        })
        .await;
    }

    async fn killed_and_started_again(self) -> Self {
        self.server.kill();
        let server = started(&self.installation, &self.tables).await;
        Self { server, ..self }
    }
}

async fn started(installation: &Installation, tables: &[String]) -> Server {
    let mut options = vec!["--dev"];
    options.extend(tables.iter().map(String::as_str));
    let mut server = installation.spawn(&options);
    server.ready().await;
    server
}

/// No waiting: what was answered with 202 is there.
async fn what_was_published_is_found_at_once(engine: Engine) {
    let world = World::new(&engine).await;
    for number in 0..40 {
        let id = world.publish(number).await;
        let found = world.get(&format!("msg/{id}")).await;
        assert_eq!((&found["id"], &found["payload"]), (&json!(id), &json!({ "number": number })));
        assert_eq!(world.get("msg?limit=1").await["data"][0]["id"], json!(id));
    }
    // By the name that the producer gave it, too; and a repeat names the first.
    let body = r#"{"eventType":"order.paid","eventId":"order-17","payload":{"a":1}}"#;
    let key = [("idempotency-key", "order-17")];
    let first = world.client.publish(&world.application, &key, body).await.id(202);
    let again = world.client.publish(&world.application, &key, body).await.id(202);
    for name in ["order-17", &first, &again] {
        wait::until("a repeat is known as one", wait::PATIENCE, async || {
            (world.get(&format!("msg/{name}")).await["id"] == json!(first)).then_some(())
        })
        .await;
    }
    world.server.terminate().await;
}

async fn it_tells_what_became_of_messages_also_after_a_kill(engine: Engine) {
    let world = World::new(&engine).await;
    let (takes, chooses) = (world.endpoint(TAKES).await, world.endpoint(CHOOSES).await);
    let mut published = Vec::new();
    for number in 0..12 {
        published.push(world.publish(number).await);
    }
    world.until_there_are(&takes, "success", 12).await;
    world.until_there_are(&chooses, "success", 9).await;
    world.until_there_are(&chooses, "fail", 3).await;
    let newest_first: Vec<String> = published.iter().rev().cloned().collect();

    let seen = tell(&world, &takes, &chooses).await;
    assert_eq!(seen.messages, newest_first);
    let refused: BTreeSet<&str> = [0, 4, 8].map(|number| published[number].as_str()).into();
    assert_eq!(seen.refused.iter().map(String::as_str).collect::<BTreeSet<_>>(), refused);
    let world = world.killed_and_started_again().await;
    assert_eq!(tell(&world, &takes, &chooses).await, seen, "after a kill it tells something else");
    world.server.terminate().await;
}

#[derive(Debug, PartialEq)]
struct Seen {
    messages: Vec<String>,
    /// Messages.
    refused: Vec<String>,
    /// Dead letters.
    dead: Vec<String>,
    attempts: Value,
    stats: Value,
}

/// What all routes say, each compared with the others.
async fn tell(world: &World, takes: &str, chooses: &str) -> Seen {
    let messages = world.ids("msg").await;
    let paid: Vec<String> = world.ids("msg?event_types=order.paid").await;
    assert_eq!(paid, messages.iter().skip(1).step_by(2).cloned().collect::<Vec<_>>());
    assert_eq!(world.ids(&format!("endpoint/{takes}/msg?status=0")).await, messages);
    assert_eq!(world.ids(&format!("endpoint/{chooses}/msg?tag=t0")).await, world.ids("msg?tag=t0").await);
    let refused = world.ids(&format!("endpoint/{chooses}/msg?status=2")).await;
    assert_eq!(world.ids(&format!("msg?endpoint={chooses}&status=fail")).await, refused);
    for path in [
        format!("endpoint/{chooses}/msg?status_code_class=500"),
        format!("msg?endpoint={chooses}&status_code_class=500"),
    ] {
        assert_eq!(world.ids(&path).await, refused, "{path}");
    }
    assert_eq!(world.ids(&format!("endpoint/{takes}/msg?status_code_class=200")).await, messages);
    let of_one = world.get(&format!("msg/{}/endpoint", refused[0])).await;
    let standings: Vec<&Value> =
        of_one["data"].as_array().unwrap().iter().map(|endpoint| &endpoint["statusText"]).collect();
    assert_eq!(standings, ["success", "fail"]);

    let attempts = world.get(&format!("attempt/endpoint/{chooses}?status_code_class=500&limit=250")).await;
    let all = attempts["data"].as_array().unwrap();
    let of: BTreeSet<&str> = all.iter().map(|attempt| attempt["msgId"].as_str().unwrap()).collect();
    assert_eq!(of, refused.iter().map(String::as_str).collect());
    for attempt in all {
        assert_eq!((&attempt["statusText"], &attempt["endpointId"]), (&json!("fail"), &json!(chooses)));
        let (id, message) = (attempt["id"].as_str().unwrap(), attempt["msgId"].as_str().unwrap());
        assert_eq!(&world.get(&format!("msg/{message}/attempt/{id}")).await, attempt);
    }
    assert_eq!(world.ids(&format!("attempt/endpoint/{takes}?status=2")).await, Vec::<String>::new());

    let dead = world.get("dead-letter?limit=250").await;
    let dead = dead["data"].as_array().unwrap();
    assert!(
        dead.iter().all(|dead| dead["endpointId"] == chooses
            && dead["reason"] == "exhausted"
            && dead["lastStatusCode"] == 500),
        "{dead:?}"
    );
    assert_eq!(world.get("dead-letter?status_code_class=500&limit=250").await["data"], json!(dead));
    assert_eq!(world.get("dead-letter?status_code_class=400").await["data"], json!([]));
    let answered = world.get(&format!("msg/{}/endpoint?status_code_class=500", refused[0])).await;
    assert_eq!(answered["data"].as_array().map(Vec::len), Some(1), "{answered}");
    let of: BTreeSet<&str> = dead.iter().map(|dead| dead["message"]["id"].as_str().unwrap()).collect();
    assert_eq!(of, refused.iter().map(String::as_str).collect());
    let id = dead[0]["id"].as_str().unwrap();
    let one = world.get(&format!("dead-letter/{id}")).await;
    assert!(one["message"]["payload"]["number"].is_u64(), "{one}");
    assert_eq!((&one["attempts"][0]["responseStatusCode"], &one["attemptCount"]), (&json!(500), &json!(1)));

    let stats = json!({
        "takes": world.get(&format!("endpoint/{takes}/stats")).await,
        "chooses": world.get(&format!("endpoint/{chooses}/stats")).await,
        "attempts": world.get(&format!("endpoint/{chooses}/attempt-stats")).await,
    });
    assert_eq!(stats["attempts"]["fail"], json!(all.len()));
    let dead = dead.iter().map(|dead| dead["id"].as_str().unwrap().to_owned()).collect();
    Seen { messages, refused, dead, attempts, stats }
}

#[derive(Debug, PartialEq)]
struct Reconciled {
    accepted: u64,
    delivered: u64,
    missing: u64,
    named: BTreeSet<String>,
    is_whole: bool,
}

impl Reconciled {
    fn whole(accepted: u64, delivered: u64, missing: u64, named: &BTreeSet<String>) -> Self {
        Self { accepted, delivered, missing, named: named.clone(), is_whole: true }
    }
}

/// All pages of a reconciliation, summed. It is whole if it knows of all that was acknowledged before.
async fn reconcile(asking: &Asking, endpoint: &str, what: &str) -> Reconciled {
    let range = "since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z";
    let (mut sums, mut named, mut iterator) = ([0; 3], BTreeSet::new(), String::new());
    let mut is_whole = true;
    loop {
        let path = format!("endpoint/{endpoint}/reconciliation?what={what}&{range}{iterator}");
        let answer = asking.client.get(&format!("{}/{path}", asking.path)).await;
        let page = answer.json(200);
        is_whole &= page["unrouted"] == 0 && answer.header("fanfare-history-behind").is_none();
        let count = |name: &str| page["counts"][name].as_u64().unwrap();
        let parts = ["delivered", "pending", "retrying", "deadLettered", "cancelled", "purged", "missing"];
        assert_eq!(parts.map(count).iter().sum::<u64>(), count("accepted"), "{page}");
        let undelivered: u64 = parts[1..].iter().map(|part| count(part)).sum();
        let data = page["data"].as_array().unwrap();
        if what == "undelivered" {
            assert_eq!(data.len() as u64, undelivered, "{page}");
        }
        named.extend(data.iter().map(|missing| missing["messageId"].as_str().unwrap().to_owned()));
        for (sum, name) in sums.iter_mut().zip(["accepted", "delivered", "missing"]) {
            *sum += count(name);
        }
        if page["done"] == true {
            let [accepted, delivered, missing] = sums;
            return Reconciled { accepted, delivered, missing, named, is_whole };
        }
        iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
    }
}

async fn counts_add_up_at_any_moment_under_load(engine: Engine) {
    const MESSAGES: usize = 600;
    let world = World::new(&engine).await;
    let (takes, chooses) = (world.endpoint(TAKES).await, world.endpoint(CHOOSES).await);
    let asking = world.asking();
    let (acknowledged, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    let publishing = async {
        let mut refused = BTreeSet::new();
        for number in 0..MESSAGES {
            let id = world.publish(number).await;
            acknowledged.fetch_add(1, Relaxed);
            if number % 100 == 99 {
                let seen = looks.load(Relaxed);
                let looked = async || (looks.load(Relaxed) > seen).then_some(());
                wait::until("somebody looks", wait::PATIENCE, looked).await;
            }
            if is_refused(number as u64) {
                refused.insert(id);
            }
        }
        refused
    };
    let looking = async {
        loop {
            let before = acknowledged.load(Relaxed);
            let found = reconcile(&asking, &takes, "undelivered").await;
            let Reconciled { accepted, delivered, missing, ref named, is_whole } = found;
            assert!(missing == 0 && delivered + named.len() as u64 == accepted, "{found:?}");
            assert!(!is_whole || accepted >= before, "{before} were acknowledged before: {found:?}");
            reconcile(&asking, &chooses, "dead_letter").await;
            looks.fetch_add(u64::from(is_whole), Relaxed);
            if delivered == MESSAGES as u64 {
                return;
            }
        }
    };
    let (refused, looked) = tokio::join!(publishing, tokio::time::timeout(4 * wait::PATIENCE, looking));
    looked.expect("all are delivered in time");
    let dead = refused.len() as u64;
    world.until_there_are(&chooses, "fail", dead).await;
    world.until_there_are(&chooses, "success", MESSAGES as u64 - dead).await;
    let all = reconcile(&world.asking(), &chooses, "dead_letter").await;
    let accepted = MESSAGES as u64;
    assert_eq!(all, Reconciled::whole(accepted, accepted - dead, 0, &refused));
    world.server.terminate().await;
}

async fn what_the_tables_lost_is_named(engine: Engine) {
    let world = World::new(&engine).await;
    let takes = world.endpoint(TAKES).await;
    let mut published = Vec::new();
    for number in 0..30 {
        published.push(world.publish(number).await);
    }
    world.until_there_are(&takes, "success", 30).await;
    let nobody = BTreeSet::new();
    assert_eq!(reconcile(&world.asking(), &takes, "missing").await, Reconciled::whole(30, 30, 0, &nobody));
    let deliveries = world.get(&format!("endpoint/{takes}/msg?order=ascending")).await;
    world.server.terminate().await;

    let url = format!("sqlite://{}", world.installation.data().join("history.sqlite").display());
    let mut tables = SqliteConnection::connect(&url).await.unwrap();
    let all: Vec<(i64, i64, i64)> =
        sqlx::query_as("SELECT endpoint, delivery, message FROM deliveries ORDER BY delivery")
            .fetch_all(&mut tables)
            .await
            .unwrap();
    assert_eq!(all.len(), 30);
    let mut lost = BTreeSet::new();
    for number in [0, 7, 12, 29] {
        let (endpoint, delivery, message) = all[number];
        let delete = if number == 12 {
            sqlx::query("DELETE FROM messages WHERE message = $1").bind(message)
        } else {
            let delete = sqlx::query("DELETE FROM deliveries WHERE endpoint = $1 AND delivery = $2");
            delete.bind(endpoint).bind(delivery)
        };
        assert_eq!(delete.execute(&mut tables).await.unwrap().rows_affected(), 1);
        lost.insert(deliveries["data"][number]["id"].as_str().unwrap().to_owned());
    }
    tables.close().await.unwrap();

    let server = started(&world.installation, &world.tables).await;
    let world = World { server, ..world };
    assert_eq!(reconcile(&world.asking(), &takes, "missing").await, Reconciled::whole(30, 26, 4, &lost));
    assert_eq!(reconcile(&world.asking(), &takes, "undelivered").await, Reconciled::whole(30, 26, 4, &lost));
    world.server.terminate().await;
}
