//! A follower at librdkafka's own cluster in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanfare_core::Partition;
use rdkafka::{
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord},
};

use super::{
    super::{
        super::{options::Options, place::Layout},
        FOLLOWERS, Signals, Tail, config,
    },
    *,
};
use crate::contract::Topic;

const PATIENCE: Duration = Duration::from_secs(20);

/// It would be missing in the ring, and nobody would hear of it.
#[test]
fn a_record_that_comes_by_another_queue_ends_the_following_of_its_partition() {
    let cluster = MockCluster::new(1).unwrap();
    let options = Options::new(cluster.bootstrap_servers(), 2, 1);
    let layout = Arc::new(Layout::new(&options));
    let [astray, other] = [0, 1].map(|number| Place::topic(Topic::Messages, Partition(number)));
    let name = layout.name(astray.source);
    cluster.create_topic(name, 2, 1).unwrap();
    let mut follower = follower(&options, &layout);
    let [astray, other] = [astray, other].map(|place| layout.index(place));
    follower.begin(other).unwrap();

    // What librdkafka makes anew of a partition has no queue of ours.
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(name, 0, rdkafka::Offset::Beginning).unwrap();
    follower.consumer.incremental_assign(&list).unwrap();
    follower.assigned.push(astray);
    follower.shared.followed.fetch_add(1, Ordering::Relaxed);
    follower.shared.tails[astray].state.lock().mode = Mode::Following;
    let producer: BaseProducer = options.client_config().create().unwrap();
    for partition in 0..2 {
        let record = BaseRecord::<(), [u8]>::to(name).partition(partition).payload(b"record");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.poll(Duration::ZERO);

    let deadline = Instant::now() + PATIENCE;
    while follower.shared.tails[astray].state.lock().failures == 0 {
        assert!(Instant::now() < deadline, "nobody heard of the record");
        producer.poll(Duration::from_millis(5));
        follower.hear();
    }
    assert_eq!(follower.shared.tails[astray].state.lock().mode, Mode::Idle, "a reader begins it anew");
    assert_eq!(follower.assigned, [other]);
    assert_eq!(follower.shared.tails[other].state.lock().failures, 0);
}

fn follower(options: &Options, layout: &Arc<Layout>) -> Follower {
    let link = Link::new(&options.brokers);
    let shared = Arc::new(Shared {
        layout: Arc::clone(layout),
        tails: (0..layout.len()).map(|_| Tail::default()).collect(),
        signals: [(); FOLLOWERS].map(|()| Signals::default()),
        followed: std::sync::atomic::AtomicUsize::new(0),
        closed: std::sync::atomic::AtomicBool::new(false),
    });
    let consumer = config(options, 0).create_with_context(Events { link: Arc::clone(&link) }).unwrap();
    Follower::new(0, Arc::new(consumer), shared, link)
}
