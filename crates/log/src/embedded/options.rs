//! What an embedded log is opened with, and why it may not open.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fanfare_core::{Clock, SystemClock, limits};

use crate::disk::{Disk, RealDisk};

/// Who does the writing and syncing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Threads of the log's own: they block on the disk and nobody else does.
    Thread,
    /// Tasks on the caller's runtime, and no thread: for simulation on a paused current-thread runtime.
    Task,
}

#[derive(Clone)]
pub struct Options {
    pub data_dir: PathBuf,
    /// Partitions of `messages` and `dedup`.
    pub message_partitions: u32,
    /// Partitions of `deliveries`, `attempts`, `lanes` and `load`.
    pub delivery_partitions: u32,
    /// How long `messages` and `deliveries` are kept at least; `attempts` and `dedup` are kept for
    /// [`Options::retention_extra`] longer.
    pub retention: Duration,
    pub retention_extra: Duration,
    /// The clock has to run evenly for so long before it is believed that something is old.
    pub retention_settle: Duration,
    pub segment_bytes: u64,
    /// Newest records kept in memory for live readers.
    pub tail_bytes: usize,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub driver: Driver,
    /// Looks at what is there without lock and without writing; sees nothing that comes later.
    pub read_only: bool,
}

impl Options {
    /// The defaults of production.
    pub fn new(data_dir: impl Into<PathBuf>, message_partitions: u32, delivery_partitions: u32) -> Self {
        Self {
            data_dir: data_dir.into(),
            message_partitions,
            delivery_partitions,
            retention: limits::RETENTION,
            retention_extra: Duration::from_hours(24),
            retention_settle: Duration::from_mins(10),
            segment_bytes: limits::SEGMENT_BYTES,
            tail_bytes: 12 << 20,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            driver: Driver::Thread,
            read_only: false,
        }
    }
}

/// Why a log did not open. Each prints as one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("data directory {} has format {found}; this program reads format {expected}", .directory.display())]
    Version { directory: PathBuf, found: String, expected: u32 },
    #[error(
        "data directory {} was made with {found} partitions, not with {wanted}; the numbers are fixed at the \
         first start", .directory.display()
    )]
    Partitions { directory: PathBuf, found: String, wanted: String },
    #[error("data directory {} holds no log", .0.display())]
    Missing(PathBuf),
    #[error("no room left on the device for {}", .0.display())]
    Full(PathBuf),
    /// Bytes that were durable are not what was written.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    #[error(
        "tables.redb covers the journal up to {covered}, but the journal ends at {end}: the directory is not of \
         one piece"
    )]
    TablesAhead { covered: u64, end: u64 },
    #[error("cannot open {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot open the tables: {0}")]
    Tables(String),
}

impl OpenError {
    pub(super) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        if crate::disk::is_full(&source) { Self::Full(path) } else { Self::Io { path, source } }
    }
}
