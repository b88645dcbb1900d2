//! What a refused command is to a client.

use fanfare_control::{CommandError, Refusal};
use fanfare_log::AppendError;

use crate::{ApiError, FieldError};

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => Self::from(refusal),
            CommandError::Url(error) => Self::invalid_field("url", error.to_string()),
            CommandError::Log(error @ AppendError::Full { .. }) => {
                Self::unavailable("disk_full", format!("the disk is full: {error}"))
            }
            CommandError::Log(AppendError::TooLarge { limit_bytes, .. }) => Self::too_large(limit_bytes),
            CommandError::Log(error) => {
                tracing::error!(%error, "a command could not be appended");
                Self::unavailable("log_unavailable", "the log cannot be reached now; send it again later")
            }
            CommandError::Unavailable(error) => Self::from(error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoApplication(id) => Self::not_found("application", &id.to_string()),
            Refusal::NoEndpoint(id) => Self::not_found("endpoint", &id.to_string()),
            Refusal::NoEventType(name) => Self::not_found("event type", &name),
            Refusal::UidTaken(uid) => {
                Self::conflict(format!("the uid `{uid}` is taken; choose another, or update what has it"))
            }
            Refusal::EventTypeExists(name) => {
                Self::conflict(format!("the event type `{name}` exists; update it instead"))
            }
            Refusal::UnknownEventTypes(names) => {
                let message = format!("no such event type: {}; create it first", names.join(", "));
                Self::invalid(vec![FieldError::body(["eventTypes"], message)])
            }
            Refusal::StaleRevision { .. } => {
                Self::conflict("it was changed by somebody else at the same time; read it and try again")
            }
            Refusal::KeyReused => {
                Self::conflict("`Idempotency-Key` was used for a request with another body; use another key")
            }
            Refusal::NoApiKey(id) => Self::not_found("API key", &id.to_string()),
            Refusal::TooManyApiKeys => {
                Self::limit_reached(format!("{text}; delete one that is not used any more"))
            }
            Refusal::TooManyRevoked | Refusal::TooManySessions => {
                Self::limit_reached(format!("{text}; expire all tokens of the application instead"))
            }
            Refusal::TooManyExpiries => {
                Self::limit_reached(format!("{text}; expire them now, or wait for those to come into force"))
            }
            Refusal::NoJob(id) => Self::not_found("background task", &id.to_string()),
            Refusal::JobEnded(_) => Self::conflict(format!("{text}; make a new one")),
            Refusal::TooManyJobs => {
                Self::limit_reached(format!("{text}; wait for one to end, or cancel one"))
            }
            Refusal::ErasesToTheEnd(_) => Self::conflict(format!("{text}; wait for its end")),
            Refusal::IdTaken(_)
            | Refusal::WrongJob(_)
            | Refusal::Installed
            | Refusal::NoPartition(_)
            | Refusal::NumbersExhausted => {
                tracing::error!(reason = text, "a command was refused");
                Self::internal()
            }
        }
    }
}
