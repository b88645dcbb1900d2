//! PostgreSQL: a database that processes may share.
//!
//! - One process writes, by a lease that it renews ([`lease`]). Each transaction begins with the lease, so that one who
//!   lost it without knowing changes nothing.
//! - All that is kept is in tables: no session lock, no temporary table, no `LISTEN`. A pooler that gives each
//!   transaction another connection (PgBouncer) does no harm.
//! - A read that gets no connection or no answer in time fails; nobody waits for a database that is gone. A connection
//!   on which something was broken off is closed, never used again.

mod columns;
mod errors;
mod lease;
mod schema;
#[cfg(test)]
mod tests;

use std::{str::FromStr, time::Duration};

use fanfare_core::limits;
use fanfare_log::BoxFuture;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres as Driver,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use self::{errors::told, lease::Lease};
use super::{Row, Statement, Store, StoreError, Value};

/// How an address begins. The driver takes any other for one of its own.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Tables of PostgreSQL.
pub(crate) struct Postgres {
    reading: PgPool,
    writing: PgPool,
    lease: Lease,
}

impl Postgres {
    /// Connects to nothing yet. Where the address is wrong, the error does not repeat it: there is a password in it.
    pub(crate) fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = || {
            StoreError::Refused("the address is to be postgres://user:password@host:port/database".to_owned())
        };
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong());
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| wrong())?;
        // Statements are short: compiling them costs more than it saves, and a plan made for any value is made for none.
        // Disks are not such that reading a whole table is better than looking up some thousand rows.
        let options = options.application_name("fanfare-history").disable_statement_logging();
        let settings =
            [("jit", "off"), ("plan_cache_mode", "force_custom_plan"), ("random_page_cost", "1.1")];
        let options = options.options(settings);
        let limit = format!("{}ms", limits::HISTORY_READ.as_millis());
        let reading = options.clone().options([("statement_timeout", limit)]);
        // A connection that broke in the middle of a transaction is not to hold its locks for hours.
        let limit = format!("{}ms", limits::HISTORY_WRITE.as_millis());
        let writing = options.options([("idle_in_transaction_session_timeout", limit)]);
        Ok(Self {
            reading: pool(limits::HISTORY_READERS, limits::HISTORY_CONNECT).connect_lazy_with(reading),
            writing: pool(limits::HISTORY_WRITERS, limits::HISTORY_CONNECT).connect_lazy_with(writing),
            lease: Lease::default(),
        })
    }

    async fn ask(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let mut borrowed = Borrowed::of(&self.reading).await?;
        let query = columns::bind(sqlx::query(AssertSqlSafe(sql)), values);
        // The server is to say itself that it took too long.
        let limit = limits::HISTORY_READ + Duration::from_secs(1);
        let answer = within(limit, query.fetch_all(borrowed.connection())).await?;
        if errors::left_intact(&answer) {
            borrowed.give_back();
        }
        answer.map_err(told)?.iter().map(columns::row).collect()
    }

    async fn change(&self, statements: Vec<Statement>) -> Result<(), StoreError> {
        let epoch = self.lease.epoch()?;
        let mut borrowed = Borrowed::of(&self.writing).await?;
        within(limits::HISTORY_WRITE, transact(borrowed.connection(), epoch, statements)).await??;
        borrowed.give_back();
        Ok(())
    }
}

/// All of it or nothing, and nothing for one who does not lead any more.
async fn transact(
    connection: &mut PgConnection,
    epoch: i64,
    statements: Vec<Statement>,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(told)?;
    if !lease::renew(&mut transaction, epoch).await? {
        return Err(lease::lost());
    }
    for statement in statements {
        let done = match statement {
            Statement::Insert { into, values } => {
                columns::insert(into, values).execute(&mut *transaction).await
            }
            // Without values it may be several, such as those that make the tables.
            Statement::Run { sql, values } if values.is_empty() => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await
            }
            Statement::Run { sql, values } => {
                columns::bind(sqlx::query(AssertSqlSafe(sql)), values).execute(&mut *transaction).await
            }
        };
        done.map_err(told)?;
    }
    transaction.commit().await.map_err(told)
}

impl Store for Postgres {
    fn has_tables(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async {
            Ok(!self.ask("SELECT 1 WHERE to_regclass('about') IS NOT NULL", vec![]).await?.is_empty())
        })
    }

    fn schema(&self) -> String {
        schema::text()
    }

    fn rows<'a>(&'a self, sql: &'a str, values: Vec<Value>) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        Box::pin(self.ask(sql, values))
    }

    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(statements))
    }

    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.lease.take(&self.writing))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.lease.give_up(&self.writing).await;
            // Whoever still reads is cut off by the end of the process.
            let close = async { tokio::join!(self.reading.close(), self.writing.close()) };
            let _ = timeout(limits::HISTORY_CONNECT, close).await;
        })
    }
}

fn pool(connections: u32, patience: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(patience)
        // It is an error in the end, and that is told.
        .acquire_slow_threshold(patience * 2)
}

/// A connection that is closed, not given back, where what it was borrowed for was broken off: its answer would be
/// taken for that of the next.
struct Borrowed(Option<PoolConnection<Driver>>);

impl Borrowed {
    async fn of(pool: &PgPool) -> Result<Self, StoreError> {
        Ok(Self(Some(pool.acquire().await.map_err(told)?)))
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("given back only at the end")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, StoreError> {
    timeout(limit, work)
        .await
        .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", limit.as_secs())))
}
