//! `…/endpoint/{endpoint_id}/secret`: what an endpoint's owner verifies with. Of an ed25519 key that is the public half;
//! the private one is never shown.

use std::{sync::Arc, time::Duration};

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Endpoint, Scope, SealError};
use fanfare_core::{Entropy, signature::SigningKey};
use fanfare_http::{ApiError, Authenticated, Fields, Routes, Who};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    endpoint::{find, made},
    owner::EndpointPath,
    post::Post,
};

const GRACE_SECS_DEFAULT: u64 = 24 * 3_600;
const GRACE_SECS_MAX: u64 = 7 * 24 * 3_600;

pub(crate) fn routes() -> Routes<State> {
    let below = |routes: Routes<State>, who, shown, rotated| {
        // Who has it can sign: that is more than reading.
        routes.route(Method::GET, shown, (who, Scope::Full), read).post(rotated, who, rotate)
    };
    let routes = below(
        Routes::new(),
        Who::Application,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret",
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
    );
    below(
        routes,
        Who::Organization,
        "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret",
        "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret/rotate",
    )
}

/// How an endpoint's requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SecretKind {
    /// HMAC-SHA256 (`v1`): both sides have the secret.
    #[default]
    Hmac,
    /// ed25519 (`v1a`): the owner has the public key alone.
    Ed25519,
}

impl SecretKind {
    pub(crate) const fn of(secret: &SigningKey) -> Self {
        match secret {
            SigningKey::Symmetric(_) => Self::Hmac,
            SigningKey::Ed25519(_) => Self::Ed25519,
        }
    }

    /// A new one.
    pub(crate) fn generate(self, entropy: &dyn Entropy) -> SigningKey {
        match self {
            Self::Hmac => SigningKey::generate_symmetric(entropy),
            Self::Ed25519 => SigningKey::generate_ed25519(entropy),
        }
    }
}

#[derive(Serialize)]
struct SecretOut {
    /// `whsec_…`, or `whpk_…`.
    key: String,
}

impl SecretOut {
    fn of(state: &State, endpoint: &Endpoint) -> Result<Answer<Self>, ApiError> {
        match state.control().newest_secret(endpoint) {
            Ok(secret) => Ok(Answer(Self { key: secret.public_key().unwrap_or_else(|| secret.to_string()) })),
            Err(error) => Err(sealed(endpoint, error)),
        }
    }
}

fn sealed(endpoint: &Endpoint, error: SealError) -> ApiError {
    tracing::error!(endpoint = %endpoint.id, %error, "a secret cannot be opened");
    ApiError::internal()
}

/// How its newest secret signs.
pub(crate) fn kind_of(state: &State, endpoint: &Endpoint) -> Result<SecretKind, ApiError> {
    let newest = state.control().newest_secret(endpoint).map_err(|error| sealed(endpoint, error))?;
    Ok(SecretKind::of(&newest))
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
) -> Result<Answer<SecretOut>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    SecretOut::of(&state, &endpoint)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RotateIn {
    /// Made here when it is left out.
    key: Option<String>,
    /// Of the one that is made here; otherwise it is of the kind of the former one.
    #[serde(rename = "type")]
    kind: Option<SecretKind>,
    /// How long the former one signs beside it.
    grace_period_seconds: Option<u64>,
}

/// Clients of old expect no body; the newest one expects the new secret.
async fn rotate(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<RotateIn>,
) -> Result<Answer<SecretOut>, ApiError> {
    let mut fields = Fields::default();
    let given = post.body.key.map(|key| parse_secret(&mut fields, "key", &key));
    let grace_secs = post.body.grace_period_seconds.unwrap_or(GRACE_SECS_DEFAULT);
    let right = grace_secs <= GRACE_SECS_MAX;
    fields.check(right, "gracePeriodSeconds", format_args!("must be 0 to {GRACE_SECS_MAX}"));
    let given = given.flatten();
    check_kind(&mut fields, "type", post.body.kind, given.as_ref());
    fields.finish()?;
    let endpoint = find(&state, who, &path).await?;
    let secret = match (given, post.body.kind) {
        (Some(given), _) => given,
        (None, Some(kind)) => kind.generate(&*state.entropy),
        (None, None) => kind_of(&state, &endpoint)?.generate(&*state.entropy),
    };
    let command = state.control().new_secret(&endpoint, &secret, Duration::from_secs(grace_secs));
    let applied = state.submit(who, command, post.key).await?;
    SecretOut::of(&state, &*made(&state, applied)?)
}

/// Sets the secret at once, unless it is the newest already.
pub(crate) async fn replace_secret(
    state: &State,
    who: Authenticated,
    endpoint: &Arc<Endpoint>,
    secret: &SigningKey,
) -> Result<Arc<Endpoint>, ApiError> {
    let newest = state.control().newest_secret(endpoint);
    if newest.is_ok_and(|newest| newest.to_string() == secret.to_string()) {
        return Ok(Arc::clone(endpoint));
    }
    let command = state.control().new_secret(endpoint, secret, Duration::ZERO);
    made(state, state.submit(who, command, None).await?)
}

/// Notes a kind that is not that of the secret beside it.
pub(crate) fn check_kind(
    fields: &mut Fields,
    field: &str,
    kind: Option<SecretKind>,
    secret: Option<&SigningKey>,
) {
    if let (Some(kind), Some(secret)) = (kind, secret) {
        fields.check(kind == SecretKind::of(secret), field, "must be the kind of the secret, or left out");
    }
}

/// Parses a secret that a client chose; notes what is wrong with it, never the secret itself.
pub(crate) fn parse_secret(fields: &mut Fields, field: &str, text: &str) -> Option<SigningKey> {
    let secret = match text.parse::<SigningKey>() {
        Ok(secret) => secret,
        Err(error) => {
            fields.wrong(field, error);
            return None;
        }
    };
    match secret.validate_strength() {
        Ok(()) => Some(secret),
        Err(error) => {
            fields.wrong(field, error);
            None
        }
    }
}
