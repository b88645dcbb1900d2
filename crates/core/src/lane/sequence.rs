//! A sequence: deliveries of a lane that must stay in order among themselves. Of each queue of a
//! `strict` lane all are one sequence, a `keyed` lane has one per ordering key.

use super::set::OffsetSet;
use crate::{Offset, Timestamp, Trigger};

/// Names a sequence: what was routed and what was injected are never in one, whatever their ordering key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

/// Of a hash one bit less is a hash too.
const INJECTED: u64 = 1 << 63;

impl Key {
    pub(super) fn new(trigger: Trigger, ordering_key: u64) -> Self {
        match trigger {
            Trigger::Scheduled => Self(ordering_key & !INJECTED),
            Trigger::Manual => Self(ordering_key | INJECTED),
        }
    }

    /// Shared by all in a queue that is not ordered by key.
    pub(super) fn shared(trigger: Trigger) -> Self {
        Self::new(trigger, 0)
    }

    /// The queue that it belongs to.
    pub(super) fn trigger(self) -> Trigger {
        if self.0 & INJECTED == 0 { Trigger::Scheduled } else { Trigger::Manual }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// All unsettled offsets, the head and what is in flight included.
    pub(super) queue: OffsetSet,
    pub(super) state: State,
    /// Its last head was parked: the next one is believed to be poison sooner.
    pub(super) parked_last: bool,
    /// When the last fruitless search ended.
    pub(super) searched_at: Option<Timestamp>,
    pub(super) search: Option<Search>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing to do.
    #[default]
    Empty,
    /// The head was never tried; the sequence stands in the lane's list of ready ones.
    Ready,
    /// The head failed and stands among the lane's retries.
    Waiting,
    /// One of its deliveries is in flight.
    Busy,
    /// The next attempt of its search may start; it stands in the lane's list of searching ones.
    Searching,
}

/// How a lane tells a poison message from an outage (design §5): the head is tried, then the messages after it,
/// each once, until one goes through. Then all that failed are tried once more, now that the endpoint is known to
/// be alive, and parked if they fail again. The last step is what keeps an outage that ends in the middle of the
/// search from parking anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// Failed in this search, in order; the head is the first.
    pub(super) failed: Vec<Offset>,
    /// The lane's event number of the first failure.
    pub(super) since: Option<u64>,
    /// Set once a message went through: the index in `failed` to be confirmed next.
    pub(super) confirming: Option<usize>,
}

impl Search {
    /// The delivery to be tried next, or `None` when there is none left.
    pub(super) fn next(&self, queue: &OffsetSet) -> Option<Offset> {
        match (self.confirming, self.failed.last()) {
            (Some(index), _) => self.failed.get(index).copied(),
            (None, None) => queue.min(),
            (None, Some(&last)) => queue.above(last),
        }
    }
}
