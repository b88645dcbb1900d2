//! Where the records of a partition stand in a segment, and the footer that keeps it.
//!
//! ```text
//! footer    │ entries of one slot after the other │ summary │ trailer │
//! entry     │ offset 8 │ place in the file 4 │
//! summary   │ count 4 │ count × (topic 1, partition 4, first 8, last 8, entries at 4, entries 4, crc 4) │
//! trailer   │ magic 8 │ footer at 8 │ summary at 8 │ end position 8 │ last crc 4 │ newest time 8 │ crc 4 │
//! ```
//!
//! The index is sparse: an entry names the first record of a slot in a batch, and a batch that begins less than
//! [`STEP_BYTES`] behind the slot's latest entry gets none. A reader that went that far jumps to the next entry.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf, BufMut};
use fanfare_core::Offset;
use parking_lot::Mutex;

use super::{
    format::{topic_code, topic_of},
    layout::{Layout, Slot},
};

const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"FANEND01");
pub(super) const TRAILER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 12;
/// Lists of entries kept in memory: some readers that are behind go through their segments side by side.
const CACHED_LISTS: usize = 128;
/// A reader passes at most this much that is not its partition's.
pub(super) const STEP_BYTES: u32 = 16 << 10;

/// First record of a slot in a batch, and where that batch begins in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    pub(super) at: u32,
}

/// A slot's records in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) entries: Vec<Entry>,
}

/// The index of a segment that is written to, or was just scanned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    extents: Vec<Option<Extent>>,
}

impl Index {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { extents: vec![None; layout.slots()] }
    }

    /// Records of `slot` from `first` to `last` stand in the batch at `at`. Called in the order of the file.
    pub(super) fn add(&mut self, slot: Slot, first: Offset, last: Offset, at: u32) {
        match &mut self.extents[slot.index()] {
            Some(extent) => {
                extent.last = last;
                let latest = extent.entries.last().expect("an extent has an entry").at;
                if at - latest >= STEP_BYTES {
                    extent.entries.push(Entry { offset: first, at });
                }
            }
            empty => *empty = Some(Extent { first, last, entries: vec![Entry { offset: first, at }] }),
        }
    }

    pub(super) fn extent(&self, slot: Slot) -> Option<&Extent> {
        self.extents[slot.index()].as_ref()
    }

    /// The footer that begins at `footer_at` of the file.
    pub(super) fn encode(&self, layout: &Layout, footer_at: u64, seal: &Seal) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut summary = Vec::new();
        let mut count = 0_u32;
        for (slot, topic, partition) in layout.all() {
            let Some(extent) = self.extent(slot) else { continue };
            let entries_at = bytes.len();
            for entry in &extent.entries {
                bytes.put_u64_le(entry.offset.0);
                bytes.put_u32_le(entry.at);
            }
            summary.put_u8(topic_code(topic));
            summary.put_u32_le(partition.0);
            summary.put_u64_le(extent.first.0);
            summary.put_u64_le(extent.last.0);
            summary.put_u32_le(u32::try_from(entries_at).expect("an index is smaller than its segment"));
            summary.put_u32_le(u32::try_from(extent.entries.len()).expect("fewer entries than bytes"));
            summary.put_u32_le(crc32fast::hash(&bytes[entries_at..]));
            count += 1;
        }
        let summary_at = bytes.len() as u64;
        bytes.put_u32_le(count);
        bytes.put_slice(&summary);
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.put_u64_le(FOOTER_MAGIC);
        trailer.put_u64_le(footer_at);
        trailer.put_u64_le(footer_at + summary_at);
        trailer.put_u64_le(seal.end);
        trailer.put_u32_le(seal.last_crc);
        trailer.put_i64_le(seal.newest_ms);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[usize::try_from(summary_at).expect("in memory")..]);
        hasher.update(&trailer);
        trailer.put_u32_le(hasher.finalize());
        bytes.put_slice(&trailer);
        bytes
    }
}

/// What a footer says of its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// Position behind the last batch.
    pub(super) end: u64,
    pub(super) last_crc: u32,
    /// Time of the newest batch; its creation if it has none.
    pub(super) newest_ms: i64,
}

/// The part of a footer that stays in memory: entries are read when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// By rising slot.
    extents: Vec<SummaryExtent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SummaryExtent {
    pub(super) slot: Slot,
    pub(super) first: Offset,
    pub(super) last: Offset,
    /// Place of the entries in the file.
    pub(super) entries_at: u64,
    pub(super) entries: u32,
    pub(super) crc: u32,
}

/// The fixed end of a file with a footer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trailer {
    pub(super) footer_at: u64,
    pub(super) summary_at: u64,
    pub(super) seal: Seal,
    crc: u32,
}

impl Trailer {
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != TRAILER_BYTES || bytes.get_u64_le() != FOOTER_MAGIC {
            return None;
        }
        let (footer_at, summary_at) = (bytes.get_u64_le(), bytes.get_u64_le());
        let seal =
            Seal { end: bytes.get_u64_le(), last_crc: bytes.get_u32_le(), newest_ms: bytes.get_i64_le() };
        (footer_at <= summary_at).then(|| Self { footer_at, summary_at, seal, crc: bytes.get_u32_le() })
    }
}

impl Summary {
    /// `bytes` reach from the summary to the end of the file.
    pub(super) fn decode(layout: &Layout, trailer: &Trailer, bytes: &[u8]) -> Option<Self> {
        if crc32fast::hash(bytes.get(..bytes.len().checked_sub(4)?)?) != trailer.crc {
            return None;
        }
        let mut rest = bytes;
        let count = rest.try_get_u32_le().ok()?;
        let mut extents = Vec::new();
        for _ in 0..count {
            let topic = topic_of(rest.try_get_u8().ok()?)?;
            let partition = fanfare_core::Partition(rest.try_get_u32_le().ok()?);
            extents.push(SummaryExtent {
                slot: layout.slot(topic, partition)?,
                first: Offset(rest.try_get_u64_le().ok()?),
                last: Offset(rest.try_get_u64_le().ok()?),
                entries_at: trailer.footer_at + u64::from(rest.try_get_u32_le().ok()?),
                entries: rest.try_get_u32_le().ok()?,
                crc: rest.try_get_u32_le().ok()?,
            });
        }
        Some(Self { extents })
    }

    pub(super) fn extent(&self, slot: Slot) -> Option<&SummaryExtent> {
        let index = self.extents.binary_search_by_key(&slot, |extent| extent.slot).ok()?;
        Some(&self.extents[index])
    }

    pub(super) fn extents(&self) -> &[SummaryExtent] {
        &self.extents
    }
}

/// The entries of one slot in one segment.
pub(super) type EntryList = Arc<Vec<Entry>>;

/// The lists of entries that were read last, of sealed segments: at most a hundred kilobytes each.
#[derive(Debug, Default)]
pub(super) struct EntryCache {
    /// By number of the segment and slot, the latest used last.
    lists: Mutex<VecDeque<(u64, Slot, EntryList)>>,
}

impl EntryCache {
    pub(super) fn get(&self, segment: u64, slot: Slot) -> Option<EntryList> {
        let mut lists = self.lists.lock();
        let index = lists.iter().position(|(number, of, _)| (*number, *of) == (segment, slot))?;
        let found = lists.remove(index)?;
        let list = found.2.clone();
        lists.push_back(found);
        Some(list)
    }

    pub(super) fn put(&self, segment: u64, slot: Slot, list: EntryList) {
        let mut lists = self.lists.lock();
        if lists.len() >= CACHED_LISTS {
            lists.pop_front();
        }
        lists.push_back((segment, slot, list));
    }
}

/// Decodes the entries of one slot.
pub(super) fn decode_entries(mut bytes: &[u8], extent: &SummaryExtent) -> Option<Vec<Entry>> {
    if crc32fast::hash(bytes) != extent.crc || bytes.len() != extent.entries as usize * ENTRY_BYTES {
        return None;
    }
    let mut entries = Vec::with_capacity(extent.entries as usize);
    while !bytes.is_empty() {
        entries.push(Entry { offset: Offset(bytes.get_u64_le()), at: bytes.get_u32_le() });
    }
    Some(entries)
}

impl SummaryExtent {
    pub(super) const fn entries_bytes(&self) -> usize {
        self.entries as usize * ENTRY_BYTES
    }
}
