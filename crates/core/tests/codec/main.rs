//! Formats: whatever is written reads back the same, whatever else is read is refused without a panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod generate;
mod ids;

use bytes::Bytes;
use fanfare_core::{
    AttemptRecord, Delivery, Message, RouterCheckpoint, WorkerCheckpoint,
    codec::{Malformed, Reader, Writer},
    load::PartitionLoad,
};
use proptest::{collection::vec, prelude::*};

type Decode = fn(&[u8]) -> Result<Bytes, Malformed>;

/// Every decoder, each with the encoder of what it gives.
const DECODERS: [(&str, Decode); 6] = [
    ("message", |bytes| Message::decode(bytes).map(|record| record.encode())),
    ("delivery", |bytes| Delivery::decode(bytes).map(|record| record.encode())),
    ("attempts", |bytes| AttemptRecord::decode(bytes).map(|record| record.encode())),
    ("router checkpoint", |bytes| RouterCheckpoint::decode(bytes).map(|record| record.encode())),
    ("worker checkpoint", |bytes| WorkerCheckpoint::decode(bytes).map(|record| record.encode())),
    ("partition load", |bytes| PartitionLoad::decode(bytes).map(|record| record.encode())),
];

/// Any record of any kind as bytes, and the place of its decoder in [`DECODERS`].
fn any_record() -> impl Strategy<Value = (usize, Bytes)> {
    prop_oneof![
        generate::message().prop_map(|record| (0, record.encode())),
        generate::delivery().prop_map(|record| (1, record.encode())),
        generate::attempts().prop_map(|record| (2, record.encode())),
        generate::router_checkpoint().prop_map(|record| (3, record.encode())),
        generate::worker_checkpoint().prop_map(|record| (4, record.encode())),
        generate::partition_load().prop_map(|record| (5, record.encode())),
    ]
}

/// Decodes with every decoder; what one of them takes must survive its own round trip.
fn decode_with_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    for (name, decode) in DECODERS {
        if let Ok(again) = decode(bytes) {
            let once_more = decode(&again);
            prop_assert_eq!(once_more.as_ref(), Ok(&again), "{} is not stable", name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn message_reads_back(record in generate::message()) {
        prop_assert_eq!(Message::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn partition_load_reads_back(record in generate::partition_load()) {
        prop_assert_eq!(PartitionLoad::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn delivery_reads_back(record in generate::delivery()) {
        prop_assert_eq!(Delivery::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn attempts_read_back(record in generate::attempts()) {
        prop_assert_eq!(AttemptRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn router_checkpoint_reads_back(record in generate::router_checkpoint()) {
        prop_assert_eq!(RouterCheckpoint::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn worker_checkpoint_reads_back(record in generate::worker_checkpoint()) {
        prop_assert_eq!(WorkerCheckpoint::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..512)) {
        decode_with_all(&bytes)?;
    }

    /// Garbage behind a valid beginning reaches deeper than pure garbage.
    #[test]
    fn garbage_behind_version_and_kind_never_panics(kind in 0_u8..6, mut bytes in vec(any::<u8>(), 0..512)) {
        bytes.splice(0..0, [1, kind]);
        decode_with_all(&bytes)?;
    }

    #[test]
    fn damaged_records_never_panic(
        (_, record) in any_record(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = record.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        decode_with_all(&bytes)?;
    }

    /// A record that was cut is an error: no field has a default yet.
    #[test]
    fn cut_records_are_refused((kind, record) in any_record(), at in any::<prop::sample::Index>()) {
        let cut = &record[..at.index(record.len())];
        decode_with_all(cut)?;
        let (name, decode) = DECODERS[kind];
        prop_assert!(decode(cut).is_err(), "{} took {} of {} bytes", name, cut.len(), record.len());
    }

    /// Fields may be added at the end within one version: what is left over is ignored.
    #[test]
    fn later_fields_are_ignored((kind, record) in any_record(), more in vec(any::<u8>(), 1..16)) {
        let (name, decode) = DECODERS[kind];
        let longer = [&record[..], &more].concat();
        prop_assert_eq!(decode(&longer), Ok(record), "{} read past its end", name);
    }

    #[test]
    fn newer_versions_say_so((_, record) in any_record(), version in 3_u8..) {
        let mut bytes = record.to_vec();
        bytes[0] = version;
        for (name, decode) in DECODERS {
            let known = if ["message", "delivery", "attempts", "router checkpoint"].contains(&name) { 2 } else { 1 };
            let newer = Malformed::NewerVersion { found: version, known };
            prop_assert_eq!(decode(&bytes), Err(newer), "{}", name);
        }
    }

    #[test]
    fn uint_reads_back(value in any::<u64>()) {
        let mut writer = Writer::default();
        writer.uint(value);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.uint("value"), Ok(value));
        prop_assert!(reader.is_empty());
    }
}

#[test]
fn version_zero_is_no_version() {
    for (_, decode) in DECODERS {
        assert_eq!(decode(&[0, 1]), Err(Malformed::Value { field: "version", value: 0 }));
    }
}

#[test]
fn a_list_longer_than_its_record_is_refused_before_it_is_allocated() {
    let mut writer = Writer::record(1, 2);
    writer.uint(0);
    writer.uint(u64::MAX);
    assert!(matches!(AttemptRecord::decode(&writer.finish()), Err(Malformed::Truncated("facts"))));
}

#[test]
fn an_overlong_uint_is_refused() {
    let mut reader = Reader::new(&[0xff; 16]);
    assert!(reader.uint("value").is_err());
    let mut reader = Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]);
    assert!(reader.uint("value").is_err(), "a 65th bit");
}
