//! A log that is written to as ingest, router and delivery would, with history beside it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, AttemptRecord, Clock, Content, Delivery, EndpointNumber, Fact,
    Fingerprint, Identity, InstallationId, Message, MessageId, Offset, OrganizationId, Outcome, Partition,
    Settlement, Source, Timestamp, Trigger,
};
use fanfare_history::{EndpointAt, History, Options, Place, Reach, TableDigest, Window};
use fanfare_log::{
    Log, NewRecord, Sync, Topic,
    embedded::{EmbeddedLog, Options as LogOptions},
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::tables::Tables;

pub(crate) const INSTALLATION: InstallationId = InstallationId::from_bytes([9; 20]);
pub(crate) const RETENTION: Duration = Duration::from_hours(168);

/// A clock that tests set.
pub(crate) struct HandClock(Mutex<Timestamp>);

impl HandClock {
    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock() = now;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) tables: Tables,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) clock: Arc<HandClock>,
    session: u64,
    previous: Option<Offset>,
    messages: u64,
}

/// History that runs.
pub(crate) struct Running {
    pub(crate) history: History,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

pub(crate) fn application(number: u8) -> ApplicationId {
    ApplicationId::from_bytes([number; 20])
}

pub(crate) fn endpoint(number: u32) -> EndpointAt {
    EndpointAt { number: EndpointNumber(number), partition: Partition(0) }
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000) + Duration::from_millis(millis.cast_unsigned())
}

pub(crate) fn window(limit: usize) -> Window {
    Window::new(limit, None, false)
}

/// What one message is like.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) application: ApplicationId,
    pub(crate) event_type: &'static str,
    pub(crate) event_id: Option<String>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) channels: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) payload: String,
    pub(crate) kept_for: Option<Duration>,
    pub(crate) at: Timestamp,
    pub(crate) endpoints: Vec<u32>,
}

impl Publish {
    pub(crate) fn at(millis: i64, endpoints: &[u32]) -> Self {
        Self {
            application: application(1),
            event_type: "invoice.paid",
            event_id: None,
            ordering_key: None,
            channels: Vec::new(),
            tags: Vec::new(),
            payload: "{}".to_owned(),
            kept_for: None,
            at: at(millis),
            endpoints: endpoints.to_vec(),
        }
    }
}

/// A message and its delivery record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) id: MessageId,
    pub(crate) source: Offset,
    pub(crate) delivery: Offset,
}

impl World {
    pub(crate) fn new(tables: Tables) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(LogOptions::new(directory.path().join("data"), 1, 1)).unwrap();
        let clock = Arc::new(HandClock(Mutex::new(at(3_600_000))));
        Self { directory, tables, log, clock, session: 1, previous: None, messages: 0 }
    }

    pub(crate) fn options(&self, place: Place) -> Options {
        Options {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            place,
            installation: INSTALLATION,
            retention: RETENTION,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.tables.place(self.directory.path())
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_at(self.place()).await
    }

    pub(crate) async fn start_at(&self, place: Place) -> Running {
        let (history, service) = fanfare_history::open(self.options(place)).await.unwrap();
        let stop = CancellationToken::new();
        let thread = service.start(stop.clone()).unwrap();
        Running { history, stop, thread }
    }

    pub(crate) async fn append(&self, topic: Topic, record: NewRecord) -> Offset {
        let pending = self.log.append(topic, Partition(0), vec![record], Sync::Now).await.unwrap();
        pending.await.unwrap().start
    }

    /// As ingest and router do.
    pub(crate) async fn publish(&mut self, publish: &Publish) -> Published {
        let (id, source) = self.accept(publish).await;
        if publish.endpoints.is_empty() {
            return Published { id, source, delivery: Offset::ZERO };
        }
        let delivery = Delivery::Routed {
            source: self.source(source),
            id,
            accepted_at: publish.at,
            ordering_key: 0,
            endpoints: publish.endpoints.iter().copied().map(EndpointNumber).collect(),
            content: Content::Reference,
            due_of: None,
        };
        let delivery = self.append(Topic::Deliveries, NewRecord::head(delivery.encode())).await;
        Published { id, source, delivery }
    }

    /// As ingest does.
    pub(crate) async fn accept(&mut self, publish: &Publish) -> (MessageId, Offset) {
        self.messages += 1;
        let mut random = [0; 15];
        random[..8].copy_from_slice(&self.messages.to_be_bytes());
        let id = MessageId::mint(publish.at, random);
        let message = Message {
            id,
            organization: OrganizationId::from_bytes([1; 20]),
            application: publish.application,
            event_type: publish.event_type.to_owned(),
            event_id: publish.event_id.clone(),
            channels: publish.channels.clone(),
            ordering_key: publish.ordering_key.clone(),
            tags: publish.tags.clone(),
            accepted_at: publish.at,
            deliver_at: None,
            payload_expires_at: publish.kept_for.map(|period| publish.at + period),
            traceparent: None,
            identity: Identity { key: None, event_id: None, body: Fingerprint([0; 16]), short_window: false },
            due_of: None,
            only_for: None,
        };
        let record = NewRecord { head: message.encode(), payload: Bytes::from(publish.payload.clone()) };
        (id, self.append(Topic::Messages, record).await)
    }

    /// Of the next delivery record.
    pub(crate) fn source(&mut self, offset: Offset) -> Source {
        let previous = self.previous.replace(offset);
        Source { partition: Partition(0), offset, session: self.session, previous, control: Offset::ZERO }
    }

    pub(crate) async fn facts(&self, facts: Vec<Fact>) -> Offset {
        let record = AttemptRecord::Facts { epoch: Offset::ZERO, facts };
        self.append(Topic::Attempts, NewRecord::head(record.encode())).await
    }
}

impl Running {
    /// Everything that was appended is in the tables.
    pub(crate) async fn caught_up(&self) {
        for _ in 0..15 {
            if self.history.passed(Reach::Everything).await {
                return;
            }
        }
        panic!("history does not catch up: {:?}", self.history.lag());
    }

    /// Ends it, and reads what its tables say.
    pub(crate) async fn end(self, world: &World) -> Vec<TableDigest> {
        self.end_at(&world.place()).await
    }

    pub(crate) async fn end_at(self, place: &Place) -> Vec<TableDigest> {
        self.stop.cancel();
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
        self.history.close().await;
        fanfare_history::digest(place, INSTALLATION).await.unwrap()
    }
}

pub(crate) fn attempt(endpoint: u32, offset: Offset, number: u32, status: u16, time: Timestamp) -> Fact {
    let delivered = (200..300).contains(&status);
    Fact::Attempted(Attempt {
        endpoint: EndpointNumber(endpoint),
        offset,
        number,
        trigger: Trigger::Scheduled,
        at: time,
        duration: Duration::from_micros(3_210),
        outcome: if delivered { Outcome::Delivered } else { Outcome::Failed },
        status,
        error: match status {
            0 => Some(AttemptError::Connect),
            200..300 => None,
            _ => Some(AttemptError::Status),
        },
        response: Bytes::from(format!("answer {status}")),
        due: (!delivered).then(|| time + Duration::from_secs(5)),
        deadline_used: Duration::ZERO,
    })
}

pub(crate) fn settled(endpoint: u32, offset: Offset, reason: Settlement, time: Timestamp) -> Fact {
    Fact::Settled { endpoint: EndpointNumber(endpoint), offset, reason, at: time }
}
