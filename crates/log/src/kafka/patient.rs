//! The log as those see it who wait as long as it takes.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_core::{Offset, Partition};

use super::{KafkaLog, Outgoing, Place};
use crate::contract::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, NewRecord, Pending, ReadError, Sync, Table,
    Topic,
};

/// Messages go through the pipeline, which gives nothing up: no record of an append fails while a later one of it succeeds.
/// In every other way it is the log itself. Appends through this and through the log have no order among each other.
pub(super) struct Patient(pub(super) Arc<KafkaLog>);

impl Log for Patient {
    fn partitions(&self, topic: Topic) -> u32 {
        self.0.partitions(topic)
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        if topic != Topic::Messages {
            return self.0.append(topic, partition, records, sync);
        }
        let place = Place::topic(topic, partition);
        let records: Vec<Outgoing> = records.into_iter().map(Outgoing::from).collect();
        let name = self.0.layout.name(place.source);
        Box::pin(self.0.pipeline.append(name, place.number(), records))
    }

    fn has_room(&self, topic: Topic) -> bool {
        self.0.has_room(topic)
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        self.0.bounds(topic, partition)
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        self.0.fetch(topic, partition, from, max_bytes)
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        self.0.wait(topic, partition, from)
    }

    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        self.0.put(table, partition, entries)
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        self.0.scan(table, partition)
    }

    fn claim(&self, group: Group) -> Box<dyn Claims> {
        self.0.claim(group)
    }
}
