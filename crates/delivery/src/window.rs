//! The delivery records read last, by offset: what lanes start from without asking the log again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use fanfare_core::{Delivery, Offset};

/// Records of one partition in memory.
const WINDOW_BYTES: usize = 8 << 20;
/// The shortest run worth a read.
const RUN_BYTES_MIN: usize = 8 << 10;

/// A bounded map of the newest reads; what was read first goes first.
#[derive(Debug, Default)]
pub(crate) struct Window {
    records: HashMap<Offset, Arc<Delivery>>,
    order: VecDeque<Offset>,
    size_bytes: usize,
}

impl Window {
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
        while self.size_bytes > WINDOW_BYTES && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("longer than one");
            if let Some(delivery) = self.records.remove(&oldest) {
                self.size_bytes -= size_bytes(&delivery);
            }
        }
    }

    /// How much to read for one of so many lanes that wait, so that their runs fit beside each other.
    pub(crate) fn run_bytes(waiting: usize) -> usize {
        (WINDOW_BYTES / 2 / waiting.max(1)).clamp(RUN_BYTES_MIN, fanfare_core::limits::CATCH_UP_RUN_BYTES)
    }
}

fn size_bytes(delivery: &Delivery) -> usize {
    // The record, its place in both collections, and its list.
    192 + 4 * delivery.endpoints().len()
}
