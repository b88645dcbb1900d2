//! A queue: the deliveries of a lane that came in one way. A lane has two: what was routed, and what was injected.
//! They share its window, its place in the log and what it remembers of each delivery; they have nothing to wait for in
//! each other.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::{Index, IndexMut},
};

use super::{circuit::Circuit, sequence::Key, set::OffsetSet};
use crate::{Offset, Timestamp, Trigger};

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// Looked at and not started. Of a `keyed` lane: ordering key not yet known. Of a `strict` lane: always empty.
    pub(super) pending: OffsetSet,
    /// Failed deliveries that may be tried again, by the time they are due.
    pub(super) retries: BTreeSet<(Timestamp, Offset, Key)>,
    /// The same, due whatever their time says since the endpoint was found alive again.
    pub(super) overdue: BTreeSet<(Timestamp, Offset, Key)>,
    pub(super) ready: VecDeque<Key>,
    pub(super) searching: VecDeque<Key>,
    /// Whether the endpoint is believed to take what is in this queue. One that refuses all of a replay may take every
    /// new message.
    pub(super) circuit: Circuit,
    pub(super) in_flight: usize,
    pub(super) retries_in_flight: usize,
    /// When the endpoint was last found alive after an outage: failures before it are no reason to wait.
    pub(super) healed: u64,
    pub(super) healed_at: Timestamp,
    pub(super) last_probed: Offset,
}

/// A lane's two queues, by what their attempts are triggered by.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    routed: Queue,
    injected: Queue,
}

impl Queue {
    /// Takes a failed delivery off those that wait.
    pub(super) fn unschedule(&mut self, due: Timestamp, offset: Offset, key: Key) -> bool {
        self.retries.remove(&(due, offset, key)) || self.overdue.remove(&(due, offset, key))
    }

    /// Whether something that failed may be tried again now, but for the circuit and the window.
    pub(super) fn has_due_retry(&self, now: Timestamp) -> bool {
        !self.overdue.is_empty() || self.retries.first().is_some_and(|&(due, ..)| due <= now)
    }

    /// Whether something of it could be started but for the circuit and the window.
    pub(super) fn has_startable(&self) -> bool {
        !self.ready.is_empty() || !self.searching.is_empty() || !self.pending.is_empty()
    }
}

impl Queues {
    pub(super) fn all(&self) -> [&Queue; 2] {
        [&self.routed, &self.injected]
    }

    pub(super) fn all_mut(&mut self) -> [&mut Queue; 2] {
        [&mut self.routed, &mut self.injected]
    }
}

impl Index<Trigger> for Queues {
    type Output = Queue;

    fn index(&self, trigger: Trigger) -> &Queue {
        match trigger {
            Trigger::Scheduled => &self.routed,
            Trigger::Manual => &self.injected,
        }
    }
}

impl IndexMut<Trigger> for Queues {
    fn index_mut(&mut self, trigger: Trigger) -> &mut Queue {
        match trigger {
            Trigger::Scheduled => &mut self.routed,
            Trigger::Manual => &mut self.injected,
        }
    }
}
