//! Makes batches of what is to be committed.

use std::io::IoSlice;

use bytes::Bytes;
use fanfare_core::Offset;

use super::{
    format::{BATCH_FIXED_BYTES, BatchHeader, Place, RecordHeader},
    layout::{Layout, Slot},
};
use crate::contract::NewRecord;

/// A batch is closed when it holds so much: a reader of one record checks no longer header section.
const BATCH_BYTES: usize = 64 << 10;
/// Payloads up to this size are copied next to their headers; larger ones are handed to the kernel as they are.
const COPIED_BYTES: usize = 16 << 10;
/// Buffers that grew beyond this are given back.
const KEPT_BYTES: usize = 8 << 20;

/// What every batch of a commit group says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) synced: u64,
    pub(super) time_ms: i64,
    pub(super) start: u32,
}

/// A commit group as bytes. Kept until it is synced, so that it can be written again.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    buffer: Vec<u8>,
    chunks: Vec<Chunk>,
    pub(super) size_bytes: u64,
    pub(super) last_crc: u32,
    /// Places count from the beginning of the group.
    pub(super) runs: Vec<GroupRun>,
}

#[derive(Debug)]
enum Chunk {
    /// The buffer up to here.
    Copied(usize),
    Shared(Bytes),
}

/// Records of one slot in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupRun {
    pub(super) slot: Slot,
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) at: u64,
}

impl Encoded {
    fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.chunks.clear();
        self.size_bytes = 0;
        self.runs.clear();
    }

    /// The bytes in order, to be written at once.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut from = 0;
        let mut slices = Vec::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            match chunk {
                Chunk::Copied(to) => {
                    slices.push(IoSlice::new(&self.buffer[from..*to]));
                    from = *to;
                }
                Chunk::Shared(bytes) => slices.push(IoSlice::new(bytes)),
            }
        }
        slices
    }
}

/// Puts records into batches. Reused from group to group.
#[derive(Debug)]
pub(super) struct Encoder {
    encoded: Encoded,
    stamp: Stamp,
    /// Position of the group's first batch.
    base: u64,
    previous_crc: u32,
    batch: OpenBatch,
    /// Per slot, its latest run.
    latest_run: Vec<usize>,
}

#[derive(Debug, Default)]
struct OpenBatch {
    /// Where its header section begins in the buffer.
    begin: usize,
    count: u32,
    payloads: Vec<Bytes>,
    payload_bytes: usize,
    first_run: usize,
}

impl Encoder {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            encoded: Encoded::default(),
            stamp: Stamp { synced: 0, time_ms: 0, start: 0 },
            base: 0,
            previous_crc: 0,
            batch: OpenBatch::default(),
            latest_run: vec![usize::MAX; layout.slots()],
        }
    }

    pub(super) fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// Begins a group at a position, behind the batch with `previous_crc`.
    pub(super) fn begin(&mut self, base: u64, previous_crc: u32, stamp: Stamp) {
        self.encoded.clear();
        self.latest_run.fill(usize::MAX);
        self.batch = OpenBatch { payloads: std::mem::take(&mut self.batch.payloads), ..OpenBatch::default() };
        (self.base, self.previous_crc, self.stamp) = (base, previous_crc, stamp);
    }

    /// Adds records with rising offsets from `first` on.
    pub(super) fn push(&mut self, layout: &Layout, slot: Slot, first: Offset, records: &[NewRecord]) {
        for (record, offset) in records.iter().zip(first.0..) {
            self.open_batch();
            let header = RecordHeader {
                place: Place::Slot(slot),
                offset: Offset(offset),
                payload_length: u32::try_from(record.payload.len()).expect("records are smaller than 4 GiB"),
                payload_crc: crc32fast::hash(&record.payload),
                head: &record.head,
            };
            header.encode(layout, &mut self.encoded.buffer);
            self.batch.count += 1;
            self.note_run(slot, Offset(offset));
            if !record.payload.is_empty() {
                self.batch.payload_bytes += record.payload.len();
                self.batch.payloads.push(record.payload.clone());
            }
            if self.encoded.buffer.len() - self.batch.begin + self.batch.payload_bytes >= BATCH_BYTES {
                self.close_batch();
            }
        }
    }

    /// Adds a record of the engine's own, in a batch of its own.
    pub(super) fn push_own(&mut self, layout: &Layout, place: Place, head: &[u8]) {
        self.close_batch();
        self.open_batch();
        let header = RecordHeader { place, offset: Offset::ZERO, payload_length: 0, payload_crc: 0, head };
        header.encode(layout, &mut self.encoded.buffer);
        self.batch.count += 1;
        self.close_batch();
    }

    pub(super) fn finish(&mut self) {
        self.close_batch();
        self.encoded.chunks.push(Chunk::Copied(self.encoded.buffer.len()));
        self.encoded.last_crc = self.previous_crc;
    }

    fn open_batch(&mut self) {
        if self.batch.count == 0 {
            self.batch.begin = self.encoded.buffer.len();
            self.batch.first_run = self.encoded.runs.len();
            self.encoded.buffer.extend_from_slice(&[0; BATCH_FIXED_BYTES]);
        }
    }

    fn note_run(&mut self, slot: Slot, offset: Offset) {
        let latest = self.latest_run[slot.index()];
        if latest >= self.batch.first_run && latest < self.encoded.runs.len() {
            self.encoded.runs[latest].last = offset;
        } else {
            self.latest_run[slot.index()] = self.encoded.runs.len();
            self.encoded.runs.push(GroupRun {
                slot,
                first: offset,
                last: offset,
                at: self.encoded.size_bytes,
            });
        }
    }

    fn close_batch(&mut self) {
        if self.batch.count == 0 {
            return;
        }
        let encoded = &mut self.encoded;
        let section = &mut encoded.buffer[self.batch.begin..];
        let header = BatchHeader {
            crc: 0,
            headers_length: u32::try_from(section.len()).expect("records are smaller than 4 GiB"),
            payloads_length: u32::try_from(self.batch.payload_bytes).expect("records are smaller than 4 GiB"),
            position: self.base + encoded.size_bytes,
            synced: self.stamp.synced,
            time_ms: self.stamp.time_ms,
            start: self.stamp.start,
            previous_crc: self.previous_crc,
            count: self.batch.count,
        };
        self.previous_crc = header.seal(section);
        encoded.size_bytes += header.size_bytes();
        for payload in self.batch.payloads.drain(..) {
            if payload.len() <= COPIED_BYTES {
                encoded.buffer.extend_from_slice(&payload);
            } else {
                encoded.chunks.push(Chunk::Copied(encoded.buffer.len()));
                encoded.chunks.push(Chunk::Shared(payload));
            }
        }
        self.batch.count = 0;
        self.batch.payload_bytes = 0;
    }
}
