//! Sessions against librdkafka's own cluster in memory, which fails as it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanfare_core::Offset;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr as Answer},
};

use super::*;

struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: Producer,
    counters: Arc<Counters>,
}

impl World {
    fn new(role: Role) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 2, 1).unwrap();
        let options = Options::new(cluster.bootstrap_servers(), 1, 1);
        let (link, counters) = (Link::new(&options.brokers), Arc::default());
        let sizes = Sizes::new(&options, &std::collections::BTreeMap::new());
        let producer = Producer::open(&options, role, &Arc::default(), &sizes, &link, &counters).unwrap();
        Self { cluster, producer, counters }
    }

    async fn append(&self, text: &'static str) -> Result<std::ops::Range<Offset>, AppendError> {
        self.begin(text).await.await
    }

    async fn begin(&self, text: &'static str) -> Pending {
        let record =
            Outgoing { key: None, head: Bytes::from_static(text.as_bytes()), payload: Some(Bytes::new()) };
        self.producer.append("topic", 0, vec![record; 2]).await.unwrap()
    }

    fn sessions_broken(&self) -> u64 {
        self.counters.read().sessions_broken
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    let world = World::new(Role::Front);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    world.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION],
    );
    assert_eq!(world.append("second").await, Ok(Offset(2)..Offset(4)));
    assert_eq!((world.sessions_broken(), world.producer.undurable_bytes()), (0, 0));
}

/// In the pipeline a record that is refused for good would be a gap.
#[tokio::test]
async fn a_session_that_breaks_is_replaced() {
    let world = World::new(Role::Pipeline);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let (second, third) = (world.begin("second").await, world.begin("third").await);
    let failed = second.await;
    assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
    drop(third);
    let mut began_anew = world.append("fourth").await;
    while began_anew.is_err() {
        began_anew = world.append("fourth").await;
    }
    assert_eq!(world.sessions_broken(), 1);
    assert_eq!(world.producer.undurable_bytes(), 0);
}

/// Nobody has to append for it. A record that was to be sent once more when the session broke is sent never.
#[tokio::test]
async fn all_that_was_under_way_in_a_session_that_breaks_is_told() {
    let world = World::new(Role::Routes);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    let mut answers = [Answer::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 8];
    answers[0] = Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    world.cluster.request_errors(RDKafkaApiKey::Produce, &answers);
    // Each is to be a request of its own, hence the pause, and both on their way before the first is answered.
    world.cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let second = world.begin("second").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for pending in [second, world.begin("third").await] {
        let told = tokio::time::timeout(Duration::from_secs(10), pending).await;
        assert!(matches!(told, Ok(Err(AppendError::Unavailable(_)))), "{told:?}");
    }
    assert_eq!(world.producer.undurable_bytes(), 0);
}

#[tokio::test]
async fn what_speaks_of_a_failed_append_is_refused_once() {
    let world = World::new(Role::Pipeline);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    drop(world.begin("second").await);
    let refused = world.producer.mark().passed().await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(world.producer.mark().passed().await, Ok(()));
}

/// What a broker refuses as too large, though no limit says so, may be sent again; what comes after it is not disturbed.
#[tokio::test]
async fn a_refusal_as_too_large_breaks_no_session_of_the_front() {
    let world = World::new(Role::Front);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let (second, third) = (world.begin("second").await, world.begin("third").await);
    let (second, third) = tokio::join!(second, third);
    assert!(matches!(&second, Err(error) if error.is_retryable()), "{second:?}");
    let is_fine = third.as_ref().map_or_else(AppendError::is_retryable, |_| true);
    assert!(is_fine, "it was sent behind the second, or with it: {third:?}");
    assert!(world.append("fourth").await.is_ok());
    assert_eq!(world.sessions_broken(), 0);
}

#[tokio::test]
async fn what_was_closed_takes_nothing() {
    let world = World::new(Role::Front);
    let before = world.begin("before").await;
    world.producer.close(Duration::from_secs(5)).await;
    assert_eq!(before.await, Ok(Offset(0)..Offset(2)));
    assert!(matches!(world.append("after").await, Err(AppendError::Closed(_))));
}

#[tokio::test]
async fn what_is_killed_tells_who_waits() {
    let world = World::new(Role::Pipeline);
    assert_eq!(world.append("first").await, Ok(Offset(0)..Offset(2)));
    world.cluster.broker_down(1).unwrap();
    let waiting = world.begin("second").await;
    world.producer.close(Duration::ZERO).await;
    assert!(matches!(waiting.await, Err(AppendError::Unavailable(_))));
}
