//! Rows that the fold needs to go on.

use std::collections::BTreeSet;

use fanfare_core::{EndpointNumber, Offset, Partition};

use crate::{
    changes::{DeliveryKey, Shadow, Source, State, decode_endpoints},
    error::QueryError,
    fold::{Fold, Range},
    keys::{MessageKey, Tick},
    rows::{Standing, time},
    store::{Row, Store, Value},
};

/// Keys asked for at once.
const KEYS: usize = 256;
/// Rows of a range settled in one step.
pub(crate) const RANGE_STEP: usize = 4_096;

/// Of `deliveries d`.
const COLUMNS: &str = "d.endpoint, d.delivery, d.message, d.accepted, d.standing, d.attempts, d.first_at, d.last_at, \
    d.last_status, d.settled_at, d.due, d.job, d.shadow";

/// Puts a fold to where the tables are.
pub(crate) async fn restore(store: &dyn Store, fold: &mut Fold) -> Result<(), QueryError> {
    for row in store.rows("SELECT topic, part, next, state FROM positions", Vec::new()).await? {
        let source = Source::from_code(row.int(0)?).ok_or("a topic that nobody knows")?;
        let partition = Partition(u32::try_from(row.int(1)?).map_err(|_| "a partition")?);
        let state = row.bytes(3)?.ok_or("a state is missing")?;
        fold.restore(source, partition, offset(row.int(2)?), state).map_err(|_| "a position's state")?;
    }
    Ok(())
}

/// The rows of these deliveries, as far as there are any.
pub(crate) async fn deliveries(
    store: &dyn Store,
    keys: impl IntoIterator<Item = DeliveryKey>,
) -> Result<Vec<(DeliveryKey, State)>, QueryError> {
    let keys: Vec<DeliveryKey> = keys.into_iter().collect();
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(KEYS) {
        let sql = format!("{} SELECT {COLUMNS} FROM {KEYED_DELIVERIES}", with_keys(keys.len()));
        for row in store.rows(&sql, key_values(keys)).await? {
            found.push(state(&row)?);
        }
    }
    Ok(found)
}

/// Everything that the endpoints of these messages have of them, into the fold.
pub(crate) async fn groups(
    store: &dyn Store,
    fold: &mut Fold,
    messages: &BTreeSet<MessageKey>,
) -> Result<(), QueryError> {
    let mut keys = Vec::new();
    for message in messages {
        let sql = "SELECT delivery, endpoints FROM routes WHERE message = $1";
        for row in store.rows(sql, vec![Value::Int(message.to_int())]).await? {
            let at = offset(row.int(0)?);
            let endpoints = decode_endpoints(row.bytes(1)?.ok_or("a route")?).map_err(|_| "a route")?;
            keys.extend(endpoints.into_iter().map(|endpoint| (endpoint, at)));
        }
    }
    for (key, state) in deliveries(store, keys).await? {
        fold.track_twin(key, state);
    }
    Ok(())
}

/// The first unsettled deliveries of a range, and up to where they were looked for.
pub(crate) async fn range_step(
    store: &dyn Store,
    range: &Range,
) -> Result<(Vec<(DeliveryKey, State)>, Offset), QueryError> {
    // Each standing apart: the index has them one behind the other.
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d WHERE d.endpoint = $1 AND d.standing = $2 AND d.standing <> 10 \
         AND d.delivery >= $3 AND d.delivery < $4 ORDER BY d.delivery LIMIT {RANGE_STEP}"
    );
    let mut found = Vec::new();
    let mut until = range.to;
    for standing in [Standing::Pending, Standing::Retrying] {
        let values = vec![
            Value::Int(range.endpoint.0.into()),
            Value::Int(standing.code()),
            Value::offset(range.from),
            Value::offset(range.to),
        ];
        let rows = store.rows(&sql, values).await?;
        let full = rows.len() == RANGE_STEP;
        let first = found.len();
        for row in &rows {
            found.push(state(row)?);
        }
        if full && let Some(((_, last), _)) = found[first..].last() {
            until = until.min(last.next());
        }
    }
    found.retain(|((_, offset), _)| *offset < until);
    Ok((found, until))
}

fn state(row: &Row) -> Result<(DeliveryKey, State), &'static str> {
    let endpoint = EndpointNumber(u32::try_from(row.int(0)?).map_err(|_| "an endpoint")?);
    let state = State {
        message: MessageKey::from_int(row.int(2)?),
        accepted: Tick(row.int(3)?),
        standing: Standing::from_code(row.int(4)?).ok_or("a standing")?,
        attempts: u32::try_from(row.int(5)?).map_err(|_| "attempts")?,
        first_at: row.opt_int(6)?.map(time),
        last_at: row.opt_int(7)?.map(time),
        last_status: row.opt_int(8)?.map(http_status).transpose()?,
        settled_at: row.opt_int(9)?.map(Tick),
        due: row.opt_int(10)?.map(time),
        job: row.opt_int(11)?.map(i64::cast_unsigned),
        shadow: Shadow::from_code(row.int(12)?).ok_or("a shadow")?,
    };
    Ok(((endpoint, offset(row.int(1)?)), state))
}

pub(crate) fn http_status(value: i64) -> Result<u16, &'static str> {
    u16::try_from(value).map_err(|_| "an HTTP status")
}

pub(crate) fn offset(value: i64) -> Offset {
    Offset(value.cast_unsigned())
}

/// The keys of so many deliveries as a table `k`. What is joined to it with CROSS is looked up key by key, in both
/// databases: for `IN (VALUES …)` SQLite reads everything.
pub(crate) fn with_keys(count: usize) -> String {
    let keys: Vec<String> =
        (0..count).map(|index| format!("(${}, ${})", 2 * index + 1, 2 * index + 2)).collect();
    format!("WITH k(endpoint, delivery) AS (VALUES {})", keys.join(", "))
}

pub(crate) const KEYED_DELIVERIES: &str =
    "k CROSS JOIN deliveries d WHERE d.endpoint = k.endpoint AND d.delivery = k.delivery";

pub(crate) fn key_values(keys: &[DeliveryKey]) -> Vec<Value> {
    keys.iter().flat_map(|(endpoint, at)| [Value::Int(endpoint.0.into()), Value::offset(*at)]).collect()
}
