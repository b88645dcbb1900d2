//! Payloads of many messages, from the log.

use std::collections::HashMap;

use bytes::Bytes;
use fanfare_core::{Offset, Timestamp, limits};
use fanfare_log::{Log, LogRecord, ReadError, Topic};

use crate::{Erased, MessageKey, MessageRow, Payload};

/// Messages so near each other in the log are read together, so many at most.
const NEAR_OFFSETS: u64 = 32;
const NEAR_ROWS: usize = 64;
/// What a record is taken to have until some were read.
const RECORD_BYTES: usize = 1 << 10;
/// What the log puts around a record, and some more: rather all than all but one.
const BESIDE_BYTES: usize = 128;

/// Payloads of the first of `messages`: as many as stay within `max_bytes` together, one at least.
pub(crate) async fn read(
    log: &dyn Log,
    (now, erased): (Timestamp, &Erased),
    messages: &[&MessageRow],
    max_bytes: usize,
) -> Result<Vec<Payload>, ReadError> {
    let mut payloads = Vec::with_capacity(messages.len());
    let mut size_bytes = 0;
    let mut run = HashMap::new();
    let mut record_bytes = RECORD_BYTES;
    for (index, message) in messages.iter().enumerate() {
        let payload = if is_hidden(message, now, erased) {
            Payload::Gone
        } else {
            if !run.contains_key(&message.key) {
                run = read_run(log, &messages[index..], &mut record_bytes).await?;
            }
            // It stays: of several attempts of a message each asks for it.
            run.get(&message.key).cloned().flatten().map_or(Payload::Gone, Payload::Here)
        };
        size_bytes += payload.size_bytes();
        if size_bytes > max_bytes && index > 0 {
            break;
        }
        payloads.push(payload);
    }
    Ok(payloads)
}

fn is_hidden(message: &MessageRow, now: Timestamp, erased: &Erased) -> bool {
    erased(message) || message.expires_at.is_some_and(|at| at <= now)
}

/// By the message's place; `None`: it was wiped.
type Run = HashMap<MessageKey, Option<Bytes>>;

/// The payload of the first, and of those after it that are found along with it. What stands far apart is read one by
/// one: reading all between would take longer.
async fn read_run(
    log: &dyn Log,
    messages: &[&MessageRow],
    record_bytes: &mut usize,
) -> Result<Run, ReadError> {
    let first = messages[0].key;
    let (mut from, mut to, mut last) = (first.offset, first.offset, first.offset);
    for key in messages.iter().take(NEAR_ROWS).map(|message| message.key) {
        let near = key.partition == first.partition && key.offset.0.abs_diff(last.0) <= NEAR_OFFSETS;
        let wider = (from.min(key.offset), to.max(key.offset));
        // The first has to be in it, and stands at the end where they fall.
        if !near || bytes_of(wider, *record_bytes) > limits::PAYLOAD_RUN_BYTES {
            break;
        }
        ((from, to), last) = (wider, key.offset);
    }
    let max_bytes = if from == to { 1 } else { bytes_of((from, to), *record_bytes) };
    let read = fetch(log, first, from, max_bytes).await?;
    let bytes = |record: &LogRecord| record.head.len() + record.payload.as_ref().map_or(0, Bytes::len);
    if !read.is_empty() {
        *record_bytes = read.iter().map(bytes).sum::<usize>() / read.len() + BESIDE_BYTES;
    }
    let mut run: Run = keyed(first, read).collect();
    if !run.contains_key(&first) {
        // What stands before it was more than a run, or is not kept any more.
        run.extend(keyed(first, fetch(log, first, first.offset, 1).await?));
    }
    Ok(run)
}

/// What the records from one to the other have, about.
fn bytes_of((from, to): (Offset, Offset), record_bytes: usize) -> usize {
    let records = usize::try_from(to.0 - from.0).unwrap_or(usize::MAX).saturating_add(1);
    records.saturating_mul(record_bytes)
}

fn keyed(near: MessageKey, records: Vec<LogRecord>) -> impl Iterator<Item = (MessageKey, Option<Bytes>)> {
    let key = move |offset| MessageKey { partition: near.partition, offset };
    records.into_iter().map(move |record| (key(record.offset), record.payload))
}

/// Nothing below the log start offset.
async fn fetch(
    log: &dyn Log,
    near: MessageKey,
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<LogRecord>, ReadError> {
    match log.fetch(Topic::Messages, near.partition, from, max_bytes).await {
        Ok(batch) => Ok(batch.records),
        Err(ReadError::Truncated { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanfare_core::{MessageId, Partition};
    use fanfare_log::{
        NewRecord, Sync,
        sim::{SimCluster, SimOptions},
    };

    use super::*;

    fn row(offset: u64) -> MessageRow {
        MessageRow {
            id: MessageId::from_bytes([0; 20]),
            key: MessageKey { partition: Partition(0), offset: Offset(offset) },
            event_type: String::new(),
            event_id: None,
            channels: Vec::new(),
            tags: Vec::new(),
            ordering_key: None,
            accepted_at: Timestamp::ZERO,
            deliver_at: None,
            expires_at: None,
            application: 0,
            twin: None,
        }
    }

    fn nothing() -> Erased {
        Arc::new(|_| false)
    }

    /// In whatever order, with gaps, and with payloads that are larger than a run.
    #[tokio::test]
    async fn each_gets_its_own_and_the_rest_is_left() {
        let log = SimCluster::new(SimOptions::new(1, 1, 1)).join();
        let payload = |number: u64| {
            let size = if number.is_multiple_of(10) { limits::PAYLOAD_RUN_BYTES } else { 8 };
            Bytes::from(vec![u8::try_from(number).unwrap(); size])
        };
        let mut offsets = Vec::new();
        for number in 0..100 {
            let record = NewRecord { head: Bytes::from_static(b"head"), payload: payload(number) };
            let pending = log.append(Topic::Messages, Partition(0), vec![record], Sync::Now).await.unwrap();
            offsets.push(pending.await.unwrap().start.0);
        }
        let orders: [Vec<u64>; 3] =
            [(0..100).collect(), (0..100).rev().collect(), (0..100).map(|n| n * 37 % 100).collect()];
        for order in orders {
            let rows: Vec<MessageRow> =
                order.iter().map(|number| row(offsets[usize::try_from(*number).unwrap()])).collect();
            let rows: Vec<&MessageRow> = rows.iter().collect();
            let read = read(&*log, (Timestamp::ZERO, &nothing()), &rows, usize::MAX).await.unwrap();
            let expected: Vec<Payload> = order.iter().map(|number| Payload::Here(payload(*number))).collect();
            assert!(read == expected, "in the order {order:?}");
        }
        let rows: Vec<MessageRow> = (1..9).map(|number| row(offsets[number])).collect();
        let rows: Vec<&MessageRow> = rows.iter().collect();
        assert_eq!(read(&*log, (Timestamp::ZERO, &nothing()), &rows, 20).await.unwrap().len(), 2);
        assert_eq!(read(&*log, (Timestamp::ZERO, &nothing()), &rows, 0).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_hidden_or_was_never_there_is_gone() {
        let log = SimCluster::new(SimOptions::new(1, 1, 1)).join();
        let record = NewRecord { head: Bytes::from_static(b"head"), payload: Bytes::from_static(b"{}") };
        let pending = log.append(Topic::Messages, Partition(0), vec![record], Sync::Now).await.unwrap();
        let offset = pending.await.unwrap().start.0;
        let erased = MessageRow { application: 7, ..row(offset) };
        let of_seven: Erased = Arc::new(|message| message.application == 7);
        let expired = MessageRow { expires_at: Some(Timestamp::from_secs(5)), ..row(offset) };
        let now = Timestamp::from_secs(5);
        for gone in [&erased, &expired, &row(offset + 1)] {
            assert_eq!(read(&*log, (now, &of_seven), &[gone], 100).await.unwrap(), [Payload::Gone]);
        }
        let still = MessageRow { expires_at: Some(Timestamp::from_secs(6)), ..row(offset) };
        let read = read(&*log, (now, &of_seven), &[&still], 100).await.unwrap();
        assert_eq!(read, [Payload::Here(Bytes::from_static(b"{}"))]);
    }
}
