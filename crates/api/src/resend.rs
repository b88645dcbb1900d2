//! `POST …/msg/{msg_id}/endpoint/{endpoint_id}/resend`: a message once more, to one endpoint.
//!
//! It is an injected record, durable before the answer: a job of its own with one message, so that a repeat of the request
//! with its idempotency key is known as one where it is taken.

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::Endpoint;
use fanfare_core::{Delivery, MessageId};
use fanfare_history::Reach;
use fanfare_http::{ApiError, Authenticated, Path, Routes, Who};
use fanfare_log::{AppendError, NewRecord, Sync, Topic};
use http::StatusCode;

use crate::{
    State,
    endpoint::find,
    messages::{Found, Lookup, unreadable},
    owner::EndpointPath,
    patch::Patch,
    post::Post,
};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().post(
        "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
        Who::Application,
        resend,
    )
}

/// Whatever the endpoint's filters say of it.
async fn resend(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id, endpoint_id)): Path<(String, String, String)>,
    post: Post<Patch>,
) -> Result<(StatusCode, Answer<Patch>), ApiError> {
    let endpoint = find(&state, who, &EndpointPath::of(app_id, endpoint_id)).await?;
    let found = message(&state, &endpoint, &msg_id).await?;
    if endpoint.settings.disabled {
        let detail = "the endpoint is disabled and is sent nothing; enable it, then send the message again";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "endpoint_disabled", detail));
    }
    let job = post.key.map_or_else(|| state.entropy.u64(), |key| key.key.short());
    inject(&state, &endpoint, &found, job).await?;
    Ok((StatusCode::ACCEPTED, Answer(Patch::new())))
}

/// The message, with its payload: by its id, for which the log is enough, or by its `eventId`, which history knows.
async fn message(state: &State, endpoint: &Endpoint, msg_id: &str) -> Result<Box<Found>, ApiError> {
    let unknown = || ApiError::not_found("message", msg_id);
    let application = state.control().view().application_by_id(endpoint.application).ok_or_else(unknown)?;
    let id: MessageId = match msg_id.parse() {
        Ok(id) => id,
        Err(_) if state.history.is_none() => return Err(unknown()),
        Err(_) => {
            let reading = state.reading(Reach::Messages(application.partition)).await?;
            reading.message(&application, msg_id).await?.id
        }
    };
    let found = state.messages.find(&application, id).await.map_err(|error| unreadable(&error))?;
    match found {
        Lookup::Unknown => return Err(unknown()),
        Lookup::Found(found) if !is_hidden(state, &found).await? => return Ok(found),
        Lookup::Found(_) | Lookup::Gone => {}
    }
    let detail = "the message's payload is not kept any more; publish it again";
    Err(ApiError::new(StatusCode::BAD_REQUEST, "missing_payload", detail))
}

async fn is_hidden(state: &State, found: &Found) -> Result<bool, ApiError> {
    state.control().fresh().await?;
    let Found { message, partition, offset, wiped } = found;
    let expired = message.payload_expires_at.is_some_and(|at| at <= state.gate.clock().now());
    let erased = state.control().view().is_erased(message.application, *partition, *offset);
    Ok(*wiped || expired || erased)
}

async fn inject(state: &State, endpoint: &Endpoint, found: &Found, job: u64) -> Result<(), ApiError> {
    let delivery = Delivery::Injected {
        job,
        sequence: 1,
        id: found.message.id,
        partition: found.partition,
        offset: found.offset,
        ordering_key: found.message.ordering_key_hash(),
        endpoints: vec![endpoint.number],
        at: state.gate.clock().now(),
        control: state.control().position(),
    };
    let records = vec![NewRecord::head(delivery.encode())];
    let pending = state.log.append(Topic::Deliveries, endpoint.partition, records, Sync::Now).await;
    pending.map_err(not_appended)?.await.map_err(not_appended)?;
    Ok(())
}

pub(crate) fn not_appended(error: AppendError) -> ApiError {
    match error {
        AppendError::Full { .. } => {
            ApiError::unavailable("disk_full", "the disk is full; send it again when there is room")
        }
        AppendError::TooLarge { .. } => {
            tracing::error!(%error, "a message cannot be sent again");
            ApiError::internal()
        }
        AppendError::Unavailable(reason) | AppendError::Closed(reason) => {
            tracing::debug!(reason, "log unavailable");
            ApiError::unavailable(
                "log_unavailable",
                "the log cannot be reached now; send it again with the same idempotency key",
            )
        }
    }
}
