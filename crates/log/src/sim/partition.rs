//! One simulated partition.

use std::collections::VecDeque;

use fanfare_core::Offset;
use tokio::time::Instant;

use crate::contract::{Batch, Bounds, LogRecord, NewRecord, ReadError};

#[derive(Debug, Default)]
pub(super) struct SimPartition {
    entries: VecDeque<Entry>,
    start: Offset,
    next: Offset,
    /// When the latest entry becomes durable: none behind it is sooner.
    latest: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    /// Before that nobody but its process has it.
    handed_at: Instant,
    pub(super) durable_at: Instant,
    pub(super) process: u64,
    /// `None`: an offset that is used and holds no record, as a transaction's marker.
    pub(super) record: Option<NewRecord>,
}

impl SimPartition {
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    pub(super) fn skip(&mut self, count: u64) {
        self.next.0 += count;
    }

    /// Appends at the next offset; gives it.
    pub(super) fn push(
        &mut self,
        process: u64,
        record: Option<NewRecord>,
        handed_at: Instant,
        durable_at: Instant,
    ) -> Offset {
        let offset = self.next;
        self.next = offset.next();
        let durable_at = self.latest.map_or(durable_at, |latest| latest.max(durable_at));
        self.latest = Some(durable_at);
        self.entries.push_back(Entry { offset, handed_at, durable_at, process, record });
        offset
    }

    /// The moment before which nothing more can become durable.
    pub(super) fn latest(&self) -> Option<Instant> {
        self.latest
    }

    fn visible(&self, now: Instant) -> usize {
        self.entries.partition_point(|entry| entry.durable_at <= now)
    }

    pub(super) fn bounds(&self, now: Instant) -> Bounds {
        let visible = self.visible(now);
        let last = visible.checked_sub(1).map(|index| self.entries[index].offset.next());
        let end = last.unwrap_or(self.start).max(self.start);
        Bounds { start: self.start, high_watermark: end, end }
    }

    pub(super) fn is_readable(&self, from: Offset, now: Instant) -> bool {
        self.bounds(now).end > from
    }

    pub(super) fn next_durable(&self, now: Instant) -> Option<Instant> {
        self.entries.get(self.visible(now)).map(|entry| entry.durable_at)
    }

    pub(super) fn fetch(&self, from: Offset, max_bytes: usize, now: Instant) -> Result<Batch, ReadError> {
        if from < self.start {
            return Err(ReadError::Truncated { from, start: self.start });
        }
        let mut batch = Batch { records: Vec::new(), next: from, durable: self.bounds(now).high_watermark };
        let mut size_bytes = 0;
        let begin = self.entries.partition_point(|entry| entry.offset < from);
        let end = self.visible(now).max(begin);
        for entry in self.entries.range(begin..end) {
            if let Some(record) = &entry.record {
                size_bytes += record.size_bytes();
                if !batch.records.is_empty() && size_bytes > max_bytes {
                    break;
                }
                let (head, payload) = (record.head.clone(), Some(record.payload.clone()));
                batch.records.push(LogRecord { offset: entry.offset, head, payload });
            }
            batch.next = entry.offset.next();
        }
        Ok(batch)
    }

    pub(super) fn truncate(&mut self, start: Offset) {
        self.start = self.start.max(start);
        while self.entries.front().is_some_and(|entry| entry.offset < self.start) {
            self.entries.pop_front();
        }
    }

    /// How many entries of a process are not durable.
    pub(super) fn undurable(&self, process: u64, now: Instant) -> usize {
        let begin = self.visible(now);
        self.entries.range(begin..).filter(|entry| entry.process == process).count()
    }

    /// Loses a process's entries that are not durable, but for the first `kept`.
    pub(super) fn lose(&mut self, process: u64, kept: usize, now: Instant) {
        let mut left = kept;
        self.entries.retain(|entry| {
            if entry.process != process || entry.durable_at <= now {
                return true;
            }
            let keep = left > 0 && entry.handed_at <= now;
            left = left.saturating_sub(1);
            keep
        });
    }
}
