//! One append on its way: its records are reported one by one, its owner is told once.

use std::{collections::HashMap, ops::Range, sync::Arc};

use fanfare_core::Offset;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    ledger::{self, Ledger},
    sizes::Sizes,
};
use crate::contract::{AppendError, Pending};

pub(super) type Outcome = Result<Range<Offset>, Failure>;

/// Why an append failed, as its session knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A broker finds one of its records too large. Its owner asks what the limit is.
    TooLarge {
        topic: String,
        size_bytes: usize,
    },
    Other(AppendError),
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        Self::Other(error)
    }
}

/// The memory an append takes while it is not durable, and its turn if it is a large one.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) _bytes: OwnedSemaphorePermit,
    pub(super) _turn: Option<OwnedSemaphorePermit>,
}

/// Appends that a producer has taken and not yet finished, by number.
pub(super) type Outstanding = Mutex<HashMap<u64, Arc<Append>>>;

/// What librdkafka gives back with each record. Called on its threads: takes locks for a moment, never waits.
#[derive(Debug)]
pub(super) struct Append {
    number: u64,
    outstanding: Arc<Outstanding>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Records not reported yet.
    left: usize,
    first: Option<Offset>,
    end: Offset,
    error: Option<Failure>,
    /// `None` once the owner was told.
    open: Option<Open>,
}

/// What is given back when an append is finished.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) done: oneshot::Sender<Outcome>,
    pub(super) room: Room,
    pub(super) entry: ledger::Entry,
}

impl Append {
    pub(super) fn new(number: u64, records: usize, open: Open, outstanding: &Arc<Outstanding>) -> Arc<Self> {
        let state = State { left: records, first: None, end: Offset::ZERO, error: None, open: Some(open) };
        let outstanding = Arc::clone(outstanding);
        let append = Arc::new(Self { number, outstanding, state: Mutex::new(state) });
        append.outstanding.lock().insert(number, Arc::clone(&append));
        append
    }

    /// A record is durable at an offset, or failed.
    pub(super) fn report(&self, result: Result<Offset, Failure>) {
        let finished = {
            let mut state = self.state.lock();
            state.left = state.left.saturating_sub(1);
            match result {
                Ok(offset) => {
                    state.first = Some(state.first.map_or(offset, |first| first.min(offset)));
                    state.end = state.end.max(offset.next());
                }
                Err(error) => drop(state.error.get_or_insert(error)),
            }
            state.finish_if_done()
        };
        self.finish(finished);
    }

    /// The last `records` were never handed over.
    pub(super) fn cut_short(&self, records: usize, error: impl Into<Failure>) {
        let finished = {
            let mut state = self.state.lock();
            state.left = state.left.saturating_sub(records);
            state.error.get_or_insert(error.into());
            state.finish_if_done()
        };
        self.finish(finished);
    }

    /// Fails whatever is still to be reported.
    pub(super) fn abandon(&self, error: AppendError) {
        self.cut_short(usize::MAX, error);
    }

    fn finish(&self, finished: Option<(Open, Outcome)>) {
        let Some((Open { done, room, entry }, outcome)) = finished else { return };
        self.outstanding.lock().remove(&self.number);
        drop(room);
        // Settled before it is told, so that what its owner does next comes after it.
        match &outcome {
            Ok(_) => drop(entry),
            Err(_) => entry.fail(),
        }
        // Who appended may have gone away.
        let _ = done.send(outcome);
    }
}

impl State {
    fn finish_if_done(&mut self) -> Option<(Open, Outcome)> {
        if self.left > 0 {
            return None;
        }
        let open = self.open.take()?;
        let outcome = match (self.error.take(), self.first) {
            (Some(error), _) => Err(error),
            (None, first) => Ok(first.unwrap_or(self.end)..self.end),
        };
        Some((open, outcome))
    }
}

/// What the owner of an append waits on.
pub(super) fn pending(told: oneshot::Receiver<Outcome>, ledger: Arc<Ledger>, sizes: Arc<Sizes>) -> Pending {
    Box::pin(async move {
        let Ok(outcome) = told.await else {
            return Err(AppendError::Closed("the log was shut down".to_owned()));
        };
        if outcome.is_err() {
            ledger.heard();
        }
        match outcome {
            Ok(offsets) => Ok(offsets),
            Err(Failure::TooLarge { topic, size_bytes }) => Err(sizes.judge(&topic, size_bytes).await),
            Err(Failure::Other(error)) => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::kafka::options::Options;

    struct World {
        ledger: Arc<Ledger>,
        room: Arc<Semaphore>,
        outstanding: Arc<Outstanding>,
        sizes: Arc<Sizes>,
    }

    impl World {
        fn new() -> Self {
            let room = Arc::new(Semaphore::new(10));
            let sizes = Sizes::new(&Options::new("127.0.0.1:1", 1, 1), &BTreeMap::new());
            Self { ledger: Arc::default(), room, outstanding: Arc::default(), sizes }
        }

        fn append(&self, records: usize) -> (Arc<Append>, Pending) {
            let (done, told) = oneshot::channel();
            let room = Room { _bytes: self.room.clone().try_acquire_many_owned(4).unwrap(), _turn: None };
            let open = Open { done, room, entry: self.ledger.open() };
            let pending = pending(told, self.ledger.clone(), self.sizes.clone());
            (Append::new(7, records, open, &self.outstanding), pending)
        }
    }

    #[tokio::test]
    async fn told_once_with_all_offsets_and_room_is_given_back() {
        let world = World::new();
        let (append, pending) = world.append(2);
        append.report(Ok(Offset(8)));
        assert_eq!((world.room.available_permits(), world.outstanding.lock().len()), (6, 1));
        append.report(Ok(Offset(9)));
        assert_eq!((world.room.available_permits(), world.outstanding.lock().len()), (10, 0));
        assert_eq!(pending.await, Ok(Offset(8)..Offset(10)));
    }

    #[tokio::test]
    async fn one_record_that_fails_fails_the_append_when_all_are_reported() {
        let world = World::new();
        let (append, pending) = world.append(3);
        append.report(Err(AppendError::Unavailable("first".to_owned()).into()));
        append.report(Ok(Offset(1)));
        assert_eq!(world.room.available_permits(), 6);
        append.report(Err(AppendError::Unavailable("second".to_owned()).into()));
        assert_eq!(pending.await, Err(AppendError::Unavailable("first".to_owned())));
        assert_eq!(world.ledger.mark().passed().await, Ok(()), "its owner was told");
    }

    #[tokio::test]
    async fn what_comes_after_it_was_abandoned_is_ignored() {
        let world = World::new();
        let (append, pending) = world.append(2);
        append.report(Ok(Offset(1)));
        append.abandon(AppendError::Unavailable("gone".to_owned()));
        append.report(Ok(Offset(2)));
        drop(pending);
        assert!(world.ledger.mark().passed().await.is_err(), "nobody was told");
    }
}
