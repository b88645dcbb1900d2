//! What stands before every route that needs a token.

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use fanfare_control::{Access, Application, Control, Credential, Origin, Principal, TokenError, Unavailable};
use fanfare_core::{ApiKeyId, Clock, OrganizationId, Timestamp};
use http::{Extensions, HeaderMap, header, request::Parts};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::{ApiError, Memory, checked_tokens::CheckedTokens, key_use::KeyUse};

/// What routes need of the process before they look at a request; part of every router's state.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    control: Control,
    clock: Arc<dyn Clock>,
    memory: Memory,
    checked: CheckedTokens,
    /// Who comes with a key that is not known here waits for one look at the end of `control` at a time: keys can be made
    /// up by anybody.
    unknown_keys: Semaphore,
    key_use: Arc<KeyUse>,
    _writer: AbortOnDropHandle<()>,
}

impl Gate {
    /// Within a runtime: when API keys were used is written down by a task, which ends with the last clone.
    pub fn new(control: Control, clock: Arc<dyn Clock>, memory: Memory) -> Self {
        let key_use = Arc::new(KeyUse::default());
        let writer = tokio::spawn(Arc::clone(&key_use).write(control.clone(), Arc::clone(&clock)));
        Self(Arc::new(Inner {
            control,
            clock,
            memory,
            checked: CheckedTokens::default(),
            unknown_keys: Semaphore::new(1),
            key_use,
            _writer: AbortOnDropHandle::new(writer),
        }))
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

    /// When the key was used last, as far as this process knows.
    pub fn key_used_at(&self, key: ApiKeyId) -> Option<Timestamp> {
        let written = self.control().view().api_key(key).and_then(|key| key.used_at);
        written.max(self.0.key_use.noted(key))
    }

    /// Who sent a request with these headers.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Authenticated, ApiError> {
        let token = bearer(headers)?;
        let checked = match self.check(token) {
            Err(TokenError::KeyUnknown) => {
                let _turn = self.0.unknown_keys.acquire().await.expect("the semaphore is never closed");
                if self.check(token) == Err(TokenError::KeyUnknown) {
                    self.catch_up().await?;
                }
                self.check(token)
            }
            checked => checked,
        };
        match checked {
            Ok(access) => Ok(Authenticated { access, peer: extensions.get::<Peer>().map(|peer| peer.0) }),
            Err(error) => Err(ApiError::unauthorized(format!("invalid token: {error}"))),
        }
    }

    fn check(&self, token: &str) -> Result<Access, TokenError> {
        let (control, now) = (self.control(), self.0.clock.now());
        self.0.checked.verify(token, now, control.credentials_revision(), || {
            let access = control.authenticate(token, now)?;
            if let Credential::Key(id) = access.credential {
                self.0.key_use.note(id, now);
            }
            Ok(access)
        })
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

/// The other end of a request's connection. What headers say of it is anybody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Who sent the request, and may use the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticated {
    access: Access,
    peer: Option<IpAddr>,
}

/// It was checked by the list of routes.
impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.extensions)
    }
}

/// The token of a request. The scheme's name is case-insensitive (RFC 9110).
pub fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized(
            "send `authorization: Bearer <token>`; `fanfare token` prints one",
        ));
    };
    let token = authorization.to_str().ok().and_then(|authorization| {
        let (scheme, token) = authorization.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.ok_or_else(|| ApiError::unauthorized("the authorization header must be `Bearer <token>`"))
}

impl Authenticated {
    /// Of a request on a route that needs a token.
    pub fn of(extensions: &Extensions) -> Result<Self, ApiError> {
        extensions.get().copied().ok_or_else(|| {
            tracing::error!("a route that needs no token asks whose it is");
            ApiError::internal()
        })
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    pub fn principal(&self) -> Principal {
        self.access.principal
    }

    /// For the record of what is done in its name.
    pub fn origin(&self) -> Origin {
        self.access.origin(self.peer)
    }

    pub fn organization(&self) -> OrganizationId {
        self.access.principal.organization()
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
        let own = self.access.principal.application();
        let found = gate.control().view().application(self.access.principal.organization(), id_or_uid);
        found.filter(|found| own.is_none_or(|own| found.id == own))
    }
}
