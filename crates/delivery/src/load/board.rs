//! Where load figures are shown and found.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fanfare_core::{
    Offset, Partition, Policy, Timestamp, lane::Lane, limits, load::PartitionLoad, scaling::Observed,
};
use fanfare_log::{Log, ReadError, Table, Topic};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::recover;

/// Where figures are shown.
#[derive(Clone)]
pub enum Board {
    /// In the table `load`, for all processes.
    Table(Arc<dyn Log>),
    /// Where one process has all partitions. A table would cost a sync every second to tell it what it knows.
    Memory(Arc<Mutex<BTreeMap<Partition, PartitionLoad>>>),
}

/// Each partition has one entry of its table.
const KEY: Bytes = Bytes::from_static(b"load");

impl Board {
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// What is written to a table is not waited for here.
    pub(crate) fn show(&self, partition: Partition, load: PartitionLoad) -> Option<JoinHandle<()>> {
        let log = match self {
            Self::Table(log) => Arc::clone(log),
            Self::Memory(loads) => {
                loads.lock().insert(partition, load);
                return None;
            }
        };
        Some(tokio::spawn(async move {
            let entry = (KEY, Some(load.encode()));
            if let Err(error) = log.put(Table::Load, partition, vec![entry]).await {
                tracing::debug!(%partition, %error, "load figures were not shown");
            }
        }))
    }

    async fn newest(&self, partition: Partition) -> Result<Option<PartitionLoad>, ReadError> {
        let log = match self {
            Self::Table(log) => log,
            Self::Memory(loads) => return Ok(loads.lock().get(&partition).cloned()),
        };
        let entries = match log.scan(Table::Load, partition).await {
            Ok(entries) => entries,
            // As below: what this program cannot read says nothing, and hides no other partition.
            Err(ReadError::Corrupt(error)) => {
                tracing::debug!(%partition, error, "load figures cannot be understood");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some((_, value)) = entries.into_iter().find(|(key, _)| *key == KEY) else { return Ok(None) };
        match PartitionLoad::decode(&value) {
            Ok(load) => Ok(Some(load)),
            // Of a newer version: its writer counts nowhere until this process is renewed too.
            Err(error) => {
                tracing::debug!(%partition, %error, "load figures cannot be understood");
                Ok(None)
            }
        }
    }

    /// What is known of every delivery partition. Those without a worker are estimated from the end of their log.
    pub async fn observe(&self, log: &dyn Log, now: Timestamp) -> Result<Vec<Observed>, ReadError> {
        let partitions = (0..log.partitions(Topic::Deliveries)).map(Partition);
        let observed = partitions.map(|partition| self.observe_one(log, partition, now));
        stream::iter(observed).buffered(limits::LOAD_READS).try_collect().await
    }

    async fn observe_one(
        &self,
        log: &dyn Log,
        partition: Partition,
        now: Timestamp,
    ) -> Result<Observed, ReadError> {
        let mut observed = Observed { load: self.newest(partition).await?, ..Observed::default() };
        if observed.fresh(now).is_some() {
            return Ok(observed);
        }
        let bounds = log.bounds(Topic::Deliveries, partition).await?;
        let seen = if let Some(load) = &observed.load {
            load.tail
        } else {
            let (seen, unsettled) = match left_behind(log, partition, now).await {
                // No worker would understand it either; the others have to be told of.
                Err(ReadError::Corrupt(_)) => return Ok(observed),
                left => left?,
            };
            observed.unsettled = unsettled;
            seen
        };
        observed.unseen = bounds.end.0.saturating_sub(seen.max(bounds.start).0);
        Ok(observed)
    }
}

/// What the last worker wrote down: where it stood, and whether any lane had something unsettled.
async fn left_behind(
    log: &dyn Log,
    partition: Partition,
    now: Timestamp,
) -> Result<(Offset, bool), ReadError> {
    let entries = log.scan(Table::Lanes, partition).await?;
    let corrupt = |error: recover::RecoverError| ReadError::Corrupt(error.to_string());
    let Some(checkpoint) = recover::newest_checkpoint(&entries).map_err(corrupt)? else {
        return Ok((Offset::ZERO, false));
    };
    let unsettled = recover::lanes_of(&entries, checkpoint.epoch).any(|(above, snapshot)| {
        let restored = Lane::restore(snapshot, Policy::default(), now);
        above > 0 || restored.is_ok_and(|lane| lane.unsettled() > 0)
    });
    Ok((checkpoint.deliveries, unsettled))
}
