//! What an error of the driver means: whether it is worth trying again.

use sqlx::{Error, error::DatabaseError};

use super::StoreError;

/// Classes and codes (SQLSTATE) of what may go better later: the server stops, starts or has too much to do, its disk
/// is full, it is the copy that takes no writes, another transaction was in the way, it took too long, or the tables
/// were just made again.
const PASSING: [&str; 11] =
    ["08", "53", "57P", "57014", "58", "25006", "25P03", "40", "55", "0A000", "XX000"];

/// What is reported of an error.
pub(super) fn told(error: Error) -> StoreError {
    match error {
        Error::Database(error) if is_passing(&*error) => StoreError::Unavailable(error.message().to_owned()),
        Error::Database(error) => StoreError::Refused(error.message().to_owned()),
        Error::PoolTimedOut => StoreError::Unavailable("no connection in time".to_owned()),
        Error::PoolClosed => StoreError::Unavailable("its connections are closed".to_owned()),
        Error::Io(error) => StoreError::Unavailable(error.to_string()),
        Error::Tls(error) => StoreError::Unavailable(format!("TLS: {error}")),
        // Where a connection breaks in the middle of an answer.
        Error::Protocol(what) => StoreError::Unavailable(what),
        other => StoreError::Refused(other.to_string()),
    }
}

/// Whether the connection is as good as before.
pub(super) fn left_intact<T>(answer: &Result<T, Error>) -> bool {
    match answer {
        Ok(_) => true,
        // After a plain refusal, but not after the server has said good-bye.
        Err(Error::Database(error)) => error.code().is_some_and(|code| !code.starts_with("57P")),
        Err(_) => false,
    }
}

fn is_passing(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| PASSING.iter().any(|passing| code.starts_with(passing)))
}
