//! Why something was not copied, or why a run ended. Each is one plain line for the operator.

use http::{Method, StatusCode};

use crate::{connection::Trouble, server::Side};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was never reached.
    #[error("cannot reach {side} at {server}: {trouble}")]
    Unreachable { side: Side, server: String, trouble: Trouble },
    /// It was reached before, and no more.
    #[error("{side} at {server} cannot be reached any more: {trouble}; start again: what was copied is kept")]
    Lost { side: Side, server: String, trouble: Trouble },
    #[error("{side} at {server} has no room for requests ({status}) for too long; start again later")]
    Busy { side: Side, server: String, status: StatusCode },
    #[error("{side} at {server} asks to be left alone for {secs} s; start again after that")]
    Later { side: Side, server: String, secs: u64 },
    #[error("{side} at {server} refuses the token ({status}) on {method} {path}: {said}")]
    Token { side: Side, server: String, status: StatusCode, method: Method, path: String, said: String },
    #[error("{side} at {server} redirects to {to}: give that URL, if it is right")]
    Redirected { side: Side, server: String, to: String },
    #[error("{side} at {server} is not compatible with Svix's API: {why}")]
    NotCompatible { side: Side, server: String, why: String },
    #[error("source and target are the same server")]
    Same,
    #[error("a certificate authority to be trusted cannot be: {0}")]
    Authority(rustls::Error),
    /// Of one thing.
    #[error("{side} answers {status} to {method} {path}: {said}")]
    Answer { side: Side, status: StatusCode, method: Method, path: String, said: String },
    #[error("{side} answers more than {bytes} bytes to GET {path}")]
    TooLong { side: Side, path: String, bytes: usize },
    #[error("its kind is not known here: it has no http or https URL")]
    Kind,
    #[error("it has no {0}")]
    Missing(&'static str),
}

impl Error {
    /// Whether nothing else could be copied either.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Busy { .. }
            | Self::Later { .. }
            | Self::Token { .. }
            | Self::Redirected { .. }
            | Self::NotCompatible { .. }
            | Self::Same
            | Self::Authority(_) => true,
            Self::Answer { .. } | Self::TooLong { .. } | Self::Kind | Self::Missing(_) => false,
        }
    }
}
