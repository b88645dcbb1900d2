//! Walks the batches of a segment that has no footer.

use std::io;

use fanfare_core::Offset;

use super::{
    block::Block,
    format::{
        BATCH_FIXED_BYTES, BATCH_MAGIC, BatchHeader, Place, RecordHeaders, check_payload, decode_frontier,
    },
    index::Index,
    layout::{Layout, Slot},
    segment::OpenedFile,
    wiped::Wiped,
};

/// What the batches of a segment say, up to the first that is not whole.
pub(super) struct Scan {
    pub(super) index: Index,
    /// Per slot, the first offset that was not used.
    pub(super) next: Vec<Offset>,
    /// Position behind the last good batch.
    pub(super) end: u64,
    pub(super) last_crc: u32,
    pub(super) newest_ms: i64,
    /// Number of the latest start that wrote here.
    pub(super) start: u32,
    /// Everything below was durable: a batch says so.
    pub(super) proven: u64,
    /// The last batch says that the journal was closed in good order.
    pub(super) closed: bool,
    /// Positions of the batches that may lie above `proven`.
    unproven: Vec<u64>,
}

/// Scans from the beginning of a segment to `until`, or to the first batch that is not whole.
pub(super) fn scan(layout: &Layout, opened: &OpenedFile, until: Option<u64>) -> io::Result<Scan> {
    let header = &opened.header;
    let mut scan = Scan {
        index: Index::new(layout),
        next: header.next.clone(),
        end: header.base,
        last_crc: header.previous_crc,
        newest_ms: header.created_ms,
        start: header.start,
        proven: header.base,
        closed: false,
        unproven: Vec::new(),
    };
    let size = opened.file.size_bytes()?;
    let mut block = Block::steady(opened.file.clone());
    while until.is_none_or(|until| scan.end < until) {
        let at = opened.place_of(scan.end);
        let Some((header, section)) = batch_at(&mut block, at, scan.end)? else { break };
        if header.previous_crc != scan.last_crc
            || at + header.size_bytes() > size
            || !scan.take(layout, &header, section, at)
        {
            break;
        }
    }
    Ok(scan)
}

impl Scan {
    /// Takes one batch; gives whether it made sense.
    fn take(&mut self, layout: &Layout, header: &BatchHeader, section: &[u8], at: u64) -> bool {
        let Ok(at) = u32::try_from(at) else { return false };
        let mut count = 0;
        self.closed = false;
        for record in RecordHeaders::of(layout, section) {
            count += 1;
            match record.place {
                Place::Slot(slot) => {
                    if record.offset < self.next[slot.index()] {
                        return false;
                    }
                    self.next[slot.index()] = record.offset.next();
                    self.note(slot, record.offset, at);
                }
                Place::Start => {
                    let Some(next) = decode_frontier(layout, record.head) else { return false };
                    for (mine, theirs) in self.next.iter_mut().zip(next) {
                        *mine = theirs.max(*mine);
                    }
                }
                Place::Close => self.closed = true,
            }
        }
        if count != header.count {
            return false;
        }
        self.proven = self.proven.max(header.synced);
        let proven = self.proven;
        self.unproven.retain(|position| *position >= proven);
        self.unproven.push(self.end);
        self.end += header.size_bytes();
        self.last_crc = header.crc;
        self.start = self.start.max(header.start);
        self.newest_ms = self.newest_ms.max(header.time_ms);
        true
    }

    fn note(&mut self, slot: Slot, offset: Offset, at: u32) {
        self.index.add(slot, offset, offset, at);
    }

    /// The position up to which batches above the proven sync have all their payloads.
    pub(super) fn whole_end(&self, layout: &Layout, opened: &OpenedFile, wiped: &Wiped) -> io::Result<u64> {
        let mut block = Block::steady(opened.file.clone());
        for position in self.unproven.iter().copied().filter(|position| *position >= self.proven) {
            let at = opened.place_of(position);
            let Some((header, section)) = batch_at(&mut block, at, position)? else { return Ok(position) };
            let mut payload_at = at + u64::from(header.headers_length);
            let payloads: Vec<(usize, u32, bool)> = RecordHeaders::of(layout, section)
                .map(|record| {
                    // What is overwritten was whole before: it was durable.
                    let is_wiped =
                        matches!(record.place, Place::Slot(slot) if wiped.contains(slot, record.offset));
                    (record.payload_length as usize, record.payload_crc, is_wiped)
                })
                .collect();
            for (length, crc, is_wiped) in payloads {
                let bytes = block.get(payload_at, length)?;
                if !is_wiped && !matches!(check_payload(bytes, crc), Ok(Some(_))) {
                    return Ok(position);
                }
                payload_at += length as u64;
            }
        }
        Ok(self.end)
    }
}

/// Looks behind the end for a batch which says that more than that was durable. Then what stands at the end
/// is no torn tail: something was lost.
pub(super) fn lost_something(opened: &OpenedFile, end: u64) -> io::Result<bool> {
    let size = opened.file.size_bytes()?;
    let mut at = opened.place_of(end);
    let magic = BATCH_MAGIC.to_le_bytes();
    let mut block = Block::steady(opened.file.clone());
    let mut window = vec![0; 1 << 20];
    while at + (BATCH_FIXED_BYTES as u64) <= size {
        let count = opened.file.read_at(at, &mut window)?;
        for found in find_all(&window[..count], magic) {
            let place = at + found as u64;
            let Ok(Some((header, _))) = batch_at(&mut block, place, opened.position_of(place)) else {
                continue;
            };
            if header.synced > end {
                return Ok(true);
            }
        }
        if count < window.len() {
            break;
        }
        at += (count - magic.len()) as u64;
    }
    Ok(false)
}

fn find_all(bytes: &[u8], magic: [u8; 4]) -> impl Iterator<Item = usize> {
    bytes.windows(magic.len()).enumerate().filter(move |(_, window)| *window == magic).map(|(index, _)| index)
}

/// The batch at a place with its header section; `None` if there is none that is whole.
fn batch_at(block: &mut Block, at: u64, position: u64) -> io::Result<Option<(BatchHeader, &[u8])>> {
    let Some(fixed) = none_at_end(block.get(at, BATCH_FIXED_BYTES))? else { return Ok(None) };
    let Some(header) = BatchHeader::peek(fixed).filter(|header| header.position == position) else {
        return Ok(None);
    };
    let Some(section) = none_at_end(block.get(at, header.headers_length as usize))? else { return Ok(None) };
    Ok(header.holds(section, position).then_some((header, section)))
}

fn none_at_end(result: io::Result<&[u8]>) -> io::Result<Option<&[u8]>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
