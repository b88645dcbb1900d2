//! The order of what this process appends, and what of it is settled.
//!
//! Kafka keeps order within a partition only. Where a record speaks of records elsewhere (a router's checkpoint, a
//! snapshot of lanes), it is handed over after all of them are acknowledged. If one of them failed and its owner does
//! not know yet, the record is refused: it might speak of what is not there.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::contract::AppendError;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// The oldest open entry was settled.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
    /// Appends that failed and whose owners were not told, because they did not ask.
    unheard: u64,
}

impl Ledger {
    /// The next place in the order; settled when the entry is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Entry {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        Entry { ledger: Arc::clone(self), number, failed: false }
    }

    /// Where the order is now: everything that was opened so far stands before it.
    pub(super) fn mark(self: &Arc<Self>) -> Mark {
        Mark { ledger: Arc::clone(self), number: self.state.lock().next }
    }

    /// The owner of an append that failed was told so.
    pub(super) fn heard(&self) {
        let mut state = self.state.lock();
        state.unheard = state.unheard.saturating_sub(1);
    }

    async fn settled_below(&self, number: u64) -> Result<(), AppendError> {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.open.first().is_none_or(|oldest| *oldest >= number) {
                    return match std::mem::take(&mut state.unheard) {
                        0 => Ok(()),
                        failed => {
                            Err(AppendError::Unavailable(format!("{failed} appends before this one failed")))
                        }
                    };
                }
            }
            moved.await;
        }
    }

    fn settle(&self, number: u64, failed: bool) {
        let was_oldest = {
            let mut state = self.state.lock();
            let was_oldest = state.open.first() == Some(&number);
            state.open.remove(&number);
            state.unheard += u64::from(failed);
            was_oldest
        };
        if was_oldest {
            self.moved.notify_waiters();
        }
    }
}

/// A place in the order that is not settled yet.
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    number: u64,
    failed: bool,
}

impl Entry {
    /// Settles it as failed. Whoever tells its owner has to say so by [`Ledger::heard`].
    pub(super) fn fail(mut self) {
        self.failed = true;
    }

    /// Resolves when everything before it is settled.
    pub(super) async fn first(&self) -> Result<(), AppendError> {
        self.ledger.settled_below(self.number).await
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.settle(self.number, self.failed);
    }
}

/// A point between two places.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Mark {
    /// Resolves when everything before it is settled.
    pub(super) async fn passed(&self) -> Result<(), AppendError> {
        self.ledger.settled_below(self.number).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_mark_is_passed_when_all_before_it_are_settled() {
        let ledger = Arc::new(Ledger::default());
        let (first, second) = (ledger.open(), ledger.open());
        let mark = ledger.mark();
        let third = ledger.open();
        assert_eq!(mark.passed().now_or_never(), None);
        drop(second);
        assert_eq!(mark.passed().now_or_never(), None, "the first one is open");
        assert_eq!(first.first().now_or_never(), Some(Ok(())));
        drop(first);
        assert_eq!(mark.passed().now_or_never(), Some(Ok(())), "the third one stands behind it");
        drop(third);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let ledger = Arc::new(Ledger::default());
        let first = ledger.open();
        let mark = ledger.mark();
        let waiting = tokio::spawn(async move { mark.passed().await });
        tokio::task::yield_now().await;
        drop(first);
        assert!(matches!(waiting.await, Ok(Ok(()))));
    }

    #[test]
    fn a_failure_that_nobody_heard_of_is_told_once() {
        let ledger = Arc::new(Ledger::default());
        ledger.open().fail();
        let told = ledger.mark().passed().now_or_never();
        assert!(matches!(told, Some(Err(AppendError::Unavailable(_)))), "{told:?}");
        assert_eq!(ledger.mark().passed().now_or_never(), Some(Ok(())));
        ledger.open().fail();
        ledger.heard();
        assert_eq!(ledger.mark().passed().now_or_never(), Some(Ok(())), "its owner knows");
    }
}
