//! What can go wrong.

use fanfare_log::ReadError;

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("history: {0}")]
    Store(#[from] StoreError),
    #[error("history: {0}")]
    Log(#[from] ReadError),
    /// A database of somebody else.
    #[error(
        "history: the tables are those of installation {theirs}, and this is {ours}; give it a database of its own"
    )]
    Foreign { theirs: String, ours: String },
    /// Made by a newer program.
    #[error(
        "history: the tables have version {found}, and this program knows {known}; rebuild them with `fanfare history rebuild`"
    )]
    Newer { found: i64, known: i64 },
    #[error("history: there are no tables yet")]
    None,
    /// Somebody else projects into them.
    #[error("history: a server keeps these tables; stop it first")]
    Kept,
    #[error("history: its thread does not start: {0}")]
    Thread(std::io::Error),
}

/// What a database says.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It may go better later: try again.
    #[error("the database cannot be used now: {0}")]
    Unavailable(String),
    /// Ours, or of somebody who changed the tables.
    #[error("the database refused: {0}")]
    Refused(String),
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Log(#[from] ReadError),
    /// The client's mistake.
    #[error("the iterator is not one that this list gave")]
    Iterator,
    /// A row that this program did not write.
    #[error("the tables hold what cannot be understood: {0}")]
    Row(&'static str),
}

impl From<&'static str> for QueryError {
    fn from(what: &'static str) -> Self {
        Self::Row(what)
    }
}
