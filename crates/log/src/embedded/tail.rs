//! The newest records of each partition, in memory: live readers do not touch the disk, and what is not synced
//! can be written again.

use std::collections::VecDeque;

use bytes::Bytes;
use fanfare_core::Offset;

use super::layout::Slot;
use crate::contract::{LogRecord, NewRecord};

/// Records given by one read: the lock is held no longer than that takes.
const RECORDS_PER_READ: usize = 1_024;

#[derive(Debug)]
pub(super) struct Tails {
    slots: Vec<Tail>,
    /// Appends in the order of the journal, the order in which they are dropped.
    appends: VecDeque<Appended>,
    size_bytes: usize,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Tail {
    /// All records of the partition at or above this offset are here.
    floor: Offset,
    records: VecDeque<Record>,
}

#[derive(Debug)]
struct Record {
    offset: Offset,
    head: Bytes,
    /// `None`: it was wiped.
    payload: Option<Bytes>,
}

#[derive(Debug)]
struct Appended {
    slot: Slot,
    records: usize,
    size_bytes: usize,
    sequence: u64,
}

impl Tails {
    /// `floors`: where each partition goes on.
    pub(super) fn new(floors: &[Offset], limit_bytes: usize) -> Self {
        let slots = floors.iter().map(|floor| Tail { floor: *floor, records: VecDeque::new() }).collect();
        Self { slots, appends: VecDeque::new(), size_bytes: 0, limit_bytes }
    }

    /// `sequence` numbers the append in the journal's order.
    pub(super) fn push(&mut self, slot: Slot, first: Offset, records: &[NewRecord], sequence: u64) {
        let tail = &mut self.slots[slot.index()];
        let mut size_bytes = 0;
        for (record, offset) in records.iter().zip(first.0..) {
            size_bytes += record.size_bytes() + size_of::<Record>();
            let (head, payload) = (record.head.clone(), Some(record.payload.clone()));
            tail.records.push_back(Record { offset: Offset(offset), head, payload });
        }
        self.size_bytes += size_bytes;
        self.appends.push_back(Appended { slot, records: records.len(), size_bytes, sequence });
    }

    pub(super) fn floor(&self, slot: Slot) -> Offset {
        self.slots[slot.index()].floor
    }

    /// Records from `from` (at or above the floor) to below `below`: at least one, if there is one.
    pub(super) fn read(&self, slot: Slot, from: Offset, below: Offset, max_bytes: usize) -> Vec<LogRecord> {
        let records = &self.slots[slot.index()].records;
        let begin = records.partition_point(|record| record.offset < from);
        let mut found = Vec::new();
        let mut size_bytes = 0;
        for record in records.range(begin..).take(RECORDS_PER_READ) {
            size_bytes += record.head.len() + record.payload.as_ref().map_or(0, Bytes::len);
            if record.offset >= below || !found.is_empty() && size_bytes > max_bytes {
                break;
            }
            let (head, payload) = (record.head.clone(), record.payload.clone());
            found.push(LogRecord { offset: record.offset, head, payload });
        }
        found
    }

    /// Lets go of a payload; the record stays.
    pub(super) fn wipe(&mut self, slot: Slot, offset: Offset) {
        let records = &mut self.slots[slot.index()].records;
        if let Ok(index) = records.binary_search_by_key(&offset, |record| record.offset) {
            records[index].payload = None;
        }
    }

    /// Drops the oldest until the rest fits, but nothing at or above `synced` in the journal's order.
    pub(super) fn shrink(&mut self, synced: u64) {
        while self.size_bytes > self.limit_bytes {
            let Some(oldest) = self.appends.pop_front_if(|append| append.sequence < synced) else { break };
            self.size_bytes -= oldest.size_bytes;
            let tail = &mut self.slots[oldest.slot.index()];
            if let Some(last) = tail.records.drain(..oldest.records).next_back() {
                tail.floor = last.offset.next();
            }
        }
    }
}
