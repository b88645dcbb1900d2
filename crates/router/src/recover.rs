//! The beginning of a session: the newest checkpoint, and all claims up to it.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_core::{Offset, Partition, RouterCheckpoint, Timestamp};
use fanfare_log::{Log, ReadError, Topic};

use crate::{dedup::DedupTable, error::SessionError, partition::blocking};

/// One read of `dedup`.
const READ_BYTES: usize = 1 << 20;

/// Brings `table` up to the newest checkpoint of the partition and gives that checkpoint (without its claims);
/// `None` if there is none.
pub(crate) async fn recover(
    log: &dyn Log,
    partition: Partition,
    table: &Arc<DedupTable>,
) -> Result<Option<RouterCheckpoint>, SessionError> {
    let read_error = |error| SessionError::Read { topic: Topic::Dedup, error };
    let bounds = log.bounds(Topic::Dedup, partition).await.map_err(read_error)?;
    if table.covered().is_some_and(|covered| covered >= bounds.end) {
        tracing::warn!(%partition, "claims on disk are ahead of the log; reading them from the log again");
        let table = Arc::clone(table);
        blocking(move || table.clear()).await?;
    }

    let mut newest: Option<RouterCheckpoint> = None;
    let mut parts = Parts::default();
    let mut from = table.covered().unwrap_or(bounds.start).max(bounds.start);
    while from < bounds.end {
        let batch = log.fetch(Topic::Dedup, partition, from, READ_BYTES).await.map_err(read_error)?;
        if batch.next <= from {
            let error = ReadError::Unavailable(format!("nothing readable at {from} below {}", bounds.end));
            return Err(read_error(error));
        }
        for record in batch.records {
            let offset = record.offset;
            let checkpoint = RouterCheckpoint::decode(&record.head)
                .map_err(|error| SessionError::Record { topic: Topic::Dedup, offset, error })?;
            let Some((mut checkpoint, offset)) = parts.whole(checkpoint, offset) else { continue };
            let known = newest.as_ref().map_or(Offset::ZERO, |newest| newest.position);
            // Another router may have written behind a newer checkpoint before it learned of it: what it says
            // of messages below that checkpoint is known, and older.
            checkpoint.claims.retain(|claim| claim.offset >= known);
            table.insert(&checkpoint.claims, offset, Timestamp::from_micros(i64::MIN));
            if table.seal_due() {
                let table = Arc::clone(table);
                blocking(move || table.maintain()).await?;
            }
            if newest.is_none() || checkpoint.position > known {
                checkpoint.claims = Vec::new();
                newest = Some(checkpoint);
            }
        }
        from = batch.next;
    }
    Ok(newest)
}

/// Checkpoints of which not all records were read yet, by position.
#[derive(Default)]
struct Parts(BTreeMap<Offset, BTreeMap<u32, (RouterCheckpoint, Offset)>>);

impl Parts {
    /// Takes one record; gives the checkpoint, and where it begins, if that was the last one missing.
    fn whole(&mut self, record: RouterCheckpoint, at: Offset) -> Option<(RouterCheckpoint, Offset)> {
        let (position, (index, of)) = (record.position, record.part);
        if of <= 1 {
            return Some((record, at));
        }
        let parts = self.0.entry(position).or_default();
        parts.insert(index, (record, at));
        if (0..of).any(|index| !parts.contains_key(&index)) {
            return None;
        }
        let mut parts = self.0.remove(&position)?.into_values();
        let (mut whole, begin) = parts.next()?;
        whole.held.extend(parts.flat_map(|(part, _)| part.held));
        Some((whole, begin))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use fanfare_core::{ClaimEntry, Fingerprint, MessageId};
    use fanfare_log::{
        NewRecord, Sync,
        sim::{SimCluster, SimOptions},
    };

    use super::*;

    /// Two routers wrote in turn, one of them cut off without knowing: what it says late is true, and old.
    #[tokio::test(start_paused = true)]
    async fn the_highest_checkpoint_counts_whatever_stands_behind_it() {
        let log = SimCluster::new(SimOptions::new(1, 1, 1)).join();
        let claim = |offset, expires_at| ClaimEntry {
            claim: Fingerprint([1; 16]),
            body: Fingerprint([2; 16]),
            id: MessageId::from_bytes([3; 20]),
            offset: Offset(offset),
            expires_at: Timestamp::from_secs(expires_at),
        };
        for (position, claims) in [(30, vec![claim(20, 500)]), (15, vec![claim(10, 100)])] {
            let last_sent = vec![(Partition(0), Offset(position - 1))];
            let checkpoint = RouterCheckpoint {
                position: Offset(position),
                last_sent,
                claims,
                ..RouterCheckpoint::default()
            };
            let record = vec![NewRecord::head(checkpoint.encode())];
            log.append(Topic::Dedup, Partition(0), record, Sync::Now).await.unwrap().await.unwrap();
        }
        let table = Arc::new(DedupTable::in_memory());
        let newest = recover(&*log, Partition(0), &table).await.unwrap().unwrap();
        assert_eq!((newest.position, newest.last_sent), (Offset(30), vec![(Partition(0), Offset(29))]));
        let found = table.lookup(Fingerprint([1; 16]), Timestamp::from_secs(400)).unwrap();
        assert_eq!(found, Some(claim(20, 500)));
    }
    /// Very many are held: their checkpoint counts when all of it is there.
    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_in_parts_counts_when_all_of_it_is_there() {
        let log = SimCluster::new(SimOptions::new(1, 1, 1)).join();
        let held: Vec<(Timestamp, Offset)> =
            (0_u32..50_000).map(|at| (Timestamp::from_secs(at.into()), Offset(at.into()))).collect();
        let older = RouterCheckpoint { position: Offset(60_000), ..RouterCheckpoint::default() };
        let newer = RouterCheckpoint { position: Offset(70_000), held: held.clone(), ..older.clone() };
        let mut records = older.encode_parts();
        records.extend(newer.encode_parts());
        assert_eq!(records.len(), 4);
        let table = Arc::new(DedupTable::in_memory());
        for (record, position) in records.into_iter().zip([60_000, 60_000, 60_000, 70_000]) {
            let record = vec![NewRecord::head(record)];
            log.append(Topic::Dedup, Partition(0), record, Sync::Now).await.unwrap().await.unwrap();
            let newest = recover(&*log, Partition(0), &table).await.unwrap().unwrap();
            assert_eq!(newest.position, Offset(position));
            assert_eq!(newest.held.len(), if position == 70_000 { held.len() } else { 0 });
        }
    }
}
