//! `POST …/endpoint/{endpoint_id}/send-example`: a message made up for one endpoint, so that its owner sees one come.
//!
//! It is a message like any other, but for this endpoint alone, whatever its filters say.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fanfare_control::{Endpoint, EventType};
use fanfare_core::limits;
use fanfare_http::{ApiError, Authenticated, Fields, Json, NAME_FORM, Path, idempotency_key, is_name};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use crate::{MessageIn, Publish, State, http::Shown, trace::traceparent};

/// Needs not exist.
const PING: &str = "svix.ping";
const PING_PAYLOAD: &str = r#"{"success":true}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExampleIn {
    event_type: Option<String>,
    /// Which of the examples of its schema.
    #[serde(default)]
    example_index: Option<usize>,
}

pub(crate) async fn send_example(
    axum::extract::State(state): axum::extract::State<State>,
    who: Authenticated,
    Path((app_id, endpoint_id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(wanted): Json<ExampleIn>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?.map(str::to_owned);
    let name = wanted.event_type.unwrap_or_default();
    let mut fields = Fields::default();
    let most = limits::EVENT_TYPE_CHARACTERS;
    fields.check(
        is_name(&name, most),
        "eventType",
        format_args!("must be 1 to {most} characters: {NAME_FORM}"),
    );
    fields.finish()?;
    let application = who.application(&state.gate, &app_id).await?;
    let standing = state.rates.admit(&who.access().credential, Some(&application))?;
    let known = || state.gate.control().view().endpoint(application.id, &endpoint_id);
    let endpoint = if let Some(endpoint) = known() {
        endpoint
    } else {
        state.gate.catch_up().await?;
        known().ok_or_else(|| ApiError::not_found("endpoint", &endpoint_id))?
    };
    if endpoint.settings.disabled {
        let detail = "the endpoint is disabled and is sent nothing; enable it, then send an example";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "endpoint_disabled", detail));
    }
    let payload = payload(&state, &endpoint, &name, wanted.example_index.unwrap_or(0)).await?;
    let mut message = MessageIn::from_parts(name, None, &payload)?;
    message.only_for = Some(endpoint.number);
    let shown = Shown::of(&message, &state.ingest);
    let publish = Publish {
        application,
        message,
        idempotency_key: key,
        traceparent: traceparent(&headers),
        memory: None,
    };
    let accepted = state.ingest.accept(publish).await?;
    let content_type = HeaderValue::from_static("application/json");
    let answer = (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], shown.write(accepted, &payload));
    let mut answer = answer.into_response();
    standing.write(answer.headers_mut());
    Ok(answer)
}

async fn payload(state: &State, endpoint: &Endpoint, name: &str, index: usize) -> Result<Bytes, ApiError> {
    if name == PING {
        return Ok(Bytes::from_static(PING_PAYLOAD.as_bytes()));
    }
    let known = || state.gate.control().view().event_type(endpoint.organization, name);
    let event_type: Arc<EventType> = if let Some(event_type) = known() {
        event_type
    } else {
        state.gate.catch_up().await?;
        known().ok_or_else(|| ApiError::not_found("event type", name))?
    };
    let example = event_type.settings.schemas.as_ref().and_then(|schemas| example(schemas, index));
    let example = example.filter(|example| example.is_object()).ok_or_else(|| {
        let detail = format!("the schema of event type `{name}` has no such example, or one that is no object; add it to its `examples`");
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_scheme", detail)
    })?;
    Ok(Bytes::from(example.to_string()))
}

/// Of the newest version's schema.
fn example(schemas: &Value, index: usize) -> Option<&Value> {
    let versions = schemas.as_object()?.iter();
    let newest = versions.max_by_key(|(version, _)| version.parse::<u64>().unwrap_or(0));
    let (_, schema) = newest?;
    match schema.get("examples") {
        Some(Value::Array(examples)) => examples.get(index),
        _ => schema.get("example"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_versions_example_is_taken() {
        let schemas = json!({
            "1": { "examples": [{ "n": 1 }] },
            "10": { "examples": [{ "n": 10 }, { "n": 11 }] },
            "9": { "example": { "n": 9 } },
        });
        assert_eq!(example(&schemas, 0), Some(&json!({ "n": 10 })));
        assert_eq!(example(&schemas, 1), Some(&json!({ "n": 11 })));
        assert_eq!(example(&schemas, 2), None);
        assert_eq!(example(&json!({ "1": { "example": { "n": 9 } } }), 5), Some(&json!({ "n": 9 })));
        for none in [json!({}), json!({ "1": {} }), json!({ "1": true })] {
            assert_eq!(example(&none, 0), None, "{none}");
        }
    }
}
