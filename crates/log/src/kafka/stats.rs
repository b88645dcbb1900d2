//! What a log has done so far, cheap to read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Figures since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub appended_records: u64,
    /// Keys, heads and payloads, before compression.
    pub appended_bytes: u64,
    /// Records that were not acknowledged, or are not known to be.
    pub failed_records: u64,
    /// Times that a producer had to begin anew.
    pub sessions_broken: u64,
    /// Appended, not yet acknowledged.
    pub undurable_bytes: u64,
    /// Reads answered from what is at the tail and in memory.
    pub tail_reads: u64,
    /// Reads for which the brokers were asked.
    pub broker_reads: u64,
    /// Of these, the ones that went on where one before had stopped.
    pub sequential_reads: u64,
    /// Questions for the ends of partitions, after those that came together were put into one.
    pub bounds_asked: u64,
    /// Newest records held in memory, and of how many partitions.
    pub tail_bytes: u64,
    pub tails_followed: u64,
    /// Not so while no broker answers.
    pub is_reachable: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    appended_records: AtomicU64,
    appended_bytes: AtomicU64,
    failed_records: AtomicU64,
    sessions_broken: AtomicU64,
    tail_reads: AtomicU64,
    broker_reads: AtomicU64,
    sequential_reads: AtomicU64,
    bounds_asked: AtomicU64,
}

impl Counters {
    pub(super) fn appended(&self, records: usize, size_bytes: usize) {
        self.appended_records.fetch_add(records as u64, Relaxed);
        self.appended_bytes.fetch_add(size_bytes as u64, Relaxed);
    }

    pub(super) fn append_failed(&self) {
        self.failed_records.fetch_add(1, Relaxed);
    }

    pub(super) fn session_broke(&self) {
        self.sessions_broken.fetch_add(1, Relaxed);
    }

    pub(super) fn read_at_tail(&self) {
        self.tail_reads.fetch_add(1, Relaxed);
    }

    pub(super) fn asked_broker(&self, is_sequential: bool) {
        self.broker_reads.fetch_add(1, Relaxed);
        self.sequential_reads.fetch_add(u64::from(is_sequential), Relaxed);
    }

    pub(super) fn asked_bounds(&self) {
        self.bounds_asked.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            appended_records: self.appended_records.load(Relaxed),
            appended_bytes: self.appended_bytes.load(Relaxed),
            failed_records: self.failed_records.load(Relaxed),
            sessions_broken: self.sessions_broken.load(Relaxed),
            tail_reads: self.tail_reads.load(Relaxed),
            broker_reads: self.broker_reads.load(Relaxed),
            sequential_reads: self.sequential_reads.load(Relaxed),
            bounds_asked: self.bounds_asked.load(Relaxed),
            ..Stats::default()
        }
    }
}
