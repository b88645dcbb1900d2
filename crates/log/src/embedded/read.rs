//! Reads records back from segments.

use std::{io, sync::Arc};

use bytes::Bytes;
use fanfare_core::Offset;

use super::{
    block::Block,
    format::{BATCH_FIXED_BYTES, BatchHeader, Place, RecordHeader, RecordHeaders, check_payload},
    index::{Entry, EntryCache, STEP_BYTES},
    layout::{Layout, Slot},
    segment::Segment,
    wiped::Wiped,
};
use crate::contract::{LogRecord, ReadError};

/// What a read is after.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) slot: Slot,
    pub(super) from: Offset,
    /// Only records below this one.
    pub(super) below: Offset,
    pub(super) max_bytes: usize,
    /// Fail with [`MUST_WAIT`] rather than wait for the disk.
    pub(super) at_once: bool,
}

/// Why a read that may not wait gave nothing.
pub(super) fn must_wait() -> ReadError {
    ReadError::Unavailable(MUST_WAIT.to_owned())
}

pub(super) const MUST_WAIT: &str = "what is wanted is not in memory";

/// Reads from the first segment that has something wanted on, until enough is read.
pub(super) fn read(
    layout: &Layout,
    segments: &[Arc<Segment>],
    (cache, wiped): (&EntryCache, &Wiped),
    wanted: Wanted,
) -> Result<Vec<LogRecord>, ReadError> {
    let mut records = Vec::new();
    let mut size_bytes = 0;
    let begin = segments.partition_point(|segment| segment.header.next[wanted.slot.index()] <= wanted.from);
    for segment in &segments[begin.saturating_sub(1)..] {
        if segment.header.next[wanted.slot.index()] >= wanted.below {
            break;
        }
        let mut block = Block::new(segment.file.clone());
        block.at_once = wanted.at_once;
        let reader = Reader { layout, cache, wiped, segment, wanted, block };
        let more = reader.read(&mut records, &mut size_bytes)?;
        // What one segment gave is enough; the caller comes again.
        if !more || !records.is_empty() {
            break;
        }
    }
    Ok(records)
}

/// Where a payload stands in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) length: usize,
}

/// The payload of one record; `None`: the segment does not have the record.
pub(super) fn find_payload(
    layout: &Layout,
    segment: &Segment,
    (cache, wiped): (&EntryCache, &Wiped),
    (slot, offset): (Slot, Offset),
) -> Result<Option<Span>, ReadError> {
    let wanted = Wanted { slot, from: offset, below: offset.next(), max_bytes: usize::MAX, at_once: false };
    let block = Block::steady(segment.file.clone());
    Reader { layout, cache, wiped, segment, wanted, block }.find()
}

struct Reader<'a> {
    layout: &'a Layout,
    cache: &'a EntryCache,
    wiped: &'a Wiped,
    segment: &'a Segment,
    wanted: Wanted,
    block: Block,
}

impl Reader<'_> {
    /// Gives whether the segment was read to its end without finding enough.
    fn read(mut self, records: &mut Vec<LogRecord>, size_bytes: &mut usize) -> Result<bool, ReadError> {
        let plan = self
            .segment
            .plan(self.cache, self.wanted.slot, self.wanted.from)
            .map_err(|error| self.failed(&error))?;
        let Some(plan) = plan else { return Ok(true) };
        for (number, entry) in plan.entries.iter().enumerate() {
            let next_entry_at = plan.entries.get(number + 1).map_or(plan.end_at, |next| u64::from(next.at));
            let begin = u64::from(entry.at);
            let mut at = begin;
            self.block.useful_to = useful_to(&plan.entries[number..], plan.end_at);
            while at < next_entry_at && at - begin < u64::from(STEP_BYTES) {
                let header = self.batch(at)?;
                if !self.take(at, &header, records, size_bytes)? {
                    return Ok(false);
                }
                if records.last().is_some_and(|record| record.offset >= plan.last) {
                    return Ok(false);
                }
                at += header.size_bytes();
            }
        }
        Ok(true)
    }

    /// Where the payload of the first record that is wanted stands.
    fn find(mut self) -> Result<Option<Span>, ReadError> {
        let Wanted { slot, from: offset, .. } = self.wanted;
        let plan = self.segment.plan(self.cache, slot, offset).map_err(|error| self.failed(&error))?;
        let Some(plan) = plan else { return Ok(None) };
        let begin = u64::from(plan.entries[0].at);
        let next_entry_at = plan.entries.get(1).map_or(plan.end_at, |next| u64::from(next.at));
        let mut at = begin;
        while at < next_entry_at && at - begin < u64::from(STEP_BYTES) {
            let header = self.batch(at)?;
            let headers_length = header.headers_length as usize;
            let section = self.block.get(at, headers_length).map_err(|error| failed(self.segment, &error))?;
            let mut payload_at = at + u64::from(header.headers_length);
            for record in RecordHeaders::of(self.layout, section) {
                if record.place == Place::Slot(slot) && record.offset == offset {
                    return Ok(Some(Span { at: payload_at, length: record.payload_length as usize }));
                }
                payload_at += u64::from(record.payload_length);
            }
            at += header.size_bytes();
        }
        Ok(None)
    }

    /// Checks the batch at a place in the file.
    fn batch(&mut self, at: u64) -> Result<BatchHeader, ReadError> {
        let fixed = self.block.get(at, BATCH_FIXED_BYTES).map_err(|error| failed(self.segment, &error))?;
        let Some(header) = BatchHeader::peek(fixed) else { return Err(self.corrupt(at)) };
        let section = self
            .block
            .get(at, header.headers_length as usize)
            .map_err(|error| failed(self.segment, &error))?;
        if !header.holds(section, self.segment.position_of(at)) {
            return Err(self.corrupt(at));
        }
        Ok(header)
    }

    /// Takes the wanted records of one batch; gives whether to go on.
    fn take(
        &mut self,
        at: u64,
        header: &BatchHeader,
        records: &mut Vec<LogRecord>,
        size_bytes: &mut usize,
    ) -> Result<bool, ReadError> {
        let headers_length = header.headers_length as usize;
        let section = self.block.get(at, headers_length).map_err(|error| failed(self.segment, &error))?;
        let mut payload_at = at + u64::from(header.headers_length);
        let mut found = Vec::new();
        let mut count = 0;
        let mut go_on = true;
        for record in RecordHeaders::of(self.layout, section) {
            count += 1;
            let here = payload_at;
            payload_at += u64::from(record.payload_length);
            if record.place != Place::Slot(self.wanted.slot) || record.offset < self.wanted.from {
                continue;
            }
            let record_bytes = record.head.len() + record.payload_length as usize;
            let first = records.is_empty() && found.is_empty();
            if record.offset >= self.wanted.below
                || !first && *size_bytes + record_bytes > self.wanted.max_bytes
            {
                go_on = false;
                break;
            }
            *size_bytes += record_bytes;
            found.push(Found::new(&record, here));
        }
        if go_on && count != header.count {
            return Err(self.corrupt(at));
        }
        for record in found {
            records.push(self.finish(record)?);
        }
        Ok(go_on)
    }

    fn finish(&mut self, found: Found) -> Result<LogRecord, ReadError> {
        let Found { offset, head, payload_at, payload_length, payload_crc } = found;
        let bytes =
            self.block.get(payload_at, payload_length).map_err(|error| failed(self.segment, &error))?;
        let checked = check_payload(bytes, payload_crc);
        // After the reading: while it is being overwritten its bytes are nothing.
        if self.wiped.contains(self.wanted.slot, offset) {
            return Ok(LogRecord { offset, head, payload: None });
        }
        let payload = checked.map_err(|()| {
            let (topic, partition) = self.layout.name(self.wanted.slot);
            let path = self.segment.path.display();
            let topic = topic.as_str();
            ReadError::Corrupt(format!("{path}: payload of {topic}/{partition} offset {offset} is damaged"))
        })?;
        Ok(LogRecord { offset, head, payload })
    }

    fn corrupt(&self, at: u64) -> ReadError {
        ReadError::Corrupt(format!("{} is damaged at byte {at}", self.segment.path.display()))
    }

    fn failed(&self, error: &io::Error) -> ReadError {
        failed(self.segment, error)
    }
}

/// How far the file holds something wanted without a long way between: reading on from there is in vain.
fn useful_to(entries: &[Entry], end_at: u64) -> u64 {
    let step = u64::from(STEP_BYTES);
    let mut to = 0;
    for entry in entries {
        let at = u64::from(entry.at);
        if to > 0 && at > to + step {
            break;
        }
        to = at + step;
    }
    to.min(end_at)
}

fn failed(segment: &Segment, error: &io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::WouldBlock => must_wait(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ReadError::Corrupt(format!("{}: {error}", segment.path.display()))
        }
        _ => ReadError::Unavailable(format!("{}: {error}", segment.path.display())),
    }
}

struct Found {
    offset: Offset,
    head: Bytes,
    payload_at: u64,
    payload_length: usize,
    payload_crc: u32,
}

impl Found {
    fn new(record: &RecordHeader<'_>, payload_at: u64) -> Self {
        Self {
            offset: record.offset,
            head: Bytes::copy_from_slice(record.head),
            payload_at,
            payload_length: record.payload_length as usize,
            payload_crc: record.payload_crc,
        }
    }
}
