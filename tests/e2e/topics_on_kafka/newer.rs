//! A newer Fanfare wrote a record: a plain error, and nothing is passed over.

use std::ops::Range;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::sleep;

use super::*;
use crate::support::{Recorder, Reply};

const WORDS: &str = "this program reads format 1: a newer Fanfare wrote it";
/// What workers say that cannot begin, or go on.
const STANDS: &str = "what the log holds is not understood; nothing is delivered";
/// An endpoint's answer, so that it is on its way when the record is met.
const TAKES: Duration = Duration::from_secs(2);
/// Long enough for a worker that is replaced again and again.
const WHILE: Duration = Duration::from_secs(6);

impl OnKafka {
    fn write_newer(&self, topic: &str, partitions: Range<i32>) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.brokers).create().expect("there is a broker");
        let name = self.name(topic);
        for partition in partitions {
            let record = BaseRecord::<str, _>::to(&name).partition(partition);
            // Tables take none without a key; topics do not look at it.
            let record = record.key("newer").payload(&[2_u8, 0, 0, 0, 0]);
            producer.send(record).expect("it has room");
        }
        tokio::task::block_in_place(|| producer.flush(wait::PATIENCE)).expect("the broker takes it");
    }

    /// A process whose routing ends, and with it the process, with one plain line of this topic.
    async fn route_in_vain(&self, topic: &str) {
        let finished = self.start_in_vain().await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let said: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("fanfare: ")).collect();
        let [line] = said[..] else { panic!("not one line: {finished:?}") };
        for words in ["routing of partition", &self.name(topic), WORDS] {
            assert!(line.contains(words), "no `{words}` in: {line}");
        }
    }

    /// One ERROR for each partition says that it stands, and at which record of the topic.
    async fn stands_at(&self, topic: &str, server: &mut Server) {
        server.expect_error(STANDS);
        let told = wait::until("it is told", wait::PATIENCE, async || {
            let lines: Vec<String> =
                server.lines().into_iter().filter(|line| line.contains(STANDS)).collect();
            (lines.len() >= 3).then_some(lines)
        })
        .await;
        for partition in 0..3 {
            let why = format!("of {}/{partition} has format 2, {WORDS}", self.name(topic));
            assert!(told.iter().any(|line| line.contains(&why)), "no `{why}` in: {told:?}");
        }
        assert!(told.iter().all(|line| line.contains(r#""level":"ERROR""#)), "{told:?}");
    }

    /// The process stays, and takes messages; no worker delivers on what it knows only in part. `at_work`: workers look
    /// at the topic all the time, and not only when they begin.
    async fn no_delivery_after_a_newer_record(topic: &str, at_work: bool) {
        let on = Self::new();
        let mut server = on.start().await;
        let client = on.client().await;
        let recorder = Recorder::start().await;
        let application = client.application("newer").await;
        client.endpoint(&application, &recorder.url("/newer"), &json!({})).await;
        let before = client.publish(&application, &[], &message(1)).await.id(202);
        recorder.received(1).await;
        on.write_newer(topic, 0..3);
        if at_work {
            on.stands_at(topic, &mut server).await;
        }
        server.terminate().await;

        let mut server = on.start().await;
        on.stands_at(topic, &mut server).await;
        client.publish(&application, &[], &message(2)).await.id(202);
        sleep(WHILE).await;
        let receipts = recorder.receipts();
        let came: Vec<&str> = receipts.iter().map(|receipt| receipt.header("webhook-id")).collect();
        assert_eq!(came, [&*before], "once, and nothing after");
        assert_eq!(server.said(STANDS), 3, "once for each partition");
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_command_is_no_start() {
    let used = OnKafka::used().await;
    used.write_newer("control", 0..1);
    refused(&used.start_in_vain().await, &["control", WORDS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_message_stops_routing() {
    let used = OnKafka::used().await;
    let mut server = used.start().await;
    used.write_newer("messages", 0..2);
    assert_eq!(server.exited(wait::PATIENCE).await.code(), Some(1));
    // Nor is it passed over by the next one.
    used.route_in_vain("messages").await;
}

/// Where routing stands, and which keys were used, is read when it begins.
#[tokio::test(flavor = "multi_thread")]
async fn routing_does_not_begin_behind_a_newer_checkpoint() {
    let used = OnKafka::used().await;
    used.write_newer("dedup", 0..2);
    used.route_in_vain("dedup").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_delivery_holds_up_what_comes_behind_it_and_nothing_else() {
    let on = OnKafka::new();
    let mut server = on.start().await;
    server.expect_error("deliveries from here on are not understood");
    let client = on.client().await;
    let recorder = Recorder::behaving(|_| Reply::After(TAKES, 204)).await;
    let application = client.application("newer").await;
    client.endpoint(&application, &recorder.url("/newer"), &json!({})).await;
    let before = client.publish(&application, &[], &message(1)).await.id(202);
    recorder.received(1).await;
    on.write_newer("deliveries", 0..3);
    client.publish(&application, &[], &message(2)).await.id(202);
    wait::until("it is told", wait::PATIENCE, async || (server.said(WORDS) > 0).then_some(())).await;
    sleep(WHILE).await;
    let receipts = recorder.receipts();
    let came: Vec<&str> = receipts.iter().map(|receipt| receipt.header("webhook-id")).collect();
    assert_eq!(came, [&*before], "once, and nothing from behind");
    assert!(receipts[0].is_success());
    assert!(server.said(WORDS) <= 3, "once for each partition");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_facts_stop_delivery() {
    OnKafka::no_delivery_after_a_newer_record("attempts", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_does_not_begin_from_a_newer_snapshot() {
    OnKafka::no_delivery_after_a_newer_record("lanes", false).await;
}

/// What cannot be read of a worker's load is not shown. Its deliveries, and the figures of other partitions, go on.
#[tokio::test(flavor = "multi_thread")]
async fn newer_load_figures_hide_nobody_elses() {
    let on = OnKafka::new();
    let server = on.start().await;
    let client = on.client().await;
    let have_figures = async || -> Vec<bool> {
        let answer = client.get("/api/v1/scaling").await;
        // None at all can be read in time.
        if answer.status == 503 {
            return Vec::new();
        }
        let hint = answer.json(200);
        let partitions = hint["roles"]["delivery"]["partitions"].as_array().expect("a list");
        partitions.iter().map(|partition| partition["worker"].is_string()).collect()
    };
    let until = async |what: &str, expected: [bool; 3]| {
        wait::until(what, wait::PATIENCE, async || (have_figures().await == expected).then_some(())).await;
    };
    until("all have figures", [true; 3]).await;
    on.write_newer("load", 0..1);
    until("the first has none", [false, true, true]).await;

    let recorder = Recorder::start().await;
    let application = client.application("newer").await;
    // More than partitions: some are of the first.
    for number in 0..6 {
        client.endpoint(&application, &recorder.url(&format!("/{number}")), &json!({})).await;
    }
    client.publish(&application, &[], &message(1)).await.id(202);
    recorder.received(6).await;
    until("it is still so", [false, true, true]).await;
    assert_eq!(server.said("taking over again"), 0);
    server.terminate().await;
}
