//! The life of one claimed partition: session after session, until it is given up.

use std::sync::{Arc, atomic::Ordering};

use fanfare_core::{
    InstallationId, Partition, limits,
    planted::{Fault, planted},
};
use fanfare_log::{AppendError, Topic};
use tokio_util::sync::CancellationToken;

use crate::{
    Router,
    chain::Chain,
    dedup::{self, DedupTable, Tuning},
    error::{Error, SessionError},
    held::Held,
    progress::Progress,
    recover::recover,
    route::Session,
};

/// Routes `partition` until `drain` is cancelled, and then until all that was routed is in a durable checkpoint.
pub(crate) async fn route_partition(
    router: Arc<Router>,
    partition: Partition,
    drain: CancellationToken,
) -> Result<(), Error> {
    let stopped = |reason| Error { partition, reason };
    let mut backoff = limits::ROUTER_BACKOFF_FIRST;
    loop {
        let error = match session(&router, partition, &drain, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(stopped(error)),
        };
        router.meters.sessions_failed.add(1);
        tracing::warn!(%partition, %error, retry_in = ?backoff, "routing failed; starting again from the checkpoint");
        if let SessionError::Dedup(dedup::Error::Damaged { .. }) = error {
            forget_runs(&router, partition).await;
        }
        tokio::select! {
            biased;
            () = drain.cancelled() => return Ok(()),
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(limits::ROUTER_BACKOFF_MAX);
    }
}

/// One session, from its checkpoint to its end.
async fn session(
    router: &Router,
    partition: Partition,
    drain: &CancellationToken,
    backoff: &mut std::time::Duration,
) -> Result<(), SessionError> {
    let table = open_table(router, partition).await?;
    let checkpoint = recover(&*router.log, partition, &table).await?;
    let bounds = router.log.bounds(Topic::Messages, partition).await;
    let start = bounds.map_err(|error| SessionError::Read { topic: Topic::Messages, error })?.start;
    if let Some(checkpoint) = checkpoint.as_ref().filter(|checkpoint| checkpoint.position < start) {
        router.meters.lost.add(start.0 - checkpoint.position.0);
        tracing::error!(
            %partition, from = %checkpoint.position, to = %start,
            "messages left the log before they were routed: raise the retention, or find out why routing stood still"
        );
    }
    let mut checkpoint = checkpoint.unwrap_or_default();
    checkpoint.position = checkpoint.position.max(start);

    if planted(Fault::ChainFromNothing) {
        checkpoint.last_sent.clear();
    }
    let number = router.entropy.u64();
    let delivery_partitions = router.log.partitions(Topic::Deliveries);
    tracing::info!(%partition, session = number, position = %checkpoint.position, "routing");
    router.slot(partition).routed_below(checkpoint.position);
    let inline = router.inline.load(Ordering::Relaxed);
    let mut session = Session {
        router,
        partition,
        inline,
        chain: Chain::new(partition, number, delivery_partitions, &checkpoint.last_sent),
        position: checkpoint.position,
        progress: Progress::new(Arc::clone(&router.log), partition, Arc::clone(&table), &checkpoint),
        table,
        held: Held::new(&checkpoint.held),
        appending: None,
    };
    router.slot(partition).holds(session.held.len());
    let ended = session.run(drain).await;
    if session.progress.has_checkpointed() {
        *backoff = limits::ROUTER_BACKOFF_FIRST;
    }
    match ended {
        Err(SessionError::Append {
            topic: Topic::Deliveries,
            error: error @ AppendError::TooLarge { .. },
        }) if inline => {
            router.inline.store(false, Ordering::Relaxed);
            Err(SessionError::Inline(error))
        }
        ended => ended,
    }
}

/// The partition's table: the one of the session before, or from disk.
async fn open_table(router: &Router, partition: Partition) -> Result<Arc<DedupTable>, SessionError> {
    let slot = router.slot(partition);
    if let Some(table) = slot.table() {
        return Ok(table);
    }
    let table = match &router.dedup_dir {
        None => DedupTable::in_memory(),
        Some(dir) => {
            let dir = dir.join(partition.to_string());
            let installation = router.control.view().installation().map(|installation| installation.id);
            let installation = installation.unwrap_or(InstallationId::from_bytes([0; InstallationId::BYTES]));
            blocking(move || DedupTable::open(&dir, installation, partition, Tuning::default())).await?
        }
    };
    let table = Arc::new(table);
    slot.open(Arc::clone(&table));
    Ok(table)
}

async fn forget_runs(router: &Router, partition: Partition) {
    if let Some(table) = router.slot(partition).table()
        && let Err(error) = blocking(move || table.clear()).await
    {
        tracing::warn!(%partition, %error, "cannot remove damaged claims");
    }
}

/// Gives the partition up: its files are free for another table when this resolves.
pub(crate) async fn close_table(router: &Router, partition: Partition) {
    if let Some(table) = router.slot(partition).close()
        && router.dedup_dir.is_some()
    {
        blocking(move || table.retire()).await;
    }
}

/// Runs work that waits for the local disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work on claims does not panic")
}
