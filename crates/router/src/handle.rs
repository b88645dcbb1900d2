//! What the rest of the process may ask the router.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fanfare_core::{ClaimEntry, Fingerprint, KnownClaims, Offset, Partition, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::dedup::DedupTable;

/// Answers about claims, from the tables of the partitions that this process routes. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) slots: Arc<[Slot]>,
}

/// One partition of `messages` as this process knows it.
pub(crate) struct Slot {
    table: RwLock<Option<Arc<DedupTable>>>,
    /// Everything below was routed and its claims are in the table. `None`: not routed here, or not yet.
    routed: Mutex<Option<Offset>>,
    /// It rose. Wakes in the order of waiting, which a `watch` does not: simulation could not repeat it.
    rose: Notify,
    /// Messages that wait for their time.
    held: AtomicUsize,
}

impl Slot {
    fn new() -> Self {
        Self {
            table: RwLock::new(None),
            routed: Mutex::new(None),
            rose: Notify::new(),
            held: AtomicUsize::new(0),
        }
    }

    pub(crate) fn table(&self) -> Option<Arc<DedupTable>> {
        self.table.read().clone()
    }

    pub(crate) fn open(&self, table: Arc<DedupTable>) {
        *self.table.write() = Some(table);
    }

    /// Takes the table out: the partition is no longer routed here.
    pub(crate) fn close(&self) -> Option<Arc<DedupTable>> {
        *self.routed.lock() = None;
        self.holds(0);
        self.table.write().take()
    }

    pub(crate) fn holds(&self, count: usize) {
        self.held.store(count, Ordering::Relaxed);
    }

    /// Never goes back while the partition is routed here: a session that starts again below finds its claims
    /// in the table still.
    pub(crate) fn routed_below(&self, position: Offset) {
        {
            let mut routed = self.routed.lock();
            if routed.is_some_and(|before| before >= position) {
                return;
            }
            *routed = Some(position);
        }
        self.rose.notify_waiters();
    }
}

impl Handle {
    pub(crate) fn new(partitions: u32) -> Self {
        Self { slots: (0..partitions).map(|_| Slot::new()).collect() }
    }

    fn slot(&self, partition: Partition) -> &Slot {
        &self.slots[partition.0 as usize]
    }
}

impl KnownClaims for Handle {
    /// Also waits until this process routes the partition.
    fn caught_up<'a>(
        &'a self,
        partition: Partition,
        end: Offset,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let slot = self.slot(partition);
        Box::pin(async move {
            loop {
                let mut rose = std::pin::pin!(slot.rose.notified());
                rose.as_mut().enable();
                if slot.routed.lock().is_some_and(|routed| routed >= end) {
                    return;
                }
                rose.await;
            }
        })
    }

    /// A claim whose run cannot be read is unknown here: the router meets the same damage, rebuilds the run, and
    /// finds the repeat then.
    fn lookup(&self, partition: Partition, claim: Fingerprint, now: Timestamp) -> Option<ClaimEntry> {
        let table = self.slot(partition).table()?;
        table.lookup(claim, now).unwrap_or_else(|error| {
            tracing::error!(%partition, %error, "cannot look for a claim on disk");
            None
        })
    }

    fn routed(&self, partition: Partition) -> Offset {
        self.slot(partition).routed.lock().unwrap_or(Offset::ZERO)
    }

    fn held(&self, partition: Partition) -> usize {
        self.slot(partition).held.load(Ordering::Relaxed)
    }
}
