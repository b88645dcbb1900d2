//! `POST /api/v1/app/{app_id}/msg`: the thin layer between HTTP and [`Ingest`].

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRef, Request},
    response::{IntoResponse, Response},
};
use fanfare_core::{Timestamp, limits};
use fanfare_http::{
    ApiError, Authenticated, Gate, MemoryPermit, Path, Query, Routes, Who, application_or_new,
    holding_answer, idempotency_key, read_body, require_json,
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    AcceptError, Accepted, Ingest, MessageIn, Publish, Rates, batch::create_messages, claims::Conflict,
    example::send_example, publish, trace::traceparent,
};

/// An answer larger than this holds its room in memory until the client has read it.
const LARGE_ANSWER_BYTES: usize = 16 << 10;

const SECONDS_OF_A_DAY: u64 = 24 * 3_600;

/// What the route needs.
#[derive(Clone)]
pub struct State {
    pub gate: Gate,
    pub ingest: Ingest,
    pub rates: Arc<Rates>,
    /// The largest body taken; at most [`limits::BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// No message waits longer than this for its time (`deliverAt`): half the log's retention.
    pub deliver_ahead: Duration,
}

impl State {
    pub(crate) fn deliver_by(&self) -> Timestamp {
        self.ingest.0.clock.now() + self.deliver_ahead
    }
}

impl FromRef<State> for Gate {
    fn from_ref(state: &State) -> Self {
        state.gate.clone()
    }
}

/// The routes by which messages come in.
pub fn routes() -> Routes<State> {
    Routes::new()
        .on_refused(|state: &State, error| state.ingest.count_refused(error.code()))
        .post("/api/v1/app/{app_id}/msg", Who::Application, create_message)
        .post("/api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example", Who::Application, send_example)
        .post("/api/v1/app/{app_id}/msg/batch", Who::Application, create_messages)
}

#[derive(Deserialize)]
struct Options {
    #[serde(default = "yes")]
    with_content: bool,
}

fn yes() -> bool {
    true
}

async fn create_message(
    axum::extract::State(state): axum::extract::State<State>,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = take_in(&state, request).await;
    if let Err(error) = &answer {
        state.ingest.count_refused(error.code());
    }
    answer
}

/// From request to answer, in the order of the design: token (checked by now), application, rate, size, form,
/// idempotency, append.
async fn take_in(state: &State, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let who = Authenticated::of(&parts.extensions)?;
    let Path(app_id) = extract::<Path<String>>(&mut parts, state).await?;
    let Query(options) = extract::<Query<Options>>(&mut parts, state).await?;
    let key = idempotency_key(&parts.headers)?.map(str::to_owned);
    require_json(&parts.headers)?;
    let application = who.application(&state.gate, &app_id).await;
    let standing = state.rates.admit(&who.access().credential, application.as_deref().ok())?;
    let body = read_body(body, state.body_bytes.min(limits::BODY_BYTES_MAX), state.gate.memory()).await?;
    let parsed = publish::parse(&body.bytes, state.deliver_by())?;
    drop(body.bytes);
    let application = match parsed.application {
        Some(wanted) => application_or_new(&state.gate, who, &app_id, wanted, application).await?,
        None => application?,
    };
    let memory = Arc::new(body.permit);
    let shown = Shown::of(&parsed.message, &state.ingest);
    let accepted = state.ingest.accept(Publish {
        application,
        message: parsed.message,
        idempotency_key: key,
        traceparent: traceparent(&parts.headers),
        memory: Some(Arc::clone(&memory)),
    });
    let accepted = accepted.await?;
    let payload = if options.with_content { &parsed.payload_value[..] } else { b"{}" };
    let mut answer = answer(shown.write(accepted, payload), memory);
    standing.write(answer.headers_mut());
    Ok(answer)
}

pub(crate) async fn extract<T>(parts: &mut http::request::Parts, state: &State) -> Result<T, ApiError>
where
    T: axum::extract::FromRequestParts<State, Rejection = ApiError>,
{
    T::from_request_parts(parts, state).await
}

/// What the answer shows of a message beside its payload.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    event_type: String,
    event_id: Option<String>,
    channels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    /// In days, as far as the log keeps it.
    payload_retention_period: u64,
    #[serde(skip)]
    payload_kept: Duration,
}

impl Shown {
    pub(crate) fn of(message: &MessageIn, ingest: &Ingest) -> Self {
        let payload_kept = ingest.payload_kept(message.payload_retention_hours);
        let channels = (!message.channels.is_empty()).then(|| message.channels.clone());
        Self {
            event_type: message.event_type.clone(),
            event_id: message.event_id.clone(),
            channels,
            ordering_key: message.ordering_key.clone(),
            tags: message.tags.clone(),
            deliver_at: message.deliver_at.map(|at| at.to_string()),
            payload_retention_period: payload_kept.as_secs() / SECONDS_OF_A_DAY,
            payload_kept,
        }
    }

    /// The payload's bytes are put in as they are.
    pub(crate) fn write(&self, accepted: Accepted, payload: &[u8]) -> Vec<u8> {
        let Accepted { id, accepted_at, .. } = accepted;
        let mut out = Vec::with_capacity(payload.len() + 256 + self.event_type.len());
        let expires_at = accepted_at + self.payload_kept;
        let begin = format!(
            r#"{{"id":"{id}","timestamp":"{accepted_at}","payloadExpiresAt":"{expires_at}","payload":"#
        );
        out.extend_from_slice(begin.as_bytes());
        out.extend_from_slice(payload);
        out.push(b',');
        let fields = out.len();
        serde_json::to_writer(&mut out, self).expect("texts and lists of texts become JSON");
        // The object's own opening brace: its fields go on in ours.
        out.remove(fields);
        out
    }
}

pub(crate) fn answer(json: Vec<u8>, memory: Arc<MemoryPermit>) -> Response {
    let large = json.len() > LARGE_ANSWER_BYTES;
    let body = if large { holding_answer(json, memory) } else { Body::from(json) };
    let content_type = HeaderValue::from_static("application/json");
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        let detail = error.to_string();
        match error {
            AcceptError::Overloaded => Self::unavailable("overloaded", detail),
            AcceptError::Timeout => Self::unavailable("timeout", detail),
            AcceptError::TooManyHeld => Self::unavailable("too_many_scheduled", detail),
            AcceptError::CatchingUp => Self::unavailable("catching_up", detail),
            AcceptError::Full(_) => Self::unavailable("disk_full", detail),
            AcceptError::Unavailable(reason) => {
                // Whoever broke said so once; this is said per publish.
                tracing::debug!(reason, "log unavailable");
                Self::unavailable("log_unavailable", detail)
            }
            AcceptError::Conflict(_) => Self::conflict(detail),
            AcceptError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail),
        }
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => {
                write!(f, "`Idempotency-Key` stands for {id}, which has another body; use another key")
            }
            Self::EventId(id) => {
                write!(
                    f,
                    "`eventId` stands for {id}; use another eventId, or repeat that publish with its key"
                )
            }
            Self::Both { key, event_id } => {
                write!(
                    f,
                    "`Idempotency-Key` stands for {key} and `eventId` for {event_id}; they must name one message"
                )
            }
        }
    }
}

impl std::error::Error for Conflict {}
