//! Producers on Kafka: records of their topic become messages.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    Client, Engine, Installation, Receipt, Recorder, Server, client::Address, engine::Topics, wait,
};

/// A topic of the user's beside an installation on the same Kafka.
struct Producers {
    engine: Engine,
    topic: String,
    producer: BaseProducer,
}

const PARTITIONS: i32 = 2;
const ROUNDS: usize = 3;
const RECORDS: usize = 80;

impl Producers {
    async fn new() -> Self {
        let engine = Engine::kafka();
        let topic = format!("{}orders", topics(&engine).prefix.replace("e2e-", "users-"));
        let admin: AdminClient<DefaultClientContext> = client(&engine).create().unwrap();
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let producer = client(&engine).set("linger.ms", "0").create().unwrap();
        Self { engine, topic, producer }
    }

    fn send(&self, partition: i32, key: Option<&str>, headers: &[(&str, &str)], value: Option<&str>) {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let mut record = BaseRecord::to(&self.topic).partition(partition).headers(headers);
        record.key = key;
        record.payload = value;
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn flush(&self) {
        self.producer.flush(wait::PATIENCE).unwrap();
    }

    async fn start(&self, installation: &Installation, more: &[&str]) -> Server {
        let mut server = installation.spawn(&[&["--dev", "--from-topic", &self.topic], more].concat());
        server.ready().await;
        server
    }

    fn dead_letters(&self) -> String {
        format!("{}from-topic.dead-letters", topics(&self.engine).prefix)
    }
}

fn topics(engine: &Engine) -> &Topics {
    let Engine::Kafka(topics) = engine else { panic!("{engine:?} has no topics") };
    topics
}

fn client(engine: &Engine) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &topics(engine).brokers);
    config
}

/// Headers, value, and a part of why they are no message.
type Bad<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, &'a str);

/// Headers as the default mapping wants them.
const ACME: [(&str, &str); 2] = [("fanfare-application", "acme"), ("fanfare-event-type", "order.paid")];

async fn application(client: &Client, uid: &str) {
    let answer = client.post("/api/v1/app", &json!({ "name": uid, "uid": uid })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Killed again and again just after it took records in and before it committed them.
#[tokio::test(flavor = "multi_thread")]
async fn each_record_becomes_one_message_over_kills() {
    let producers = Producers::new().await;
    let installation = Installation::on(&producers.engine);
    let recorder = Recorder::start().await;
    let mut server = producers.start(&installation, &[]).await;
    let client = installation.client().await;
    application(&client, "acme").await;
    client.endpoint("acme", &recorder.url("/strict"), &json!({})).await;

    let mut sent = BTreeMap::new();
    for round in 0..ROUNDS {
        for n in 0..RECORDS {
            producers.send_one(round * RECORDS + n, &mut sent);
        }
        producers.flush();
        recorder.received(round * RECORDS + RECORDS / 2).await;
        server.kill();
        server = producers.start(&installation, &[]).await;
    }
    producers.each_came_once(&sent, &recorder).await;
    server.terminate().await;
}

/// Partitions of the topic go from process to process, of those that are asked to stop and of those that are killed.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_topic_and_take_over_from_each_other() {
    let producers = Producers::new().await;
    let installation = Installation::on(&producers.engine);
    let recorder = Recorder::start().await;
    let first = producers.start(&installation, &[]).await;
    let client = installation.client().await;
    application(&client, "acme").await;
    client.endpoint("acme", &recorder.url("/strict"), &json!({})).await;

    let other = Installation::on(&producers.engine);
    let secret = installation.main_secret();
    let mut command = other.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--main-secret-file",
        secret.to_str().expect("temporary directories are named in UTF-8"),
    ]);
    command.args(["--dev", "--role", "ingest", "--from-topic", &producers.topic]);
    let mut sent = BTreeMap::new();
    for round in 0..ROUNDS {
        let address = Address::default();
        let mut second = Server::spawn(&mut command, address.clone());
        second.ready().await;
        let its = Client::new(address, None);
        wait::until("the second process takes records in", wait::PATIENCE * 2, async || {
            producers.send_one(sent.len(), &mut sent);
            producers.flush();
            (its.metric("fanfare_ingest_messages_accepted_total", "").await >= 20).then_some(())
        })
        .await;
        if round % 2 == 0 {
            second.kill();
        } else {
            second.terminate().await;
        }
    }
    producers.each_came_once(&sent, &recorder).await;
    first.terminate().await;
}

impl Producers {
    /// A record of either partition in turn, as no serializer writes it: it is to arrive byte for byte.
    fn send_one(&self, n: usize, sent: &mut BTreeMap<usize, String>) {
        let partition = i32::try_from(n % 2).unwrap();
        let value = format!("{{ \"n\":{n},\t\"p\" : {partition}, \"s\":\"\\u00e9 é\" }}");
        self.send(partition, Some(&format!("k{}", n % 5)), &ACME, Some(&value));
        sent.insert(n, value);
    }

    async fn each_came_once(&self, sent: &BTreeMap<usize, String>, recorder: &Recorder) {
        let messages = wait::until("all records arrive", wait::PATIENCE * 2, async || {
            let messages = messages(&recorder.receipts());
            (messages.len() >= sent.len()).then_some(messages)
        })
        .await;
        // What was taken in twice would be delivered by now: what comes after it is.
        self.send(0, None, &ACME, Some(r#"{"n":-1,"p":0}"#));
        self.send(1, None, &ACME, Some(r#"{"n":-1,"p":1}"#));
        self.flush();
        wait::until("the last ones arrive", wait::PATIENCE, async || {
            let receipts = recorder.receipts();
            (receipts.iter().filter(|receipt| number(receipt) < 0).count() >= 2).then_some(())
        })
        .await;
        let ids: HashMap<String, i64> = recorder
            .receipts()
            .iter()
            .map(|receipt| (receipt.header("webhook-id").to_owned(), number(receipt)))
            .collect();
        assert_eq!(ids.len(), sent.len() + 2, "one id for each record");
        for (n, value) in sent {
            assert_eq!(messages[&i64::try_from(*n).unwrap()], value.as_bytes(), "{n}");
        }
        for partition in 0..PARTITIONS {
            let firsts = firsts(&recorder.receipts(), partition);
            assert!(firsts.is_sorted(), "partition {partition}: {firsts:?}");
        }
    }
}

fn number(receipt: &Receipt) -> i64 {
    let value: serde_json::Value = serde_json::from_slice(&receipt.body).unwrap();
    value["n"].as_i64().unwrap()
}

/// By number.
fn messages(receipts: &[Receipt]) -> BTreeMap<i64, Vec<u8>> {
    receipts.iter().map(|receipt| (number(receipt), receipt.body.to_vec())).collect()
}

/// Numbers of one partition's records, as they came for the first time.
fn firsts(receipts: &[Receipt], partition: i32) -> Vec<i64> {
    let mut firsts = Vec::new();
    for receipt in receipts {
        let value: serde_json::Value = serde_json::from_slice(&receipt.body).unwrap();
        let n = number(receipt);
        if value["p"] == partition && n >= 0 && !firsts.contains(&n) {
            firsts.push(n);
        }
    }
    firsts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_become_a_message_is_a_dead_letter() {
    let producers = Producers::new().await;
    let installation = Installation::on(&producers.engine);
    let recorder = Recorder::start().await;
    let server = producers.start(&installation, &["--body-bytes", "2048"]).await;
    let client = installation.client().await;
    application(&client, "acme").await;
    client.endpoint("acme", &recorder.url("/"), &json!({})).await;

    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(3_000));
    let unknown = [("fanfare-application", "nobody"), ACME[1]];
    let bad: [Bad<'_>; 6] = [
        (&ACME, Some("no JSON"), "`payload` must be a JSON object"),
        (&ACME, Some("[1]"), "`payload` must be a JSON object"),
        (&ACME, None, "no value"),
        (&unknown, Some("{}"), "no application `nobody`"),
        (&ACME[..1], Some("{}"), "no event type"),
        (&ACME, Some(&large), "exceeds the limit of 2048"),
    ];
    for (headers, value, _) in bad {
        producers.send(0, Some("key"), headers, value);
    }
    producers.send(0, Some("key"), &ACME, Some(r#"{"n":1}"#));
    producers.flush();
    assert_eq!(number(&recorder.received(1).await[0]), 1, "what is good goes on");

    let letters = read(&producers, bad.len());
    for ((headers, value, reason), letter) in bad.iter().zip(&letters) {
        assert_eq!(letter.payload(), value.map(str::as_bytes), "{reason}");
        assert_eq!(letter.key(), Some("key".as_bytes()));
        let header = |name: &str| header(letter, name);
        assert!(
            header("fanfare-reason").unwrap().contains(reason),
            "{reason}: {:?}",
            header("fanfare-reason")
        );
        assert_eq!(header("fanfare-topic").as_deref(), Some(&*producers.topic));
        assert_eq!(header("fanfare-partition").as_deref(), Some("0"));
        for (name, value) in *headers {
            assert_eq!(header(name).as_deref(), Some(*value), "headers stay");
        }
    }
    assert_eq!(header(&letters[5], "fanfare-offset").as_deref(), Some("5"));
    let metrics = client.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for (outcome, count) in [("dead_letter", bad.len()), ("accepted", 1)] {
        let line = metrics.lines().find(|line| {
            line.starts_with("fanfare_from_topic_records_total{") && line.contains(&format!("\"{outcome}\""))
        });
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{outcome}: {metrics}");
    }
    server.terminate().await;
}

fn header(letter: &rdkafka::message::OwnedMessage, name: &str) -> Option<String> {
    let headers = letter.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}

/// The first dead letters.
fn read(producers: &Producers, count: usize) -> Vec<rdkafka::message::OwnedMessage> {
    let mut config = client(&producers.engine);
    let consumer: BaseConsumer =
        config.set("group.id", "reads-dead-letters").set("enable.auto.commit", "false").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&producers.dead_letters(), 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + wait::PATIENCE;
    let mut letters = Vec::new();
    while letters.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} dead letters", letters.len());
        if let Some(letter) = consumer.poll(Duration::from_millis(100)) {
            letters.push(letter.unwrap().detach());
        }
    }
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_from_the_value_and_keys_of_the_producers() {
    let producers = Producers::new().await;
    let installation = Installation::on(&producers.engine);
    let recorder = Recorder::start().await;
    let map = "application=json:/tenant,event_type=json:/type,ordering_key=none,idempotency_key=json:/id";
    let server = producers.start(&installation, &["--from-topic-map", map]).await;
    let client = installation.client().await;
    application(&client, "acme").await;
    let only = json!({ "filterTypes": ["order.paid"] });
    let created =
        client.post("/api/v1/event-type", &json!({ "name": "order.paid", "description": "" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    client.endpoint("acme", &recorder.url("/"), &only).await;

    let value = |n: u32, id: &str, kind: &str| {
        json!({ "tenant": "acme", "type": kind, "id": id, "n": n }).to_string()
    };
    producers.send(0, None, &[], Some(&value(1, "a", "order.paid")));
    producers.send(0, None, &[], Some(&value(1, "a", "order.paid")));
    // The same key for another body.
    producers.send(0, None, &[], Some(&value(2, "a", "order.paid")));
    producers.send(0, None, &[], Some(&value(3, "b", "order.other")));
    producers.send(0, None, &[], Some(&value(4, "c", "order.paid")));
    producers.flush();
    let receipts = recorder.received(2).await;
    assert_eq!(receipts.iter().map(number).collect::<Vec<_>>(), [1, 4]);
    let letter = &read(&producers, 1)[0];
    let reason = header(letter, "fanfare-reason").unwrap();
    assert!(reason.contains("has another body"), "{reason}");
    assert_eq!(header(letter, "fanfare-offset").as_deref(), Some("2"));
    server.terminate().await;
}

/// Each ends with one line, and nothing is made.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_gets_wrong_is_one_line() {
    let producers = Producers::new().await;
    let topic = &*producers.topic;
    let own = format!("{}messages", topics(&producers.engine).prefix);
    let on_kafka = Installation::on(&producers.engine);
    let embedded = Installation::new();
    let cases: [(&Installation, &[&str], &str); 7] = [
        (&on_kafka, &["--from-topic", "no-such-topic"], "has no topic no-such-topic"),
        (&on_kafka, &["--from-topic", &own], "one of this installation's own"),
        (&embedded, &["--from-topic", topic], "from_topic: needs `kafka`"),
        (&on_kafka, &["--from-topic", topic, "--role", "router,api"], "from_topic: needs the role ingest"),
        (&on_kafka, &["--from-topic", topic, "--from-topic-map", "tenant=key"], "none of application"),
        (&on_kafka, &["--from-topic-map", "application=key"], "say which topic"),
        (
            &on_kafka,
            &["--from-topic", topic, "--from-topic-dead-letters", topic],
            "is the topic that is read",
        ),
    ];
    for (installation, options, part) in cases {
        let arguments = [&["serve", "--dev", "--listen", "127.0.0.1:0"], options].concat();
        let finished = installation.run(&arguments).await;
        assert_eq!(finished.status.code(), Some(1), "{options:?}: {finished:?}");
        let said: Vec<&str> = finished.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        let [line] = said.as_slice() else { panic!("{options:?}: not one line: {finished:?}") };
        assert!(line.contains(part), "{options:?}: {line}");
    }
}
