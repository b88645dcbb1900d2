//! While somebody waits for the tables, nothing lingers so that more may come.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

#[derive(Debug, Default)]
pub(crate) struct Hurry {
    waiting: AtomicUsize,
    projector: Notify,
    readers: Notify,
}

impl Hurry {
    /// Until what is given is dropped, somebody waits.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.projector.notify_one();
        self.readers.notify_waiters();
        Waiting(self)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Resolves when somebody begins to wait. For the projector, who misses nobody.
    pub(crate) async fn begun(&self) {
        self.projector.notified().await;
    }

    /// Lets so much time pass, unless somebody waits.
    pub(crate) async fn linger(&self, time: Duration) {
        let mut begun = pin!(self.readers.notified());
        begun.as_mut().enable();
        if !self.is_on() {
            drop(timeout(time, begun).await);
        }
    }
}

pub(crate) struct Waiting<'a>(&'a Hurry);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
