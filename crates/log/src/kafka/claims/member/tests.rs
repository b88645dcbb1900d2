//! Consumers that cannot be used any more.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::mpsc,
    thread,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    super::{Member, config},
    *,
};
use crate::{
    contract::{ClaimEvent, Claims as _, Topic},
    kafka::{
        options::Options,
        place::{Layout, Source},
        topics,
    },
};

const PARTITIONS: u32 = 3;
/// What is waited for comes within this on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// One event of each partition.
async fn hear(member: &mut Member) -> Vec<ClaimEvent> {
    let mut events = Vec::new();
    for _ in 0..PARTITIONS {
        events.push(timeout(PATIENCE, member.next()).await.expect("in time"));
    }
    events.sort_by_key(|event| format!("{event:?}"));
    events
}

fn all(event: fn(Partition) -> ClaimEvent) -> Vec<ClaimEvent> {
    (0..PARTITIONS).map(|number| event(Partition(number))).collect()
}

/// Takes part until a fatal error; gives that.
fn take_part(config: &ClientConfig, topic: &str) -> Option<Code> {
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(Err(KafkaError::MessageConsumptionFatal(code))) = consumer.poll(QUIET) {
            return Some(code);
        }
    }
    None
}

/// The one fatal error that a broker can be made to give: a static member, which ours are not, is fenced by another one
/// of its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fatal_error_another_consumer_takes_part() {
    let options = Options {
        prefix: format!("member-{:016x}.", RandomState::new().hash_one("installation")),
        heartbeat: Duration::from_millis(300),
        ..Options::new(fanfare_testkit::kafka::shared(), PARTITIONS, PARTITIONS)
    };
    topics::create(&options).await.unwrap();
    let topic = Layout::new(&options).name(Source::Topic(Topic::Messages)).to_owned();
    let mut config = config(&options, "router");
    config.set("group.instance.id", "the only one");
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        changed: Notify::new(),
        partitions: PARTITIONS,
        drain: options.drain,
    });
    let membership = Membership {
        config: config.clone(),
        topic: topic.clone(),
        link: Link::new(&options.brokers),
        shared: Arc::clone(&shared),
    };
    let thread = thread::spawn(move || membership.run());
    let mut member = Member { shared };
    assert_eq!(hear(&mut member).await, all(ClaimEvent::Gained));

    let other = spawn_blocking(move || take_part(&config, &topic));
    assert_eq!(hear(&mut member).await, all(ClaimEvent::Lost));
    assert_eq!(hear(&mut member).await, all(ClaimEvent::Gained));
    assert_eq!(other.await.unwrap(), Some(Code::FencedInstanceId), "a new consumer has taken its place");

    drop(member);
    let gone = timeout(PATIENCE, spawn_blocking(move || thread.join().is_ok()));
    assert!(gone.await.expect("in time").unwrap());
}

/// Is dropped until it is told that that is enough.
struct Stuck {
    enough: mpsc::Receiver<()>,
    dropped: Arc<AtomicBool>,
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Nobody tells it anything but by going.
        let _ = self.enough.recv();
        self.dropped.store(true, Ordering::Release);
    }
}

#[test]
fn a_consumer_that_does_not_end_holds_nobody_up() {
    let (enough, is_enough) = mpsc::channel();
    let (goes_on, went_on) = mpsc::channel();
    let dropped = Arc::new(AtomicBool::new(false));
    let stuck = Stuck { enough: is_enough, dropped: Arc::clone(&dropped) };
    let ending = thread::spawn(move || {
        end(stuck, "topic", Duration::from_millis(50));
        goes_on.send(()).unwrap();
    });
    assert_eq!(went_on.recv_timeout(PATIENCE), Ok(()));
    assert!(!dropped.load(Ordering::Acquire));
    drop(enough);
    ending.join().unwrap();
}

/// So that its successor finds the group as it left it.
#[test]
fn a_consumer_that_ends_is_waited_for() {
    let (enough, is_enough) = mpsc::channel();
    let dropped = Arc::new(AtomicBool::new(false));
    let stuck = Stuck { enough: is_enough, dropped: Arc::clone(&dropped) };
    let telling = thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(200));
        drop(enough);
    });
    end(stuck, "topic", PATIENCE);
    assert!(dropped.load(Ordering::Acquire));
    telling.join().unwrap();
}
