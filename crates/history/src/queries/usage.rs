//! How much an application is used, day by day.

use std::{collections::BTreeMap, ops::Range};

use fanfare_core::{ApplicationId, EndpointNumber, Timestamp};

use crate::{
    History, QueryError,
    changes::{ATTEMPTS_BY_ANSWER, hour_of},
    keys::{Tick, application_key},
    store::Value,
};

const DAY_SECS: i64 = 24 * 3_600;
const DAY_HOURS: i64 = 24;
/// Endpoints asked for at once.
const ENDPOINTS: usize = 256;

/// A day in UTC: days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Day {
    /// The one in which a time lies.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_secs().div_euclid(DAY_SECS))
    }

    pub fn beginning(self) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_mul(DAY_SECS))
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What was counted on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Accepted, repeats and conflicts left out.
    pub messages: u64,
    /// Of messages that were accepted on this day, whatever became of them. A message that was replayed counts once.
    pub deliveries: u64,
    /// Made on this day.
    pub attempts: u64,
}

impl History {
    /// Of an application with these endpoints, of each of these days on which there was something.
    pub async fn usage(
        &self,
        application: ApplicationId,
        endpoints: &[EndpointNumber],
        days: Range<Day>,
    ) -> Result<BTreeMap<Day, Usage>, QueryError> {
        let mut usage: BTreeMap<Day, Usage> = BTreeMap::new();
        let lowest_id = |day: Day| Value::Bytes(Tick::of(day.beginning()).lowest_id().to_vec().into());
        let micros = DAY_SECS * 1_000_000;
        let sql = format!(
            "SELECT accepted_at / {micros}, COUNT(*) FROM messages WHERE application = $1 AND id >= $2 AND id < $3 \
             AND kind = 0 GROUP BY accepted_at / {micros}"
        );
        let values =
            vec![Value::Int(application_key(application)), lowest_id(days.start), lowest_id(days.end)];
        for row in self.store().rows(&sql, values).await? {
            usage.entry(Day(row.int(0)?)).or_default().messages += count(row.int(1)?);
        }
        let hours = days.start.0 * DAY_HOURS..days.end.0 * DAY_HOURS;
        for (day, is_attempts, amount) in self.tallied(endpoints, hours).await? {
            let usage = usage.entry(day).or_default();
            if is_attempts {
                usage.attempts += amount;
            } else {
                usage.deliveries += amount;
            }
        }
        Ok(usage)
    }

    /// Deliveries to these endpoints, of messages that were accepted in the hours from that of `since` to that before
    /// which `until` lies, whatever became of them.
    pub async fn destinations(
        &self,
        endpoints: &[EndpointNumber],
        since: Timestamp,
        until: Timestamp,
    ) -> Result<u64, QueryError> {
        let last = Timestamp::from_micros(until.as_micros().saturating_sub(1));
        let tallied = self.tallied(endpoints, hour_of(since)..hour_of(last) + 1).await?;
        Ok(tallied.iter().filter(|(_, is_attempts, _)| !is_attempts).map(|(.., amount)| amount).sum())
    }

    /// By day, and whether they are attempts or deliveries.
    async fn tallied(
        &self,
        endpoints: &[EndpointNumber],
        hours: Range<i64>,
    ) -> Result<Vec<(Day, bool, u64)>, QueryError> {
        let mut tallied = Vec::new();
        for endpoints in endpoints.chunks(ENDPOINTS) {
            let keys: Vec<String> = (1..=endpoints.len()).map(|index| format!("(${index})")).collect();
            // What is joined with CROSS is looked up key by key, in both databases.
            let sql = format!(
                "WITH k(endpoint) AS (VALUES {keys}) SELECT t.hour / {DAY_HOURS}, t.what / {ATTEMPTS_BY_ANSWER}, \
                 CAST(SUM(t.amount) AS BIGINT) FROM k CROSS JOIN tallies t WHERE t.endpoint = k.endpoint \
                 AND t.hour >= ${low} AND t.hour < ${high} GROUP BY t.hour / {DAY_HOURS}, \
                 t.what / {ATTEMPTS_BY_ANSWER}",
                keys = keys.join(", "),
                low = endpoints.len() + 1,
                high = endpoints.len() + 2,
            );
            let mut values: Vec<Value> =
                endpoints.iter().map(|endpoint| Value::Int(endpoint.0.into())).collect();
            values.extend([Value::Int(hours.start), Value::Int(hours.end)]);
            for row in self.store().rows(&sql, values).await? {
                tallied.push((Day(row.int(0)?), row.int(1)? != 0, count(row.int(2)?)));
            }
        }
        Ok(tallied)
    }
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
