//! What a log has done so far, cheap to read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Figures since the log was opened, of both journals together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub appended_records: u64,
    /// Heads and payloads.
    pub appended_bytes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    pub sync_micros_total: u64,
    pub sync_micros_last: u64,
    pub sync_failures: u64,
    pub unsynced_bytes: u64,
    /// Free on the device when it was last looked at.
    pub free_bytes: u64,
    pub segments: u64,
    pub table_commits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) appended_records: AtomicU64,
    pub(super) appended_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) sync_micros_total: AtomicU64,
    pub(super) sync_micros_last: AtomicU64,
    pub(super) sync_failures: AtomicU64,
    pub(super) free_bytes: AtomicU64,
    pub(super) table_commits: AtomicU64,
}

impl Counters {
    pub(super) fn appended(&self, records: usize, size_bytes: usize) {
        self.appended_records.fetch_add(records as u64, Relaxed);
        self.appended_bytes.fetch_add(size_bytes as u64, Relaxed);
    }

    pub(super) fn synced(&self, written_bytes: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.written_bytes.fetch_add(written_bytes as u64, Relaxed);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_micros_total.fetch_add(micros, Relaxed);
        self.sync_micros_last.store(micros, Relaxed);
    }

    pub(super) fn read(&self, unsynced_bytes: u64, segments: u64) -> Stats {
        Stats {
            appended_records: self.appended_records.load(Relaxed),
            appended_bytes: self.appended_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            sync_micros_total: self.sync_micros_total.load(Relaxed),
            sync_micros_last: self.sync_micros_last.load(Relaxed),
            sync_failures: self.sync_failures.load(Relaxed),
            free_bytes: self.free_bytes.load(Relaxed),
            table_commits: self.table_commits.load(Relaxed),
            unsynced_bytes,
            segments,
        }
    }
}
