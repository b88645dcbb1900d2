//! A newer Fanfare wrote a record: a plain error, and nothing is passed over.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::sleep;

use super::*;
use crate::support::{Recorder, Reply};

const WORDS: &str = "this program reads format 1: a newer Fanfare wrote it";
/// An endpoint's answer, so that it is on its way when the record is met.
const TAKES: Duration = Duration::from_secs(2);
/// Long enough for a worker that is replaced again and again.
const WHILE: Duration = Duration::from_secs(6);

impl OnKafka {
    fn write_newer(&self, topic: &str, partitions: i32) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.brokers).create().expect("there is a broker");
        let name = self.name(topic);
        for partition in 0..partitions {
            let record = BaseRecord::<(), _>::to(&name).partition(partition).payload(&[2_u8, 0, 0, 0, 0]);
            producer.send(record).expect("it has room");
        }
        tokio::task::block_in_place(|| producer.flush(wait::PATIENCE)).expect("the broker takes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_command_is_no_start() {
    let used = OnKafka::used().await;
    used.write_newer("control", 1);
    refused(&used.start_in_vain().await, &["control", WORDS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_message_stops_routing() {
    let used = OnKafka::used().await;
    let mut server = used.start().await;
    used.write_newer("messages", 2);
    assert_eq!(server.exited(wait::PATIENCE).await.code(), Some(1));
    // Nor is it passed over by the next one.
    let finished = used.start_in_vain().await;
    let said: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("fanfare: ")).collect();
    let [line] = said[..] else { panic!("not one line: {finished:?}") };
    assert!(line.contains("routing of partition") && line.contains(WORDS), "{line}");
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
    on.write_newer("deliveries", 3);
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
