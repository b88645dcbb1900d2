//! Snapshots that no lane wrote: each is refused, or gives some lane; none panics.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{super::*, policy};
use crate::codec::Writer;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn restore(bytes: &[u8]) {
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
        let _ = Lane::restore(bytes, policy(ordering), NOW);
    }
}

/// Version and kind of a snapshot.
fn head() -> [u8; 2] {
    let snapshot = Lane::new(policy(Ordering::Strict), Offset::ZERO, NOW).snapshot(NOW);
    [snapshot[0], snapshot[1]]
}

/// Few, so that they meet; and some that no log reaches.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..40, 1 => any::<u64>()]
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

/// A set of offsets as a snapshot has it, or anything in its place.
fn offsets() -> impl Strategy<Value = Vec<u8>> {
    let good = vec(offset(), 0..60).prop_map(|offsets| {
        let mut all = OffsetSet::default();
        for offset in offsets {
            all.insert(Offset(offset));
        }
        all.to_bytes()
    });
    prop_oneof![8 => good, 1 => vec(any::<u8>(), 0..60)]
}

/// All the fields of a snapshot, which need not agree with each other.
fn snapshot() -> impl Strategy<Value = Bytes> {
    let times = (time(), prop::option::of(time()), time());
    let entry = (offset(), any::<u32>(), time(), time(), prop::option::of(time()));
    (times, offset(), offsets(), offsets(), vec(entry, 0..4), offsets()).prop_map(
        |((at, failing_since, used), next, unsettled, settled_ahead, entries, injected)| {
            let [version, kind] = head();
            let mut w = Writer::record(version, kind);
            w.timestamp(at);
            w.uint(next);
            w.bytes(&unsettled);
            w.bytes(&settled_ahead);
            w.option(failing_since, Writer::timestamp);
            w.timestamp(used);
            w.list(&entries, |w, (offset, attempts, first_failed_at, due, deadline)| {
                w.uint(*offset);
                w.uint(u64::from(*attempts));
                w.timestamp(*first_failed_at);
                w.timestamp(*due);
                w.option(*deadline, Writer::timestamp);
            });
            w.bytes(&injected);
            w.finish()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        restore(&bytes);
    }

    /// Garbage behind a valid beginning reaches deeper than pure garbage.
    #[test]
    fn garbage_behind_version_and_kind_never_panics(mut bytes in vec(any::<u8>(), 0..300)) {
        bytes.splice(0..0, head());
        restore(&bytes);
    }

    #[test]
    fn fields_that_contradict_each_other_never_panic(bytes in snapshot(), cut in any::<prop::sample::Index>()) {
        restore(&bytes);
        restore(&bytes[..cut.index(bytes.len())]);
    }
}
