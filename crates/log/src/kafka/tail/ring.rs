//! The newest records of one partition, in memory.

use std::collections::VecDeque;

use fanfare_core::Offset;

use crate::contract::{Batch, LogRecord};

/// What a record takes beside its bytes.
const OVERHEAD_BYTES: usize = 128;

/// Everything from `first` to `next` stands in `records`. What the foremost reader has read may be thrown away; what
/// it has not read is kept, and nothing more is taken while that is too much.
#[derive(Debug, Default)]
pub(super) struct Ring {
    records: VecDeque<LogRecord>,
    size_bytes: usize,
    first: Offset,
    next: Offset,
    /// Where the foremost reader is.
    lead: Offset,
}

impl Ring {
    pub(super) fn starting_at(offset: Offset) -> Self {
        Self { first: offset, next: offset, lead: offset, ..Self::default() }
    }

    pub(super) fn next(&self) -> Offset {
        self.next
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// A reader has come as far as `offset`.
    pub(super) fn reached(&mut self, offset: Offset) {
        self.lead = self.lead.max(offset);
    }

    pub(super) fn push(&mut self, record: LogRecord) {
        if record.offset < self.next {
            return;
        }
        self.next = record.offset.next();
        self.size_bytes += size_bytes(&record);
        self.records.push_back(record);
    }

    /// Throws away what was read, as far as it is too much; gives whether more may be pushed.
    pub(super) fn make_room(&mut self, limit_bytes: usize) -> bool {
        while self.size_bytes >= limit_bytes
            && let Some(oldest) = self.records.pop_front_if(|oldest| oldest.offset < self.lead)
        {
            self.size_bytes -= size_bytes(&oldest);
            self.first = oldest.offset.next();
        }
        self.size_bytes < limit_bytes || self.records.is_empty()
    }

    /// What stands at and above `from`; `None` where that is not known here.
    pub(super) fn read(&self, from: Offset, max_bytes: usize) -> Option<Batch> {
        if from < self.first || from >= self.next {
            return None;
        }
        // Brokers give what is below the high watermark, and nothing else.
        let mut batch = Batch { records: Vec::new(), next: from, durable: self.next };
        let mut total_bytes = 0;
        let begin = self.records.partition_point(|record| record.offset < from);
        for record in self.records.range(begin..) {
            total_bytes += record.head.len() + record.payload.as_ref().map_or(0, bytes::Bytes::len);
            if !batch.records.is_empty() && total_bytes > max_bytes {
                return Some(batch);
            }
            batch.next = record.offset.next();
            batch.records.push(record.clone());
        }
        batch.next = self.next;
        Some(batch)
    }
}

fn size_bytes(record: &LogRecord) -> usize {
    OVERHEAD_BYTES + record.head.len() + record.payload.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record(offset: u64, payload_bytes: usize) -> LogRecord {
        LogRecord {
            offset: Offset(offset),
            head: Bytes::from_static(b"head"),
            payload: Some(vec![0; payload_bytes].into()),
        }
    }

    fn offsets(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn gives_what_it_has_and_says_what_it_has_not() {
        let mut ring = Ring::starting_at(Offset(10));
        assert_eq!(ring.read(Offset(10), 100), None, "whether something is there is not known yet");
        for offset in [10, 11, 14] {
            ring.push(record(offset, 10));
        }
        let all = ring.read(Offset(10), 1_000).unwrap_or_default();
        assert_eq!((offsets(&all), all.next), (vec![10, 11, 14], Offset(15)));
        let over_a_gap = ring.read(Offset(12), 1_000).unwrap_or_default();
        assert_eq!((offsets(&over_a_gap), over_a_gap.next), (vec![14], Offset(15)));
        let bounded = ring.read(Offset(10), 20).unwrap_or_default();
        assert_eq!((offsets(&bounded), bounded.next), (vec![10], Offset(11)));
        assert_eq!(ring.read(Offset(9), 100), None);
        assert_eq!(ring.read(Offset(15), 100), None);
    }

    #[test]
    fn what_nobody_has_read_stays_and_stops_the_rest() {
        let mut ring = Ring::starting_at(Offset(0));
        for offset in 0..4 {
            ring.push(record(offset, 1_000));
        }
        assert!(!ring.make_room(2_000), "four records are too much, and nobody has read one");
        assert!(ring.read(Offset(0), 10).is_some());
        ring.reached(Offset(3));
        assert!(ring.make_room(2_000));
        assert_eq!(ring.read(Offset(2), 10), None);
        assert!(ring.read(Offset(3), 10).is_some());
    }

    #[test]
    fn one_record_larger_than_all_room_is_taken() {
        let mut ring = Ring::starting_at(Offset(0));
        assert!(ring.make_room(100));
        ring.push(record(0, 1_000));
        assert!(!ring.make_room(100));
        ring.reached(Offset(1));
        assert!(ring.make_room(100));
    }

    proptest! {
        /// Whatever is pushed and read, a reader that goes on at `next` sees each record once, in order.
        #[test]
        fn a_reader_misses_nothing(steps in proptest::collection::vec((1_u64..4, 0_usize..600, 0_usize..900), 1..60)) {
            let mut ring = Ring::starting_at(Offset(5));
            let (mut pushed, mut seen) = (Vec::new(), Vec::new());
            let (mut next, mut position) = (5, Offset(5));
            for (gap, payload_bytes, max_bytes) in steps {
                if ring.make_room(1_500) {
                    next += gap;
                    ring.push(record(next, payload_bytes));
                    pushed.push(next);
                    next += 1;
                } else {
                    let batch = ring.read(position, max_bytes);
                    prop_assert!(batch.is_some(), "full, so there is something unread at {}", position);
                    let batch = batch.unwrap_or_default();
                    seen.extend(offsets(&batch));
                    position = batch.next;
                    ring.reached(position);
                }
            }
            while let Some(batch) = ring.read(position, 300) {
                seen.extend(offsets(&batch));
                position = batch.next;
            }
            prop_assert_eq!(seen, pushed);
        }
    }
}
