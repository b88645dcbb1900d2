#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use fanfare_control::{
    ApplicationSettings, Control, EndpointSettings, MainSecret, Options, View, default_organization,
};
use fanfare_core::{
    ApplicationId, AttemptError, AttemptRecord, Content, Fingerprint, Identity, Message, Source, SystemClock,
    SystemEntropy, Trigger, signature::SigningKey,
};
use fanfare_log::{
    NewRecord, Sync,
    sim::{SimCluster, SimLog, SimOptions},
};

use super::*;

const PARTITION: Partition = Partition(0);

/// One endpoint in the only partition, and what is appended to its topics.
struct World {
    log: Arc<SimLog>,
    view: View,
    endpoint: EndpointNumber,
}

impl World {
    async fn new() -> Self {
        let log = SimCluster::new(SimOptions::new(7, 1, 1)).join();
        let options = Options {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            main_secret: MainSecret::from_bytes([7; 32]),
            allow_http: true,
            message_partitions: 1,
            delivery_partitions: 1,
            policy: Policy::default(),
        };
        let control = Control::open(Arc::clone(&log) as Arc<dyn Log>, options).await.unwrap();
        let settings = ApplicationSettings { uid: Some("shop".into()), ..ApplicationSettings::default() };
        control.submit(control.new_application(default_organization(), settings), None).await.unwrap();
        let application = control.view().application(default_organization(), "shop").unwrap();
        let settings = EndpointSettings { url: "http://one.test/".into(), ..EndpointSettings::default() };
        let key = SigningKey::generate_symmetric(&SystemEntropy);
        control.submit(control.new_endpoint(&application, settings, &key), None).await.unwrap();
        let view = fanfare_control::replay(&*log).await.unwrap();
        let endpoint = view.endpoints().next().unwrap().number;
        Self { log, view, endpoint }
    }

    async fn append(&self, topic: Topic, head: Bytes) -> Offset {
        let records = vec![NewRecord::head(head)];
        let pending = self.log.append(topic, PARTITION, records, Sync::Now).await.unwrap();
        pending.await.unwrap().start
    }

    /// A message for the endpoint; gives its offset in `deliveries`.
    async fn route(&self, message: u8) -> Offset {
        let source = Source {
            partition: PARTITION,
            offset: Offset(u64::from(message)),
            session: 1,
            previous: message.checked_sub(1).map(|previous| Offset(u64::from(previous))),
            control: Offset::ZERO,
        };
        let delivery = Delivery::Routed {
            source,
            id: id(message),
            accepted_at: Timestamp::ZERO,
            ordering_key: 0,
            endpoints: vec![self.endpoint],
            content: Content::Reference,
            due_of: None,
        };
        self.append(Topic::Deliveries, delivery.encode()).await
    }

    async fn route_all(&self, count: u8) -> Vec<Offset> {
        let mut offsets = Vec::new();
        for message in 0..count {
            offsets.push(self.route(message).await);
        }
        offsets
    }

    async fn claim(&self) -> Offset {
        let claim = AttemptRecord::Claim { owner: 1, at: Timestamp::ZERO };
        self.append(Topic::Attempts, claim.encode()).await
    }

    async fn tell(&self, epoch: Offset, facts: Vec<Fact>) {
        self.append(Topic::Attempts, AttemptRecord::Facts { epoch, facts }.encode()).await;
    }

    fn attempted(&self, offset: Offset, number: u32, error: Option<AttemptError>) -> Fact {
        Fact::Attempted(Attempt {
            endpoint: self.endpoint,
            offset,
            number,
            trigger: Trigger::Scheduled,
            at: Timestamp::from_secs(i64::from(number)),
            duration: Duration::from_millis(3),
            outcome: if error.is_none() { Outcome::Delivered } else { Outcome::Failed },
            status: if error.is_none() { 204 } else { 0 },
            error,
            response: Bytes::from_static(b"no"),
            due: error.map(|_| Timestamp::from_secs(i64::from(number) + 5)),
            deadline_used: Duration::ZERO,
        })
    }

    /// An answer that is no 2xx.
    fn answered(&self, offset: Offset, number: u32, status: u16) -> Fact {
        match self.attempted(offset, number, Some(AttemptError::Status)) {
            Fact::Attempted(attempt) => Fact::Attempted(Attempt { status, ..attempt }),
            fact => fact,
        }
    }

    fn rejected(&self, offset: Offset, at_secs: i64) -> Fact {
        let (endpoint, reason) = (self.endpoint, Settlement::Rejected);
        Fact::Settled { endpoint, offset, reason, at: Timestamp::from_secs(at_secs) }
    }

    async fn look(&self, attempts: usize, items: usize) -> PartitionState {
        let now = Timestamp::from_secs(100);
        let query = Query { endpoint: None, attempts, items, policy: Policy::default(), now };
        partition(&*self.log, &self.view, PARTITION, &query).await.unwrap()
    }
}

fn message(number: u8, accepted_at: Timestamp) -> Message {
    let body = Fingerprint([number; 16]);
    Message {
        id: id(number),
        organization: default_organization(),
        application: ApplicationId::from_bytes([1; 20]),
        event_type: "order.created".into(),
        event_id: None,
        channels: Vec::new(),
        ordering_key: None,
        tags: Vec::new(),
        accepted_at,
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity { key: None, event_id: None, body, short_window: false },
        due_of: None,
        only_for: None,
    }
}

fn id(message: u8) -> MessageId {
    MessageId::from_bytes([message; 20])
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_what_its_records_and_facts_make_it() {
    let world = World::new().await;
    let epoch = world.claim().await;
    let offsets = world.route_all(4).await;
    let facts = [(offsets[0], 1, None), (offsets[1], 1, Some(AttemptError::Timeout))];
    let facts = facts.map(|(offset, number, error)| world.attempted(offset, number, error));
    world.tell(epoch, facts.into()).await;

    let state = world.look(10, 10).await;
    let lane = &state.lanes[&world.endpoint];
    assert_eq!((lane.cursor, lane.pending, lane.behind), (offsets[1], 3, 0));
    assert_eq!((lane.next, lane.held_by), (state.tail, Some(HeldBy::Circuit)));
    let retry = Retry { offset: offsets[1], attempts: 1, due: Timestamp::from_secs(6) };
    assert_eq!((lane.retries.as_slice(), lane.retry_count), ([retry].as_slice(), 1));
    assert_eq!(state.messages[&offsets[1]], id(1));
    assert_eq!(state.attempts[&world.endpoint].len(), 2);

    world.tell(epoch, vec![world.attempted(offsets[1], 2, Some(AttemptError::Connect))]).await;
    let state = world.look(1, 10).await;
    let attempts: Vec<u32> = state.attempts[&world.endpoint].iter().map(|it| it.number).collect();
    assert_eq!(attempts, [2], "no more than were asked for");
}

/// As the next owner would take it, whatever the failures were, and however few attempts are asked for.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_nothing_is_held_by_its_circuit() {
    let world = World::new().await;
    let epoch = world.claim().await;
    let offsets = world.route_all(4).await;
    let held_by = async |attempts: usize| {
        let state = world.look(attempts, 10).await;
        let lane = &state.lanes[&world.endpoint];
        (lane.held_by, lane.failing_since)
    };
    assert_eq!(held_by(10).await, (None, None));
    world.tell(epoch, vec![world.attempted(offsets[0], 1, None)]).await;
    assert_eq!(held_by(10).await, (None, None));

    let fails = [
        world.answered(offsets[1], 2, 500),
        world.answered(offsets[1], 3, 429),
        world.answered(offsets[1], 4, 503),
        world.attempted(offsets[1], 5, Some(AttemptError::Timeout)),
        world.attempted(offsets[1], 6, Some(AttemptError::Connect)),
    ];
    for fact in fails {
        world.tell(epoch, vec![fact.clone()]).await;
        let since = Some(Timestamp::from_secs(2));
        assert_eq!(held_by(10).await, (Some(HeldBy::Circuit), since), "{fact:?}");
        assert_eq!(held_by(0).await, (Some(HeldBy::Circuit), since), "no attempts shown: {fact:?}");
    }

    // In a search for proof of life a message behind it goes through: it is the message, not the endpoint.
    world.tell(epoch, vec![world.attempted(offsets[2], 7, None)]).await;
    assert_eq!(held_by(10).await, (Some(HeldBy::Ordering), None));
    world.tell(epoch, vec![world.rejected(offsets[1], 8), world.answered(offsets[3], 9, 500)]).await;
    let since = Some(Timestamp::from_secs(9));
    assert_eq!(held_by(10).await, (Some(HeldBy::Circuit), since));
    world.tell(epoch, vec![world.attempted(offsets[3], 10, None)]).await;
    assert_eq!(held_by(10).await, (None, None), "nothing waits");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_the_router_is_not_pending_twice() {
    let world = World::new().await;
    let offsets = world.route_all(2).await;
    world.route(0).await;
    let state = world.look(10, 10).await;
    let lane = &state.lanes[&world.endpoint];
    assert_eq!((lane.cursor, lane.pending, lane.held_by), (offsets[0], 2, None));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_those_of_the_epoch_that_counts() {
    let world = World::new().await;
    let offsets = world.route_all(5).await;
    let first = world.claim().await;
    world.tell(first, vec![world.rejected(offsets[0], 1)]).await;
    let second = world.claim().await;
    // A zombie that does not know of its successor.
    world.tell(first, vec![world.rejected(offsets[1], 2)]).await;
    world.tell(second, vec![world.rejected(offsets[2], 4), world.rejected(offsets[3], 3)]).await;

    let state = world.look(10, 10).await;
    let buried: Vec<Offset> = state.dead_letters.iter().map(|letter| letter.offset).collect();
    assert_eq!(buried, [offsets[0], offsets[3], offsets[2]], "in order of their time");
    assert_eq!((state.dead_letter_count, state.messages[&offsets[3]]), (3, id(3)));
    let state = world.look(10, 2).await;
    assert_eq!((state.dead_letters.len(), state.dead_letter_count), (2, 3), "all are counted");
}

#[tokio::test(start_paused = true)]
async fn a_range_buries_what_was_not_settled_before() {
    let world = World::new().await;
    let offsets = world.route_all(6).await;
    let epoch = world.claim().await;
    let range = Fact::SettledRange {
        endpoint: world.endpoint,
        from: offsets[0],
        to: offsets[4],
        reason: Settlement::Expired,
        at: Timestamp::from_secs(9),
    };
    world.tell(epoch, vec![world.attempted(offsets[2], 1, None), range]).await;
    // Too late to change its fate.
    world.tell(epoch, vec![world.attempted(offsets[3], 1, None)]).await;

    let state = world.look(10, 10).await;
    let buried: Vec<(Offset, Settlement)> =
        state.dead_letters.iter().map(|letter| (letter.offset, letter.reason)).collect();
    let expected = [offsets[0], offsets[1], offsets[3]].map(|offset| (offset, Settlement::Expired));
    assert_eq!(buried, expected);
    assert_eq!(state.lanes[&world.endpoint].pending, 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_key_is_taken_is_a_dead_letter_of_no_endpoint() {
    let world = World::new().await;
    world.route_all(2).await;
    let at = Timestamp::from_secs(50);
    for number in 0..3 {
        world.append(Topic::Messages, message(number, at).encode()).await;
    }
    let twin = |offset: u64| {
        let previous = Some(Offset(offset - 1));
        let source = Source {
            partition: PARTITION,
            offset: Offset(offset),
            session: 1,
            previous,
            control: Offset::ZERO,
        };
        Delivery::Conflict { source, id: id(2), first: id(0) }.encode()
    };
    let offset = world.append(Topic::Deliveries, twin(2)).await;
    world.append(Topic::Deliveries, twin(2)).await;
    world.append(Topic::Deliveries, twin(9)).await;

    let state = world.look(10, 10).await;
    let reason = Settlement::IdempotencyConflict;
    let letter = DeadLetter { endpoint: None, offset, reason, at, first: Some(id(0)) };
    assert_eq!(state.dead_letters, [letter], "neither the repeat nor what a gap stands before");
    assert_eq!((state.dead_letter_count, state.messages[&offset]), (1, id(2)));
}
