//! Bytes that nobody wrote as a journal: decoders may take them or refuse them, and never panic.

use fanfare_core::Offset;
use proptest::{collection::vec, prelude::*};

use super::super::{
    format::{
        BATCH_FIXED_BYTES, BATCH_MAGIC, BatchHeader, RecordHeaders, SEGMENT_MAGIC, SegmentHeader,
        check_payload, decode_frontier,
    },
    index::{Summary, SummaryExtent, TRAILER_BYTES, Trailer, decode_entries},
    layout::{Layout, Slot},
};
use crate::contract::Topic;

const ENTRY_BYTES: usize = 12;

fn layout() -> Layout {
    Layout::new(vec![(Topic::Messages, 2), (Topic::Deliveries, 3)])
}

/// Mostly what codes, counts and lengths are made of.
fn bytes(count: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![4 => Just(0_u8), 3 => 0..6_u8, 1 => any::<u8>()], 0..count)
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_le_bytes()
}

/// A section with this behind its fixed part, as if its checksum had been right.
fn walk_records(records: &[u8]) {
    let section = [&[0; BATCH_FIXED_BYTES][..], records].concat();
    for record in RecordHeaders::of(&layout(), &section) {
        let _ = check_payload(record.head, record.payload_crc);
    }
}

/// A footer with a trailer of these numbers and right checksums.
fn read_footer(summary: &[u8], footer_at: u32, summary_behind: u32, end: u64) {
    let footer_at = u64::from(footer_at);
    let mut bytes = summary.to_vec();
    bytes.extend(b"FANEND01");
    for number in [footer_at, footer_at + u64::from(summary_behind), end] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([0_u8; 12]);
    bytes.extend(crc(&bytes));
    let trailer = Trailer::decode(&bytes[bytes.len() - TRAILER_BYTES..]).unwrap();
    let Some(read) = Summary::decode(&layout(), &trailer, &bytes) else { return };
    for slot in (0..6).map(Slot) {
        let _ = read.extent(slot);
    }
    for extent in read.extents() {
        let _ = decode_entries(summary, extent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in bytes(200), crc in any::<u32>()) {
        let layout = layout();
        let _ = SegmentHeader::length(&bytes);
        let _ = SegmentHeader::decode(&layout, &bytes);
        let _ = decode_frontier(&layout, &bytes);
        let _ = BatchHeader::peek(&bytes);
        let _ = Trailer::decode(&bytes);
        let _ = check_payload(&bytes, crc);
        walk_records(&bytes);
    }

    /// Where magic and checksum are right the rest is looked at too.
    #[test]
    fn a_segment_header_of_garbage_never_panics(mut bytes in bytes(200)) {
        bytes.splice(0..0, SEGMENT_MAGIC.to_le_bytes());
        let _ = SegmentHeader::length(&bytes);
        let _ = SegmentHeader::decode(&layout(), &bytes);
        if bytes.len() >= 12 {
            let crc = crc(&bytes[12..]);
            bytes[8..12].copy_from_slice(&crc);
            let _ = SegmentHeader::decode(&layout(), &bytes);
        }
    }

    #[test]
    fn a_batch_header_of_garbage_never_panics(mut bytes in bytes(200)) {
        bytes.splice(0..0, BATCH_MAGIC.to_le_bytes());
        if let Some(header) = BatchHeader::peek(&bytes) {
            let _ = header.size_bytes();
            let _ = header.holds(&bytes, header.position);
        }
    }

    #[test]
    fn a_trailer_of_garbage_never_panics(garbage in prop::array::uniform::<_, 40>(any::<u8>())) {
        let bytes = [&b"FANEND01"[..], &garbage].concat();
        let _ = Trailer::decode(&bytes);
    }

    #[test]
    fn a_footer_of_garbage_never_panics(
        summary in bytes(200),
        footer_at in any::<u32>(),
        summary_behind in any::<u32>(),
        end in any::<u64>(),
    ) {
        read_footer(&summary, footer_at, summary_behind, end);
    }

    #[test]
    fn entries_of_garbage_never_panic(bytes in bytes(200), entries in any::<u32>()) {
        let crc = crc32fast::hash(&bytes);
        for entries in [entries, u32::try_from(bytes.len() / ENTRY_BYTES).unwrap()] {
            let (first, last) = (Offset(0), Offset(0));
            let extent = SummaryExtent { slot: Slot(0), first, last, entries_at: 0, entries, crc };
            let _ = extent.entries_bytes();
            let _ = decode_entries(&bytes, &extent);
        }
    }
}
