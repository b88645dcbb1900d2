//! The bytes of the journal. All numbers are little-endian.
//!
//! A *position* counts the bytes of batches since the journal began, over all segments: segment headers and
//! footers do not count. A segment holds the positions from its base to the base of the next one.
//!
//! ```text
//! segment   ┌ header ┬ batch ┬ batch ┬ … ┬ footer (when sealed) ┐
//! header    │ magic 8 │ crc 4 │ length 4 │ number 8 │ base 8 │ start 4 │ previous crc 4 │ time 8 │ count 4 │
//!           │ count × (topic 1, partition 4, next offset 8) │ zeros up to a multiple of 4 KiB │
//! batch     │ magic 4 │ crc 4 │ headers length 4 │ payloads length 4 │ position 8 │ synced 8 │ time 8 │
//!           │ start 4 │ previous crc 4 │ count 4 │ count × record header │ payloads │
//! record    │ topic 1 │ flags 1 │ partition 4 │ offset 8 │ head length 4 │ payload length 4 │ payload crc 4 │ head │
//! ```
//!
//! A batch's CRC covers everything from its headers length to its last head. It does not cover payloads: each
//! has a CRC of its own, so that it can be overwritten with zeros later and the batch still holds.

use bytes::{Buf, BufMut, Bytes};
use fanfare_core::{Offset, Partition};

use super::layout::{Layout, Slot};
use crate::contract::Topic;

pub(super) const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"FANSEG01");
pub(super) const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"FBAT");
pub(super) const BATCH_FIXED_BYTES: usize = 52;
pub(super) const RECORD_FIXED_BYTES: usize = 26;
const SEGMENT_FIXED_BYTES: usize = 52;
const SEGMENT_HEADER_UNIT: usize = 4_096;
/// No header section is longer: one record of the largest size with its batch.
pub(super) const HEADERS_BYTES_MAX: usize = 64 << 20;

/// Topics of the engine itself, beside those of the contract.
const START_CODE: u8 = 254;
const CLOSE_CODE: u8 = 255;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) base: u64,
    /// Number of the start that made it.
    pub(super) start: u32,
    /// CRC of the batch that ends at `base`.
    pub(super) previous_crc: u32,
    pub(super) created_ms: i64,
    /// Per slot, the first offset that may stand at or above `base`.
    pub(super) next: Vec<Offset>,
}

impl SegmentHeader {
    pub(super) fn encode(&self, layout: &Layout) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_UNIT);
        bytes.put_u64_le(SEGMENT_MAGIC);
        bytes.put_u64_le(0);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.base);
        bytes.put_u32_le(self.start);
        bytes.put_u32_le(self.previous_crc);
        bytes.put_i64_le(self.created_ms);
        bytes.put_slice(&encode_frontier(layout, &self.next));
        let length = bytes.len().next_multiple_of(SEGMENT_HEADER_UNIT);
        bytes.resize(length, 0);
        bytes[12..16].copy_from_slice(&u32::try_from(length).expect("some partitions").to_le_bytes());
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The length of the header that begins with these bytes, if they begin one.
    pub(super) fn length(mut bytes: &[u8]) -> Option<usize> {
        if bytes.len() < SEGMENT_FIXED_BYTES || bytes.get_u64_le() != SEGMENT_MAGIC {
            return None;
        }
        bytes.advance(4);
        let length = bytes.get_u32_le() as usize;
        (length.is_multiple_of(SEGMENT_HEADER_UNIT) && length > 0 && length <= HEADERS_BYTES_MAX)
            .then_some(length)
    }

    /// `bytes` are exactly the header.
    pub(super) fn decode(layout: &Layout, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.get(8..)?;
        let crc = rest.try_get_u32_le().ok()?;
        if crc32fast::hash(&bytes[12..]) != crc || bytes.len() < SEGMENT_FIXED_BYTES {
            return None;
        }
        rest.advance(4);
        Some(Self {
            number: rest.get_u64_le(),
            base: rest.get_u64_le(),
            start: rest.get_u32_le(),
            previous_crc: rest.get_u32_le(),
            created_ms: rest.get_i64_le(),
            next: decode_frontier(layout, rest)?,
        })
    }
}

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) crc: u32,
    pub(super) headers_length: u32,
    pub(super) payloads_length: u32,
    pub(super) position: u64,
    /// Everything below this position was durable before this batch was written.
    pub(super) synced: u64,
    pub(super) time_ms: i64,
    pub(super) start: u32,
    pub(super) previous_crc: u32,
    pub(super) count: u32,
}

impl BatchHeader {
    pub(super) const fn size_bytes(&self) -> u64 {
        self.headers_length as u64 + self.payloads_length as u64
    }

    /// Writes the fixed part over the beginning of a header section, CRC included.
    pub(super) fn seal(mut self, section: &mut [u8]) -> u32 {
        let mut fixed = Vec::with_capacity(BATCH_FIXED_BYTES);
        fixed.put_u32_le(BATCH_MAGIC);
        fixed.put_u32_le(0);
        fixed.put_u32_le(self.headers_length);
        fixed.put_u32_le(self.payloads_length);
        fixed.put_u64_le(self.position);
        fixed.put_u64_le(self.synced);
        fixed.put_i64_le(self.time_ms);
        fixed.put_u32_le(self.start);
        fixed.put_u32_le(self.previous_crc);
        fixed.put_u32_le(self.count);
        section[..BATCH_FIXED_BYTES].copy_from_slice(&fixed);
        self.crc = crc32fast::hash(&section[8..]);
        section[4..8].copy_from_slice(&self.crc.to_le_bytes());
        self.crc
    }

    /// Reads the fixed part without checking the CRC; `None` if this is no batch.
    pub(super) fn peek(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < BATCH_FIXED_BYTES || bytes.get_u32_le() != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            crc: bytes.get_u32_le(),
            headers_length: bytes.get_u32_le(),
            payloads_length: bytes.get_u32_le(),
            position: bytes.get_u64_le(),
            synced: bytes.get_u64_le(),
            time_ms: bytes.get_i64_le(),
            start: bytes.get_u32_le(),
            previous_crc: bytes.get_u32_le(),
            count: bytes.get_u32_le(),
        };
        let length = header.headers_length as usize;
        (BATCH_FIXED_BYTES..=HEADERS_BYTES_MAX).contains(&length).then_some(header)
    }

    /// Whether a whole header section is what was written at `position`.
    pub(super) fn holds(&self, section: &[u8], position: u64) -> bool {
        self.position == position && crc32fast::hash(&section[8..]) == self.crc
    }
}

/// A record's header within a header section.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHeader<'a> {
    pub(super) place: Place,
    pub(super) offset: Offset,
    pub(super) payload_length: u32,
    pub(super) payload_crc: u32,
    pub(super) head: &'a [u8],
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Slot(Slot),
    /// The engine's own: a start with the offsets it begins at.
    Start,
    /// The engine's own: the journal was closed in good order.
    Close,
}

impl RecordHeader<'_> {
    pub(super) fn encode(&self, layout: &Layout, out: &mut Vec<u8>) {
        let (code, partition) = match self.place {
            Place::Slot(slot) => {
                let (topic, partition) = layout.name(slot);
                (topic_code(topic), partition.0)
            }
            Place::Start => (START_CODE, 0),
            Place::Close => (CLOSE_CODE, 0),
        };
        out.put_u8(code);
        out.put_u8(0);
        out.put_u32_le(partition);
        out.put_u64_le(self.offset.0);
        out.put_u32_le(u32::try_from(self.head.len()).expect("records are smaller than 4 GiB"));
        out.put_u32_le(self.payload_length);
        out.put_u32_le(self.payload_crc);
        out.put_slice(self.head);
    }
}

/// Walks the record headers of a section whose CRC holds. Yields nothing more once one does not parse.
pub(super) struct RecordHeaders<'a> {
    layout: &'a Layout,
    rest: &'a [u8],
}

impl<'a> RecordHeaders<'a> {
    pub(super) fn of(layout: &'a Layout, section: &'a [u8]) -> Self {
        Self { layout, rest: &section[BATCH_FIXED_BYTES..] }
    }
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < RECORD_FIXED_BYTES {
            return None;
        }
        let code = self.rest.get_u8();
        self.rest.advance(1);
        let partition = Partition(self.rest.get_u32_le());
        let offset = Offset(self.rest.get_u64_le());
        let head_length = self.rest.get_u32_le() as usize;
        let payload_length = self.rest.get_u32_le();
        let payload_crc = self.rest.get_u32_le();
        let (head, rest) = self.rest.split_at_checked(head_length)?;
        self.rest = rest;
        let place = match code {
            START_CODE => Place::Start,
            CLOSE_CODE => Place::Close,
            code => Place::Slot(self.layout.slot(topic_of(code)?, partition)?),
        };
        Some(RecordHeader { place, offset, payload_length, payload_crc, head })
    }
}

/// A payload as it was read: itself, `None` if it was wiped, an error if it is neither.
pub(super) fn check_payload(bytes: &[u8], crc: u32) -> Result<Option<Bytes>, ()> {
    if crc32fast::hash(bytes) == crc {
        Ok(Some(Bytes::copy_from_slice(bytes)))
    } else if bytes.iter().all(|byte| *byte == 0) {
        Ok(None)
    } else {
        Err(())
    }
}

/// One offset per slot, each with the name of its partition.
pub(super) fn encode_frontier(layout: &Layout, next: &[Offset]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + next.len() * 13);
    bytes.put_u32_le(u32::try_from(next.len()).expect("partitions are counted in 32 bits"));
    for (slot, topic, partition) in layout.all() {
        bytes.put_u8(topic_code(topic));
        bytes.put_u32_le(partition.0);
        bytes.put_u64_le(next[slot.index()].0);
    }
    bytes
}

pub(super) fn decode_frontier(layout: &Layout, mut bytes: &[u8]) -> Option<Vec<Offset>> {
    let mut next = vec![Offset::ZERO; layout.slots()];
    let count = bytes.try_get_u32_le().ok()?;
    for _ in 0..count {
        let topic = topic_of(bytes.try_get_u8().ok()?)?;
        let partition = Partition(bytes.try_get_u32_le().ok()?);
        next[layout.slot(topic, partition)?.index()] = Offset(bytes.try_get_u64_le().ok()?);
    }
    Some(next)
}

pub(super) const fn topic_code(topic: Topic) -> u8 {
    match topic {
        Topic::Messages => 1,
        Topic::Deliveries => 2,
        Topic::Attempts => 3,
        Topic::Control => 4,
        Topic::Dedup => 5,
    }
}

pub(super) fn topic_of(code: u8) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic_code(*topic) == code)
}
