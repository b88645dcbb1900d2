//! Message contents in memory: read once from the log, shared by all lanes that send them.

mod runs;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{
    Content as Where, Delivery, Message, Offset, Partition, Timestamp, codec::Malformed, limits,
};
use fanfare_log::{Log, LogRecord, ReadError, Topic};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::runs::Runs;

/// Where a content stands: in `messages`, or in a record of `deliveries` that has it inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) topic: Topic,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
}

/// A payload to be sent, with the room it takes while it is.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) payload: Bytes,
    pub(crate) traceparent: Option<HeaderValue>,
    /// Not to be sent from here on.
    pub(crate) expires_at: Option<Timestamp>,
    _room: Room,
}

/// A payload's share of [`limits::IN_FLIGHT_BYTES`]; given back when the last of those that send it is done.
type Room = Arc<OwnedSemaphorePermit>;

/// A payload as it was read.
#[derive(Debug)]
struct Loaded {
    payload: Bytes,
    traceparent: Option<HeaderValue>,
    expires_at: Option<Timestamp>,
    /// Only what is being sent takes room. If the cache held room too, it could keep all of it from what waits to be
    /// sent.
    room: Mutex<Weak<OwnedSemaphorePermit>>,
}

/// Why there is nothing to send.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// Erased, or below the log start offset.
    #[error("the payload is gone")]
    Gone,
    #[error(transparent)]
    Malformed(Malformed),
    #[error(transparent)]
    Read(ReadError),
}

/// Payloads that are in flight or were lately, bounded in bytes.
pub(crate) struct Contents {
    log: Arc<dyn Log>,
    cache: moka::future::Cache<Place, Arc<Loaded>>,
    runs: Runs,
    /// Since it was looked whether anybody needs what is kept.
    asked: AtomicBool,
    /// In KiB, so that the count fits.
    room: Arc<Semaphore>,
    /// Reads at once. What one brings may be what another waits for.
    reads: [tokio::sync::Mutex<()>; READS_AT_ONCE],
}

const KIB: usize = 1_024;
const READS_AT_ONCE: usize = 4;
/// What is kept goes after this time, at most twice of it, in which nothing was asked for.
const KEPT_UNASKED: Duration = Duration::from_secs(5);
/// Of a content, beside its payload: itself, its place in the cache, what allocation adds.
const OVERHEAD_BYTES: usize = 512;

impl Contents {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self::with_room(log, limits::IN_FLIGHT_BYTES, limits::PAYLOAD_CACHE_BYTES)
    }

    fn with_room(log: Arc<dyn Log>, room_bytes: usize, cache_bytes: u64) -> Self {
        let cache = moka::future::Cache::builder()
            .max_capacity(cache_bytes)
            .weigher(|_, loaded: &Arc<Loaded>| u32::try_from(loaded.size_bytes()).unwrap_or(u32::MAX))
            .build();
        Self {
            log,
            cache,
            runs: Runs::new(limits::CONTENT_RUNS_BYTES),
            asked: AtomicBool::new(false),
            room: Arc::new(Semaphore::new(room_bytes / KIB)),
            reads: Default::default(),
        }
    }

    /// The content that stands at this place. Lanes of one partition (`shared`) that ask at the same time share one
    /// read; what only one lane wants is kept only with its neighbours.
    pub(crate) async fn get(&self, place: Place, shared: bool) -> Result<Content, ContentError> {
        self.asked.store(true, Ordering::Relaxed);
        if let Some(loaded) = self.runs.find(place)
            && let Some(room) = self.room_at_once(&loaded)
        {
            return Ok(loaded.content(room));
        }
        if !shared {
            let (loaded, room) = self.load(place).await?;
            return Ok(loaded.content(room));
        }
        if let Some(loaded) = self.cache.get(&place).await {
            return Ok(loaded.content(self.room_of(&loaded).await));
        }
        let mut own_room = None;
        let loading = async {
            let (loaded, room) = self.load(place).await?;
            own_room = Some(room);
            Ok(loaded)
        };
        let loaded = self.cache.try_get_with(place, loading).await;
        let loaded = loaded.map_err(|error: Arc<ContentError>| (*error).clone())?;
        let room = match own_room {
            Some(room) => room,
            None => self.room_of(&loaded).await,
        };
        Ok(loaded.content(room))
    }

    /// Gives back what is kept whenever nobody has asked for a while: a process at rest holds no payloads. And whenever
    /// something was erased, which `erasures` counts: that is asked for no more. Never ends.
    pub(crate) async fn tidy(&self, erasures: impl Fn() -> u64) {
        let mut known = erasures();
        loop {
            tokio::time::sleep(KEPT_UNASKED).await;
            let now = erasures();
            let erased = std::mem::replace(&mut known, now) != now;
            if !self.asked.swap(false, Ordering::Relaxed) || erased {
                self.runs.clear();
                self.cache.invalidate_all();
                self.cache.run_pending_tasks().await;
            }
        }
    }

    /// Who has to wait for room holds nothing meanwhile, and looks again then.
    async fn load(&self, place: Place) -> Result<(Arc<Loaded>, Room), ContentError> {
        let loaded = self.read(place).await?;
        if let Some(room) = self.room_at_once(&loaded) {
            return Ok((loaded, room));
        }
        let kib = loaded.size_kib();
        drop(loaded);
        let reserved = self.room_for(kib).await;
        let loaded = self.read(place).await?;
        let room = loaded.settle_in(reserved);
        Ok((loaded, room))
    }

    /// Reads what stands there and some that follows.
    async fn read(&self, place: Place) -> Result<Arc<Loaded>, ContentError> {
        let _turn = self.reads[place.partition.0 as usize % READS_AT_ONCE].lock().await;
        if let Some(loaded) = self.runs.find(place) {
            return Ok(loaded);
        }
        let Place { topic, partition, offset } = place;
        let batch = self.log.fetch(topic, partition, offset, self.runs.run_bytes()).await;
        let batch = batch.map_err(|error| match error {
            ReadError::Truncated { .. } => ContentError::Gone,
            other => ContentError::Read(other),
        })?;
        let mut records = batch.records.into_iter();
        let first = records.next().filter(|first| first.offset == offset).ok_or(ContentError::Gone)?;
        let first = Arc::new(Loaded::new(topic, first)?);
        if records.len() > 0 {
            // What cannot be sent is found out when it is its turn.
            let rest =
                records.map_while(|record| Some((record.offset, Arc::new(Loaded::new(topic, record).ok()?))));
            let run = std::iter::once((offset, Arc::clone(&first))).chain(rest).collect();
            self.runs.keep(place, run);
        }
        Ok(first)
    }

    async fn room_for(&self, kib: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.room).acquire_many_owned(kib).await;
        permit.expect("the semaphore is never closed")
    }

    /// The room that the content has, or new room for it.
    async fn room_of(&self, loaded: &Loaded) -> Room {
        match self.room_at_once(loaded) {
            Some(room) => room,
            None => loaded.settle_in(self.room_for(loaded.size_kib()).await),
        }
    }

    /// The same, unless somebody would have to wait for it.
    fn room_at_once(&self, loaded: &Loaded) -> Option<Room> {
        if let Some(room) = loaded.room.lock().upgrade() {
            return Some(room);
        }
        let permit = Arc::clone(&self.room).try_acquire_many_owned(loaded.size_kib()).ok()?;
        Some(loaded.settle_in(permit))
    }
}

impl Loaded {
    fn new(topic: Topic, record: LogRecord) -> Result<Self, ContentError> {
        let payload = record.payload.ok_or(ContentError::Gone)?;
        let head = match topic {
            Topic::Deliveries => inline_head(&record.head)?,
            _ => record.head,
        };
        let message = Message::decode(&head).map_err(ContentError::Malformed)?;
        let traceparent = message.traceparent.and_then(|text| HeaderValue::try_from(text).ok());
        let expires_at = message.payload_expires_at;
        Ok(Self { payload, traceparent, expires_at, room: Mutex::default() })
    }

    fn size_bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    /// Takes this room, unless somebody else was faster.
    fn settle_in(&self, permit: OwnedSemaphorePermit) -> Room {
        let mut known = self.room.lock();
        known.upgrade().unwrap_or_else(|| {
            let room = Arc::new(permit);
            *known = Arc::downgrade(&room);
            room
        })
    }

    fn size_kib(&self) -> u32 {
        u32::try_from(self.size_bytes().div_ceil(KIB)).expect("a payload is far below 4 TiB")
    }

    fn content(&self, room: Room) -> Content {
        Content {
            payload: self.payload.clone(),
            traceparent: self.traceparent.clone(),
            expires_at: self.expires_at,
            _room: room,
        }
    }
}

/// The head of the message that a delivery record has inline.
fn inline_head(record: &Bytes) -> Result<Bytes, ContentError> {
    match Delivery::decode(record).map_err(ContentError::Malformed)? {
        Delivery::Routed { content: Where::Inline { head }, .. } => Ok(head),
        _ => Err(ContentError::Gone),
    }
}
