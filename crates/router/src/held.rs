//! Messages that wait for their time (`deliverAt`).
//!
//! What waits is a function of the log: a message with a time joins when it is routed, and leaves when the copy of it that
//! was appended at its time is routed. Whoever appends the copy twice, after a crash or beside another router, does no harm:
//! the second is a copy of what does not wait any more, and is for nobody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use fanfare_control::Control;
use fanfare_core::{Clock, Message, Offset, Partition, Timestamp, limits};
use fanfare_log::{Log, NewRecord, Sync, Topic};

use crate::error::SessionError;

/// A message that began to wait, or does not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Joined { offset: Offset, due: Timestamp },
    Left(Offset),
}

/// What waits, by offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    due: HashMap<Offset, Timestamp>,
    /// Without those that were appended again by this session.
    queue: BTreeSet<(Timestamp, Offset)>,
}

impl Held {
    pub(crate) fn new(held: &[(Timestamp, Offset)]) -> Self {
        let due = held.iter().map(|&(due, offset)| (offset, due)).collect();
        Self { due, queue: held.iter().copied().collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    pub(crate) fn join(&mut self, offset: Offset, due: Timestamp) -> Change {
        self.due.insert(offset, due);
        self.queue.insert((due, offset));
        Change::Joined { offset, due }
    }

    /// The copy of a message has come; `None` if it came before.
    pub(crate) fn leave(&mut self, offset: Offset) -> Option<Change> {
        let due = self.due.remove(&offset)?;
        self.queue.remove(&(due, offset));
        Some(Change::Left(offset))
    }

    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|&(due, _)| due)
    }

    /// What is due, the longest due first, to be appended: it is not given again.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<Offset> {
        let mut taken = Vec::new();
        while taken.len() < limits::DUE_AT_ONCE
            && let Some(&(due, offset)) = self.queue.first()
            && due <= now
        {
            self.queue.pop_first();
            taken.push(offset);
        }
        taken
    }
}

/// What a checkpoint says of them: follows [`Held`] as batches become durable.
pub(crate) type Recorded = BTreeMap<Offset, Timestamp>;

pub(crate) fn record(recorded: &mut Recorded, change: Change) {
    match change {
        Change::Joined { offset, due } => recorded.insert(offset, due),
        Change::Left(offset) => recorded.remove(&offset),
    };
}

/// Appends copies of the messages at these offsets, for their time has come. Those whose original is not in the log any
/// more are returned.
pub(crate) async fn append_due(
    log: Arc<dyn Log>,
    control: Control,
    clock: Arc<dyn Clock>,
    partition: Partition,
    offsets: Vec<Offset>,
) -> Result<Vec<Offset>, SessionError> {
    let read_error = |error| SessionError::Read { topic: Topic::Messages, error };
    let bounds = log.bounds(Topic::Messages, partition).await.map_err(read_error)?;
    let mut gone = Vec::new();
    let mut copies = Vec::new();
    for original in offsets {
        if original < bounds.start {
            gone.push(original);
            continue;
        }
        let batch = log.fetch(Topic::Messages, partition, original, 1).await.map_err(read_error)?;
        let Some(record) = batch.records.into_iter().next().filter(|record| record.offset == original) else {
            gone.push(original);
            continue;
        };
        let message = Message::decode(&record.head).map_err(|error| SessionError::Record {
            topic: Topic::Messages,
            offset: original,
            error,
        })?;
        // Its age and its place among others are those of the moment in which it goes out.
        let now = clock.now();
        let is_erased = control.view().is_erased(message.application, partition, original);
        let payload = record.payload.filter(|_| !is_erased);
        let mut copy = Message { accepted_at: now, due_of: Some(original), ..message };
        // A payload that was erased meanwhile stays away.
        if payload.is_none() {
            copy.payload_expires_at = Some(now);
        }
        copies.push(NewRecord { head: copy.encode(), payload: payload.unwrap_or_default() });
    }
    if !copies.is_empty() {
        let append_error = |error| SessionError::Append { topic: Topic::Messages, error };
        let pending =
            log.append(Topic::Messages, partition, copies, Sync::Now).await.map_err(append_error)?;
        pending.await.map_err(append_error)?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_and_leaves_once() {
        let at = Timestamp::from_secs;
        let mut held = Held::new(&[(at(30), Offset(1)), (at(10), Offset(2))]);
        held.join(Offset(3), at(20));
        assert_eq!((held.len(), held.first_due()), (3, Some(at(10))));
        assert_eq!(held.take_due(at(9)), []);
        assert_eq!(held.take_due(at(20)), [Offset(2), Offset(3)]);
        assert_eq!(held.take_due(at(29)), []);
        assert_eq!(held.leave(Offset(2)), Some(Change::Left(Offset(2))));
        assert_eq!(held.leave(Offset(2)), None, "a second copy");
        // Somebody else was first.
        assert_eq!(held.leave(Offset(1)), Some(Change::Left(Offset(1))));
        assert_eq!((held.take_due(at(40)), held.len()), (vec![], 1));
    }
}
