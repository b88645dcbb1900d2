//! How far the routers are: what they have not looked at is for nobody yet, and stands in no table of deliveries.

use std::time::Duration;

use fanfare_core::{Offset, Partition, RouterCheckpoint};
use fanfare_log::{Log, ReadError, Topic};
use tokio::time::{Instant, sleep};

use crate::{History, QueryError, history::PASSED};

/// The newest checkpoint is among so many records at the end. Where very many messages wait for their time it stands in
/// several, all with the same position.
const LAST: u64 = 64;
/// While some are left, it is looked again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// One read of them.
const READ_BYTES: usize = 1 << 20;

impl History {
    /// How many records of this partition of `messages` are not routed, of those that were there when this was called: it
    /// waits for 2 s at most until there are none. What waits for its `deliverAt` has been looked at.
    pub async fn unrouted(&self, partition: Partition) -> Result<u64, QueryError> {
        let log = &*self.shared.log;
        let end = log.bounds(Topic::Messages, partition).await?.end;
        let deadline = Instant::now() + PASSED;
        loop {
            let left = end.0.saturating_sub(routed_below(log, partition).await?.0);
            if left == 0 || Instant::now() >= deadline {
                return Ok(left);
            }
            sleep(AGAIN).await;
        }
    }
}

async fn routed_below(log: &dyn Log, partition: Partition) -> Result<Offset, ReadError> {
    let bounds = log.bounds(Topic::Dedup, partition).await?;
    let mut position = Offset(bounds.end.0.saturating_sub(LAST)).max(bounds.start);
    let mut routed = Offset::ZERO;
    while position < bounds.end {
        let batch = log.fetch(Topic::Dedup, partition, position, READ_BYTES).await?;
        // A program of before does not know what a newer router writes.
        let checkpoints =
            batch.records.iter().filter_map(|record| RouterCheckpoint::decode(&record.head).ok());
        routed = checkpoints.map(|checkpoint| checkpoint.position).fold(routed, Offset::max);
        if batch.next <= position {
            break;
        }
        position = batch.next;
    }
    Ok(routed)
}
