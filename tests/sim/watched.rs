//! The log as one process sees it, watched: calls take their time at random, so that every order of events comes up,
//! and every record that is seen durable is compared with what was seen at its offset before.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use fanfare_log::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, NewRecord, Pending, ReadError, Sync, Table,
    Topic,
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{history::History, random::Random};

pub(crate) struct WatchedLog {
    pub(crate) inner: Arc<dyn Log>,
    pub(crate) history: Arc<History>,
    pub(crate) random: Mutex<Random>,
    /// Nobody sees anything more through a process that is dead.
    pub(crate) dead: CancellationToken,
    /// Told after each put.
    pub(crate) put: Arc<Notify>,
}

/// One call in so many takes longer.
const HESITATES: u64 = 12;

impl WatchedLog {
    async fn hesitate(&self) {
        let pause = {
            let mut random = self.random.lock();
            match random.below(HESITATES * 16) {
                0 => random.millis(20..120),
                roll if roll < 16 => random.millis(1..8),
                _ => return,
            }
        };
        sleep(pause).await;
    }

    fn saw(&self, topic: Topic, partition: Partition, batch: &Batch) {
        if self.dead.is_cancelled() {
            return;
        }
        for record in &batch.records {
            self.history.record(topic, partition, record.offset, &record.head);
        }
    }
}

impl Log for WatchedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        Box::pin(async move {
            self.hesitate().await;
            let heads: Vec<Bytes> = records.iter().map(|record| record.head.clone()).collect();
            let pending = self.inner.append(topic, partition, records, sync).await?;
            let (history, dead) = (Arc::clone(&self.history), self.dead.clone());
            let watched = async move {
                let offsets = pending.await?;
                if !dead.is_cancelled() {
                    for (offset, head) in (offsets.start.0..).map(Offset).zip(&heads) {
                        history.record(topic, partition, offset, head);
                        if topic == Topic::Attempts {
                            history.attempts(partition, offset, head);
                        }
                    }
                }
                Ok(offsets)
            };
            Ok(Box::pin(watched) as Pending)
        })
    }

    fn has_room(&self, topic: Topic) -> bool {
        self.inner.has_room(topic)
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(async move {
            self.hesitate().await;
            self.inner.bounds(topic, partition).await
        })
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        Box::pin(async move {
            self.hesitate().await;
            let batch = self.inner.fetch(topic, partition, from, max_bytes).await?;
            self.saw(topic, partition, &batch);
            Ok(batch)
        })
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        self.inner.wait(topic, partition, from)
    }

    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        // What it has to cover is decided by the call.
        let put = self.inner.put(table, partition, entries);
        Box::pin(async move {
            self.hesitate().await;
            let written = put.await;
            self.put.notify_waiters();
            written
        })
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        Box::pin(async move {
            self.hesitate().await;
            self.inner.scan(table, partition).await
        })
    }

    fn claim(&self, group: Group) -> Box<dyn Claims> {
        self.inner.claim(group)
    }
}

/// Longer than any process needs to see that it is dead.
pub(crate) const SETTLE: Duration = Duration::from_millis(1);
