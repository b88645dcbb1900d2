//! The thread by which a delivery worker notices repeats and gaps.

use fanfare_core::{Offset, Partition, Source};

/// What one session of the router sent where: each record names the one before it to the same delivery
/// partition, and the first one that of the checkpoint it started from.
pub(crate) struct Chain {
    partition: Partition,
    session: u64,
    /// By delivery partition the last source offset sent there.
    last_sent: Box<[Option<Offset>]>,
    /// By delivery partition whether this session sent something there.
    opened: Box<[bool]>,
    opened_one: bool,
}

impl Chain {
    pub(crate) fn new(
        partition: Partition,
        session: u64,
        delivery_partitions: u32,
        last_sent: &[(Partition, Offset)],
    ) -> Self {
        let mut places = vec![None; delivery_partitions as usize].into_boxed_slice();
        for &(to, offset) in last_sent {
            places[to.0 as usize] = Some(offset);
        }
        let opened = vec![false; delivery_partitions as usize].into_boxed_slice();
        Self { partition, session, last_sent: places, opened, opened_one: false }
    }

    /// The source of the record that goes to delivery partition `to` for the message at `offset`. At most one
    /// per message and partition, by rising offset.
    pub(crate) fn link(&mut self, to: Partition, offset: Offset, control: Offset) -> Source {
        self.opened_one |= !std::mem::replace(&mut self.opened[to.0 as usize], true);
        let previous = self.last_sent[to.0 as usize].replace(offset);
        assert!(previous.is_none_or(|previous| previous < offset), "a session sends by rising source offset");
        Source { partition: self.partition, offset, session: self.session, previous, control }
    }

    /// Whether a record since the last call was the session's first to its delivery partition.
    pub(crate) fn opened_one(&mut self) -> bool {
        std::mem::take(&mut self.opened_one)
    }

    /// Where records without endpoints go.
    pub(crate) fn own_partition(&self) -> Partition {
        Partition(self.partition.0 % self.partitions())
    }

    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.last_sent.len()).expect("it was made from a u32")
    }
}
