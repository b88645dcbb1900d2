//! A log in memory whose durability the test decides.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use fanfare_log::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, LogRecord, NewRecord, Pending, ReadError,
    Sync, Table, Topic,
};
use parking_lot::Mutex;
use tokio::sync::watch;

const PARTITIONS: u32 = 4;

/// What becomes of appends to `messages`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "not every test binary has a disk that fails")]
pub(crate) enum Disk {
    Well,
    /// Nothing becomes durable until this changes.
    Stalled,
    /// What is appended, or waits, fails.
    Failing(AppendError),
}

type Records = HashMap<(Topic, Partition), Vec<LogRecord>>;

pub(crate) struct MemoryLog {
    records: Mutex<Records>,
    appended: watch::Sender<()>,
    disk: watch::Sender<Disk>,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        let (appended, disk) = (watch::Sender::new(()), watch::Sender::new(Disk::Well));
        Arc::new(Self { records: Mutex::default(), appended, disk })
    }

    #[allow(dead_code, reason = "not every test binary has a disk that fails")]
    pub(crate) fn set_disk(&self, disk: Disk) {
        self.disk.send_replace(disk);
    }

    /// All records of a topic.
    pub(crate) fn records(&self, topic: Topic) -> Vec<LogRecord> {
        let records = self.records.lock();
        (0..PARTITIONS)
            .filter_map(|partition| records.get(&(topic, Partition(partition))))
            .flatten()
            .cloned()
            .collect()
    }

    fn end(&self, topic: Topic, partition: Partition) -> Offset {
        Offset(self.records.lock().get(&(topic, partition)).map_or(0, Vec::len) as u64)
    }
}

impl Log for MemoryLog {
    fn partitions(&self, topic: Topic) -> u32 {
        if topic == Topic::Control { 1 } else { PARTITIONS }
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        new: Vec<NewRecord>,
        _: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        Box::pin(async move {
            let mut disk = self.disk.subscribe();
            if topic == Topic::Messages
                && let Disk::Failing(error) = &*disk.borrow()
            {
                return Err(error.clone());
            }
            let mut records = self.records.lock();
            let records = records.entry((topic, partition)).or_default();
            let start = Offset(records.len() as u64);
            for record in new {
                let offset = Offset(records.len() as u64);
                records.push(LogRecord { offset, head: record.head, payload: Some(record.payload) });
            }
            let end = Offset(records.len() as u64);
            self.appended.send_replace(());
            let pending: Pending = Box::pin(async move {
                if topic == Topic::Messages
                    && let Ok(state) = disk.wait_for(|disk| *disk != Disk::Stalled).await
                    && let Disk::Failing(error) = &*state
                {
                    return Err(error.clone());
                }
                Ok(start..end)
            });
            Ok(pending)
        })
    }

    fn has_room(&self, _: Topic) -> bool {
        true
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        let end = self.end(topic, partition);
        Box::pin(async move { Ok(Bounds { start: Offset::ZERO, high_watermark: end, end }) })
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        _: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        let all = self.records.lock().get(&(topic, partition)).cloned().unwrap_or_default();
        let records: Vec<_> = all.into_iter().filter(|record| record.offset >= from).collect();
        let next = records.last().map_or(from, |record| record.offset.next());
        Box::pin(async move { Ok(Batch { records, next, durable: next }) })
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            let mut appended = self.appended.subscribe();
            while self.end(topic, partition) <= from {
                appended.changed().await.map_err(|_| ReadError::Closed("dropped".into()))?;
            }
            Ok(())
        })
    }

    fn put(
        &self,
        _: Table,
        _: Partition,
        _: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        unreachable!("nothing under test keeps a table")
    }

    fn scan(&self, _: Table, _: Partition) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        unreachable!("nothing under test keeps a table")
    }

    fn claim(&self, _: Group) -> Box<dyn Claims> {
        unreachable!("nothing under test claims a partition")
    }
}
