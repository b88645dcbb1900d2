//! What a drain counts that is over too soon.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_control::{ApplicationSettings, Control, EndpointSettings, MainSecret, default_organization};
use fanfare_core::{
    ApplicationId, Clock, Content, Delivery, EndpointNumber, Fingerprint, Identity, Message, MessageId,
    Offset, Partition, Policy, Source, SystemClock, SystemEntropy, limits, signature::SigningKey,
};
use fanfare_log::{
    Log, NewRecord, Topic,
    sim::{SimCluster, SimOptions},
};
use opentelemetry::{
    KeyValue,
    metrics::{BoundSyncInstrument, Counter, InstrumentBuilder, InstrumentProvider, Meter, SyncInstrument},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::sleep,
};

use super::super::{Ending, Worker};
use crate::{
    contents::Contents,
    load::{Board, Processor, Room},
    meters::Meters,
    send::{Answer, Request, Transport},
    service::{Options, Order, Shared},
};

const PARTITION: Partition = Partition(0);
/// Fewer than the endpoint's window.
const MESSAGES: u8 = 10;
/// A worker that has something to send has sent it by then.
const WHILE: Duration = Duration::from_secs(10);

/// The counter of what may come twice, and no other.
#[derive(Clone, Default)]
struct PossibleRepeats(Arc<AtomicU64>);

impl InstrumentProvider for PossibleRepeats {
    fn u64_counter(&self, builder: InstrumentBuilder<'_, Counter<u64>>) -> Counter<u64> {
        let is_this = builder.name == "fanfare_delivery_possible_repeats_total";
        Counter::new(Arc::new(if is_this { self.clone() } else { Self::default() }))
    }
}

impl SyncInstrument<u64> for PossibleRepeats {
    fn measure(&self, count: u64, _: &[KeyValue]) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn bind(&self, _: &[KeyValue]) -> Box<dyn BoundSyncInstrument<u64> + Send + Sync> {
        Box::new(self.clone())
    }
}

impl BoundSyncInstrument<u64> for PossibleRepeats {
    fn measure(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// Answers as often as it is told to.
#[derive(Clone)]
struct Endpoint {
    asked: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Endpoint {
    fn silent() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { asked: none(), answers: none() }
    }
}

impl Transport for Endpoint {
    async fn send(&self, _: Request) -> Answer {
        self.asked.add_permits(1);
        self.answers.acquire().await.expect("it is never closed").forget();
        Answer { status: 204, error: None, retry_after: None, body: Bytes::new(), duration: Duration::ZERO }
    }

    fn forget(&self, _: EndpointNumber) {}
}

/// One endpoint in the only partition, and its messages.
struct World {
    log: Arc<dyn Log>,
    control: Control,
    possible_repeats: PossibleRepeats,
}

impl World {
    async fn new() -> Self {
        let log: Arc<dyn Log> = SimCluster::new(SimOptions::new(7, 1, 1)).join();
        let options = fanfare_control::Options {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            main_secret: MainSecret::from_bytes([7; 32]),
            allow_http: true,
            message_partitions: 1,
            delivery_partitions: 1,
            policy: Policy::default(),
        };
        let control = Control::open(Arc::clone(&log), options).await.unwrap();
        let settings = ApplicationSettings { uid: Some("shop".into()), ..ApplicationSettings::default() };
        control.submit(control.new_application(default_organization(), settings), None).await.unwrap();
        let application = control.view().application(default_organization(), "shop").unwrap();
        let settings = EndpointSettings {
            url: "http://one.test/".into(),
            ordering: Some(fanfare_core::Ordering::Unordered),
            ..EndpointSettings::default()
        };
        let key = SigningKey::generate_symmetric(&SystemEntropy);
        control.submit(control.new_endpoint(&application, settings, &key), None).await.unwrap();
        let endpoint = control.view().endpoints().next().unwrap().number;
        for number in 0..MESSAGES {
            route(&*log, endpoint, number).await;
        }
        Self { log, control, possible_repeats: PossibleRepeats::default() }
    }

    /// A worker that takes the partition over, from whoever had it.
    async fn work(&self, endpoint: &Endpoint) -> (watch::Sender<Order>, JoinHandle<Ending>) {
        let options = Options {
            log: Arc::clone(&self.log),
            control: self.control.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            retention: limits::RETENTION,
            disable_after: None,
            in_flight: limits::IN_FLIGHT,
            drain: limits::DRAIN,
            board: Board::in_memory(),
            drain_target: limits::DRAIN_TARGET,
            processor_time: None,
        };
        let shared = Arc::new(Shared {
            options,
            transport: endpoint.clone(),
            contents: Contents::new(Arc::clone(&self.log)),
            meters: Meters::of(&Meter::new(Arc::new(self.possible_repeats.clone()))),
            room: Room::new(limits::IN_FLIGHT, 1),
            processor: Processor::new(None),
            owner: 1,
        });
        let worker = Box::pin(Worker::take_over(shared, PARTITION)).await.unwrap();
        let (orders, mut told) = watch::channel(Order::Work);
        (orders, tokio::spawn(async move { worker.run(&mut told).await }))
    }
}

async fn route(log: &dyn Log, endpoint: EndpointNumber, number: u8) {
    let id = MessageId::from_bytes([number; 20]);
    let accepted_at = SystemClock.now();
    let message = Message {
        id,
        organization: default_organization(),
        application: ApplicationId::from_bytes([3; 20]),
        event_type: "test".to_owned(),
        event_id: None,
        channels: Vec::new(),
        ordering_key: None,
        tags: Vec::new(),
        accepted_at,
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity { key: None, event_id: None, body: Fingerprint::of(&[]), short_window: false },
        due_of: None,
        only_for: None,
    };
    let offset = |number: u8| Offset(u64::from(number));
    let source = Source {
        partition: PARTITION,
        offset: offset(number),
        session: 1,
        previous: number.checked_sub(1).map(offset),
        control: Offset::ZERO,
    };
    let delivery = Delivery::Routed {
        source,
        id,
        accepted_at,
        ordering_key: 0,
        endpoints: vec![endpoint],
        content: Content::Inline { head: message.encode() },
        due_of: None,
    };
    let record = NewRecord { head: delivery.encode(), payload: Bytes::from_static(b"{}") };
    let pending = log.append(Topic::Deliveries, PARTITION, vec![record], fanfare_log::Sync::Now).await;
    pending.unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_when_the_drain_is_over_is_counted_and_comes_again() {
    for answers in [0, 3, MESSAGES] {
        let world = World::new().await;
        let endpoint = Endpoint::silent();
        let (orders, working) = world.work(&endpoint).await;
        drop(endpoint.asked.acquire_many(MESSAGES.into()).await.unwrap());
        endpoint.answers.add_permits(answers.into());
        orders.send_replace(Order::Drain(limits::DRAIN));
        let ending = working.await.unwrap();
        assert!(matches!(ending, Ending::Drained), "{ending:?}");
        let given_up = u64::from(MESSAGES - answers);
        assert_eq!(world.possible_repeats.0.load(Ordering::Relaxed), given_up);

        // The next owner sends just these.
        let endpoint = Endpoint::silent();
        let (orders, working) = world.work(&endpoint).await;
        sleep(WHILE).await;
        assert_eq!(endpoint.asked.available_permits() as u64, given_up);
        orders.send_replace(Order::Abandon);
        let ending = working.await.unwrap();
        assert!(matches!(ending, Ending::Abandoned), "{ending:?}");
        // It ends at once, whatever is in flight: nothing was waited for in vain.
        assert_eq!(world.possible_repeats.0.load(Ordering::Relaxed), given_up);
    }
}
