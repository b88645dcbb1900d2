//! The delivery records read last, by offset: what lanes start from without asking the log again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use fanfare_core::{Delivery, Offset};

/// Records in memory, over all partitions of the process.
const WINDOWS_BYTES: usize = 16 << 20;
const WINDOW_BYTES_MIN: usize = 512 << 10;
/// A record takes about so many times the room in memory that it takes in the log.
const MEMORY_PER_LOG_BYTE: usize = 2;
/// The shortest run worth a read.
const RUN_BYTES_MIN: usize = 8 << 10;

/// A bounded map of the newest reads; what was read first goes first.
#[derive(Debug)]
pub(crate) struct Window {
    limit_bytes: usize,
    records: HashMap<Offset, Arc<Delivery>>,
    order: VecDeque<Offset>,
    size_bytes: usize,
}

impl Window {
    /// One of so many windows in the process.
    pub(crate) fn one_of(partitions: u32) -> Self {
        let limit_bytes = (WINDOWS_BYTES / partitions.max(1) as usize).max(WINDOW_BYTES_MIN);
        Self { limit_bytes, records: HashMap::new(), order: VecDeque::new(), size_bytes: 0 }
    }

    pub(crate) fn get(&self, offset: Offset) -> Option<Arc<Delivery>> {
        self.records.get(&offset).map(Arc::clone)
    }

    pub(crate) fn insert(&mut self, offset: Offset, delivery: Arc<Delivery>) {
        let size = size_bytes(&delivery);
        if self.records.insert(offset, delivery).is_some() {
            return;
        }
        self.order.push_back(offset);
        self.size_bytes += size;
        while self.size_bytes > self.limit_bytes && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("longer than one");
            if let Some(delivery) = self.records.remove(&oldest) {
                self.size_bytes -= size_bytes(&delivery);
            }
        }
    }

    /// How much of the log to read for one of so many lanes, so that their runs fit beside each other: a run that
    /// drives out another lane's is read in vain.
    pub(crate) fn run_bytes(&self, lanes: usize) -> usize {
        let share = self.limit_bytes / MEMORY_PER_LOG_BYTE / 2 / lanes.max(1);
        share.clamp(RUN_BYTES_MIN, fanfare_core::limits::CATCH_UP_RUN_BYTES)
    }
}

fn size_bytes(delivery: &Delivery) -> usize {
    // The record, its place in both collections, and its list.
    192 + 4 * delivery.endpoints().len()
}
