//! Which partitions a journal holds, and the dense number of each.

use fanfare_core::Partition;

use crate::contract::Topic;

/// A partition of a topic, as a number from 0 within its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The topics of one journal with their numbers of partitions.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    topics: Vec<(Topic, u32)>,
}

impl Layout {
    pub(super) fn new(topics: Vec<(Topic, u32)>) -> Self {
        Self { topics }
    }

    pub(super) fn slots(&self) -> usize {
        self.topics.iter().map(|(_, partitions)| *partitions as usize).sum()
    }

    /// `None` if this journal has no such partition.
    pub(super) fn slot(&self, topic: Topic, partition: Partition) -> Option<Slot> {
        let mut first = 0;
        for (known, partitions) in &self.topics {
            if *known == topic {
                return (partition.0 < *partitions).then_some(Slot(first + partition.0));
            }
            first += partitions;
        }
        None
    }

    pub(super) fn name(&self, slot: Slot) -> (Topic, Partition) {
        let mut rest = slot.0;
        for (topic, partitions) in &self.topics {
            if rest < *partitions {
                return (*topic, Partition(rest));
            }
            rest -= partitions;
        }
        unreachable!("slots come from this layout")
    }

    /// All partitions in the order of their slots.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, Topic, Partition)> {
        (0_u32..).map(Slot).take(self.slots()).map(|slot| {
            let (topic, partition) = self.name(slot);
            (slot, topic, partition)
        })
    }
}
