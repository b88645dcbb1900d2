//! Dead letters of no endpoint: messages whose idempotency key or event id stands for another one, which only the router
//! could tell. They are records of `deliveries`, not facts.

use std::collections::VecDeque;

use fanfare_core::{Delivery, IntakeRule, Message, Offset, Partition, Settlement, Source, Timestamp, limits};
use fanfare_log::{Log, ReadError, Topic};

use super::{DeadLetter, InspectError, decode};

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// The newest.
    pub(super) letters: Vec<DeadLetter>,
    pub(super) count: u64,
}

/// Goes through all that is kept of a delivery partition up to `end`.
pub(super) async fn find(
    log: &dyn Log,
    partition: Partition,
    end: Offset,
    rule: &IntakeRule,
    items: usize,
) -> Result<Conflicts, InspectError> {
    let mut found = VecDeque::new();
    let mut count = 0;
    let mut position = log.bounds(Topic::Deliveries, partition).await?.start;
    while position < end {
        let batch = log.fetch(Topic::Deliveries, partition, position, limits::CATCH_UP_RUN_BYTES).await?;
        for record in batch.records.iter().filter(|record| !rule.refused(record.offset)) {
            if let Delivery::Conflict { source, first, .. } = decode(&record.head)? {
                count += 1;
                found.push_back((record.offset, source, first));
                if found.len() > items {
                    found.pop_front();
                }
            }
        }
        if batch.next <= position {
            break;
        }
        position = batch.next;
    }
    let mut letters = Vec::with_capacity(found.len());
    for (offset, source, first) in found {
        let reason = Settlement::IdempotencyConflict;
        let at = accepted_at(log, &source).await?;
        letters.push(DeadLetter { endpoint: None, offset, reason, at, first: Some(first) });
    }
    Ok(Conflicts { letters, count })
}

/// When the message was accepted; the beginning of time once retention has taken it.
async fn accepted_at(log: &dyn Log, source: &Source) -> Result<Timestamp, InspectError> {
    let batch = match log.fetch(Topic::Messages, source.partition, source.offset, 1).await {
        Err(ReadError::Truncated { .. }) => return Ok(Timestamp::ZERO),
        batch => batch?,
    };
    let Some(record) = batch.records.first().filter(|record| record.offset == source.offset) else {
        return Ok(Timestamp::ZERO);
    };
    let message = Message::decode(&record.head);
    let message = message.map_err(|source| InspectError::Malformed { what: "a message", source })?;
    Ok(message.accepted_at)
}
