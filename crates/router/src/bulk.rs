//! Putting many claims in at once, through the same code as one at a time: for load tests and imports.

use std::sync::Arc;

use fanfare_core::{ClaimEntry, Offset, Partition, RouterCheckpoint, Timestamp, limits};
use fanfare_log::{Log, NewRecord, Sync, Topic};

use crate::{
    dedup::DedupTable,
    error::{SessionError, checkpoint_error},
    partition::blocking,
    recover::recover,
};

/// Adds claims to a partition that no router is working on: each stands in a checkpoint in `dedup` and in `table`,
/// as if its message had been routed last. Gives how many there were.
pub async fn load_claims(
    log: &dyn Log,
    partition: Partition,
    table: &Arc<DedupTable>,
    claims: impl IntoIterator<Item = ClaimEntry>,
) -> Result<u64, SessionError> {
    let base = recover(log, partition, table).await?.unwrap_or_default();
    let mut claims = claims.into_iter();
    let mut count = 0;
    loop {
        let chunk = claims.by_ref().take(limits::ROUTER_CHECKPOINT_CLAIMS);
        let checkpoint = RouterCheckpoint {
            claims: chunk.map(|claim| at(base.position, claim)).collect(),
            ..base.clone()
        };
        if checkpoint.claims.is_empty() {
            return Ok(count);
        }
        count += checkpoint.claims.len() as u64;
        let record = NewRecord::head(checkpoint.encode());
        let pending = log.append(Topic::Dedup, partition, vec![record], Sync::Now).await;
        let offsets = pending.map_err(checkpoint_error)?.await.map_err(checkpoint_error)?;
        table.insert(&checkpoint.claims, offsets.start, Timestamp::from_micros(i64::MIN));
        if table.seal_due() {
            let table = Arc::clone(table);
            blocking(move || table.maintain()).await?;
        }
    }
}

/// A claim below the checkpoint would be taken for one that an older checkpoint held.
fn at(position: Offset, claim: ClaimEntry) -> ClaimEntry {
    ClaimEntry { offset: position, ..claim }
}
