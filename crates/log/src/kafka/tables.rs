//! Tables: compacted topics. An entry is a record with a key, a removed one a record without a value.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fanfare_core::Partition;

use super::{
    bounds::Ends,
    fetch::Readers,
    ledger::Mark,
    limits,
    place::{Layout, Place},
    produce::{Outgoing, Producer},
    record,
};
use crate::contract::{AppendError, ReadError, Table};

/// Writes entries in the order given, after `before` was passed. Each part is durable before the next one is sent: a
/// crash leaves a beginning of them.
pub(super) async fn put(
    producer: &Producer,
    layout: &Layout,
    place: Place,
    entries: Vec<(Bytes, Option<Bytes>)>,
    before: Mark,
) -> Result<(), AppendError> {
    before.passed().await?;
    let topic = layout.name(place.source);
    let mut part = Vec::new();
    let mut part_bytes = 0;
    for (key, payload) in entries {
        let outgoing = Outgoing { key: Some(key), head: Bytes::new(), payload };
        part_bytes += outgoing.charge_bytes();
        part.push(outgoing);
        if part_bytes >= limits::PUT_PART_BYTES {
            part_bytes = 0;
            producer.append(topic, place.number(), std::mem::take(&mut part)).await?.await?;
        }
    }
    if !part.is_empty() {
        producer.append(topic, place.number(), part).await?.await?;
    }
    Ok(())
}

/// The newest value of each key, by rising key.
pub(super) async fn scan(
    readers: &Readers,
    ends: &Ends,
    layout: &Arc<Layout>,
    table: Table,
    partition: Partition,
) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
    let place = Place::table(table, partition);
    let bounds = ends.ask(place).await?;
    let mut position = bounds.start;
    let mut newest: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    while position < bounds.end {
        let run = match readers.read_raw(place, position, limits::SCAN_RUN_BYTES).await {
            Ok(run) => run,
            // Compaction and retention go on meanwhile: what is gone has a newer value, or is too old.
            Err(ReadError::Truncated { start, .. }) => {
                position = start;
                continue;
            }
            Err(error) => return Err(error),
        };
        for raw in run.records {
            let key = raw.key.clone().ok_or_else(|| {
                ReadError::Corrupt(format!("record {} of {} has no key", raw.offset, layout.show(place)))
            })?;
            let value = raw.value.as_ref().map(record::decode).transpose();
            let value = value.map_err(|error| {
                ReadError::Corrupt(format!("record {} of {} {error}", raw.offset, layout.show(place)))
            })?;
            newest.insert(key, value.map(|(_, payload)| payload));
        }
        position = run.next;
    }
    Ok(newest.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}
