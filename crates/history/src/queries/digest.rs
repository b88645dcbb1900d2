//! A hash over all that the tables say: equal for tables that are equal.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{
    QueryError,
    store::{Row, Store, Value},
};

/// Rows read at once.
const ROWS: usize = 5_000;

/// A table, its columns, those that are its key first, and which rows count.
struct Content {
    table: &'static str,
    key: &'static [&'static str],
    rest: &'static str,
    only: &'static str,
}

/// Positions are left out: they say how far the log was read, not what it says.
const CONTENTS: [Content; 7] = [
    Content {
        table: "messages",
        key: &["message"],
        rest: "application, id, kind, event_type, event_id, channels, tags, ordering_key, accepted_at, deliver_at, \
               expires_at, first",
        only: "",
    },
    Content { table: "routes", key: &["message", "part", "delivery"], rest: "endpoints", only: "" },
    Content { table: "endpoints", key: &["endpoint"], rest: "part", only: "" },
    Content {
        table: "deliveries",
        key: &["endpoint", "delivery"],
        rest: "message, accepted, standing, attempts, first_at, last_at, last_status, settled_at, due, job, shadow",
        only: "",
    },
    Content {
        table: "attempts",
        key: &["endpoint", "answer", "tick", "delivery", "number"],
        rest: "message, made_at, duration, status, error, manual, due, response, again",
        only: "",
    },
    // One that came to nothing is the same as none.
    Content { table: "tallies", key: &["endpoint", "hour", "what"], rest: "amount", only: "amount <> 0" },
    Content { table: "moments", key: &["topic", "part", "injected", "minute"], rest: "low, high", only: "" },
];

/// What a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    pub table: &'static str,
    pub rows: u64,
    /// SHA-256 over its rows in order of their keys.
    pub digest: String,
}

/// The digest of every table.
pub(crate) async fn digest(store: &dyn Store) -> Result<Vec<TableDigest>, QueryError> {
    let mut all = Vec::with_capacity(CONTENTS.len());
    for content in &CONTENTS {
        all.push(digest_of(store, content).await?);
    }
    Ok(all)
}

async fn digest_of(store: &dyn Store, content: &Content) -> Result<TableDigest, QueryError> {
    let key = content.key.join(", ");
    let mut hasher = Sha256::new();
    let mut rows = 0;
    let mut mark: Option<Vec<Value>> = None;
    loop {
        let mut conditions: Vec<String> = Vec::new();
        if !content.only.is_empty() {
            conditions.push(content.only.to_owned());
        }
        if mark.is_some() {
            let places: Vec<String> = (1..=content.key.len()).map(|place| format!("${place}")).collect();
            conditions.push(format!("({key}) > ({})", places.join(", ")));
        }
        let only =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let sql = format!(
            "SELECT {key}, {} FROM {} {only} ORDER BY {key} LIMIT {ROWS}",
            content.rest, content.table
        );
        let found = store.rows(&sql, mark.take().unwrap_or_default()).await?;
        for row in &found {
            enter(&mut hasher, row);
        }
        rows += found.len() as u64;
        match found.last() {
            Some(last) if found.len() == ROWS => mark = Some(last.0[..content.key.len()].to_vec()),
            _ => break,
        }
    }
    let mut digest = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(digest, "{byte:02x}");
    }
    Ok(TableDigest { table: content.table, rows, digest })
}

/// Each value with its kind and length, so that no two rows look alike.
fn enter(hasher: &mut Sha256, row: &Row) {
    for value in &row.0 {
        let mut put = |kind: u8, bytes: &[u8]| {
            hasher.update([kind]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        match value {
            Value::Null(_) => put(0, &[]),
            Value::Int(value) => put(1, &value.to_be_bytes()),
            Value::Text(value) => put(2, value.as_bytes()),
            Value::Bytes(value) => put(3, value),
        }
    }
}
