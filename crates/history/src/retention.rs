//! What is older than the log keeps leaves the tables: ranges of keys, a bounded step at a time, so that projecting
//! goes on between them.

use std::time::Duration;

use fanfare_core::{Offset, Partition};
use fanfare_log::Topic;

use crate::{
    QueryError,
    changes::{Source, hour_of, minute_of_tick},
    fold::Fold,
    keys::{MessageKey, Tick},
    load,
    shared::Shared,
    store::{Statement, Store, Value},
};

/// How often is looked for what has become too old; and when there was more of it than one run takes away.
pub(crate) const EVERY: Duration = Duration::from_mins(1);
pub(crate) const AGAIN: Duration = Duration::from_millis(500);
/// Rows of one transaction.
const STEP_ROWS: usize = 5_000;
/// Transactions of one run.
const STEPS: usize = 8;

/// Rows of a table that are too old.
struct Old {
    table: &'static str,
    key: &'static str,
    /// Finds their keys.
    from: String,
    values: Vec<Value>,
}

/// Takes away some of what is too old; whether there is more.
pub(crate) async fn run(shared: &Shared, store: &dyn Store, fold: &mut Fold) -> Result<bool, QueryError> {
    let mut steps = 0;
    for old in what_is_old(shared, store).await? {
        while exists(store, &old).await? {
            if steps == STEPS {
                return Ok(true);
            }
            steps += 1;
            store.write(vec![delete(&old)]).await?;
        }
    }
    let partitions = shared.log.partitions(Topic::Deliveries);
    for partition in (0..partitions).map(Partition) {
        let start = shared.log.bounds(Topic::Deliveries, partition).await?.start;
        fold.truncate(partition, start);
    }
    Ok(false)
}

async fn what_is_old(shared: &Shared, store: &dyn Store) -> Result<Vec<Old>, QueryError> {
    let cutoff = shared.clock.now() - shared.retention;
    let minute = minute_of_tick(Tick::of(cutoff));
    let mut all = Vec::new();
    for partition in (0..shared.log.partitions(Topic::Messages)).map(Partition) {
        let Some(below) = lowest_kept(store, Source::Messages, partition, minute).await? else { continue };
        let from = MessageKey { partition, offset: Offset::ZERO }.to_int();
        let below = MessageKey { partition, offset: below }.to_int();
        for (table, key) in [("messages", "message"), ("routes", "message, part, delivery")] {
            all.push(Old {
                table,
                key,
                from: format!("{table} x WHERE x.message >= $1 AND x.message < $2"),
                values: vec![Value::Int(from), Value::Int(below)],
            });
        }
    }
    for partition in (0..shared.log.partitions(Topic::Deliveries)).map(Partition) {
        let Some(below) = lowest_kept(store, Source::Deliveries, partition, minute).await? else { continue };
        all.push(Old {
            table: "deliveries",
            key: "endpoint, delivery",
            from: "endpoints e CROSS JOIN deliveries x WHERE e.part = $1 AND x.endpoint = e.endpoint AND x.delivery < $2"
                .to_owned(),
            values: vec![Value::Int(partition.0.into()), Value::offset(below)],
        });
    }
    all.push(Old {
        table: "attempts",
        key: "endpoint, answer, tick, delivery, number",
        from: "endpoints e CROSS JOIN attempts x WHERE x.endpoint = e.endpoint \
               AND x.answer IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) AND x.tick < $1"
            .to_owned(),
        values: vec![Value::Int(Tick::of(cutoff).0)],
    });
    all.push(Old {
        table: "tallies",
        key: "endpoint, hour, what",
        from: "endpoints e CROSS JOIN tallies x WHERE x.endpoint = e.endpoint AND x.hour < $1".to_owned(),
        values: vec![Value::Int(hour_of(cutoff))],
    });
    // Last: they say where the others end.
    all.push(Old {
        table: "moments",
        key: "topic, part, injected, minute",
        from: "moments x WHERE x.minute < $1".to_owned(),
        values: vec![Value::Int(minute)],
    });
    Ok(all)
}

/// The lowest offset of what is young enough; where nothing is, the first one not used. Nothing where all is.
async fn lowest_kept(
    store: &dyn Store,
    source: Source,
    partition: Partition,
    minute: i64,
) -> Result<Option<Offset>, QueryError> {
    let sql = "SELECT MIN(low) FROM moments WHERE topic = $1 AND part = $2 AND injected = 0 AND minute >= $3";
    let of = || vec![Value::Int(source.code()), Value::Int(partition.0.into()), Value::Int(minute)];
    let kept = store.rows(sql, of()).await?;
    if let Some(low) = kept.first().and_then(|row| row.opt_int(0).transpose()).transpose()? {
        return Ok(Some(load::offset(low)));
    }
    let sql = "SELECT MAX(high) FROM moments WHERE topic = $1 AND part = $2 AND injected = 0 AND minute < $3";
    let gone = store.rows(sql, of()).await?;
    let high = gone.first().and_then(|row| row.opt_int(0).transpose()).transpose()?;
    Ok(high.map(|high| load::offset(high).next()))
}

async fn exists(store: &dyn Store, old: &Old) -> Result<bool, QueryError> {
    let sql = format!("SELECT 1 FROM {} LIMIT 1", old.from);
    Ok(!store.rows(&sql, old.values.clone()).await?.is_empty())
}

fn delete(old: &Old) -> Statement {
    let Old { table, key, from, values } = old;
    let columns: Vec<String> = key.split(", ").map(|column| format!("x.{column}")).collect();
    let columns = columns.join(", ");
    let sql =
        format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {columns} FROM {from} LIMIT {STEP_ROWS})");
    Statement::Run { sql, values: values.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use fanfare_core::{Clock, InstallationId, Timestamp};
    use fanfare_log::sim::{SimCluster, SimOptions};

    use super::*;
    use crate::{
        fold::tests::{PART, at, attempt, facts, message_at, routed_at},
        service,
        store::sqlite::Sqlite,
    };

    const MESSAGES: u64 = 12_000;
    /// Between two messages: 100 come in a minute.
    const PACE_MICROS: i64 = 600_000;

    struct Now(Timestamp);

    impl Clock for Now {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    async fn rows(store: &dyn Store, table: &str) -> i64 {
        store.rows(&format!("SELECT COUNT(*) FROM {table}"), Vec::new()).await.unwrap()[0].int(0).unwrap()
    }

    #[tokio::test]
    async fn what_is_too_old_leaves_in_steps_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&directory.path().join("history.sqlite")));
        service::prepare(&*store, InstallationId::from_bytes([1; 20])).await.unwrap();
        let mut fold = Fold::default();
        let micros = |offset: u64| i64::try_from(offset).unwrap() * PACE_MICROS;
        for offset in 0..MESSAGES {
            let time = at(micros(offset));
            fold.message(PART, Offset(offset), message_at(offset, time));
            fold.delivery(PART, Offset(offset), &routed_at(offset, time, &[1, 2]));
            let fact = attempt(1, offset, 1, 200, micros(offset) + 1_000);
            fold.record(PART, Offset(offset), &facts(0, vec![fact]));
        }
        store.write(fold.take().into_statements()).await.unwrap();

        let retention = Duration::from_hours(1);
        let log = SimCluster::new(SimOptions::new(1, 1, 1)).join();
        let clock = Arc::new(Now(at(micros(MESSAGES / 2)) + retention));
        let shared = Shared::new(log, Arc::clone(&store), clock, retention, false);
        let mut runs = 1;
        while run(&shared, &*store, &mut fold).await.unwrap() {
            runs += 1;
        }
        assert_eq!(runs, 2, "30,000 rows go by 5,000 each");
        let half = i64::try_from(MESSAGES / 2).unwrap();
        for (table, per_message) in [("messages", 1), ("routes", 1), ("deliveries", 2), ("attempts", 1)] {
            let left = rows(&*store, table).await;
            let expected = half * per_message;
            // A minute goes when all of it is too old.
            assert!(
                (expected..expected + 100 * per_message).contains(&left),
                "{table}: {left}, not {expected}"
            );
        }
        assert!(rows(&*store, "moments").await > 0 && rows(&*store, "tallies").await > 0);
        assert!(!run(&shared, &*store, &mut fold).await.unwrap());
    }
}
