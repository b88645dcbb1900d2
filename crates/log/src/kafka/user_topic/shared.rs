//! What the thread that reads and those who take its records share.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::UserRecord;

/// Read and not taken yet.
const QUEUE_RECORDS: usize = 2_000;
const QUEUE_BYTES: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) arrived: Notify,
    taken: Condvar,
}

#[derive(Default)]
struct State {
    records: VecDeque<UserRecord>,
    bytes: usize,
    /// Partitions that are ours, with the number of their gain: what was read under an earlier one does not count.
    held: BTreeMap<i32, u64>,
    gains: u64,
    /// Up to where partitions are done and that was not committed yet.
    done: BTreeMap<i32, i64>,
    closed: bool,
    ended: Option<String>,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.taken.notify_all();
    }

    /// Reading ended.
    pub(super) fn end(&self, why: String) {
        self.state.lock().ended = Some(why);
        self.arrived.notify_waiters();
    }

    pub(super) fn gained(&self, partitions: impl IntoIterator<Item = i32>) {
        let mut state = self.state.lock();
        for partition in partitions {
            state.gains += 1;
            let gain = state.gains;
            state.held.insert(partition, gain);
        }
    }

    pub(super) fn lost(&self, partitions: impl IntoIterator<Item = i32>) {
        let mut state = self.state.lock();
        for partition in partitions {
            state.held.remove(&partition);
            state.done.remove(&partition);
            state.records.retain(|record| record.partition != partition);
        }
        state.bytes = state.records.iter().map(UserRecord::size_bytes).sum();
    }

    /// Waits for room, at most so long.
    pub(super) fn has_room(&self, patience: Duration) -> bool {
        let has_room = |state: &State| state.bytes < QUEUE_BYTES && state.records.len() < QUEUE_RECORDS;
        let mut state = self.state.lock();
        if !has_room(&state) && !state.closed {
            self.taken.wait_for(&mut state, patience);
        }
        has_room(&state)
    }

    /// A record was read. One of a partition that went meanwhile is somebody else's.
    pub(super) fn push(&self, mut record: UserRecord) {
        let mut state = self.state.lock();
        let Some(&held) = state.held.get(&record.partition) else { return };
        record.held = held;
        state.bytes += record.size_bytes();
        state.records.push_back(record);
        drop(state);
        self.arrived.notify_waiters();
    }

    pub(super) fn take(&self, most: usize, most_bytes: usize) -> Result<Vec<UserRecord>, String> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(record) = state.records.front() {
            let size_bytes = record.size_bytes();
            if taken.len() == most || (!taken.is_empty() && bytes + size_bytes > most_bytes) {
                break;
            }
            bytes += size_bytes;
            taken.extend(state.records.pop_front());
        }
        state.bytes -= bytes;
        if taken.is_empty()
            && let Some(why) = &state.ended
        {
            return Err(why.clone());
        }
        drop(state);
        self.taken.notify_all();
        Ok(taken)
    }

    pub(super) fn done(&self, records: &[UserRecord]) {
        let mut state = self.state.lock();
        for record in records {
            if state.held.get(&record.partition) == Some(&record.held) {
                let done = state.done.entry(record.partition).or_default();
                *done = (*done).max(record.offset + 1);
            }
        }
    }

    /// Where the next reader is to begin, by partition.
    pub(super) fn take_done(&self) -> BTreeMap<i32, i64> {
        std::mem::take(&mut self.state.lock().done)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(partition: i32, offset: i64) -> UserRecord {
        let value = Some(Bytes::from_static(b"0123456789"));
        UserRecord::new(partition, offset, None, value, Vec::new())
    }

    fn offsets(records: &[UserRecord]) -> Vec<(i32, i64)> {
        records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn takes_in_order_as_much_as_is_wanted() {
        let shared = Shared::default();
        shared.gained([0]);
        for offset in 0..5 {
            shared.push(record(0, offset));
        }
        let one = record(0, 0).size_bytes();
        assert_eq!(offsets(&shared.take(3, usize::MAX).unwrap()), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(offsets(&shared.take(3, one - 1).unwrap()), [(0, 3)], "one in any case");
        assert_eq!(offsets(&shared.take(3, one).unwrap()), [(0, 4)]);
        assert_eq!(shared.state.lock().bytes, 0);
    }

    #[test]
    fn what_was_read_before_a_loss_is_not_committed_after_it() {
        let shared = Shared::default();
        shared.gained([0, 1]);
        shared.push(record(0, 7));
        shared.push(record(1, 3));
        let taken = shared.take(10, usize::MAX).unwrap();
        shared.lost([0]);
        shared.gained([0]);
        shared.done(&taken);
        assert_eq!(shared.take_done(), BTreeMap::from([(1, 4)]));
        assert_eq!(shared.take_done(), BTreeMap::new(), "once");
    }

    #[test]
    fn what_is_lost_is_not_taken() {
        let shared = Shared::default();
        shared.gained([0, 1]);
        for offset in 0..2 {
            shared.push(record(0, offset));
            shared.push(record(1, offset));
        }
        shared.lost([0]);
        shared.push(record(0, 2));
        assert_eq!(offsets(&shared.take(10, usize::MAX).unwrap()), [(1, 0), (1, 1)]);
    }

    #[test]
    fn what_was_read_is_taken_before_the_end_is_told() {
        let shared = Shared::default();
        shared.gained([0]);
        shared.push(record(0, 0));
        shared.end("why".to_owned());
        assert_eq!(shared.take(10, usize::MAX).unwrap().len(), 1);
        assert_eq!(shared.take(10, usize::MAX).unwrap_err(), "why");
    }
}
