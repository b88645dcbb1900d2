//! How many requests may be answered at once: as many as let the other tasks of the process come round in time.
//!
//! Requests, router and delivery share the threads of one runtime, and each task that is ready waits for all that
//! became ready before it. With thousands of publishers there is always a request ready; were all of them let in,
//! deliveries would come round so seldom that a backlog grows although the endpoints take everything. So a task looks
//! at how long the runtime takes to come round, and turns are taken away or given back accordingly. What waits for the
//! disk costs no thread and keeps its turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare_core::limits;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::{Instant, sleep},
};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// One in so many turns is taken away by a look that took too long …
const TAKEN_SHARE: usize = 8;
/// … and so many are given back by one that did not.
const GIVEN_BACK: usize = 4;

/// The turns of all requests of a process.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
    /// Turns to be taken away when they end.
    surplus: AtomicUsize,
}

/// One request's turn, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { free: Semaphore::new(limits::REQUESTS_IN_PROGRESS), surplus: AtomicUsize::new(0) }
    }

    pub(crate) fn are_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Waits for a turn, in the order of asking.
    pub(crate) async fn take(&self) -> Turn<'_> {
        let permit = self.free.acquire().await.expect("the semaphore is never closed");
        Turn { turns: self, permit: Some(permit) }
    }

    /// Keeps the number of turns to what the runtime can bear, until it is dropped.
    pub(crate) async fn keep_pace(self: Arc<Self>) {
        let mut turns = limits::REQUESTS_IN_PROGRESS;
        loop {
            sleep(LOOK_EVERY).await;
            let asked = Instant::now();
            yield_now().await;
            let wanted = next(turns, asked.elapsed());
            self.resize(turns, wanted);
            turns = wanted;
        }
    }

    fn resize(&self, from: usize, to: usize) {
        if to <= from {
            let free = self.free.forget_permits(from - to);
            self.surplus.fetch_add(from - to - free, Ordering::Relaxed);
        } else {
            let mut given_back = to - from;
            while given_back > 0 && self.spared() {
                given_back -= 1;
            }
            self.free.add_permits(given_back);
        }
    }

    /// Whether a turn was to be taken away and is counted as such now.
    fn spared(&self) -> bool {
        self.surplus
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| surplus.checked_sub(1))
            .is_ok()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.turns.spared()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

/// How many turns there should be after a look that took so long.
fn next(turns: usize, took: Duration) -> usize {
    let wanted = if took > limits::COME_ROUND { turns - turns / TAKEN_SHARE } else { turns + GIVEN_BACK };
    wanted.clamp(limits::REQUESTS_IN_PROGRESS_MIN, limits::REQUESTS_IN_PROGRESS)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_runtime_that_is_late_has_fewer_turns_and_gets_them_back() {
        let mut turns = limits::REQUESTS_IN_PROGRESS;
        for _ in 0..100 {
            turns = next(turns, limits::COME_ROUND * 2);
        }
        assert_eq!(turns, limits::REQUESTS_IN_PROGRESS_MIN, "never none");
        turns = next(turns, limits::COME_ROUND / 2);
        assert_eq!(turns, limits::REQUESTS_IN_PROGRESS_MIN + GIVEN_BACK);
        for _ in 0..1_000 {
            turns = next(turns, Duration::ZERO);
        }
        assert_eq!(turns, limits::REQUESTS_IN_PROGRESS);
    }

    /// Takes a turn if there is one.
    fn at_once(turns: &Turns) -> Option<Turn<'_>> {
        tokio::task::unconstrained(turns.take()).now_or_never()
    }

    #[tokio::test]
    async fn turns_in_use_are_taken_away_when_they_end() {
        let all = limits::REQUESTS_IN_PROGRESS;
        let turns = Turns::new();
        let mut used: Vec<_> = std::iter::from_fn(|| at_once(&turns)).collect();
        assert_eq!(used.len(), all);
        turns.resize(all, all - 2);
        used.truncate(all - 2);
        assert!(at_once(&turns).is_none(), "both are gone");
        used.pop();
        assert!(at_once(&turns).is_some(), "the third is not");

        turns.resize(all - 2, all - 4);
        turns.resize(all - 4, all);
        used.extend(std::iter::from_fn(|| at_once(&turns)));
        assert_eq!(used.len(), all, "all are back");
    }
}
