//! One file of the journal as readers see it.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use fanfare_core::Offset;
use parking_lot::RwLock;

use super::{
    format::SegmentHeader,
    index::{
        Entry, EntryCache, EntryList, Index, Seal, Summary, SummaryExtent, TRAILER_BYTES, Trailer,
        decode_entries,
    },
    layout::{Layout, Slot},
};
use crate::disk::{Access, Disk, DiskFile};

/// Entries handed to one read: far more than its bytes need.
const ENTRIES_PER_READ: usize = 256;

pub(super) const EXTENSION: &str = ".segment";
pub(super) const UNFINISHED: &str = ".unfinished";

pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    /// Where the first batch begins in the file.
    pub(super) body_at: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    state: RwLock<State>,
}

struct State {
    /// Where the synced batches end in the file.
    end_at: u64,
    newest_ms: i64,
    records: Records,
}

enum Records {
    /// In memory: the segment is written to, or its file cannot be trusted with a footer.
    Index(Index),
    /// In the file's footer.
    Footer(Summary),
}

/// Where a read begins and what to pass.
pub(super) struct Plan {
    /// The first one at or below the offset asked for, or the first of all; at least one.
    pub(super) entries: Vec<Entry>,
    pub(super) last: Offset,
    pub(super) end_at: u64,
}

impl Segment {
    pub(super) fn new(opened: OpenedFile, end_at: u64, newest_ms: i64, index: Index) -> Self {
        let state = State { end_at, newest_ms, records: Records::Index(index) };
        let OpenedFile { header, body_at, path, file } = opened;
        Self { header, body_at, path, file, state: RwLock::new(state) }
    }

    pub(super) fn empty(layout: &Layout, opened: OpenedFile) -> Self {
        let (end_at, newest_ms) = (opened.body_at, opened.header.created_ms);
        Self::new(opened, end_at, newest_ms, Index::new(layout))
    }

    /// A segment with a good footer; `None` if it has none.
    pub(super) fn sealed(
        layout: &Layout,
        opened: OpenedFile,
        end: u64,
    ) -> io::Result<Result<(Self, u32), OpenedFile>> {
        let Some((trailer, summary)) = read_footer(layout, &opened)? else { return Ok(Err(opened)) };
        if trailer.seal.end != end {
            return Ok(Err(opened));
        }
        let OpenedFile { header, body_at, path, file } = opened;
        let state = State {
            end_at: body_at + (end - header.base),
            newest_ms: trailer.seal.newest_ms,
            records: Records::Footer(summary),
        };
        Ok(Ok((Self { header, body_at, path, file, state: RwLock::new(state) }, trailer.seal.last_crc)))
    }

    /// The position of a place in the file.
    pub(super) fn position_of(&self, at: u64) -> u64 {
        self.header.base + (at - self.body_at)
    }

    pub(super) fn newest_ms(&self) -> i64 {
        self.state.read().newest_ms
    }

    pub(super) fn end_at(&self) -> u64 {
        self.state.read().end_at
    }

    /// What became durable: runs of records with the places of their batches.
    pub(super) fn advance(&self, end_at: u64, time_ms: i64, runs: &[Run]) {
        let mut state = self.state.write();
        state.end_at = end_at;
        state.newest_ms = state.newest_ms.max(time_ms);
        let Records::Index(index) = &mut state.records else {
            unreachable!("a sealed segment does not grow")
        };
        for run in runs {
            index.add(run.slot, run.first, run.last, run.at);
        }
    }

    /// Writes the footer behind the last batch, from where it is read from now on. Its entries are durable before
    /// its trailer is there, so that a start need not read them. The trailer is not synced: a segment without one is
    /// scanned.
    pub(super) fn seal(&self, layout: &Layout, last_crc: u32) -> io::Result<()> {
        // Readers go on meanwhile; nobody else changes a segment.
        let state = self.state.read();
        let Records::Index(index) = &state.records else { return Ok(()) };
        let seal = Seal { end: self.position_of(state.end_at), last_crc, newest_ms: state.newest_ms };
        let footer = index.encode(layout, state.end_at, &seal);
        let trailer = Trailer::decode(&footer[footer.len() - TRAILER_BYTES..]).expect("just encoded");
        let summary_at = usize::try_from(trailer.summary_at - state.end_at).expect("in memory");
        let summary = Summary::decode(layout, &trailer, &footer[summary_at..]).expect("just encoded");
        self.file.set_size(state.end_at)?;
        self.file.write_at(state.end_at, &[IoSlice::new(&footer[..summary_at])])?;
        self.file.sync()?;
        self.file.write_at(trailer.summary_at, &[IoSlice::new(&footer[summary_at..])])?;
        drop(state);
        self.state.write().records = Records::Footer(summary);
        Ok(())
    }

    /// How to find records of `slot` at and above `from`; `None` if there are none.
    pub(super) fn plan(&self, cache: &EntryCache, slot: Slot, from: Offset) -> io::Result<Option<Plan>> {
        let state = self.state.read();
        let end_at = state.end_at;
        let (entries, last) = match &state.records {
            Records::Index(index) => {
                let Some(extent) = index.extent(slot).filter(|extent| extent.last >= from) else {
                    return Ok(None);
                };
                (pick(&extent.entries, from), extent.last)
            }
            Records::Footer(summary) => {
                let Some(extent) = summary.extent(slot).filter(|extent| extent.last >= from).copied() else {
                    return Ok(None);
                };
                drop(state);
                (pick(&self.read_entries(cache, &extent)?, from), extent.last)
            }
        };
        Ok(Some(Plan { entries, last, end_at }))
    }

    /// The last offset of each slot that has records here.
    pub(super) fn last_offsets(&self, layout: &Layout) -> Vec<(Slot, Offset)> {
        let state = self.state.read();
        match &state.records {
            Records::Index(index) => layout
                .all()
                .filter_map(|(slot, ..)| index.extent(slot).map(|extent| (slot, extent.last)))
                .collect(),
            Records::Footer(summary) => {
                summary.extents().iter().map(|extent| (extent.slot, extent.last)).collect()
            }
        }
    }

    fn read_entries(&self, cache: &EntryCache, extent: &SummaryExtent) -> io::Result<EntryList> {
        if let Some(entries) = cache.get(self.header.number, extent.slot) {
            return Ok(entries);
        }
        let bytes = self.file.read_exact_at(extent.entries_at, extent.entries_bytes())?;
        let entries = decode_entries(&bytes, extent).map(Arc::new).ok_or_else(|| {
            let path = self.path.display();
            io::Error::new(io::ErrorKind::InvalidData, format!("{path}: its footer is corrupt"))
        })?;
        cache.put(self.header.number, extent.slot, entries.clone());
        Ok(entries)
    }
}

/// Records of one slot in one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) slot: Slot,
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) at: u32,
}

fn pick(entries: &[Entry], from: Offset) -> Vec<Entry> {
    let begin = entries.partition_point(|entry| entry.offset <= from).saturating_sub(1);
    entries[begin..].iter().take(ENTRIES_PER_READ).copied().collect()
}

/// A segment's file with its header read.
pub(super) struct OpenedFile {
    pub(super) header: SegmentHeader,
    pub(super) body_at: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

impl OpenedFile {
    pub(super) fn place_of(&self, position: u64) -> u64 {
        self.body_at + (position - self.header.base)
    }

    pub(super) fn position_of(&self, at: u64) -> u64 {
        self.header.base + (at - self.body_at)
    }

    /// `Ok(None)`: the file has no good header.
    pub(super) fn open(
        disk: &dyn Disk,
        path: PathBuf,
        layout: &Layout,
        access: Access,
    ) -> io::Result<Option<Self>> {
        let file = disk.open(&path, access)?;
        let mut beginning = vec![0; 4_096];
        let count = file.read_at(0, &mut beginning)?;
        let Some(length) = SegmentHeader::length(&beginning[..count]) else { return Ok(None) };
        if length as u64 > file.size_bytes()? {
            return Ok(None);
        }
        let bytes = file.read_exact_at(0, length)?;
        let header = SegmentHeader::decode(layout, &bytes);
        Ok(header.map(|header| Self { header, body_at: length as u64, path, file }))
    }

    /// Makes a segment whose header and `content`, the bytes from its base on, are durable before its name is.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        layout: &Layout,
        header: SegmentHeader,
        content: &[u8],
    ) -> io::Result<Self> {
        let path = directory.join(file_name(header.number));
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let bytes = header.encode(layout);
        let body_at = bytes.len() as u64;
        let file = disk.create(&unfinished)?;
        file.write_at(0, &[IoSlice::new(&bytes), IoSlice::new(content)])?;
        file.sync()?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(directory)?;
        Ok(Self { header, body_at, path, file })
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016}{EXTENSION}")
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(EXTENSION)?.parse().ok()
}

fn read_footer(layout: &Layout, opened: &OpenedFile) -> io::Result<Option<(Trailer, Summary)>> {
    let size = opened.file.size_bytes()?;
    let Some(trailer_at) = size.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= opened.body_at) else {
        return Ok(None);
    };
    let bytes = opened.file.read_exact_at(trailer_at, TRAILER_BYTES)?;
    let Some(trailer) = Trailer::decode(&bytes).filter(|trailer| trailer.summary_at < trailer_at) else {
        return Ok(None);
    };
    let Ok(summary_bytes) = usize::try_from(size - trailer.summary_at) else { return Ok(None) };
    let bytes = opened.file.read_exact_at(trailer.summary_at, summary_bytes)?;
    Ok(Summary::decode(layout, &trailer, &bytes).map(|summary| (trailer, summary)))
}
