//! A `control` topic in memory that does what an engine may do but seldom does.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use fanfare_log::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, LogRecord, NewRecord, Pending, ReadError,
    Sync, Table, Topic,
};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(super) struct MemoryLog {
    inner: Mutex<Inner>,
    last: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct Inner {
    records: BTreeMap<u64, Bytes>,
    end: u64,
    failing_reads: u32,
}

impl MemoryLog {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::default(), last: watch::Sender::new(None) }
    }

    pub(super) fn put_record(&self, head: impl Into<Bytes>) -> Range<Offset> {
        let mut inner = self.inner.lock();
        let offset = inner.end;
        inner.records.insert(offset, head.into());
        inner.end += 1;
        self.last.send_replace(Some(offset));
        Offset(offset)..Offset(offset + 1)
    }

    /// The end moves on over offsets that will never hold a record, as under transaction markers.
    pub(super) fn skip_offsets(&self, count: u64) {
        self.inner.lock().end += count;
    }

    pub(super) fn fail_reads(&self, count: u32) {
        self.inner.lock().failing_reads = count;
    }

    pub(super) fn records(&self) -> Vec<Bytes> {
        self.inner.lock().records.values().cloned().collect()
    }

    pub(super) fn record_count(&self) -> usize {
        self.inner.lock().records.len()
    }
}

impl Log for MemoryLog {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(
        &self,
        _: Topic,
        _: Partition,
        records: Vec<NewRecord>,
        _: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        let [record] = <[NewRecord; 1]>::try_from(records).unwrap();
        let offsets = self.put_record(record.head);
        Box::pin(async move {
            let pending: Pending = Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(offsets)
            });
            Ok(pending)
        })
    }

    fn has_room(&self, _: Topic) -> bool {
        true
    }

    fn bounds(&self, topic: Topic, _: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        // Of the others there is nothing.
        let end = if topic == Topic::Control { Offset(self.inner.lock().end) } else { Offset::ZERO };
        Box::pin(async move {
            // What was true when it was asked may be so no more when the answer is there.
            tokio::task::yield_now().await;
            Ok(Bounds { start: Offset::ZERO, high_watermark: end, end })
        })
    }

    fn fetch(
        &self,
        _: Topic,
        _: Partition,
        from: Offset,
        _: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        let mut inner = self.inner.lock();
        let batch = if inner.failing_reads > 0 {
            inner.failing_reads -= 1;
            Err(ReadError::Unavailable("planted".into()))
        } else {
            // Two at a time, so that a run has an end before the end.
            let found = inner.records.range(from.0..).take(2);
            let record = |(offset, head): (&u64, &Bytes)| LogRecord {
                offset: Offset(*offset),
                head: head.clone(),
                payload: None,
            };
            let records: Vec<_> = found.map(record).collect();
            let next = records.last().map_or(from, |record| record.offset.next());
            Ok(Batch { records, next, durable: next })
        };
        Box::pin(async move { batch })
    }

    fn wait(&self, _: Topic, _: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        let mut last = self.last.subscribe();
        Box::pin(async move {
            let waited = last.wait_for(|last| last.is_some_and(|last| last >= from.0)).await;
            waited.map(drop).map_err(|_| ReadError::Closed("dropped".into()))
        })
    }

    fn put(
        &self,
        _: Table,
        _: Partition,
        _: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        unreachable!("the control plane keeps no table")
    }

    fn scan(&self, _: Table, _: Partition) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        unreachable!("the control plane keeps no table")
    }

    fn claim(&self, _: Group) -> Box<dyn Claims> {
        unreachable!("the control plane claims nothing")
    }
}
