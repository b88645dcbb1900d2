//! Which payloads are being overwritten, or have just been: nobody reads their bytes, and a start takes them for whole.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use fanfare_core::{Offset, Partition};
use parking_lot::RwLock;

use super::{
    format::{topic_code, topic_of},
    layout::{Layout, Slot},
    tables::WipingKey,
};

/// A record.
pub(super) type Place = (Slot, Offset);

/// As the tables note them, for one journal.
#[derive(Debug, Default)]
pub(super) struct Wiped {
    /// And, once its bytes are zeros, the number of its segment.
    places: RwLock<BTreeMap<Place, Option<u64>>>,
    /// Most journals have none: readers need not ask for the lock.
    any: AtomicBool,
}

impl Wiped {
    pub(super) fn of(layout: &Layout, keys: &[WipingKey]) -> Self {
        let places = keys.iter().filter_map(|(topic, partition, offset)| {
            let slot = layout.slot(topic_of(*topic)?, Partition(*partition))?;
            Some(((slot, Offset(*offset)), None))
        });
        let places: BTreeMap<_, _> = places.collect();
        let any = AtomicBool::new(!places.is_empty());
        Self { places: RwLock::new(places), any }
    }

    pub(super) fn contains(&self, slot: Slot, offset: Offset) -> bool {
        self.any.load(Ordering::Acquire) && self.places.read().contains_key(&(slot, offset))
    }

    pub(super) fn hide(&self, slot: Slot, offsets: &[Offset]) {
        let mut places = self.places.write();
        places.extend(offsets.iter().map(|offset| ((slot, *offset), None)));
        self.any.store(!places.is_empty(), Ordering::Release);
    }

    /// Their bytes are zeros, durably.
    pub(super) fn zeroed(&self, zeroed: &[(Place, u64)]) {
        self.places.write().extend(zeroed.iter().map(|(place, segment)| (*place, Some(*segment))));
    }

    pub(super) fn all(&self) -> Vec<Place> {
        self.places.read().keys().copied().collect()
    }

    /// Those whose bytes are zeros in a segment that nobody writes to any more.
    pub(super) fn settled(&self, active: u64) -> Vec<Place> {
        let places = self.places.read();
        let settled = places.iter().filter(|(_, segment)| segment.is_some_and(|segment| segment < active));
        settled.map(|(place, _)| *place).collect()
    }

    pub(super) fn forget(&self, forgotten: &[Place]) {
        let mut places = self.places.write();
        for place in forgotten {
            places.remove(place);
        }
        self.any.store(!places.is_empty(), Ordering::Release);
    }
}

/// As the tables name it.
pub(super) fn key(layout: &Layout, slot: Slot, offset: Offset) -> WipingKey {
    let (topic, partition) = layout.name(slot);
    (topic_code(topic), partition.0, offset.0)
}
