//! Whether the disk has room, asked now and then.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fanfare_core::limits;

use crate::contract::Topic;

/// Room is there again only when so much more than the reserve is free: else it would come and go with each write.
const HYSTERESIS_BYTES: u64 = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Space {
    /// Less than the reserve is free: no messages.
    scarce: AtomicBool,
    /// A write found no room at all.
    full: AtomicBool,
}

impl Space {
    pub(super) fn has_room(&self, topic: Topic) -> bool {
        match topic {
            Topic::Messages => !self.scarce.load(Relaxed) && !self.full.load(Relaxed),
            Topic::Deliveries | Topic::Attempts | Topic::Control | Topic::Dedup => !self.full.load(Relaxed),
        }
    }

    /// Whether an append is refused. Facts and what is derived never are: they wait in memory for room.
    pub(super) fn refuses(&self, topic: Topic) -> bool {
        match topic {
            Topic::Messages | Topic::Control => !self.has_room(topic),
            Topic::Deliveries | Topic::Attempts | Topic::Dedup => false,
        }
    }

    pub(super) fn measured(&self, free_bytes: u64) {
        let scarce = self.scarce.load(Relaxed);
        let wanted = limits::DISK_RESERVE_BYTES + if scarce { HYSTERESIS_BYTES } else { 0 };
        if scarce != (free_bytes < wanted) {
            self.scarce.store(!scarce, Relaxed);
            if scarce {
                tracing::info!(free_bytes, "disk has room again");
            } else {
                tracing::error!(free_bytes, "disk is nearly full: messages are refused");
            }
        }
    }

    pub(super) fn write_found(&self, room: bool) {
        self.full.store(!room, Relaxed);
    }
}
