//! Message contents in memory: read once from the log, shared by all lanes that send them.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_core::{Message, Offset, Partition, codec::Malformed, limits};
use fanfare_log::{Log, LogRecord, ReadError, Topic};
use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A payload ready to be sent.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) payload: Bytes,
    pub(crate) traceparent: Option<HeaderValue>,
    /// Its share of [`limits::IN_FLIGHT_BYTES`]; given back when the last lane is done with it.
    _room: OwnedSemaphorePermit,
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
    cache: moka::future::Cache<(Partition, Offset), Arc<Content>>,
    /// In KiB, so that the count fits.
    room: Arc<Semaphore>,
    /// Reads at once: what they hold is not yet counted in `room`.
    reads: Semaphore,
}

const KIB: usize = 1_024;
const READS_AT_ONCE: usize = 4;

impl Contents {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        let cache = moka::future::Cache::builder()
            .max_capacity(limits::PAYLOAD_CACHE_BYTES)
            .weigher(|_, content: &Arc<Content>| {
                u32::try_from(content.payload.len()).unwrap_or(u32::MAX) + 128
            })
            .build();
        Self {
            log,
            cache,
            room: Arc::new(Semaphore::new(limits::IN_FLIGHT_BYTES / KIB)),
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
    ) -> Result<Arc<Content>, ContentError> {
        if !shared {
            return self.load(partition, offset).await;
        }
        let key = (partition, offset);
        if let Some(content) = self.cache.get(&key).await {
            return Ok(content);
        }
        let content = self.cache.try_get_with(key, self.load(partition, offset)).await;
        content.map_err(|error| (*error).clone())
    }

    async fn load(&self, partition: Partition, offset: Offset) -> Result<Arc<Content>, ContentError> {
        let _read = self.reads.acquire().await.expect("the semaphore is never closed");
        let batch =
            self.log.fetch(Topic::Messages, partition, offset, 1).await.map_err(|error| match error {
                ReadError::Truncated { .. } => ContentError::Gone,
                other => ContentError::Read(other),
            })?;
        let record =
            batch.records.into_iter().find(|record| record.offset == offset).ok_or(ContentError::Gone)?;
        self.prepare(record).await
    }

    async fn prepare(&self, record: LogRecord) -> Result<Arc<Content>, ContentError> {
        let payload = record.payload.ok_or(ContentError::Gone)?;
        let message = Message::decode(&record.head).map_err(ContentError::Malformed)?;
        let kib = u32::try_from(payload.len() / KIB + 1).expect("a payload is far below 4 TiB");
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        Ok(Arc::new(Content {
            payload,
            traceparent: message.traceparent.and_then(|text| HeaderValue::try_from(text).ok()),
            _room: room.expect("the semaphore is never closed"),
        }))
    }
}
