//! What became of everything that was for an endpoint: the log says what was for it, the tables what became of it.

use std::collections::HashMap;

use fanfare_core::{
    Delivery, IntakeRule, MessageEndpointId, MessageId, Offset, Settlement, Timestamp, WorkerCheckpoint,
};
use fanfare_log::{ReadError, Topic};

use super::stats::Stats;
use crate::{
    EndpointAt, History, QueryError, Standing,
    changes::{Shadow, Source},
    keys::{MessageKey, Tick, delivery_id_at},
    load,
    store::Value,
};

/// One read of the log.
const RUN_BYTES: usize = 256 << 10;
/// Records of the log that one request looks at, and ids that one answer names.
const LOOKED_AT: usize = 200_000;
const NAMED: usize = 10_000;

/// What became of an endpoint's messages. `accepted` is the sum of all in `stats` and of `not_in_history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// What the log has for the endpoint.
    pub accepted: u64,
    pub stats: Stats,
    /// The log has it, the tables do not: of them nothing is known here.
    pub not_in_history: u64,
    /// All that is accepted and not delivered.
    pub missing: Vec<Missing>,
    /// Where to go on; `None`: everything was looked at.
    pub next: Option<String>,
}

/// A message that an endpoint does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub message: MessageId,
    pub delivery: MessageEndpointId,
    pub offset: Offset,
    pub why: Why,
}

/// Why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Pending, to be tried again, dead or cancelled.
    Standing(Standing),
    NotInHistory,
}

impl History {
    /// What became of everything that the log says was for this endpoint, of messages accepted in `[since, until)`,
    /// as far as the log still has it and the tables have passed it. It looks at as much of the log as one request may;
    /// [`Reconciliation::next`] says where to go on (give it as `from`). The counts of all parts add up to those of the
    /// whole.
    pub async fn reconcile(
        &self,
        endpoint: EndpointAt,
        since: Timestamp,
        until: Timestamp,
        from: Option<&str>,
    ) -> Result<Reconciliation, QueryError> {
        let mut result = Reconciliation::default();
        let bounds = self.accepted_between(endpoint, Some(since), Some(until)).await?;
        let Some((low, high)) = bounds else { return Ok(result) };
        let (rule, passed) = self.tail_of(endpoint).await?;
        let mut position = match from {
            Some(text) => Offset(text.parse().map_err(|_| QueryError::Iterator)?).max(low),
            None => low,
        };
        let end = high.next().min(passed);
        let mut looked_at = 0;
        while position < end {
            if looked_at >= LOOKED_AT || result.missing.len() >= NAMED {
                result.next = Some(position.to_string());
                return Ok(result);
            }
            let read =
                self.shared.log.fetch(Topic::Deliveries, endpoint.partition, position, RUN_BYTES).await;
            let batch = match read {
                Ok(batch) => batch,
                Err(ReadError::Truncated { start, .. }) => {
                    position = start;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            looked_at += batch.records.len();
            let mut routed = Vec::new();
            for record in
                batch.records.iter().filter(|record| record.offset < end && !rule.refused(record.offset))
            {
                // What cannot be read, nobody took.
                let Ok(delivery) = Delivery::decode(&record.head) else { continue };
                let accepted = Tick::of_id(delivery.id().as_bytes());
                let in_time = (Tick::of(since)..Tick::of(until)).contains(&accepted);
                if in_time && delivery.endpoints().contains(&endpoint.number) {
                    routed.push((record.offset, delivery.id(), accepted));
                }
            }
            self.compare(endpoint, &routed, &mut result).await?;
            if batch.next <= position {
                break;
            }
            position = batch.next;
        }
        Ok(result)
    }

    /// Enters what became of these deliveries.
    async fn compare(
        &self,
        endpoint: EndpointAt,
        routed: &[(Offset, MessageId, Tick)],
        result: &mut Reconciliation,
    ) -> Result<(), QueryError> {
        let (Some((first, ..)), Some((last, ..))) = (routed.first(), routed.last()) else { return Ok(()) };
        let sql = "SELECT d.delivery, d.standing, d.shadow, d.message, m.message FROM deliveries d LEFT JOIN messages m \
                   ON m.message = d.message WHERE d.endpoint = $1 AND d.delivery >= $2 AND d.delivery <= $3";
        let values = vec![Value::Int(endpoint.number.0.into()), Value::offset(*first), Value::offset(*last)];
        let mut standings: HashMap<Offset, (Standing, bool)> = HashMap::with_capacity(routed.len());
        for row in self.store().rows(sql, values).await? {
            let standing = Standing::from_code(row.int(1)?).ok_or("a standing")?;
            if row.opt_int(4)?.is_none() && self.is_in_log(MessageKey::from_int(row.int(3)?)).await? {
                // It is shown in no list.
                continue;
            }
            standings.insert(load::offset(row.int(0)?), (standing, row.int(2)? == Shadow::Shadowed as i64));
        }
        for &(offset, message, accepted) in routed {
            let why = match standings.get(&offset) {
                // Another delivery of the message is the one that counts.
                Some((_, true)) => continue,
                Some((standing, false)) => {
                    result.stats.add(*standing, 1);
                    Why::Standing(*standing)
                }
                None => {
                    result.not_in_history += 1;
                    Why::NotInHistory
                }
            };
            result.accepted += 1;
            let has_it = matches!(
                why,
                Why::Standing(Standing::Settled(Settlement::Delivered | Settlement::Acknowledged))
            );
            if !has_it {
                let delivery = delivery_id_at(accepted, endpoint.number, offset);
                result.missing.push(Missing { message, delivery, offset, why });
            }
        }
        Ok(())
    }

    async fn is_in_log(&self, message: MessageKey) -> Result<bool, QueryError> {
        let bounds = self.shared.log.bounds(Topic::Messages, message.partition).await?;
        Ok(message.offset >= bounds.start)
    }

    /// Which records of its partition the tail refused, and how far the tables are.
    async fn tail_of(&self, endpoint: EndpointAt) -> Result<(IntakeRule, Offset), QueryError> {
        let sql = "SELECT next, state FROM positions WHERE topic = $1 AND part = $2";
        let values = vec![Value::Int(Source::Deliveries.code()), Value::Int(endpoint.partition.0.into())];
        let found = self.store().rows(sql, values).await?;
        let Some(row) = found.first() else { return Ok((IntakeRule::default(), Offset::ZERO)) };
        let state = row.bytes(1)?.ok_or("a state is missing")?;
        let checkpoint = WorkerCheckpoint::decode(state).map_err(|_| "a position's state")?;
        Ok((IntakeRule::restore(&checkpoint), load::offset(row.int(0)?)))
    }
}
