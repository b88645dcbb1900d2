//! The way from a request to the history, and why there may be none.

use std::{sync::Arc, time::Duration};

use fanfare_control::{Application, Endpoint};
use fanfare_history::{EndpointAt, History, MessageRow, QueryError, Reach, StoreError};
use fanfare_http::{ApiError, FieldError};
use http::StatusCode;

use crate::State;

/// A history that was given time to see what was acknowledged before the request.
pub(crate) struct Reading {
    pub(crate) history: History,
    /// By how much it is still behind; `None`: it has seen all of that.
    pub(crate) behind: Option<Duration>,
}

impl State {
    pub(crate) fn history(&self) -> Result<&History, ApiError> {
        self.history.as_ref().ok_or_else(|| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "history_off",
                "this process keeps no history, because it was started with `--history off`",
            )
        })
    }

    pub(crate) async fn reading(&self, reach: Reach) -> Result<Reading, ApiError> {
        let history = self.history()?.clone();
        let passed = history.passed(reach).await;
        let behind = (!passed).then(|| history.lag().1);
        Ok(Reading { history, behind })
    }
}

impl Reading {
    /// 404 only where the history is not behind.
    pub(crate) fn found<T>(&self, found: Option<T>, what: &str, id: &str) -> Result<T, ApiError> {
        match (found, self.behind) {
            (Some(found), _) => Ok(found),
            (None, None) => Err(ApiError::not_found(what, id)),
            (None, Some(behind)) => Err(ApiError::unavailable(
                "history_behind",
                format!(
                    "there is no {what} `{id}` in the history, which is {} s behind; send it again later",
                    behind.as_secs()
                ),
            )),
        }
    }

    /// An application's message by its id, that of a repeat of it, or its event id.
    pub(crate) async fn message(&self, application: &Application, id: &str) -> Result<MessageRow, ApiError> {
        let found = self.history.message(application.id, id).await.map_err(refused)?;
        self.found(found, "message", id)
    }
}

/// What a client is told of a question that has no answer.
pub(crate) fn refused(error: QueryError) -> ApiError {
    match error {
        QueryError::Iterator => {
            let message = "must be one that an earlier page gave";
            ApiError::invalid(vec![FieldError::at("query", ["iterator"], message)])
        }
        QueryError::Store(StoreError::Unavailable(reason)) => {
            // The projector says so once; this is said per request.
            tracing::debug!(reason, "history unavailable");
            ApiError::unavailable(
                "history_unavailable",
                "the database of the history cannot be reached now; send it again later",
            )
        }
        QueryError::Log(error) if error.is_retryable() => {
            tracing::debug!(%error, "log unavailable");
            ApiError::unavailable("log_unavailable", "the log cannot be reached now; send it again later")
        }
        error @ (QueryError::Store(_) | QueryError::Log(_) | QueryError::Row(_)) => {
            tracing::error!(%error, "history cannot be read");
            ApiError::internal()
        }
    }
}

/// An endpoint as records name it.
pub(crate) fn at(endpoint: &Arc<Endpoint>) -> EndpointAt {
    EndpointAt { number: endpoint.number, partition: endpoint.partition }
}
