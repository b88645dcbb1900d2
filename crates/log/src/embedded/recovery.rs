//! Opens a journal: finds out what is there, and makes it durable before anything reads it.
//!
//! Of the last segment, what a batch proves to have been synced stays where it is. What stands above it may be in
//! the page cache only, also when it reads well: it is copied to a fresh segment together with the record of this
//! start, and that segment gets its name only when it is durable. So recovery can be cut off anywhere and begin
//! again.

use std::{io, path::Path, sync::Arc};

use fanfare_core::{
    Offset, limits,
    planted::{Fault, planted},
};

use super::{
    encode::{Encoder, Stamp},
    format::{Place, SegmentHeader, encode_frontier},
    layout::Layout,
    options::OpenError,
    scan::{Scan, lost_something, scan},
    segment::{OpenedFile, Segment, UNFINISHED, number_of},
    wiped::Wiped,
};
use crate::disk::{Access, Disk};

/// Every un-synced record holds so much of [`limits::UNSYNCED_BYTES`] at least, which bounds their number.
pub(super) const CHARGE_BYTES_MIN: usize = 512;
/// More records than can have been handed out above what survived.
pub(super) const SKIPPED_OFFSETS: u64 = (limits::UNSYNCED_BYTES / CHARGE_BYTES_MIN) as u64;
/// A last segment up to this part of a full one is copied as a whole, so that many starts do not leave many files.
const SMALL_PART: u64 = 128;

pub(super) struct Recovered {
    /// In order; the last is written to.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) start: u32,
    pub(super) last_crc: u32,
    /// Per slot, where appends go on.
    pub(super) next: Vec<Offset>,
    /// Position behind the last batch of a former life.
    pub(super) end: u64,
}

pub(super) struct Site<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) directory: &'a Path,
    pub(super) layout: &'a Layout,
    pub(super) wiped: &'a Wiped,
    pub(super) now_ms: i64,
    pub(super) segment_bytes: u64,
}

pub(super) fn recover(site: &Site<'_>, read_only: bool) -> Result<Recovered, OpenError> {
    let mut files = open_files(site, read_only)?;
    let Some(last) = files.pop() else {
        if read_only {
            return Err(OpenError::Missing(site.directory.to_owned()));
        }
        return first_start(site);
    };
    let mut segments = Vec::with_capacity(files.len() + 2);
    let mut files = files.into_iter().peekable();
    while let Some(file) = files.next() {
        let end = files.peek().map_or(last.header.base, |next| next.header.base);
        if end == file.header.base {
            remove_superseded(site, &file, read_only)?;
        } else {
            segments.push(Arc::new(open_sealed(site, file, end, read_only)?));
        }
    }
    if read_only { open_last(site, segments, last, true) } else { restart(site, segments, last) }
}

/// Opens all segments by rising number; what was never finished is removed.
fn open_files(site: &Site<'_>, read_only: bool) -> Result<Vec<OpenedFile>, OpenError> {
    let names = site.disk.list(site.directory).map_err(|error| OpenError::io(site.directory, error))?;
    let mut numbers = Vec::new();
    for name in names {
        if name.ends_with(UNFINISHED) && !read_only {
            let path = site.directory.join(&name);
            site.disk.unlink(&path).map_err(|error| OpenError::io(&path, error))?;
        }
        numbers.extend(number_of(&name).map(|number| (number, name)));
    }
    numbers.sort_unstable();
    let access = if read_only { Access::Read } else { Access::ReadWrite };
    let mut files = Vec::with_capacity(numbers.len());
    for (_, name) in numbers {
        let path = site.directory.join(name);
        let opened = OpenedFile::open(site.disk, path.clone(), site.layout, access)
            .map_err(|error| OpenError::io(&path, error))?;
        files.push(
            opened.ok_or_else(|| OpenError::Corrupt(format!("{} has no good header", path.display())))?,
        );
    }
    Ok(files)
}

fn first_start(site: &Site<'_>) -> Result<Recovered, OpenError> {
    let header = SegmentHeader {
        number: 1,
        base: 0,
        start: 1,
        previous_crc: 0,
        created_ms: site.now_ms,
        next: vec![Offset::ZERO; site.layout.slots()],
    };
    let file = OpenedFile::create(site.disk, site.directory, site.layout, header, &[])
        .map_err(|error| OpenError::io(site.directory, error))?;
    open_last(site, Vec::new(), file, false)
}

/// A segment that the next one begins at the base of: the next one holds all of it.
fn remove_superseded(site: &Site<'_>, file: &OpenedFile, read_only: bool) -> Result<(), OpenError> {
    if read_only {
        return Ok(());
    }
    site.disk.unlink(&file.path).map_err(|error| OpenError::io(&file.path, error))?;
    site.disk.sync_dir(site.directory).map_err(|error| OpenError::io(site.directory, error))
}

/// A segment that is followed by another: all of it was durable.
fn open_sealed(site: &Site<'_>, file: OpenedFile, end: u64, read_only: bool) -> Result<Segment, OpenError> {
    let path = file.path.clone();
    let io = |error| OpenError::io(&path, error);
    let file = match Segment::sealed(site.layout, file, end).map_err(io)? {
        Ok((segment, _)) => return Ok(segment),
        Err(file) => file,
    };
    let found = scan(site.layout, &file, Some(end)).map_err(io)?;
    if found.end != end {
        return Err(damaged(&file, found.end));
    }
    Ok(seal(site, file, found, read_only))
}

fn seal(site: &Site<'_>, file: OpenedFile, scan: Scan, read_only: bool) -> Segment {
    let end_at = file.place_of(scan.end);
    let segment = Segment::new(file, end_at, scan.newest_ms, scan.index);
    if !read_only && let Err(error) = segment.seal(site.layout, scan.last_crc) {
        tracing::warn!(path = %segment.path.display(), %error, "segment stays without footer");
    }
    segment
}

/// Takes the last segment as it is.
fn open_last(
    site: &Site<'_>,
    mut segments: Vec<Arc<Segment>>,
    last: OpenedFile,
    read_only: bool,
) -> Result<Recovered, OpenError> {
    let end = good_end(site, &last, read_only)?;
    let found = scan(site.layout, &last, Some(end)).map_err(|error| OpenError::io(&last.path, error))?;
    let end_at = last.place_of(end);
    segments.push(Arc::new(Segment::new(last, end_at, found.newest_ms, found.index)));
    Ok(Recovered { segments, start: found.start, last_crc: found.last_crc, next: found.next, end })
}

/// The position up to which the last segment is whole; an error if what is missing was durable. Beside a process
/// that writes, only the first can be told.
fn good_end(site: &Site<'_>, last: &OpenedFile, read_only: bool) -> Result<u64, OpenError> {
    let io = |error| OpenError::io(&last.path, error);
    let found = scan(site.layout, last, None).map_err(io)?;
    let end = found.whole_end(site.layout, last, site.wiped).map_err(io)?;
    if !read_only && lost_something(last, end).map_err(io)? {
        return Err(damaged(last, end));
    }
    Ok(end)
}

/// Begins a life after a former one.
fn restart(
    site: &Site<'_>,
    mut segments: Vec<Arc<Segment>>,
    last: OpenedFile,
) -> Result<Recovered, OpenError> {
    let path = last.path.clone();
    let io = |error| OpenError::io(&path, error);
    let end = good_end(site, &last, false)?;
    let whole = scan(site.layout, &last, Some(end)).map_err(io)?;
    let small = end - last.header.base <= site.segment_bytes / SMALL_PART;
    let cut = if small { last.header.base } else { whole.proven.min(end) };
    let kept = scan(site.layout, &last, Some(cut)).map_err(io)?;
    assert_eq!(kept.end, cut, "a proven sync ends with a batch");

    let mut next = whole.next.clone();
    if !whole.closed {
        skip_handed_out(site.layout, &mut next);
    }
    let start = whole.start + 1;
    let mut content = copy(&last, cut, end).map_err(io)?;
    content.extend(start_record(site, &whole, start, &next));
    let header = SegmentHeader {
        number: last.header.number + 1,
        base: cut,
        start,
        previous_crc: kept.last_crc,
        created_ms: if small { last.header.created_ms } else { site.now_ms },
        next: kept.next.clone(),
    };
    let fresh = OpenedFile::create(site.disk, site.directory, site.layout, header, &content)
        .map_err(|error| OpenError::io(site.directory, error))?;
    if small {
        remove_superseded(site, &last, false)?;
    } else {
        segments.push(Arc::new(seal(site, last, kept, false)));
    }
    let mut recovered = open_last(site, segments, fresh, false)?;
    recovered.end = end;
    Ok(recovered)
}

/// Readers of a former life may have seen records that are lost: their offsets are not used again.
fn skip_handed_out(layout: &Layout, next: &mut [Offset]) {
    for (slot, topic, _) in layout.all() {
        if !topic.shows_only_synced() && !planted(Fault::OffsetReused) {
            next[slot.index()].0 += SKIPPED_OFFSETS;
        }
    }
}

fn copy(file: &OpenedFile, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(to - from).map_err(io::Error::other)?;
    file.file.read_exact_at(file.place_of(from), length)
}

fn start_record(site: &Site<'_>, whole: &Scan, start: u32, next: &[Offset]) -> Vec<u8> {
    let mut encoder = Encoder::new(site.layout);
    let stamp = Stamp { synced: whole.proven, time_ms: site.now_ms, start };
    encoder.begin(whole.end, whole.last_crc, stamp);
    encoder.push_own(site.layout, Place::Start, &encode_frontier(site.layout, next));
    encoder.finish();
    let mut bytes = Vec::new();
    for slice in encoder.encoded().slices() {
        bytes.extend_from_slice(&slice);
    }
    bytes
}

fn damaged(file: &OpenedFile, end: u64) -> OpenError {
    let at = file.place_of(end);
    OpenError::Corrupt(format!("{} at byte {at}: what stood there was durable", file.path.display()))
}
