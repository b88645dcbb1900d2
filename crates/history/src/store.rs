//! The seam to the databases. All SQL of history is written once, for both.
//!
//! What both understand: placeholders `$1`, `$2`, …; `INSERT … ON CONFLICT`; row values; `CAST(… AS BIGINT)` around every
//! `SUM`. Values are 64-bit integers, texts and bytes; nothing else is stored or asked for.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use bytes::Bytes;
use fanfare_log::BoxFuture;

pub(crate) use crate::error::StoreError;

/// The tables, as SQLite reads them.
pub(crate) const SCHEMA: &str = include_str!("schema.sql");
/// Rises with [`SCHEMA`]. Tables of an older version are dropped and made again from the log.
pub(crate) const SCHEMA_VERSION: i64 = 1;
pub(crate) const TABLES: [&str; 8] =
    ["about", "positions", "messages", "routes", "deliveries", "attempts", "tallies", "moments"];

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
    Insert { into: &'static Target, values: Vec<Value> },
    Run { sql: String, values: Vec<Value> },
}

/// A database. One conformance suite (`store/conformance.rs`) holds every implementation to this:
///
/// - `migrate` makes the tables of [`SCHEMA`] where there are none, in one transaction. It touches no others.
/// - `rows` gives all rows of one statement, which changes nothing. Any number of calls may be under way at once.
/// - `write` does all statements in order in one transaction, or none of them; when it returns without an error they
///   survive the end of the process. It is never called while another is under way.
/// - `lead` says whether this process is the one that may write. Where processes share a database, one is, until it
///   ends or its connection does: a `write` after that fails and changes nothing, and `lead` is asked again.
pub(crate) trait Store: Send + Sync + 'static {
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    fn rows<'a>(&'a self, sql: &'a str, values: Vec<Value>) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<(), StoreError>>;

    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Whether others may write to it, so that what is known of its positions is no more than a beginning.
    fn is_shared(&self) -> bool;

    fn close(&self) -> BoxFuture<'_, ()>;
}
