//! Who writes: the one that holds the lease, a row of its own table.
//!
//! Each holder has a number, the epoch, that no other gets. It renews the lease in each of its transactions, and beside
//! them while there is nothing to write. One whose lease ran out may still write as long as nobody took it: then
//! nothing happened in between. Times are those of the database, so the clocks of the processes do not matter.

use fanfare_core::limits;
use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{Borrowed, StoreError, told, within};

/// Made by whoever finds it missing.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS leader (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch BIGINT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);
INSERT INTO leader (one, epoch, until) VALUES (1, 0, '-infinity') ON CONFLICT DO NOTHING;
";
/// Held while it is made: two processes may start at once.
const MAKING: i64 = 0x66_61_6e_66_61_72_65;
const TAKE: &str = "UPDATE leader SET epoch = epoch + 1, until = clock_timestamp() + make_interval(secs => $1) \
                    WHERE until < clock_timestamp() RETURNING epoch";
const RENEW: &str =
    "UPDATE leader SET until = clock_timestamp() + make_interval(secs => $1) WHERE epoch = $2";
const GIVE_UP: &str = "UPDATE leader SET until = '-infinity' WHERE epoch = $1";

/// Of this process: held, or not.
#[derive(Default)]
pub(super) struct Lease(Mutex<Option<Held>>);

struct Held {
    epoch: i64,
    /// Renews it until it is lost.
    _keeper: AbortOnDropHandle<()>,
}

impl Lease {
    pub(super) fn epoch(&self) -> Result<i64, StoreError> {
        self.0.lock().as_ref().map(|held| held.epoch).ok_or_else(lost)
    }

    /// Whether it is ours, or is from now on.
    pub(super) async fn take(&self, pool: &PgPool) -> Result<bool, StoreError> {
        if let Ok(epoch) = self.epoch()
            && renewed(pool, epoch).await?
        {
            return Ok(true);
        }
        if !is_made(pool).await? {
            make(pool).await?;
        }
        let taken = taken(pool).await?;
        *self.0.lock() = taken.map(|epoch| {
            let keeper = tokio::spawn(keep(pool.clone(), epoch));
            Held { epoch, _keeper: AbortOnDropHandle::new(keeper) }
        });
        Ok(taken.is_some())
    }

    /// So that another need not wait until it runs out. Where that fails, it does.
    pub(super) async fn give_up(&self, pool: &PgPool) {
        let Some(held) = self.0.lock().take() else {
            return;
        };
        let given_up = async {
            let mut borrowed = Borrowed::of(pool).await?;
            let query = sqlx::query(GIVE_UP).bind(held.epoch).execute(borrowed.connection());
            within(limits::HISTORY_CONNECT, query).await?.map_err(told)?;
            borrowed.give_back();
            Ok::<_, StoreError>(())
        };
        if let Err(error) = given_up.await {
            tracing::debug!(%error, "history's lease is left to run out");
        }
    }
}

/// Says that another process leads.
pub(super) fn lost() -> StoreError {
    StoreError::Unavailable("another process writes history".to_owned())
}

/// Whether the one of this epoch leads still. In a transaction, nobody takes the lease until its end.
pub(super) async fn renew(connection: &mut PgConnection, epoch: i64) -> Result<bool, StoreError> {
    let query = sqlx::query(RENEW).bind(limits::HISTORY_LEASE.as_secs_f64()).bind(epoch);
    Ok(query.execute(connection).await.map_err(told)?.rows_affected() == 1)
}

async fn is_made(pool: &PgPool) -> Result<bool, StoreError> {
    let mut borrowed = Borrowed::of(pool).await?;
    let query = sqlx::query_scalar("SELECT to_regclass('leader') IS NOT NULL");
    let is_made =
        within(limits::HISTORY_LEASE, query.fetch_one(borrowed.connection())).await?.map_err(told)?;
    borrowed.give_back();
    Ok(is_made)
}

async fn make(pool: &PgPool) -> Result<(), StoreError> {
    let mut borrowed = Borrowed::of(pool).await?;
    within(limits::HISTORY_LEASE, make_on(borrowed.connection())).await??;
    borrowed.give_back();
    Ok(())
}

async fn make_on(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(told)?;
    if encoding != "UTF8" {
        return Err(StoreError::Refused(format!("its encoding is to be UTF8, and it is {encoding}")));
    }
    let mut transaction = connection.begin().await.map_err(told)?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING);
    lock.execute(&mut *transaction).await.map_err(told)?;
    sqlx::raw_sql(TABLE).execute(&mut *transaction).await.map_err(told)?;
    transaction.commit().await.map_err(told)
}

async fn renewed(pool: &PgPool, epoch: i64) -> Result<bool, StoreError> {
    let mut borrowed = Borrowed::of(pool).await?;
    let renewed = within(limits::HISTORY_LEASE, renew(borrowed.connection(), epoch)).await??;
    borrowed.give_back();
    Ok(renewed)
}

async fn taken(pool: &PgPool) -> Result<Option<i64>, StoreError> {
    let mut borrowed = Borrowed::of(pool).await?;
    let query = sqlx::query_scalar(TAKE).bind(limits::HISTORY_LEASE.as_secs_f64());
    let taken = within(limits::HISTORY_LEASE, query.fetch_optional(borrowed.connection())).await?;
    let epoch = taken.map_err(told)?;
    borrowed.give_back();
    Ok(epoch)
}

async fn keep(pool: PgPool, epoch: i64) {
    loop {
        sleep(limits::HISTORY_LEASE / 4).await;
        match renewed(&pool, epoch).await {
            Ok(true) => {}
            Ok(false) => return,
            // Whoever writes next learns whether it is still ours.
            Err(error) => tracing::debug!(%error, "history's lease was not renewed"),
        }
    }
}
