//! SQLite: a file beside the log.
//!
//! One connection writes, a few read: with a write-ahead log of the database they are not in each other's way. A power
//! cut may take back the last transactions, whole: rows and positions together.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use fanfare_log::BoxFuture;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Decode as _, Row as _, TypeInfo as _,
    ValueRef as _,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteRow, SqliteSynchronous,
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

pub(crate) struct Sqlite {
    readers: SqlitePool,
    writer: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
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
        Self { readers, writer: Mutex::new(None), options: options.pragma("cache_size", WRITER_CACHE) }
    }

    async fn transact(connection: &mut SqliteConnection, statements: Vec<Statement>) -> Result<(), StoreError> {
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
        SCHEMA.to_owned()
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

    /// The file is in the data directory, which one process has.
    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.readers.close().await;
            if let Some(connection) = self.writer.lock().await.take() {
                drop(connection.close().await);
            }
        })
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
            "TEXT" => String::decode(raw).map(Value::Text),
            "BLOB" => Vec::<u8>::decode(raw).map(|bytes| Value::Bytes(Bytes::from(bytes))),
            _ => i64::decode(raw).map(Value::Int),
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
                let primary = code.parse::<u32>().map_or_else(|_| code.to_string(), |code| (code & 0xff).to_string());
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
