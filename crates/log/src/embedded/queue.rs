//! What appenders, readers and the writer of a journal share, and when something is due.

use std::{collections::VecDeque, ops::Range};

use fanfare_core::{Offset, limits};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::{layout::Slot, tail::Tails};
use crate::contract::{AppendError, NewRecord};

pub(super) struct State {
    pub(super) partitions: Vec<PartitionState>,
    pub(super) tails: Tails,
    pub(super) queue: VecDeque<Queued>,
    /// What the queue was charged against `room`.
    pub(super) queued_charge: usize,
    /// Appends in the queue that somebody waits for.
    pub(super) urgent: usize,
    pub(super) sequence: u64,
    pub(super) synced_sequence: u64,
    pub(super) synced_position: u64,
    pub(super) writer: Writer,
    pub(super) ending: Option<Ending>,
    /// Why nothing more is taken.
    pub(super) closed: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionState {
    pub(super) start: Offset,
    pub(super) next: Offset,
    pub(super) durable: Offset,
}

/// What the writer is doing, so that nobody wakes it for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Busy,
    /// Sleeps until something is appended.
    Idle,
    /// Sleeps until something urgent is appended, or the time of a lazy append has come.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Syncs everything first.
    Close,
    /// As a killed process ends.
    Kill,
}

pub(super) struct Queued {
    pub(super) sequence: u64,
    pub(super) since: Instant,
    pub(super) urgent: bool,
    pub(super) charge: usize,
    /// `None`: a barrier without records.
    pub(super) slot: Option<Slot>,
    pub(super) first: Offset,
    pub(super) records: Vec<NewRecord>,
    pub(super) done: oneshot::Sender<Result<Range<Offset>, AppendError>>,
    /// Held until it is durable: the next large append waits for it.
    pub(super) _turn: Option<OwnedSemaphorePermit>,
}

/// Appends that are written and synced together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) appends: Vec<Queued>,
}

/// What the writer is to do next.
pub(super) enum Due {
    Commit(Group),
    End(Ending),
    /// Nothing before this time, unless something is appended.
    At(Option<Instant>),
}

impl Queued {
    pub(super) fn end(&self) -> Offset {
        Offset(self.first.0 + self.records.len() as u64)
    }
}

impl State {
    pub(super) fn due(&mut self, now: Instant) -> Due {
        self.writer = Writer::Busy;
        if self.ending == Some(Ending::Kill) {
            return Due::End(Ending::Kill);
        }
        let Some(oldest) = self.queue.front() else {
            if let Some(ending) = self.ending {
                self.closed = Some("the log is shut down".to_owned());
                return Due::End(ending);
            }
            self.writer = Writer::Idle;
            return Due::At(None);
        };
        let lazy_until = oldest.since + limits::LAZY_SYNC;
        let enough = self.queued_charge >= limits::COMMIT_GROUP_BYTES;
        if self.urgent == 0 && !enough && now < lazy_until && self.ending.is_none() {
            self.writer = Writer::Waiting;
            return Due::At(Some(lazy_until));
        }
        Due::Commit(self.take_group())
    }

    /// The oldest appends up to a commit group, or one that is larger.
    fn take_group(&mut self) -> Group {
        let mut group = Group::default();
        let mut charge = 0;
        while let Some(append) = self
            .queue
            .pop_front_if(|append| charge == 0 || charge + append.charge <= limits::COMMIT_GROUP_BYTES)
        {
            charge += append.charge;
            self.urgent -= usize::from(append.urgent);
            group.appends.push(append);
        }
        self.queued_charge -= charge;
        group
    }
}
