//! What brokers do that no other engine's storage does: they go away and come back, lose topics, lose members.

use std::{
    fmt::Debug,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use fanfare_log::{
    AppendError, ClaimEvent, Claims, Group, Log, NewRecord, ReadError, Sync, Table, Topic,
    kafka::{KafkaLog, OpenError, Options},
};
use fanfare_testkit::kafka::{Broker, Cluster, Settings};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::time::Instant;

const PARTITIONS: u32 = 3;
const P0: Partition = Partition(0);
/// A broker starts within this on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A broker of one's own, to be treated badly.
fn cluster() -> Cluster {
    tokio::task::block_in_place(|| Cluster::start(&Settings::new(1)).unwrap())
}

fn treat<E: Debug>(cluster: &Cluster, how: impl FnOnce(&Broker) -> Result<(), E>) {
    tokio::task::block_in_place(|| how(&cluster.brokers()[0]).unwrap());
}

/// An installation of its own, whose processes do not wait for long.
fn impatient(brokers: &str) -> Options {
    Options {
        prefix: format!("faults-{:016x}.", RandomState::new().hash_one("installation")),
        append_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(1),
        session_timeout: Duration::from_secs(3),
        heartbeat: Duration::from_millis(300),
        ..Options::new(brokers, PARTITIONS, PARTITIONS)
    }
}

fn record(number: u64) -> NewRecord {
    NewRecord { head: Bytes::copy_from_slice(&number.to_be_bytes()), payload: Bytes::from_static(b"payload") }
}

async fn append(
    log: &KafkaLog,
    topic: Topic,
    partition: Partition,
    number: u64,
) -> Result<Offset, AppendError> {
    let pending = log.append(topic, partition, vec![record(number)], Sync::Now).await?;
    Ok(pending.await?.start)
}

/// A broker that came back may still be slow for one who waits a second only.
async fn read_all(log: &KafkaLog, topic: Topic, partition: Partition) -> Vec<u64> {
    let end = log.bounds(topic, partition).await.unwrap().end;
    let mut position = Offset::ZERO;
    let mut numbers = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while position < end {
        let batch = loop {
            match log.fetch(topic, partition, position, 1 << 20).await {
                Err(error) if error.is_retryable() && Instant::now() < deadline => {}
                read => break read.unwrap(),
            }
        };
        numbers.extend(
            batch.records.iter().map(|record| u64::from_be_bytes(record.head.as_ref().try_into().unwrap())),
        );
        position = batch.next;
    }
    numbers
}

/// While no broker answers, what somebody waits for fails, and what follows from it waits: nothing of it is lost, twice,
/// or out of order when the broker is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_and_comes_back() {
    let cluster = cluster();
    for freeze in [false, true] {
        let log = KafkaLog::open(impatient(&cluster.bootstrap())).await.unwrap();
        append(&log, Topic::Messages, P0, 0).await.unwrap();
        append(&log, Topic::Attempts, P0, 0).await.unwrap();
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait(Topic::Messages, P0, Offset(1)).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;

        treat(&cluster, if freeze { Broker::freeze } else { Broker::kill });
        let mut pipeline = Vec::new();
        for number in 1..100 {
            let partition = Partition(u32::try_from(number).unwrap() % PARTITIONS);
            let pending = log.append(Topic::Attempts, partition, vec![record(number)], Sync::Lazy);
            pipeline.push((number, partition, pending.await.unwrap()));
        }
        let (front, bounds, fetch) = tokio::join!(
            in_time(append(&log, Topic::Messages, P0, 1)),
            in_time(log.bounds(Topic::Control, P0)),
            in_time(log.fetch(Topic::Attempts, P0, Offset::ZERO, 100)),
        );
        assert!(
            matches!(&front, Err(error @ AppendError::Unavailable(_)) if error.is_retryable()),
            "{front:?}"
        );
        assert!(
            matches!(&bounds, Err(error @ ReadError::Unavailable(_)) if error.is_retryable()),
            "{bounds:?}"
        );
        assert!(matches!(&fetch, Err(ReadError::Unavailable(_))), "{fetch:?}");
        println!("frozen: {freeze}\n  {front:?}\n  {bounds:?}\n  {fetch:?}");
        let put =
            log.put(Table::Lanes, P0, vec![(Bytes::from_static(b"key"), Some(Bytes::from_static(b"value")))]);
        let mut put = std::pin::pin!(put);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut put).await.is_err(), "nobody keeps it");
        assert!(!waiting.is_finished(), "nothing came");

        treat(&cluster, |broker| if freeze { broker.thaw() } else { broker.start(1) });
        let mut expected = [vec![0], Vec::new(), Vec::new()];
        for (number, partition, pending) in pipeline {
            in_time(pending).await.unwrap();
            expected[partition.0 as usize].push(number);
        }
        in_time(put).await.unwrap();
        in_time(append(&log, Topic::Messages, P0, 2)).await.unwrap();
        in_time(waiting).await.unwrap().unwrap();
        for (partition, expected) in (0..).map(Partition).zip(expected) {
            assert_eq!(read_all(&log, Topic::Attempts, partition).await, expected);
        }
        let messages = read_all(&log, Topic::Messages, P0).await;
        assert!(messages == [0, 2] || messages == [0, 1, 2], "what failed may be there: {messages:?}");
        assert_eq!(log.stats().sessions_broken, 0);
        log.close().await;
    }
}

/// A broker that is killed and started again while records come: each of them is there once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_again_and_again() {
    let cluster = cluster();
    let log = KafkaLog::open(impatient(&cluster.bootstrap())).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let (log, stopped) = (log.clone(), stopped.clone());
        writers.spawn(async move {
            let mut pendings = Vec::new();
            while !*stopped.borrow() {
                for _ in 0..20 {
                    let number = record(pendings.len() as u64);
                    pendings.push(
                        log.append(Topic::Deliveries, partition, vec![number], Sync::Lazy).await.unwrap(),
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let count = pendings.len() as u64;
            for pending in pendings {
                pending.await.unwrap();
            }
            (partition, count)
        });
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        treat(&cluster, Broker::kill);
        tokio::time::sleep(Duration::from_millis(300)).await;
        treat(&cluster, |broker| broker.start(1));
    }
    stop.send(true).unwrap();
    drained(&log).await;
    while let Some(written) = in_time(writers.join_next()).await {
        let (partition, count) = written.unwrap();
        println!("{partition}: {count} records");
        assert!(read_all(&log, Topic::Deliveries, partition).await.into_iter().eq(0..count));
    }
    log.close().await;
}

/// Waits until nothing is on its way. How long that takes depends on what else the machine does: it has to become less
/// all the time.
async fn drained(log: &KafkaLog) {
    let (mut left, mut moved) = (log.stats().undurable_bytes, Instant::now());
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = log.stats().undurable_bytes;
        if now != left {
            (left, moved) = (now, Instant::now());
        }
        assert!(moved.elapsed() < PATIENCE, "{left} bytes are on their way, and stay there");
    }
}

/// Somebody deletes a topic and makes it anew: positions of before are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew() {
    let options = impatient(fanfare_testkit::kafka::shared());
    let log = KafkaLog::open(options.clone()).await.unwrap();
    for number in 0..10 {
        append(&log, Topic::Messages, P0, number).await.unwrap();
    }
    let waiting = tokio::spawn({
        let log = log.clone();
        async move {
            log.wait(Topic::Messages, P0, Offset(10)).await?;
            log.fetch(Topic::Messages, P0, Offset(10), 100).await
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let patience = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let name = format!("{}messages", options.prefix);
    admin.delete_topics(&[&name], &patience).await.unwrap()[0].clone().unwrap();
    let partitions = i32::try_from(PARTITIONS).unwrap();
    let anew = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    in_time(async {
        // The old one may still be on its way out.
        while admin.create_topics([&anew], &patience).await.unwrap()[0].is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;

    let read = in_time(waiting).await.unwrap();
    assert!(matches!(&read, Err(ReadError::Corrupt(line)) if line.contains("made anew")), "{read:?}");
    let read = in_time(log.fetch(Topic::Messages, P0, Offset(4), 100)).await;
    assert!(matches!(&read, Err(ReadError::Corrupt(line)) if line.contains("made anew")), "{read:?}");
    log.close().await;
}

/// Deliveries have a producer of their own; what speaks of them is held back all the same until they are durable, and is
/// refused if one of them failed and nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_never_overtakes_deliveries() {
    let mut options = impatient(fanfare_testkit::kafka::shared());
    // How long a topic that is not there may be on its way.
    options.properties.insert("topic.metadata.propagation.max.ms".to_owned(), "2000".to_owned());
    let log = KafkaLog::open(options.clone()).await.unwrap();
    for topic in [Topic::Deliveries, Topic::Dedup] {
        append(&log, topic, P0, 0).await.unwrap();
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let deliveries = format!("{}deliveries", options.prefix);
    admin.delete_topics(&[&deliveries], &AdminOptions::new()).await.unwrap()[0].clone().unwrap();

    let lost = log.append(Topic::Deliveries, P0, vec![record(1)], Sync::Lazy).await.unwrap();
    let checkpoint = in_time(append(&log, Topic::Dedup, P0, 1)).await;
    assert!(matches!(&checkpoint, Err(AppendError::Unavailable(_))), "{checkpoint:?}");
    let also_lost = log.append(Topic::Deliveries, P0, vec![record(2)], Sync::Lazy).await.unwrap();
    let snapshot = (Bytes::from_static(b"key"), Some(Bytes::from_static(b"value")));
    let put = in_time(log.put(Table::Lanes, P0, vec![snapshot])).await;
    assert!(matches!(&put, Err(AppendError::Unavailable(_))), "{put:?}");
    for lost in [lost, also_lost] {
        println!("{}", in_time(lost).await.unwrap_err());
    }
    assert_eq!(read_all(&log, Topic::Dedup, P0).await, [0]);
    log.close().await;
}

/// A record that this program does not understand stops its readers, after those before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_newer_format() {
    let options = impatient(fanfare_testkit::kafka::shared());
    let log = KafkaLog::open(options.clone()).await.unwrap();
    append(&log, Topic::Control, P0, 0).await.unwrap();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let name = format!("{}control", options.prefix);
    producer.send(BaseRecord::<(), _>::to(&name).partition(0).payload(&[2_u8, 0, 0, 0, 0])).unwrap();
    tokio::task::block_in_place(|| producer.flush(PATIENCE)).unwrap();
    append(&log, Topic::Control, P0, 2).await.unwrap();
    for follows in [false, true] {
        if follows {
            in_time(log.wait(Topic::Control, P0, Offset::ZERO)).await.unwrap();
        }
        let before = log.fetch(Topic::Control, P0, Offset::ZERO, 1_000).await.unwrap();
        assert_eq!((before.records.len(), before.next), (1, Offset(1)));
        in_time(log.wait(Topic::Control, P0, Offset(1))).await.unwrap();
        let read = log.fetch(Topic::Control, P0, Offset(1), 1_000).await;
        assert!(matches!(&read, Err(ReadError::Corrupt(line)) if line.contains("format 2")), "{read:?}");
    }
    let behind = log.fetch(Topic::Control, P0, Offset(2), 1_000).await.unwrap();
    assert_eq!(behind.records.len(), 1);
    log.close().await;
}

/// A member that nobody hears of for the session's time loses everything, and is given it again when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off() {
    let cluster = cluster();
    let log = KafkaLog::open(impatient(&cluster.bootstrap())).await.unwrap();
    let mut claims = log.claim(Group::Router);
    let hear = async |claims: &mut Box<dyn Claims>| {
        let mut events = Vec::new();
        for _ in 0..PARTITIONS {
            events.push(in_time(claims.next()).await);
        }
        events.sort_by_key(|event| format!("{event:?}"));
        events
    };
    let all = |event: fn(Partition) -> ClaimEvent| {
        (0..PARTITIONS).map(|number| event(Partition(number))).collect::<Vec<_>>()
    };
    assert_eq!(hear(&mut claims).await, all(ClaimEvent::Gained));
    treat(&cluster, Broker::freeze);
    assert_eq!(hear(&mut claims).await, all(ClaimEvent::Lost));
    treat(&cluster, Broker::thaw);
    assert_eq!(hear(&mut claims).await, all(ClaimEvent::Gained));
    // A broker that is killed comes back without having forgotten its groups.
    treat(&cluster, Broker::kill);
    treat(&cluster, |broker| broker.start(1));
    drop(claims);
    in_time(log.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused() {
    let log = KafkaLog::open(impatient(fanfare_testkit::kafka::shared())).await.unwrap();
    let large = |size_bytes| NewRecord { head: Bytes::new(), payload: Bytes::from(vec![1; size_bytes]) };
    let refused = log.append(Topic::Messages, P0, vec![large(12 << 20)], Sync::Now).await.err();
    assert!(matches!(refused, Some(AppendError::TooLarge { .. })), "{refused:?}");
    let largest = log.append(Topic::Messages, P0, vec![large(11 << 20)], Sync::Now).await.unwrap();
    assert_eq!(in_time(largest).await.unwrap(), Offset(0)..Offset(1));
    let read = log.fetch(Topic::Messages, P0, Offset::ZERO, 1).await.unwrap();
    assert_eq!(read.records[0].payload.as_ref().unwrap().len(), 11 << 20);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_it_does_not_open_is_one_plain_line() {
    let nobody = KafkaLog::open(impatient("127.0.0.1:1")).await.err().unwrap();
    println!("{nobody}");
    assert!(nobody.is_retryable());
    assert!(nobody.to_string().starts_with("Kafka at 127.0.0.1:1 "), "{nobody}");

    let mut options = impatient(fanfare_testkit::kafka::shared());
    options.properties.insert("sasl.passwort".to_owned(), "hunter2".to_owned());
    let misspelt = KafkaLog::open(options.clone()).await.err().unwrap();
    println!("{misspelt}");
    assert!(!misspelt.to_string().contains("hunter2") && !format!("{options:?}").contains("hunter2"));

    let mut options = impatient(fanfare_testkit::kafka::shared());
    KafkaLog::open(options.clone()).await.unwrap().close().await;
    options.delivery_partitions += 1;
    let other = KafkaLog::open(options).await.err().unwrap();
    println!("{other}");
    assert!(matches!(other, OpenError::Unusable { .. }) && !other.is_retryable());
}

/// What was appended before `close` is there afterwards, though nobody waited for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_makes_durable_what_was_appended() {
    let options = impatient(fanfare_testkit::kafka::shared());
    let log = KafkaLog::open(options.clone()).await.unwrap();
    for number in 0..500 {
        drop(log.append(Topic::Attempts, P0, vec![record(number)], Sync::Lazy).await.unwrap());
    }
    drop(log.append(Topic::Dedup, P0, vec![record(0)], Sync::Lazy).await.unwrap());
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait(Topic::Control, P0, Offset::ZERO).await }
    });
    tokio::task::yield_now().await;
    in_time(log.close()).await;
    assert!(matches!(in_time(waiting).await.unwrap(), Err(ReadError::Closed(_))));
    let refused = log.append(Topic::Attempts, P0, vec![record(0)], Sync::Now).await.unwrap().await;
    assert!(matches!(refused, Err(AppendError::Closed(_))), "{refused:?}");
    assert!(matches!(log.bounds(Topic::Attempts, P0).await, Err(ReadError::Closed(_))));
    assert!(matches!(log.fetch(Topic::Attempts, P0, Offset::ZERO, 1).await, Err(ReadError::Closed(_))));

    let log: Arc<KafkaLog> = KafkaLog::open(options).await.unwrap();
    assert!(read_all(&log, Topic::Attempts, P0).await.into_iter().eq(0..500));
    assert_eq!(read_all(&log, Topic::Dedup, P0).await, [0]);
    log.close().await;
}
