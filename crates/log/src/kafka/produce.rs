//! Producers: they hand records to Kafka in order and hear what became of them.
//!
//! A process has three, because what waits for whom differs:
//! - the *front* takes `messages` and `control`, for which somebody waits: an append that is not durable in time fails;
//! - *routes* takes `deliveries`, for which endpoints wait, and tries for as long as it takes: an append given up would be
//!   a gap that only a new session can fill;
//! - the *pipeline* takes everything that follows from them, and is as patient. A broker answers the requests of one
//!   connection one after the other, and each is for one partition: deliveries do not stand in line behind records of
//!   attempts.
//!
//! All are idempotent, so that a repeat after a lost answer is no second record. What librdkafka calls a fatal error
//! ends a *session*: whatever was under way fails, and the next append begins a new one.

mod reports;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    limits as core_limits,
    planted::{Fault, planted},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use self::reports::{Reports, hear_last_reports};
use super::{
    append::{self, Append, Open, Room},
    client::{self, Link},
    ledger::{Entry, Ledger, Mark},
    limits,
    options::Options,
    record,
    sizes::Sizes,
    stats::Counters,
};
use crate::contract::{AppendError, NewRecord, Pending};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Front,
    Routes,
    Pipeline,
}

/// A record to be handed over.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) key: Option<Bytes>,
    pub(super) head: Bytes,
    /// `None` removes the key.
    pub(super) payload: Option<Bytes>,
}

impl Outgoing {
    fn size_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + self.head.len() + length(&self.payload)
    }

    /// What it counts for while it is not durable.
    pub(super) fn charge_bytes(&self) -> usize {
        self.size_bytes().max(limits::RECORD_CHARGE_BYTES)
    }
}

impl From<NewRecord> for Outgoing {
    fn from(record: NewRecord) -> Self {
        Self { key: None, head: record.head, payload: Some(record.payload) }
    }
}

pub(super) struct Producer {
    config: ClientConfig,
    link: Arc<Link>,
    counters: Arc<Counters>,
    sizes: Arc<Sizes>,
    ledger: Arc<Ledger>,
    room: Arc<Semaphore>,
    /// Of large appends.
    turns: Arc<Semaphore>,
    sending: Mutex<Sending>,
}

/// Held while the records of one append are handed over, so that they stand next to each other.
struct Sending {
    session: Option<Session>,
    began_at: Option<Instant>,
    next_number: u64,
    /// A value is put together here.
    value: Vec<u8>,
    closed: bool,
}

type Session = Arc<ThreadedProducer<Reports>>;

impl Producer {
    /// Begins its first session, so that settings which librdkafka refuses are known at once.
    /// What is appended through producers of one ledger has one order.
    pub(super) fn open(
        options: &Options,
        role: Role,
        ledger: &Arc<Ledger>,
        sizes: &Arc<Sizes>,
        link: &Arc<Link>,
        counters: &Arc<Counters>,
    ) -> Result<Self, KafkaError> {
        let producer = Self {
            config: config(options, role),
            link: Arc::clone(link),
            counters: Arc::clone(counters),
            sizes: Arc::clone(sizes),
            ledger: Arc::clone(ledger),
            room: Arc::new(Semaphore::new(core_limits::UNSYNCED_BYTES)),
            turns: Arc::new(Semaphore::new(1)),
            sending: Mutex::new(Sending {
                session: None,
                began_at: None,
                next_number: 0,
                value: Vec::new(),
                closed: options.read_only,
            }),
        };
        if !options.read_only {
            let first = producer.begin()?;
            producer.sending.lock().session = Some(first);
        }
        Ok(producer)
    }

    fn begin(&self) -> Result<Session, KafkaError> {
        let reports = Reports::new(&self.link, &self.sizes, &self.counters);
        let mut config = self.config.clone();
        let wanted = config.get("batch.size").and_then(|bytes| bytes.parse().ok());
        let batch_bytes = wanted.unwrap_or(usize::MAX).min(reports.batch_bytes());
        config.set("batch.size", batch_bytes.to_string());
        Ok(Arc::new(config.create_with_context(reports)?))
    }

    /// How long a record waits for others.
    pub(super) fn linger(&self) -> Duration {
        let linger = self.config.get("queue.buffering.max.ms").or_else(|| self.config.get("linger.ms"));
        let millis: Option<f64> = linger.and_then(|millis| millis.parse().ok());
        // librdkafka took it, so it is a number of at most 15 minutes.
        Duration::from_secs_f64(millis.unwrap_or_default().clamp(0.0, 900_000.0) / 1_000.0)
    }

    pub(super) fn has_room(&self) -> bool {
        self.room.available_permits() > core_limits::UNSYNCED_BYTES / limits::ROOM_SHARE
    }

    pub(super) fn undurable_bytes(&self) -> usize {
        core_limits::UNSYNCED_BYTES - self.room.available_permits()
    }

    /// Its place in the order of its ledger's appends.
    pub(super) fn entry(&self) -> Entry {
        self.ledger.open()
    }

    /// After everything that was appended under its ledger so far.
    pub(super) fn mark(&self) -> Mark {
        self.ledger.mark()
    }

    /// Waits for room; then the records are on their way.
    pub(super) async fn append(
        &self,
        topic: &str,
        partition: i32,
        records: Vec<Outgoing>,
    ) -> Result<Pending, AppendError> {
        let room = self.room(topic, &records).await?;
        Ok(self.send(topic, partition, &records, room, self.ledger.open()))
    }

    /// Waits until so much may be on its way.
    pub(super) async fn room(&self, topic: &str, records: &[Outgoing]) -> Result<Room, AppendError> {
        let largest = records.iter().map(Outgoing::size_bytes).max().unwrap_or_default();
        self.sizes.check(topic, largest).await?;
        let size_bytes: usize = records.iter().map(Outgoing::charge_bytes).sum();
        let limit_bytes = core_limits::UNSYNCED_BYTES;
        let permits = u32::try_from(size_bytes).ok().filter(|_| size_bytes <= limit_bytes);
        let permits = permits.ok_or(AppendError::TooLarge { size_bytes, limit_bytes })?;
        let turn = if size_bytes > limits::LARGE_APPEND_BYTES {
            Some(Arc::clone(&self.turns).acquire_owned().await.expect("never closed"))
        } else {
            None
        };
        let bytes = Arc::clone(&self.room).acquire_many_owned(permits).await.expect("never closed");
        Ok(Room { _bytes: bytes, _turn: turn })
    }

    /// Hands records over; whatever comes of it is told by what is given back.
    pub(super) fn send(
        &self,
        topic: &str,
        partition: i32,
        records: &[Outgoing],
        room: Room,
        entry: Entry,
    ) -> Pending {
        let (done, told) = oneshot::channel();
        let pending = append::pending(told, Arc::clone(&self.ledger), Arc::clone(&self.sizes));
        let mut sending = self.sending.lock();
        let session = match self.session(&mut sending) {
            Ok(session) => session,
            Err(error) => {
                entry.fail();
                let _ = done.send(Err(error.into()));
                return pending;
            }
        };
        let number = sending.next_number;
        sending.next_number += 1;
        self.counters.appended(records.len(), records.iter().map(Outgoing::size_bytes).sum());
        let outstanding = session.context().outstanding();
        let append = Append::new(number, records.len(), Open { done, room, entry }, outstanding);
        if records.is_empty() {
            append.cut_short(0, AppendError::Unavailable("there was nothing to append".to_owned()));
        }
        for (sent, outgoing) in records.iter().enumerate() {
            if let Err(error) = hand_over(&session, topic, partition, outgoing, &append, &mut sending.value) {
                let failure = session.context().failure(&error, topic, outgoing.size_bytes());
                append.cut_short(records.len() - sent, failure);
                if error.rdkafka_error_code() == Some(Code::Fatal) {
                    session.context().breaks("it broke");
                }
                break;
            }
        }
        pending
    }

    /// The session as it is, or a new one in place of one that broke.
    fn session(&self, sending: &mut Sending) -> Result<Session, AppendError> {
        if sending.closed {
            let cause = "the log is shut down, or was opened for reading only";
            return Err(AppendError::Closed(cause.to_owned()));
        }
        if let Some(session) = sending.session.take_if(|session| session.context().is_broken()) {
            tracing::warn!(
                reason = session.client().fatal_error().map(|(_, reason)| reason),
                "a producer's session broke; what was under way has failed"
            );
            self.counters.session_broke();
            end(session, Duration::ZERO);
        }
        self.lower_batches(sending);
        if let Some(session) = &sending.session {
            return Ok(Arc::clone(session));
        }
        let now = Instant::now();
        if sending.began_at.is_some_and(|began_at| now < began_at + limits::REPLACE_EVERY) {
            return Err(AppendError::Unavailable(self.link.unavailable("producing breaks again and again")));
        }
        sending.began_at = Some(now);
        let session = self.begin();
        let session =
            session.map_err(|error| AppendError::Unavailable(self.link.unavailable(&error.to_string())))?;
        Ok(Arc::clone(sending.session.insert(session)))
    }

    /// A session that sends too much together is replaced while nothing is under way: nobody notices.
    fn lower_batches(&self, sending: &mut Sending) {
        let batch_bytes = self.sizes.batch_bytes();
        let is_due = |session: &mut Session| {
            let reports = session.context();
            reports.batch_bytes() > batch_bytes && reports.outstanding().lock().is_empty()
        };
        if let Some(session) = sending.session.take_if(is_due) {
            sending.began_at = None;
            end(session, Duration::ZERO);
        }
    }

    /// Takes nothing more. What is under way may become durable within `patience`; then it fails.
    pub(super) async fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        // Not all may be handed over yet. Whether some of it fails is for its owners.
        drop(tokio::time::timeout(patience, self.ledger.mark().passed()).await);
        if let Some(session) = self.shut() {
            let flushed = tokio::task::spawn_blocking(move || {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    // What is left fails below.
                    let _ = session.flush(left);
                }
                session.context().break_off("the log was shut down");
                drop(session);
            });
            // Nothing panics in it; without a runtime nobody waits any more.
            let _ = flushed.await;
        }
    }

    fn shut(&self) -> Option<Session> {
        let mut sending = self.sending.lock();
        sending.closed = true;
        sending.session.take()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(session) = self.shut() {
            end(session, limits::CLOSE);
        }
    }
}

/// Ends a session where it holds up nobody: librdkafka joins its threads.
fn end(session: Session, patience: Duration) {
    let ended = std::thread::Builder::new().name("fanfare-kafka-end".to_owned()).spawn(move || {
        if patience.is_zero() {
            session.purge(PurgeConfig::default().queue().inflight());
            hear_last_reports();
        } else {
            // What is left fails below.
            let _ = session.flush(patience);
        }
        session.context().break_off("it was replaced, or the log was shut down");
        drop(session);
    });
    if let Err(error) = ended {
        tracing::warn!(%error, "cannot start a thread that ends a producer");
    }
}

fn hand_over(
    session: &Session,
    topic: &str,
    partition: i32,
    outgoing: &Outgoing,
    append: &Arc<Append>,
    value: &mut Vec<u8>,
) -> Result<(), KafkaError> {
    let mut base = BaseRecord::<[u8], [u8], Arc<Append>>::with_opaque_to(topic, Arc::clone(append));
    base.partition = Some(partition);
    base.key = outgoing.key.as_deref();
    if let Some(payload) = &outgoing.payload {
        record::encode(&outgoing.head, payload, value);
        base.payload = Some(value.as_slice());
    }
    session.send(base).map_err(|(error, _)| error)
}

fn config(options: &Options, role: Role) -> ClientConfig {
    let mut config = client::config(options);
    if config.get("queue.buffering.max.ms").is_none() {
        let linger_ms = match role {
            // Somebody waits. What comes meanwhile goes together with the next request.
            Role::Front | Role::Routes => "0",
            Role::Pipeline => "5",
        };
        client::set_default(&mut config, "linger.ms", linger_ms);
    }
    if config.get("compression.codec").is_none() {
        client::set_default(&mut config, "compression.type", options.compression.as_str());
    }
    // Our own bounds are narrower: nobody has to expect a full queue.
    config.set("queue.buffering.max.messages", "0").set("queue.buffering.max.kbytes", "1048576");
    config.set("message.max.bytes", (12 << 20).to_string());
    config.remove("delivery.timeout.ms").remove("request.required.acks");
    config.set("enable.idempotence", "true").set("acks", "all");
    match role {
        Role::Front => {
            config.set("message.timeout.ms", options.append_timeout.as_millis().to_string());
        }
        Role::Routes | Role::Pipeline if planted(Fault::LocalTimeout) => {
            config.set("message.timeout.ms", "300");
        }
        Role::Routes | Role::Pipeline => {
            config.set("message.timeout.ms", "0").set("enable.gapless.guarantee", "true");
        }
    }
    config
}
