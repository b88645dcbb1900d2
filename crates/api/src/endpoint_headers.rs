//! `…/endpoint/{endpoint_id}/headers`: what is sent along with every request.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Command, Endpoint};
use fanfare_core::limits;
use fanfare_http::{ApiError, Authenticated, FieldError, Fields, Json, Routes, Who};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{State, endpoint::find, owner::EndpointPath, state::change};

/// Set by Fanfare itself, or by the connection.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 3] = ["webhook-", "svix-", "proxy-"];
/// Their values are not shown.
const SENSITIVE: [&str; 6] =
    ["authorization", "cookie", "x-api-key", "x-auth-token", "x-token", "www-authenticate"];

pub(crate) fn routes() -> Routes<State> {
    let of_application = "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers";
    let operational = "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers";
    let below = |routes: Routes<State>, who, path| {
        routes.get(path, who, read).put(path, who, replace).patch(path, who, update)
    };
    below(below(Routes::new(), Who::Application, of_application), Who::Organization, operational)
}

#[derive(Serialize)]
struct HeadersOut {
    headers: BTreeMap<String, String>,
    /// Names of those that are set but not shown.
    sensitive: Vec<String>,
}

#[derive(Deserialize)]
struct HeadersIn {
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadersPatch {
    /// Null takes one away.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    delete_headers: Vec<String>,
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
) -> Result<Answer<HeadersOut>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let (sensitive, headers): (BTreeMap<_, _>, BTreeMap<_, _>) = endpoint
        .settings
        .headers
        .clone()
        .into_iter()
        .partition(|(name, _)| SENSITIVE.contains(&name.as_str()));
    Ok(Answer(HeadersOut { headers, sensitive: sensitive.into_keys().collect() }))
}

async fn replace(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    Json(body): Json<HeadersIn>,
) -> Result<StatusCode, ApiError> {
    set(&state, who, &path, |_| body.headers.clone()).await
}

async fn update(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    Json(changes): Json<HeadersPatch>,
) -> Result<StatusCode, ApiError> {
    let patched = |endpoint: &Endpoint| {
        let mut headers = endpoint.settings.headers.clone();
        for name in &changes.delete_headers {
            headers.remove(&name.to_ascii_lowercase());
        }
        for (name, value) in &changes.headers {
            let name = name.to_ascii_lowercase();
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(&name),
            };
        }
        headers
    };
    set(&state, who, &path, patched).await
}

async fn set(
    state: &State,
    who: Authenticated,
    path: &EndpointPath,
    headers: impl Fn(&Endpoint) -> BTreeMap<String, String> + Sync,
) -> Result<StatusCode, ApiError> {
    change(state, who, || async {
        let endpoint = find(state, who, path).await?;
        let mut fields = Fields::default();
        let mut settings = endpoint.settings.clone();
        settings.headers = check_headers(&mut fields, headers(&endpoint));
        fields.finish()?;
        Ok(Command::UpdateEndpoint {
            application: endpoint.application,
            id: endpoint.id,
            expected_revision: Some(endpoint.revision),
            settings: Box::new(settings),
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The headers with names in lower case; notes what is wrong with them.
pub(crate) fn check_headers(
    fields: &mut Fields,
    headers: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let size_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let most = limits::METADATA_BYTES;
    fields.check(size_bytes <= most, "headers", format_args!("must not exceed {most} bytes together"));
    for (name, value) in &headers {
        let lower = name.to_ascii_lowercase();
        let reserved = RESERVED.contains(&lower.as_str())
            || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
        let message = if HeaderName::try_from(name.as_str()).is_err() {
            "is not a name that a header can have"
        } else if reserved {
            "is set by Fanfare itself and cannot be chosen"
        } else if HeaderValue::try_from(value.as_str()).is_err() {
            "has a value that a header cannot have; use visible characters"
        } else {
            continue;
        };
        fields.push(FieldError::body(["headers", name.as_str()], message));
    }
    headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}
