//! The contract between Fanfare and whatever keeps its records.

use std::{collections::BTreeMap, future::Future, ops::Range, pin::Pin, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The append-only topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Accepted messages with their payloads; partitioned by application.
    Messages,
    /// One record per message and delivery partition; partitioned by endpoint.
    Deliveries,
    /// What happened to deliveries; partitioned as `Deliveries`.
    Attempts,
    /// Control-plane commands; one partition, kept for ever.
    Control,
    /// Router checkpoints; partitioned as `Messages`, kept for the dedup window.
    Dedup,
}

impl Topic {
    pub const ALL: [Self; 5] = [Self::Messages, Self::Deliveries, Self::Attempts, Self::Control, Self::Dedup];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Deliveries => "deliveries",
            Self::Attempts => "attempts",
            Self::Control => "control",
            Self::Dedup => "dedup",
        }
    }

    /// Whether readers see only what is durable. The others may be read as soon as they are appended: after a
    /// power cut they are derived again from what survived.
    pub const fn shows_only_synced(self) -> bool {
        match self {
            Self::Messages | Self::Control | Self::Dedup => true,
            Self::Deliveries | Self::Attempts => false,
        }
    }
}

/// The compacted topics: the newest value per key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Snapshots of lanes and checkpoints of workers; partitioned as `deliveries`.
    Lanes,
    /// Newest load figures; partitioned as `deliveries`.
    Load,
}

impl Table {
    pub const ALL: [Self; 2] = [Self::Lanes, Self::Load];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Load => "load",
        }
    }
}

/// Which partitions a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Routers share the partitions of `messages`.
    Router,
    /// Delivery workers share the partitions of `deliveries`.
    Delivery,
}

/// A record to be appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    pub head: Bytes,
    /// Stored beside the head, with a checksum of its own, so that it can be wiped in place later. Empty for
    /// most records.
    pub payload: Bytes,
}

impl NewRecord {
    pub fn head(head: Bytes) -> Self {
        Self { head, payload: Bytes::new() }
    }

    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub offset: Offset,
    pub head: Bytes,
    /// `None`: the payload was wiped.
    pub payload: Option<Bytes>,
}

/// What one read gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In rising order of offsets; perhaps none where offsets have gaps.
    pub records: Vec<LogRecord>,
    /// Where the next read goes on: above the last record, and above a gap that was passed.
    pub next: Offset,
    /// Records below it are durable. Not below `next` where [`Topic::shows_only_synced`].
    pub durable: Offset,
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Log start offset: below it nothing is kept.
    pub start: Offset,
    /// Below it all is durable.
    pub high_watermark: Offset,
    /// Below it all is readable; equals `high_watermark` where [`Topic::shows_only_synced`].
    pub end: Offset,
}

/// How soon an append has to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Somebody waits for it.
    Now,
    /// With the next sync, after [`Log::lazy_delay`] where nothing is in the way.
    Lazy,
}

/// Resolves to the offsets of the appended records once they are durable. Dropping it does not undo the append, but
/// then nobody is told if it fails.
pub type Pending = BoxFuture<'static, Result<Range<Offset>, AppendError>>;

/// Why records were not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk has no room for this topic. Nothing was written; there will be room again when retention or an
    /// operator makes some.
    #[error("no room left on the device for `{topic}`")]
    Full { topic: &'static str },
    /// The record is larger than the engine can store.
    #[error("record of {size_bytes} bytes exceeds the log's limit of {limit_bytes}")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
    /// The log cannot be reached now; whether the records were written is unknown.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// The log is shut down or broken beyond repair; the process has to restart.
    #[error("log closed: {0}")]
    Closed(String),
}

impl AppendError {
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Unavailable(_) => true,
            Self::TooLarge { .. } | Self::Closed(_) => false,
        }
    }
}

/// Why records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start offset: what stood there is gone.
    #[error("offset {from} is below the log start offset {start}")]
    Truncated { from: Offset, start: Offset },
    #[error("{0}")]
    Corrupt(String),
    #[error("log unavailable: {0}")]
    Unavailable(String),
    #[error("log closed: {0}")]
    Closed(String),
}

impl ReadError {
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Truncated { .. } | Self::Corrupt(_) | Self::Closed(_) => false,
        }
    }
}

/// What happens to a member of a [`Group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimEvent {
    /// The partition is this member's until a later event takes it away.
    Gained(Partition),
    /// Finish what is in flight, then call [`Claims::released`]; after `within` it is taken away regardless.
    Release { partition: Partition, within: Duration },
    /// It is somebody else's already: stop at once, write nothing more.
    Lost(Partition),
}

/// A membership in a [`Group`]. Dropping it gives up what it still holds.
pub trait Claims: Send {
    /// The next event. Cancel-safe. Pends for ever when nothing will change.
    fn next(&mut self) -> BoxFuture<'_, ClaimEvent>;
    /// The partition named by [`ClaimEvent::Release`] is drained; another member may gain it only now.
    fn released(&mut self, partition: Partition);
}

/// A partitioned log with compacted tables beside it.
///
/// # Contract
///
/// Appends
/// - The records of one `append` stand in the order given, and no other append **of this process** stands between
///   them; those of a later call to the same partition stand behind them. Calls are ordered by the moment their outer
///   future resolves with the [`Pending`]: one that is awaited before the next is made comes first.
/// - Offsets rise. They may have gaps. None is handed out twice, not even to a record that was lost.
/// - `Pending` resolves when the records and everything appended before them by this process **to the same
///   partition** are durable or have failed, or with an error after which the records may or may not be in the log.
///   (The embedded engine promises more: to any topic.)
/// - An append to `dedup` is never durable before everything appended before it by this process to `deliveries` and
///   `attempts`. If some of that failed and its owner was not told yet, it fails too: it speaks of what may not be
///   there.
/// - The outer future waits while too much is un-synced: memory is bounded by that, not by the callers.
/// - After a crash what survives of one process's appends is a beginning of each partition's, apart from those that
///   had failed. (Embedded: a beginning of all of them, in one order.)
///
/// Reads
/// - `fetch` gives records at and above `from` in order, at least one if one is readable, and stops at
///   `max_bytes` of heads and payloads; it never waits for records to come. Below the start it says `Truncated`.
/// - `wait` resolves when something at or above `from` is readable, or at once if that is so or a `fetch` would tell
///   why not. Cancel-safe.
/// - Readers of `messages`, `control` and `dedup` see only durable records.
/// - `bounds` tells what is so after the call was made: whatever was durable before it, in any process, stands below
///   the end.
/// - "At the end" is a position: a reader is at the end when its position is `bounds().end`, even if the last
///   offsets were never used.
///
/// Tables
/// - The entries of a `put` become visible to `scan` and durable in the order given: a crash leaves a beginning of
///   them, so an entry that speaks of others comes after them. (Embedded: all or none.) None is there before
///   everything that this process appended before the call to `deliveries`, `attempts` and `dedup`; if some of that
///   failed and its owner was not told yet, the put fails. It resolves once all are durable.
///
/// Wiping
/// - Once `wipe` resolved with `true`, nobody is given those payloads, and their bytes are overwritten, also after a
///   crash; the records stay, and so does everything else. Offsets at which nothing stands are passed over.
/// - `false`: this engine cannot change what it stores. Nothing was changed; the bytes leave with retention.
/// - An error says nothing: what was asked for may be done later, even after a crash. Asking again is harmless.
///
/// Claims
/// - A partition is held by one member at a time, as far as its members can be reached; a member that was cut off
///   learns by [`ClaimEvent::Lost`] or by a newer claim in `attempts`.
pub trait Log: Send + std::marker::Sync + 'static {
    fn partitions(&self, topic: Topic) -> u32;

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>>;

    /// How long a lazy append waits for others before it is on its way to being durable, and how long that takes where
    /// nothing is in the way. Who gathers before he appends reckons with it.
    fn lazy_delay(&self) -> Duration {
        fanfare_core::limits::LAZY_SYNC
    }

    /// Whether an append to `topic` would find room now.
    fn has_room(&self, topic: Topic) -> bool;

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>>;

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>>;

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Writes entries of one partition of a table; `None` removes the key.
    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>>;

    /// All entries of one partition of a table, by rising key.
    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>>;

    /// Overwrites payloads where they stand, if the engine can.
    fn wipe(
        &self,
        _topic: Topic,
        _partition: Partition,
        _offsets: Vec<Offset>,
    ) -> BoxFuture<'_, Result<bool, AppendError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn claim(&self, group: Group) -> Box<dyn Claims>;

    /// By topic what tells it from a later one of the same name, for the first record of `control` to keep. Empty
    /// where topics cannot be removed one by one.
    fn incarnations(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
