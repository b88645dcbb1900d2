//! Why routing stops, for a while or for good.

use fanfare_control::Unavailable;
use fanfare_core::{Offset, Partition, codec::Malformed};
use fanfare_log::{AppendError, ReadError, Topic};

use crate::dedup;

/// The router cannot go on; somebody has to act. One plain line.
#[derive(Debug, thiserror::Error)]
#[error("routing of partition {partition} has stopped: {reason}")]
pub struct Error {
    pub partition: Partition,
    pub reason: SessionError,
}

/// Why a session ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("cannot read `{}`: {error}", topic.as_str())]
    Read { topic: Topic, error: ReadError },
    #[error("cannot append to `{}`: {error}", topic.as_str())]
    Append { topic: Topic, error: AppendError },
    #[error("`deliveries` does not take payloads, which stay in `messages` from now on: {0}")]
    Inline(AppendError),
    #[error("cannot follow `control`: {0}")]
    Control(#[from] Unavailable),
    #[error("record {offset} of `{}` cannot be understood: {error}", topic.as_str())]
    Record { topic: Topic, offset: Offset, error: Malformed },
    #[error("cannot use the claims on disk: {0}")]
    Dedup(#[from] dedup::Error),
}

pub(crate) fn delivery_error(error: AppendError) -> SessionError {
    SessionError::Append { topic: Topic::Deliveries, error }
}

pub(crate) fn checkpoint_error(error: AppendError) -> SessionError {
    SessionError::Append { topic: Topic::Dedup, error }
}

impl SessionError {
    /// Whether a new session may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Retention was faster: the next session begins at the log's start and says what is lost.
            Self::Read { error, .. } => error.is_retryable() || matches!(error, ReadError::Truncated { .. }),
            Self::Append { error, .. } => error.is_retryable(),
            Self::Control(error) => error.is_retryable(),
            Self::Record { .. } => false,
            // What is damaged is thrown away and read from the log again; payloads that are in the way are left out.
            Self::Dedup(dedup::Error::Io { .. } | dedup::Error::Damaged { .. }) | Self::Inline(_) => true,
        }
    }
}
