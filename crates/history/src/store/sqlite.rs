//! SQLite: a file beside the log.
//!
//! One connection writes, a few read: with a write-ahead log of the database they are not in each other's way. A power
//! cut may take back the last transactions, whole: rows and positions together.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use fanfare_log::BoxFuture;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, Row as _,
    Sqlite as SqliteDb, TypeInfo as _, ValueRef as _,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
        SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::Mutex;

use super::{Kind, Row, SCHEMA, Statement, Store, StoreError, Target, Value};

const READERS: u32 = 4;
/// Rows of one statement. What is over is inserted by halves, so that few statements are prepared.
const ROWS: usize = 256;
const STATEMENTS_PREPARED: usize = 256;
/// Another process (`fanfare history …`) may have it for a moment.
const BUSY: Duration = Duration::from_secs(10);
/// Of each connection, in KiB.
const WRITER_CACHE: &str = "-65536";
const READER_CACHE: &str = "-16384";
/// A write-ahead log that has grown is cut to this.
const WAL_BYTES: &str = "67108864";

/// What the tables of a busy installation are like (rows, and rows that share the first columns of an index), for the
/// planner. Fixed, so that a statement is carried out in the same way however many rows there are; without it some
/// would not use the index that is there for them.
const STATISTICS: &str = "
ANALYZE;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('messages', 'messages_by_id', '10000000 10000 1'),
    ('messages', 'messages_by_type', '10000000 10000 1000 1'),
    ('messages', 'messages_by_event', '5000000 10000 1'),
    ('messages', 'messages_by_expiry', '10000000 10'),
    ('messages', 'messages_in_conflict', '1000 10 1'),
    ('messages', 'messages_again', '1000 10 1'),
    ('routes', 'routes', '10000000 1 1 1'),
    ('endpoints', NULL, '1000'),
    ('deliveries', 'deliveries', '10000000 10000 1'),
    ('deliveries', 'deliveries_not_delivered', '100000 1000 300 1'),
    ('deliveries', 'deliveries_dead', '50000 500 1 1'),
    ('attempts', 'attempts', '10000000 10000 8000 2 1 1'),
    ('attempts', 'attempts_again', '100000 100 2'),
    ('tallies', 'tallies', '500000 500 3 1'),
    ('moments', 'moments', '100000 30000 10000 8000 1');
ANALYZE sqlite_master;
";

pub(crate) struct Sqlite {
    readers: SqlitePool,
    writer: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
    lock_path: PathBuf,
    /// Held from the first [`Store::lead`] on: one at a time writes.
    lock: parking_lot::Mutex<Option<File>>,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .pragma("journal_size_limit", WAL_BYTES)
            .pragma("temp_store", "memory")
            .statement_cache_capacity(STATEMENTS_PREPARED)
            .disable_statement_logging();
        let reading = options.clone().pragma("cache_size", READER_CACHE).pragma("query_only", "on");
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(reading);
        Self {
            readers,
            writer: Mutex::new(None),
            options: options.pragma("cache_size", WRITER_CACHE),
            lock_path: path.with_extension("lock"),
            lock: parking_lot::Mutex::new(None),
        }
    }

    async fn transact(
        connection: &mut SqliteConnection,
        statements: Vec<Statement>,
    ) -> Result<(), StoreError> {
        run(connection, "BEGIN IMMEDIATE".to_owned(), Vec::new()).await?;
        for statement in statements {
            match statement {
                Statement::Insert { into, values } => insert(connection, into, values).await?,
                Statement::Run { sql, values } => run(connection, sql, values).await?,
            }
        }
        run(connection, "COMMIT".to_owned(), Vec::new()).await
    }
}

impl Store for Sqlite {
    fn has_tables(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async {
            // A file that is not there yet is made by whoever writes first.
            let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'about'";
            Ok(!self.rows(sql, Vec::new()).await?.is_empty())
        })
    }

    fn schema(&self) -> String {
        [SCHEMA, STATISTICS].concat()
    }

    fn rows<'a>(&'a self, sql: &'a str, values: Vec<Value>) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            let query = sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments(values)?);
            let rows = query.fetch_all(&self.readers).await?;
            rows.iter().map(row).collect()
        })
    }

    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let mut connection = match writer.take() {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            // A connection in the middle of a transaction is dropped, and the transaction with it.
            Self::transact(&mut connection, statements).await?;
            *writer = Some(connection);
            Ok(())
        })
    }

    /// A server, or `fanfare history rebuild`.
    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut held = self.lock.lock();
        if held.is_none() {
            match lock(&self.lock_path) {
                Ok(file) => *held = file,
                Err(error) => {
                    let text = format!("{}: {error}", self.lock_path.display());
                    return Box::pin(std::future::ready(Err(StoreError::Unavailable(text))));
                }
            }
        }
        Box::pin(std::future::ready(Ok(held.is_some())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.readers.close().await;
            if let Some(connection) = self.writer.lock().await.take() {
                drop(connection.close().await);
            }
            self.lock.lock().take();
        })
    }
}

/// The locked file; nothing while somebody else has the lock.
fn lock(path: &Path) -> std::io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    into: &Target,
    values: Vec<Value>,
) -> Result<(), StoreError> {
    let width = into.columns.len();
    let columns: Vec<&str> = into.columns.iter().map(|(name, _)| *name).collect();
    let columns = columns.join(", ");
    let row = format!("({})", vec!["?"; width].join(","));
    let mut left = values.len() / width;
    let mut values = values.into_iter();
    while left > 0 {
        let count = if left >= ROWS { ROWS } else { 1 << left.ilog2() };
        left -= count;
        let rows = vec![row.as_str(); count].join(",");
        let sql = format!("INSERT INTO {} ({columns}) VALUES {rows} {}", into.table, into.on_conflict);
        run(connection, sql, values.by_ref().take(count * width).collect()).await?;
    }
    Ok(())
}

async fn run(connection: &mut SqliteConnection, sql: String, values: Vec<Value>) -> Result<(), StoreError> {
    sqlx::query_with(AssertSqlSafe(sql), arguments(values)?).execute(connection).await?;
    Ok(())
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Null(_) => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(Vec::from(value)),
        };
        added.map_err(|error| StoreError::Refused(error.to_string()))?;
    }
    Ok(arguments)
}

fn row(row: &SqliteRow) -> Result<Row, StoreError> {
    let value = |index| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null(Kind::Int));
        }
        let kind = raw.type_info().name().to_owned();
        let value = match kind.as_str() {
            "TEXT" => <String as Decode<'_, SqliteDb>>::decode(raw).map(Value::Text),
            "BLOB" => {
                <Vec<u8> as Decode<'_, SqliteDb>>::decode(raw).map(|bytes| Value::Bytes(Bytes::from(bytes)))
            }
            _ => <i64 as Decode<'_, SqliteDb>>::decode(raw).map(Value::Int),
        };
        value.map_err(|error| StoreError::Refused(error.to_string()))
    };
    (0..row.len()).map(value).collect::<Result<_, _>>().map(Row)
}

/// What goes away by itself, or when somebody makes room.
const PASSING: [&str; 6] = ["5", "6", "8", "10", "13", "14"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) => {
                let code = cause.code().unwrap_or_default();
                // The low byte of an extended code is what it extends.
                let primary =
                    code.parse::<u32>().map_or_else(|_| code.to_string(), |code| (code & 0xff).to_string());
                if PASSING.contains(&primary.as_str()) {
                    return Self::Unavailable(cause.message().to_owned());
                }
                Self::Refused(cause.message().to_owned())
            }
            sqlx::Error::Configuration(_) | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                Self::Refused(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_is_a_store() {
        let directory = tempfile::tempdir().unwrap();
        super::super::conformance::check(Arc::new(Sqlite::open(&directory.path().join("history.sqlite"))))
            .await;
    }

    #[tokio::test]
    async fn one_at_a_time_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.sqlite");
        let (one, other) = (Sqlite::open(&path), Sqlite::open(&path));
        assert!(one.lead().await.unwrap() && one.lead().await.unwrap());
        assert!(!other.lead().await.unwrap());
        one.close().await;
        assert!(other.lead().await.unwrap());
    }
}
