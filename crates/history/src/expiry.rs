//! Payloads whose time is over are overwritten, where the log can. Hidden they are from the moment on (see `payloads`).
//!
//! What is kept as long as the log keeps it is left to the log. Nothing is remembered over a restart: what has no bytes
//! any more is passed over.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use fanfare_core::{Offset, Partition, Timestamp};
use fanfare_log::{Topic, WipeError, can_wipe, wipe_left};
use tokio::time::sleep;

use crate::{QueryError, keys::MessageKey, shared::Shared, store::Value};

/// Of what has expired the bytes are gone within a minute.
const EVERY: Duration = Duration::from_secs(20);
const STEP_ROWS: usize = 500;
/// Every payload is kept for an hour at least: where history is behind by less than this, nothing comes into it that has
/// expired before.
const BEHIND: Duration = Duration::from_mins(30);

/// Never ends. What fails is done again.
pub(crate) async fn run(shared: &Shared) -> Infallible {
    let mut passed = Passed::default();
    let mut was_behind = false;
    loop {
        let is_behind = shared.lag().1 > BEHIND;
        if was_behind && !is_behind {
            // What came in meanwhile may have expired before.
            passed = Passed::default();
        }
        was_behind = is_behind;
        if let Err(error) = step(shared, &mut passed).await {
            tracing::warn!(%error, "expired payloads are not overwritten yet; trying again");
        }
        sleep(EVERY).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Wipe(#[from] WipeError),
}

/// How far it is: all that expired before, and what expired with it up to this key, is overwritten.
#[derive(Clone, Copy, Debug)]
struct Passed {
    expires_at: i64,
    message: i64,
}

impl Default for Passed {
    fn default() -> Self {
        Self { expires_at: i64::MIN, message: i64::MIN }
    }
}

async fn step(shared: &Shared, passed: &mut Passed) -> Result<(), Error> {
    if !can_wipe(&*shared.log).await? {
        return Ok(());
    }
    let now = shared.clock.now();
    loop {
        let rows = expired(shared, *passed, now).await?;
        let mut wanted: BTreeMap<Partition, Vec<Offset>> = BTreeMap::new();
        for (key, _) in &rows {
            wanted.entry(key.partition).or_default().push(key.offset);
        }
        for (partition, offsets) in wanted {
            let messages = wipe_left(&*shared.log, Topic::Messages, partition, &offsets).await?;
            tracing::debug!(%partition, messages, "expired payloads are overwritten");
        }
        let Some((_, last)) = rows.last() else { return Ok(()) };
        *passed = *last;
    }
}

/// Some of what has expired and that the log would keep for longer, as it expired.
async fn expired(
    shared: &Shared,
    passed: Passed,
    now: Timestamp,
) -> Result<Vec<(MessageKey, Passed)>, QueryError> {
    let retention = i64::try_from(shared.retention.as_micros()).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT expires_at, message FROM messages WHERE (expires_at, message) > ($1, $2) AND expires_at <= $3 \
         AND expires_at - accepted_at < $4 ORDER BY expires_at, message LIMIT {STEP_ROWS}"
    );
    let values =
        [passed.expires_at, passed.message, now.as_micros(), retention].into_iter().map(Value::Int).collect();
    let rows = shared.store.rows(&sql, values).await?;
    let rows = rows.iter().map(|row| {
        let (expires_at, message) = (row.int(0)?, row.int(1)?);
        Ok((MessageKey::from_int(message), Passed { expires_at, message }))
    });
    rows.collect()
}
