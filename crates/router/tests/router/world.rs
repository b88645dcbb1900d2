//! Producers, endpoints and routers around a log.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_control::{
    ApplicationSettings, Applied, Control, Effect, EndpointSettings, MainSecret, default_organization,
};
use fanfare_core::{
    ApplicationId, Clock, EndpointNumber, Fingerprint, Identity, KnownClaims, Message, MessageId, Offset,
    Partition, Policy, SystemEntropy, Timestamp, signature::SigningKey,
};
use fanfare_log::{Log, NewRecord, Pending, Sync, Topic};
use fanfare_router::{Error, Handle, Options, Service};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const MESSAGE_PARTITIONS: u32 = 3;
pub(crate) const DELIVERY_PARTITIONS: u32 = 4;
pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A clock that a test turns.
#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        START + Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// One process: its log, its view of the control plane.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) control: Control,
    pub(crate) clock: Arc<HandClock>,
}

/// An endpoint, and the one channel it wants if not all messages.
#[derive(Clone, Debug)]
pub(crate) struct Wanting {
    pub(crate) application: ApplicationId,
    pub(crate) number: EndpointNumber,
    pub(crate) channel: Option<String>,
}

/// What a producer sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publish {
    pub(crate) key: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) short_window: bool,
    pub(crate) channel: Option<String>,
    pub(crate) body: u64,
    /// It waits so long.
    pub(crate) wait: Option<Duration>,
}

impl Process {
    pub(crate) async fn start(log: Arc<dyn Log>, clock: &Arc<HandClock>) -> Self {
        let options = fanfare_control::Options {
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            entropy: Arc::new(SystemEntropy),
            main_secret: MainSecret::from_bytes([1; 32]),
            allow_http: false,
            message_partitions: MESSAGE_PARTITIONS,
            delivery_partitions: DELIVERY_PARTITIONS,
            policy: Policy::default(),
        };
        let control = Control::open(Arc::clone(&log), options).await.unwrap();
        Self { log, control, clock: Arc::clone(clock) }
    }

    pub(crate) async fn application(&self) -> (ApplicationId, Partition) {
        let create = self.control.new_application(default_organization(), ApplicationSettings::default());
        match self.control.submit(create, None).await.unwrap() {
            Applied::Accepted(Effect::Application(application)) => (application.id, application.partition),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn endpoint(&self, application: ApplicationId, channel: Option<&str>) -> Wanting {
        let application = self.control.view().application_by_id(application).unwrap();
        let settings = EndpointSettings {
            url: "https://example.com/hook".into(),
            channels: channel.map(|channel| vec![channel.to_owned()]),
            ..EndpointSettings::default()
        };
        let key = SigningKey::generate_symmetric(&SystemEntropy);
        let create = self.control.new_endpoint(&application, settings, &key);
        match self.control.submit(create, None).await.unwrap() {
            Applied::Accepted(Effect::Endpoint(endpoint)) => Wanting {
                application: endpoint.application,
                number: endpoint.number,
                channel: channel.map(str::to_owned),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn message(&self, application: ApplicationId, publish: &Publish) -> Message {
        let now = self.clock.now();
        let entropy: &dyn fanfare_core::Entropy = &SystemEntropy;
        let claim = |kind: &[u8], text: &Option<String>| {
            let digest = |text: &String| Fingerprint::of(&[kind, application.as_bytes(), text.as_bytes()]);
            text.as_ref().map(digest)
        };
        Message {
            id: MessageId::mint(now, entropy.bytes()),
            organization: default_organization(),
            application,
            event_type: "thing.happened".into(),
            event_id: publish.event_id.clone(),
            channels: publish.channel.clone().into_iter().collect(),
            ordering_key: None,
            tags: Vec::new(),
            accepted_at: now,
            deliver_at: publish.wait.map(|wait| now + wait),
            payload_expires_at: None,
            traceparent: None,
            identity: Identity {
                key: claim(b"key", &publish.key),
                event_id: claim(b"event", &publish.event_id),
                body: Fingerprint::of(&[&publish.body.to_be_bytes()]),
                short_window: publish.short_window,
            },
            due_of: None,
            only_for: None,
        }
    }

    /// Appends messages as ingest does, and waits until they are durable.
    pub(crate) async fn publish(
        &self,
        application: (ApplicationId, Partition),
        publishes: &[Publish],
    ) -> Vec<(MessageId, Offset)> {
        let (ids, pending) = self.append(application, publishes).await;
        let offsets = pending.await.unwrap();
        ids.into_iter().zip((offsets.start.0..).map(Offset)).collect()
    }

    /// The same without waiting: nobody may ever learn whether they are in the log.
    pub(crate) async fn append(
        &self,
        application: (ApplicationId, Partition),
        publishes: &[Publish],
    ) -> (Vec<MessageId>, Pending) {
        let messages: Vec<_> = publishes.iter().map(|publish| self.message(application.0, publish)).collect();
        let records = messages
            .iter()
            .map(|message| NewRecord { head: message.encode(), payload: Bytes::from_static(b"{}") })
            .collect();
        let pending = self.log.append(Topic::Messages, application.1, records, Sync::Now).await.unwrap();
        (messages.iter().map(|message| message.id).collect(), pending)
    }

    pub(crate) fn route(&self, dedup_dir: Option<PathBuf>) -> Routing {
        self.route_with(dedup_dir, false)
    }

    /// `inline`: payloads are copied beside delivery records.
    pub(crate) fn route_with(&self, dedup_dir: Option<PathBuf>, inline: bool) -> Routing {
        let service = Service::new(Options {
            log: Arc::clone(&self.log),
            control: self.control.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(SystemEntropy),
            dedup_dir,
            inline,
        });
        let (handle, shutdown) = (service.handle(), CancellationToken::new());
        let task = tokio::spawn(service.run(shutdown.clone()));
        Routing { handle, shutdown, task, log: Arc::clone(&self.log) }
    }
}

/// A running router.
pub(crate) struct Routing {
    pub(crate) handle: Handle,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    log: Arc<dyn Log>,
}

impl Routing {
    /// Waits until everything that is in `messages` now was routed.
    pub(crate) async fn caught_up(&self) {
        for partition in (0..MESSAGE_PARTITIONS).map(Partition) {
            let end = self.log.bounds(Topic::Messages, partition).await.unwrap().end;
            let deadline = Instant::now() + Duration::from_secs(20);
            tokio::time::timeout_at(deadline, self.handle.caught_up(partition, end))
                .await
                .unwrap_or_else(|_| panic!("partition {partition} was not routed up to {end}"));
        }
    }

    /// Shut down in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends by itself, with the line that an operator is told.
    pub(crate) async fn failed(self) -> String {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("it ends").unwrap().unwrap_err().to_string()
    }

    /// Ends as with a crash: no checkpoint, no drain.
    pub(crate) async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}
