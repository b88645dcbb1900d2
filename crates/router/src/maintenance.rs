//! Sealing and merging of claims, beside the hot path.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::dedup::{self, DedupTable};

/// Wait after work on the files failed.
const PAUSE: Duration = Duration::from_secs(1);

/// At most one seal and one merge at a time for one table.
pub(crate) struct Maintenance {
    table: Arc<DedupTable>,
    sealing: Option<JoinHandle<()>>,
    merging: Option<JoinHandle<()>>,
}

impl Maintenance {
    pub(crate) fn new(table: Arc<DedupTable>) -> Self {
        Self { table, sealing: None, merging: None }
    }

    /// Begins what is due.
    pub(crate) fn begin_due(&mut self) {
        if self.sealing.is_none() && self.table.seal_due() {
            self.sealing = Some(tokio::spawn(blocking(Arc::clone(&self.table), "seal", DedupTable::seal)));
        }
        if self.merging.is_none() && self.table.merge_due() {
            self.merging = Some(tokio::spawn(blocking(Arc::clone(&self.table), "merge", DedupTable::merge)));
        }
    }

    /// Resolves when something that was begun is done, or has failed and waited. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            biased;
            () = ended(&mut self.sealing) => self.sealing = None,
            () = ended(&mut self.merging) => self.merging = None,
        }
    }
}

async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => task.await.expect("it does not panic and is not aborted"),
        None => std::future::pending().await,
    }
}

/// Claims are kept in memory until their seal succeeds, and a merge only saves memory: a failure is no reason to
/// stop routing at once. The router waits when memory is full.
async fn blocking(
    table: Arc<DedupTable>,
    what: &'static str,
    work: fn(&DedupTable) -> Result<(), dedup::Error>,
) {
    let done = tokio::task::spawn_blocking(move || work(&table)).await;
    if let Err(error) = done.expect("work on claims does not panic") {
        tracing::warn!(%error, what, "claims could not be written to disk; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
