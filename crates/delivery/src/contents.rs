//! Message contents in memory: read once from the log, shared by all lanes that send them.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use bytes::Bytes;
use fanfare_core::{Message, Offset, Partition, codec::Malformed, limits};
use fanfare_log::{Log, LogRecord, ReadError, Topic};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A payload to be sent, with the room it takes while it is.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) payload: Bytes,
    pub(crate) traceparent: Option<HeaderValue>,
    _room: Room,
}

/// A payload's share of [`limits::IN_FLIGHT_BYTES`]; given back when the last of those that send it is done.
type Room = Arc<OwnedSemaphorePermit>;

/// A payload as it was read.
#[derive(Debug)]
struct Loaded {
    payload: Bytes,
    traceparent: Option<HeaderValue>,
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
    cache: moka::future::Cache<(Partition, Offset), Arc<Loaded>>,
    /// In KiB, so that the count fits.
    room: Arc<Semaphore>,
    /// Reads at once: what they hold is not yet counted in `room`.
    reads: Semaphore,
}

const KIB: usize = 1_024;
const READS_AT_ONCE: usize = 4;
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
            room: Arc::new(Semaphore::new(room_bytes / KIB)),
            reads: Semaphore::new(READS_AT_ONCE),
        }
    }

    /// The content of the message at this place of `messages`. Lanes that ask at the same time share one read; what
    /// only one lane wants is not kept.
    pub(crate) async fn get(
        &self,
        partition: Partition,
        offset: Offset,
        shared: bool,
    ) -> Result<Content, ContentError> {
        if !shared {
            let (loaded, room) = self.load(partition, offset).await?;
            return Ok(loaded.content(room));
        }
        let key = (partition, offset);
        if let Some(loaded) = self.cache.get(&key).await {
            return Ok(loaded.content(self.room_of(&loaded).await));
        }
        let mut own_room = None;
        let loading = async {
            let (loaded, room) = self.load(partition, offset).await?;
            own_room = Some(room);
            Ok(loaded)
        };
        let loaded = self.cache.try_get_with(key, loading).await;
        let loaded = loaded.map_err(|error: Arc<ContentError>| (*error).clone())?;
        let room = match own_room {
            Some(room) => room,
            None => self.room_of(&loaded).await,
        };
        Ok(loaded.content(room))
    }

    async fn load(&self, partition: Partition, offset: Offset) -> Result<(Arc<Loaded>, Room), ContentError> {
        let _read = self.reads.acquire().await.expect("the semaphore is never closed");
        let batch =
            self.log.fetch(Topic::Messages, partition, offset, 1).await.map_err(|error| match error {
                ReadError::Truncated { .. } => ContentError::Gone,
                other => ContentError::Read(other),
            })?;
        let record =
            batch.records.into_iter().find(|record| record.offset == offset).ok_or(ContentError::Gone)?;
        let loaded = Arc::new(Loaded::new(record)?);
        let room = self.room_of(&loaded).await;
        Ok((loaded, room))
    }

    /// The room that the content has, or new room for it.
    async fn room_of(&self, loaded: &Loaded) -> Room {
        if let Some(room) = loaded.room.lock().upgrade() {
            return room;
        }
        let kib = loaded.size_bytes().div_ceil(KIB);
        let kib = u32::try_from(kib).expect("a payload is far below 4 TiB");
        let permit = Arc::clone(&self.room).acquire_many_owned(kib).await;
        let room = Arc::new(permit.expect("the semaphore is never closed"));
        let mut known = loaded.room.lock();
        // Somebody else may have been faster.
        known.upgrade().unwrap_or_else(|| {
            *known = Arc::downgrade(&room);
            room
        })
    }
}

impl Loaded {
    fn new(record: LogRecord) -> Result<Self, ContentError> {
        let payload = record.payload.ok_or(ContentError::Gone)?;
        let message = Message::decode(&record.head).map_err(ContentError::Malformed)?;
        let traceparent = message.traceparent.and_then(|text| HeaderValue::try_from(text).ok());
        Ok(Self { payload, traceparent, room: Mutex::default() })
    }

    fn size_bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    fn content(&self, room: Room) -> Content {
        Content { payload: self.payload.clone(), traceparent: self.traceparent.clone(), _room: room }
    }
}
