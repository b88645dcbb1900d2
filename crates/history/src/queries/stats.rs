//! Counts.

use std::collections::BTreeMap;

use fanfare_core::{EndpointNumber, Settlement, Timestamp};

use crate::{
    EndpointAt, History, QueryError, Standing,
    changes::{ATTEMPTS_BY_ANSWER, hour_of},
    keys::Tick,
    store::Value,
};

const HOUR_SECS: i64 = 3_600;
const SUCCESS: i64 = 2;

/// Deliveries of an endpoint by how they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Those acknowledged by a pull among them.
    pub delivered: u64,
    /// Not tried yet.
    pub pending: u64,
    /// Tried in vain; will be tried again.
    pub retrying: u64,
    /// Dead letters, by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    pub cancelled: u64,
    /// Dead letters that were purged.
    pub purged: u64,
}

impl Stats {
    pub(super) fn add(&mut self, standing: Standing, count: u64) {
        match standing {
            Standing::Pending => self.pending += count,
            Standing::Retrying => self.retrying += count,
            Standing::Settled(Settlement::Delivered | Settlement::Acknowledged) => self.delivered += count,
            Standing::Settled(Settlement::Cancelled) => self.cancelled += count,
            Standing::Settled(Settlement::Purged) => self.purged += count,
            Standing::Settled(reason) => *self.dead_letters.entry(reason.as_str()).or_default() += count,
        }
    }

    pub fn dead(&self) -> u64 {
        self.dead_letters.values().sum()
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.delivered + self.pending + self.retrying + self.dead() + self.cancelled + self.purged
    }
}

/// Attempts of one endpoint in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptHour {
    /// Its beginning.
    pub hour: Timestamp,
    pub delivered: u64,
    pub failed: u64,
    /// By hundreds of their HTTP status; 0 where no answer came.
    pub by_class: BTreeMap<u16, u64>,
}

impl History {
    /// How the deliveries of messages accepted in `[since, until)` stand.
    pub async fn stats(
        &self,
        endpoint: EndpointAt,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Stats, QueryError> {
        let mut stats = Stats::default();
        // Whole hours were counted as they came; the rest is counted now.
        let first = hour_of(since) + i64::from(beginning(hour_of(since)) < since);
        let last = hour_of(until);
        if first >= last {
            self.count(endpoint, since, until, &mut stats).await?;
            return Ok(stats);
        }
        let sql = "SELECT what, CAST(SUM(amount) AS BIGINT) FROM tallies WHERE endpoint = $1 AND hour >= $2 \
                   AND hour < $3 AND what < $4 GROUP BY what";
        let values = vec![
            Value::Int(endpoint.number.0.into()),
            Value::Int(first),
            Value::Int(last),
            Value::Int(ATTEMPTS_BY_ANSWER),
        ];
        for row in self.store().rows(sql, values).await? {
            let standing = Standing::from_code(row.int(0)?).ok_or("a standing")?;
            stats.add(standing, u64::try_from(row.int(1)?).unwrap_or(0));
        }
        self.count(endpoint, since, beginning(first), &mut stats).await?;
        self.count(endpoint, beginning(last), until, &mut stats).await?;
        Ok(stats)
    }

    async fn count(
        &self,
        endpoint: EndpointAt,
        since: Timestamp,
        until: Timestamp,
        stats: &mut Stats,
    ) -> Result<(), QueryError> {
        if since >= until {
            return Ok(());
        }
        let bounds = self.accepted_between(endpoint, Some(since), Some(until)).await?;
        let Some((low, high)) = bounds else { return Ok(()) };
        let sql = "SELECT standing, COUNT(*) FROM deliveries WHERE endpoint = $1 AND delivery >= $2 \
                   AND delivery <= $3 AND accepted >= $4 AND accepted < $5 AND shadow <> 1 GROUP BY standing";
        let values = vec![
            Value::Int(endpoint.number.0.into()),
            Value::offset(low),
            Value::offset(high),
            Value::Int(Tick::of(since).0),
            Value::Int(Tick::of(until).0),
        ];
        for row in self.store().rows(sql, values).await? {
            let standing = Standing::from_code(row.int(0)?).ok_or("a standing")?;
            stats.add(standing, u64::try_from(row.int(1)?).unwrap_or(0));
        }
        Ok(())
    }

    /// Attempts by the hour in which they were made: every hour from that of `since` until `until`.
    pub async fn attempt_stats(
        &self,
        endpoint: EndpointNumber,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<AttemptHour>, QueryError> {
        let last = if beginning(hour_of(until)) < until { hour_of(until) + 1 } else { hour_of(until) };
        let empty =
            |hour| AttemptHour { hour: beginning(hour), delivered: 0, failed: 0, by_class: BTreeMap::new() };
        let mut hours: BTreeMap<i64, AttemptHour> =
            (hour_of(since)..last).map(|hour| (hour, empty(hour))).collect();
        let sql = "SELECT hour, what, amount FROM tallies WHERE endpoint = $1 AND hour >= $2 AND hour < $3 \
                   AND what >= $4";
        let values = vec![
            Value::Int(endpoint.0.into()),
            Value::Int(hour_of(since)),
            Value::Int(last),
            Value::Int(ATTEMPTS_BY_ANSWER),
        ];
        for row in self.store().rows(sql, values).await? {
            let Some(hour) = hours.get_mut(&row.int(0)?) else { continue };
            let class = (row.int(1)? - ATTEMPTS_BY_ANSWER) / 2;
            let amount = u64::try_from(row.int(2)?).unwrap_or(0);
            if class == SUCCESS {
                hour.delivered += amount;
            } else {
                hour.failed += amount;
            }
            *hour.by_class.entry(u16::try_from(class * 100).unwrap_or(0)).or_default() += amount;
        }
        Ok(hours.into_values().collect())
    }
}

fn beginning(hour: i64) -> Timestamp {
    Timestamp::from_secs(hour.saturating_mul(HOUR_SECS))
}
