//! The body of a POST with its idempotency key.

use axum::extract::{FromRequest, Request};
use fanfare_control::{ControlKey, Principal};
use fanfare_core::{Fingerprint, limits};
use fanfare_http::{ApiError, Authenticated, idempotency_key, parse_json, read_body, require_json};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::State;

/// A POST: sent twice with one key, it is carried out once.
#[derive(Debug)]
pub(crate) struct Post<T> {
    pub(crate) body: T,
    /// Scope is who sent it, and the whole path with its query.
    pub(crate) key: Option<ControlKey>,
}

impl<T: DeserializeOwned> FromRequest<State> for Post<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &State) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let who = Authenticated::of(&parts.extensions)?;
        let key = idempotency_key(&parts.headers)?;
        require_json(&parts.headers)?;
        let body = read_body(body, limits::BODY_BYTES, state.gate.memory()).await?;
        let key = key.map(|key| ControlKey {
            key: scoped(who.principal(), &parts.uri, key),
            body: Fingerprint::of(&[&body.bytes]),
        });
        // An empty body is an object without fields: what is required is then named.
        let body = if body.bytes.is_empty() { parse_json(b"{}") } else { parse_json(&body.bytes) }?;
        Ok(Self { body, key })
    }
}

/// A field that is `null` is not one that was left out: for routes where leaving it out means more.
pub(crate) fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

fn scoped(who: Principal, uri: &http::Uri, key: &str) -> Fingerprint {
    let (organization, application) = (who.organization(), who.application());
    let application = application.as_ref().map_or(&[][..], |application| application.as_bytes());
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    Fingerprint::of(&[b"POST", organization.as_bytes(), application, target.as_bytes(), key.as_bytes()])
}
