//! The way of a message from its last byte to its 202.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task,
    time::Duration,
};

use fanfare_control::Application;
use fanfare_core::{
    Clock, Entropy, Identity, KnownClaims, Message, MessageId, Minter, Offset, Partition, Timestamp, limits,
    planted::{Fault, planted},
};
use fanfare_http::MemoryPermit;
use fanfare_log::{AppendError, Log, NewRecord, ReadError, Sync, Topic};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    MessageIn,
    claims::{Claims, Conflict, Reservation, Verdict},
    idempotency::identity,
    metrics::Metrics,
};

/// What ingest is made of.
pub struct Options {
    pub log: Arc<dyn Log>,
    /// The router's table, if the router runs in this process. Without it ingest refuses only what it has just
    /// taken itself, and the router decides the rest later.
    pub known_claims: Option<Arc<dyn KnownClaims>>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// What the log keeps: no payload is kept for longer.
    pub retention: Duration,
}

/// Takes messages in. A cheap handle.
#[derive(Clone)]
pub struct Ingest(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) minter: Minter,
    pub(crate) claims: Arc<Claims>,
    starts: Box<[Start]>,
    turns: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    retention: Duration,
}

const HOUR: Duration = Duration::from_hours(1);

/// Of one partition: what stood in it when this process began may hold claims that only its routing tells.
#[derive(Default)]
struct Start {
    end: OnceCell<Offset>,
    caught_up: AtomicBool,
}

/// One message to be taken in.
#[derive(Clone)]
pub struct Publish {
    pub application: Arc<Application>,
    pub message: MessageIn,
    pub idempotency_key: Option<String>,
    pub traceparent: Option<String>,
    /// The room that the message takes in memory; given back when its append is decided.
    pub memory: Option<Arc<MemoryPermit>>,
}

/// The answer to a publish: durable, and once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub id: MessageId,
    pub accepted_at: Timestamp,
    /// It was taken before; the id is the first one's.
    pub repeated: bool,
}

/// Why a publish was refused. After all but `Conflict` and `TooLarge` the same may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    #[error("too many publishes at once; send it again later")]
    Overloaded,
    /// Whether it will be durable is unknown: send it again with the same key.
    #[error("the message was not durable in time; send it again with the same idempotency key")]
    Timeout,
    #[error("routing has not caught up since the start, so a repeat could not be told; send it again later")]
    CatchingUp,
    #[error("too many messages wait for their `deliverAt` already; send it later, or without")]
    TooManyHeld,
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("the disk is full: {0}; send it again when there is room")]
    Full(AppendError),
    #[error(transparent)]
    TooLarge(AppendError),
    #[error("the log cannot be reached now; send it again with the same idempotency key")]
    Unavailable(String),
}

impl From<AppendError> for AcceptError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { .. } => Self::Full(error),
            AppendError::TooLarge { .. } => Self::TooLarge(error),
            AppendError::Unavailable(reason) | AppendError::Closed(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<ReadError> for AcceptError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Ingest {
    pub fn new(options: Options) -> Self {
        let Options { log, known_claims, clock, entropy, retention } = options;
        let partitions = log.partitions(Topic::Messages);
        Self(Arc::new(Inner {
            log,
            clock,
            entropy,
            minter: Minter::default(),
            claims: Arc::new(Claims::new(partitions, known_claims)),
            starts: (0..partitions).map(|_| Start::default()).collect(),
            turns: Arc::new(Semaphore::new(limits::PUBLISHES_IN_PROGRESS)),
            metrics: Metrics::new(),
            retention,
        }))
    }

    /// For how long a payload is kept that was wanted for so many hours: no longer than the log keeps it.
    pub(crate) fn payload_kept(&self, hours: u32) -> Duration {
        self.0.payload_kept(hours)
    }

    /// Takes one message: in turn, unless it is a repeat, with one append; answers when it is durable. A caller
    /// that goes away leaves the append running, so that its claims end as its append ends.
    pub async fn accept(&self, publish: Publish) -> Result<Accepted, AcceptError> {
        let accepted = timeout(limits::PUBLISH_TIMEOUT, self.0.accept(publish)).await;
        let accepted = accepted.unwrap_or(Err(AcceptError::Timeout))?;
        if accepted.repeated {
            self.0.metrics.repeated();
        } else {
            self.0.metrics.accepted();
        }
        Ok(accepted)
    }

    /// Counts a publish that was answered with an error.
    pub(crate) fn count_refused(&self, reason: &'static str) {
        self.0.metrics.refused(reason);
    }
}

impl Inner {
    fn payload_kept(&self, hours: u32) -> Duration {
        HOUR.saturating_mul(hours).min(self.retention)
    }

    /// The message as it stands in the log.
    pub(crate) fn record(
        &self,
        application: &Application,
        message: MessageIn,
        identity: Identity,
        traceparent: Option<String>,
        (id, accepted_at): (MessageId, Timestamp),
    ) -> NewRecord {
        let kept = self.payload_kept(message.payload_retention_hours);
        let head = Message {
            id,
            organization: application.organization,
            application: application.id,
            event_type: message.event_type,
            event_id: message.event_id,
            channels: message.channels,
            ordering_key: message.ordering_key,
            tags: message.tags,
            accepted_at,
            deliver_at: message.deliver_at,
            payload_expires_at: Some(accepted_at + kept),
            traceparent,
            identity,
            due_of: None,
            only_for: message.only_for,
        };
        NewRecord { head: head.encode(), payload: message.payload }
    }

    async fn accept(&self, publish: Publish) -> Result<Accepted, AcceptError> {
        self.has_room_for(&publish)?;
        let Publish { application, message, idempotency_key, traceparent, memory } = publish;
        let turn = self.turn().await?;
        let identity = identity(application.id, idempotency_key.as_deref(), &message);
        if identity.key.is_some() || identity.event_id.is_some() {
            self.caught_up(application.partition).await?;
        }
        let now = self.clock.now();
        let id = self.minter.mint(now, &*self.entropy);
        let reservation = match self.claim(application.partition, &identity, id, now).await? {
            Some(Verdict::New(reservation)) => Some(reservation),
            None => None,
            Some(Verdict::Repeat(first)) => {
                return Ok(Accepted { id: first.id, accepted_at: first.accepted_at, repeated: true });
            }
            Some(Verdict::Conflict(conflict)) => return Err(conflict.into()),
        };
        let record = self.record(&application, message, identity, traceparent, (id, now));
        let log = Arc::clone(&self.log);
        let began = Instant::now();
        let append = append(log, application.partition, record, reservation, (turn, memory));
        Persistent(Some(Box::pin(append))).await?;
        self.metrics.appended(began.elapsed());
        Ok(Accepted { id, accepted_at: now, repeated: false })
    }

    /// What waits for its time is bounded where its router can be asked.
    pub(crate) fn has_room_for(&self, publish: &Publish) -> Result<(), AcceptError> {
        let known = || self.claims.known().map_or(0, |known| known.held(publish.application.partition));
        if publish.message.deliver_at.is_some() && known() >= limits::HELD_MAX {
            return Err(AcceptError::TooManyHeld);
        }
        Ok(())
    }

    /// A place among those that append. In turn, so that nobody waits for ever; shed after a short wait.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, AcceptError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match timeout(limits::INGEST_WAIT, turn).await {
            Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
            Err(_) => Err(AcceptError::Overloaded),
        }
    }

    async fn claim(
        &self,
        partition: Partition,
        identity: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Option<Verdict>, AcceptError> {
        if identity.key.is_none() && identity.event_id.is_none() {
            return Ok(None);
        }
        let verdict = self.claims.claim(partition, identity, id, now).await;
        verdict.map(Some).map_err(|_| AcceptError::Overloaded)
    }

    /// Waits until the router has seen what stood in the log when this process began: a repeat of it would not be
    /// known before.
    pub(crate) async fn caught_up(&self, partition: Partition) -> Result<(), AcceptError> {
        let start = &self.starts[partition.0 as usize];
        let Some(known) = self.claims.known() else { return Ok(()) };
        if start.caught_up.load(Ordering::Acquire) || planted(Fault::StartNotAwaited) {
            return Ok(());
        }
        let end = start
            .end
            .get_or_try_init(async || {
                let bounds = self.log.bounds(Topic::Messages, partition).await?;
                Ok::<_, AcceptError>(bounds.end)
            })
            .await?;
        let Ok(()) = timeout(limits::INGEST_WAIT, known.caught_up(partition, *end)).await else {
            return Err(AcceptError::CatchingUp);
        };
        start.caught_up.store(true, Ordering::Release);
        Ok(())
    }
}

/// One append, to its end: its claims become durable or free, its room is given back.
async fn append<R>(
    log: Arc<dyn Log>,
    partition: Partition,
    record: NewRecord,
    reservation: Option<Reservation>,
    room: R,
) -> Result<(), AppendError> {
    let pending = log.append(Topic::Messages, partition, vec![record], Sync::Now).await?;
    if planted(Fault::AnsweredBeforeDurable) {
        return Ok(());
    }
    let offsets = pending.await?;
    if let Some(reservation) = reservation {
        reservation.durable(offsets.start);
    }
    drop(room);
    Ok(())
}

type Work = Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>;

/// Runs to its end in the background if the one who waits for it goes away. Otherwise the claims of an append
/// that does become durable would be given up with the connection.
struct Persistent(Option<Work>);

impl Future for Persistent {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Self::Output> {
        let work = self.0.as_mut().expect("not polled after it was ready");
        let result = task::ready!(work.as_mut().poll(context));
        self.0 = None;
        task::Poll::Ready(result)
    }
}

impl Drop for Persistent {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}
