//! Overwriting what may be overwritten already, or gone.

use fanfare_core::{Offset, Partition, limits};

use crate::contract::{AppendError, Log, ReadError, Topic};

/// Why payloads were not overwritten. Asking again is harmless.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Whether the engine can overwrite payloads.
pub async fn can_wipe(log: &dyn Log) -> Result<bool, WipeError> {
    Ok(log.wipe(Topic::Messages, Partition(0), Vec::new()).await?)
}

/// Overwrites the payloads that still have their bytes; how many that were. Of offsets that were wiped before, or have
/// left the log, nothing is written.
pub async fn wipe_left(
    log: &dyn Log,
    topic: Topic,
    partition: Partition,
    offsets: &[Offset],
) -> Result<usize, WipeError> {
    let start = log.bounds(topic, partition).await?.start;
    let mut wiped = 0;
    for offsets in offsets.chunks(limits::WIPED_TOGETHER) {
        let mut left = Vec::with_capacity(offsets.len());
        for &offset in offsets.iter().filter(|offset| **offset >= start) {
            if has_payload(log, topic, partition, offset).await? {
                left.push(offset);
            }
        }
        if !left.is_empty() {
            wiped += left.len();
            log.wipe(topic, partition, left).await?;
        }
    }
    Ok(wiped)
}

async fn has_payload(
    log: &dyn Log,
    topic: Topic,
    partition: Partition,
    offset: Offset,
) -> Result<bool, ReadError> {
    match log.fetch(topic, partition, offset, 1).await {
        Ok(batch) => {
            let first = batch.records.first();
            Ok(first.is_some_and(|record| record.offset == offset && record.payload.is_some()))
        }
        Err(ReadError::Truncated { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
