//! The seam to the databases. All SQL of history is written once, for both.
//!
//! What both understand: placeholders `$1`, `$2`, …; `INSERT … ON CONFLICT`; row values; `row_number() OVER`;
//! `LIKE … ESCAPE`; `TRUE`; `CAST(… AS BIGINT)` around every `SUM`. Values are 64-bit integers, texts and bytes; nothing else is stored or asked for.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::sync::Arc;

use bytes::Bytes;
use fanfare_log::BoxFuture;

use crate::Place;
pub(crate) use crate::error::StoreError;

/// The tables, as SQLite reads them.
pub(crate) const SCHEMA: &str = include_str!("schema.sql");
/// Rises with [`SCHEMA`]. Tables of an older version are dropped and made again from the log.
pub(crate) const SCHEMA_VERSION: i64 = 4;
pub(crate) const TABLES: [&str; 9] =
    ["about", "positions", "messages", "routes", "endpoints", "deliveries", "attempts", "tallies", "moments"];

/// What is stored, and what is asked with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    /// Of this kind, where a database has to know.
    Null(Kind),
    Int(i64),
    Text(String),
    Bytes(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
}

/// A row of an answer; a NULL has any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) Vec<Value>);

/// A table that rows go into, and what happens to those that are there already.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// `ON CONFLICT …`.
    pub(crate) on_conflict: &'static str,
}

/// Part of a transaction.
#[derive(Debug)]
pub(crate) enum Statement {
    /// Any number of rows, one after the other, no key twice.
    Insert {
        into: &'static Target,
        values: Vec<Value>,
    },
    Run {
        sql: String,
        values: Vec<Value>,
    },
}

/// A database, as one thread uses it: the projector opens one and so do the readers, each on its own runtime. One
/// conformance suite (`store/conformance.rs`) holds every implementation to this:
///
/// - `rows` gives all rows of one statement, which changes nothing. Any number of calls may be under way at once.
/// - `write` does all statements in order in one transaction, or none of them; when it returns without an error they
///   survive the end of the process. Tables may be made and dropped by it. It is never called while another is under
///   way, and by the projector alone.
/// - After an error every call is welcome again: connections that broke are made anew.
/// - `lead` says whether this is the one that may write. Where processes share a database, one is, until it ends or its
///   connection does: a `write` after that fails and changes nothing, and `lead` is asked again.
pub(crate) trait Store: Send + Sync + 'static {
    /// Whether there are tables of [`SCHEMA`] (or of an older one).
    fn has_tables(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// [`SCHEMA`] as this database reads it.
    fn schema(&self) -> String;

    fn rows<'a>(&'a self, sql: &'a str, values: Vec<Value>) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<(), StoreError>>;

    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A store for one thread. Connections are made when they are needed.
pub(crate) fn open(place: &Place) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match place {
        Place::Sqlite(path) => Arc::new(sqlite::Sqlite::open(path)),
        Place::Postgres(url) => Arc::new(postgres::Postgres::open(url)?),
    })
}

impl Value {
    pub(crate) fn offset(offset: fanfare_core::Offset) -> Self {
        Self::Int(offset.0.cast_signed())
    }
}

/// A row that is not what its table says.
pub(crate) type Unreadable = &'static str;

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, Unreadable> {
        self.opt_int(column)?.ok_or("an integer is missing")
    }

    pub(crate) fn opt_int(&self, column: usize) -> Result<Option<i64>, Unreadable> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null(_)) => Ok(None),
            _ => Err("a column is no integer"),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<Option<&str>, Unreadable> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Null(_)) => Ok(None),
            _ => Err("a column is no text"),
        }
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<Option<&Bytes>, Unreadable> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(Some(value)),
            Some(Value::Null(_)) => Ok(None),
            _ => Err("a column is no bytes"),
        }
    }
}
