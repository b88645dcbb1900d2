//! What stands before every route that needs a token.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use fanfare_control::{Application, Control, Principal, Unavailable};
use fanfare_core::{Clock, OrganizationId};
use http::{header, request::Parts};

use crate::{ApiError, Memory, checked_tokens::CheckedTokens};

/// What routes need of the process before they look at a request; part of every router's state.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    control: Control,
    clock: Arc<dyn Clock>,
    memory: Memory,
    tokens: CheckedTokens,
}

impl Gate {
    pub fn new(control: Control, clock: Arc<dyn Clock>, memory: Memory) -> Self {
        Self(Arc::new(Inner { control, clock, memory, tokens: CheckedTokens::default() }))
    }

    pub fn control(&self) -> &Control {
        &self.0.control
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Room for request bodies.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// Brings the view to the end of `control`. Before a 404: what another process created a moment ago exists.
    pub async fn catch_up(&self) -> Result<(), ApiError> {
        self.control().apply_to_end().await.map(drop).map_err(ApiError::from)
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        // The follower said so once; this is said per request.
        tracing::debug!(%error, "control plane unavailable");
        Self::unavailable(
            "control_unavailable",
            "the control plane cannot be reached now; send it again later",
        )
    }
}

/// Who sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticated(pub Principal);

impl<S> FromRequestParts<S> for Authenticated
where
    S: Send + Sync,
    Gate: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let gate = Gate::from_ref(state);
        let Some(authorization) = parts.headers.get(header::AUTHORIZATION) else {
            return Err(ApiError::unauthorized(
                "send `authorization: Bearer <token>`; `fanfare token` prints one",
            ));
        };
        let token = authorization
            .to_str()
            .ok()
            .and_then(bearer)
            .ok_or_else(|| ApiError::unauthorized("the authorization header must be `Bearer <token>`"))?;
        match gate.0.tokens.verify(gate.control().tokens(), token, gate.0.clock.now()) {
            Ok(principal) => Ok(Self(principal)),
            Err(error) => Err(ApiError::unauthorized(format!("invalid token: {error}"))),
        }
    }
}

/// The scheme's name is case-insensitive (RFC 9110).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl Authenticated {
    /// The organization, for routes that a token of one application may not use (403).
    pub fn organization(self) -> Result<OrganizationId, ApiError> {
        match self.0 {
            Principal::Organization(organization) => Ok(organization),
            Principal::Application { .. } => Err(ApiError::forbidden()),
        }
    }

    /// The application by id or uid. 404 when there is none, and when the token is for another one.
    pub async fn application(self, gate: &Gate, id_or_uid: &str) -> Result<Arc<Application>, ApiError> {
        if let Some(found) = self.known_application(gate, id_or_uid) {
            return Ok(found);
        }
        gate.catch_up().await?;
        self.known_application(gate, id_or_uid).ok_or_else(|| ApiError::not_found("application", id_or_uid))
    }

    fn known_application(self, gate: &Gate, id_or_uid: &str) -> Option<Arc<Application>> {
        let view = gate.control().view();
        match self.0 {
            Principal::Organization(organization) => view.application(organization, id_or_uid),
            Principal::Application { organization, application } => {
                view.application(organization, id_or_uid).filter(|found| found.id == application)
            }
        }
    }
}
