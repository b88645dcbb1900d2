//! What can go wrong with the control plane, one enum per operation.

use fanfare_core::Offset;
use fanfare_log::{AppendError, ReadError};

use crate::{reducer::Refusal, url::UrlError};

/// Why a record of `control` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it has version {version}; this program knows versions up to {known}: start a newer fanfare")]
    NewerVersion { version: u32, known: u32 },
    #[error("it is malformed: {0}")]
    Malformed(String),
    #[error("the first record does not install anything")]
    NotInstalled,
}

/// Why the control plane could not be opened. Each is one plain line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the main secret is not the one that this installation ({installation}) was made with")]
    OtherSecret { installation: String },
    #[error(
        "the number of {topic} partitions is {given}, but this installation was made with {installed}; it cannot be \
         changed"
    )]
    PartitionCount { topic: &'static str, given: u32, installed: u32 },
    /// Whoever began anew here would find the records of an installation that nobody knows any more.
    #[error(
        "`control` is empty, but `{holding}` holds records: the control plane of this installation was lost, and no \
         other may take its place; restore it, or begin a new installation elsewhere"
    )]
    ControlLost { holding: &'static str },
    #[error("cannot read record {offset} of `control`: {error}")]
    Record { offset: Offset, error: RecordError },
    #[error("cannot read `control`: {0}")]
    Read(#[from] ReadError),
    #[error("cannot write the first record of `control`: {0}")]
    Append(#[from] AppendError),
}

impl OpenError {
    /// Whether a later try may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Append(error) => error.is_retryable(),
            Self::OtherSecret { .. }
            | Self::PartitionCount { .. }
            | Self::ControlLost { .. }
            | Self::Record { .. } => false,
        }
    }
}

/// The follower of `control` has stopped: the view grows stale and nothing may rely on it. Final; the reason was
/// logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A read failed, perhaps only now.
    #[error("cannot read `control`: {0}")]
    Read(#[from] ReadError),
    #[error("the control plane has stopped: {0}")]
    Stopped(String),
}

impl Unavailable {
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Stopped(_) => false,
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The reducer refused it; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The endpoint's URL is not one that messages may be sent to; nothing was written.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It may or may not be in the log, see [`AppendError`].
    #[error(transparent)]
    Log(#[from] AppendError),
    /// It is in the log, but what became of it cannot be learned here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
