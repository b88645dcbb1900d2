//! A log that works, but not always.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use fanfare_log::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, NewRecord, Pending, ReadError, Sync, Table,
    Topic, embedded::EmbeddedLog,
};

pub(crate) struct Hindered {
    pub(crate) log: Arc<EmbeddedLog>,
    /// One in so many appends to `deliveries` fails: some before, some after they were written, some silently at first.
    pub(crate) fail_every: Option<usize>,
    /// The next append to `deliveries` is lost, and nobody learns of it.
    pub(crate) lose_next: AtomicBool,
    /// Larger records are refused by `deliveries`.
    pub(crate) delivery_bytes: usize,
    /// Followers of `control` learn late that there is something new.
    pub(crate) control_lag: Duration,
    pub(crate) appends: AtomicUsize,
}

impl Hindered {
    pub(crate) fn new(log: Arc<EmbeddedLog>) -> Self {
        let (lose_next, appends) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (delivery_bytes, control_lag) = (usize::MAX, Duration::ZERO);
        Self { log, fail_every: None, lose_next, delivery_bytes, control_lag, appends }
    }

    async fn append_or_not(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> Result<Pending, AppendError> {
        if topic != Topic::Deliveries {
            return self.log.append(topic, partition, records, sync).await;
        }
        let largest = records.iter().map(NewRecord::size_bytes).max().unwrap_or_default();
        if largest > self.delivery_bytes {
            return Err(AppendError::TooLarge { size_bytes: largest, limit_bytes: self.delivery_bytes });
        }
        if self.lose_next.swap(false, Ordering::Relaxed) {
            return Ok(Box::pin(std::future::pending()));
        }
        let Some(every) = self.fail_every else {
            return self.log.append(topic, partition, records, sync).await;
        };
        let count = self.appends.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = || AppendError::Unavailable("a test wants it".into());
        if count.is_multiple_of(3 * every) {
            return Err(failed());
        }
        if count.is_multiple_of(2 * every) {
            // Lost, and that is learned only later: what follows was sent already.
            let error = failed();
            return Ok(Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Err(error)
            }));
        }
        let pending = self.log.append(topic, partition, records, sync).await?;
        if count.is_multiple_of(every) {
            let error = failed();
            return Ok(Box::pin(async move { pending.await.and(Err(error)) }));
        }
        Ok(pending)
    }
}

impl Log for Hindered {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }
    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        Box::pin(self.append_or_not(topic, partition, records, sync))
    }
    fn has_room(&self, topic: Topic) -> bool {
        self.log.has_room(topic)
    }
    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        self.log.bounds(topic, partition)
    }
    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        self.log.fetch(topic, partition, from, max_bytes)
    }
    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            if topic == Topic::Control {
                tokio::time::sleep(self.control_lag).await;
            }
            self.log.wait(topic, partition, from).await
        })
    }
    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        self.log.put(table, partition, entries)
    }
    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        self.log.scan(table, partition)
    }
    fn claim(&self, group: Group) -> Box<dyn Claims> {
        self.log.claim(group)
    }
}
