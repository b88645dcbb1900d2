//! `/api/v1/auth`: who a token is for, and its end.

use std::time::Duration;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Credential, Scope};
use fanfare_core::{ApplicationId, OrganizationId, Timestamp, limits};
use fanfare_http::{ApiError, Authenticated, FieldError, Fields, Path, Routes, Who, bearer};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{State, application::shown, patch::Patch, post::Post};

const EXPIRY_SECS_MAX: u64 = 7 * 24 * 3_600;

pub(crate) fn routes() -> Routes<State> {
    Routes::new()
        .get("/api/v1/auth/whoami", Who::Application, whoami)
        // It changes nothing but what the token itself opens: whoever only reads may put that away too.
        .route(Method::POST, "/api/v1/auth/logout", (Who::Application, Scope::Read), logout)
        .post("/api/v1/auth/app/{app_id}/expire-all", Who::Organization, expire_all)
}

/// As Svix's clients read it, with more beside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WhoamiOut {
    env_id: OrganizationId,
    app_id: Option<ApplicationId>,
    /// One of the words that clients know.
    permission_source: &'static str,
    session_id: Option<String>,
    // Ours.
    credential: &'static str,
    /// The token's `jti`, or the key's id.
    id: String,
    /// Of a key.
    name: Option<String>,
    scopes: [Scope; 1],
    expires_at: Option<String>,
}

async fn whoami(
    Shared(state): Shared<State>,
    who: Authenticated,
    headers: HeaderMap,
) -> Result<Answer<WhoamiOut>, ApiError> {
    let access = who.access();
    let mut out = WhoamiOut {
        env_id: who.organization(),
        app_id: access.principal.application(),
        permission_source: "SvixJwt",
        session_id: None,
        credential: "token",
        id: String::new(),
        name: None,
        scopes: [access.scope],
        expires_at: (access.until < Timestamp::MAX).then(|| shown(access.until)),
    };
    match &access.credential {
        Credential::Token(token) => {
            out.id = token.id.to_string();
            out.session_id = state.control().tokens().session(bearer(&headers)?);
        }
        Credential::Key(id) => {
            out.permission_source = "RegionalAuthToken";
            out.credential = "api_key";
            out.id = id.to_string();
            out.name = state.control().view().api_key(*id).map(|key| key.name.clone());
        }
    }
    Ok(Answer(out))
}

/// Revokes the very token that was sent.
async fn logout(
    Shared(state): Shared<State>,
    who: Authenticated,
    _: Post<Patch>,
) -> Result<StatusCode, ApiError> {
    let Credential::Token(token) = &who.access().credential else {
        return Err(ApiError::bad_request(
            "an API key is not logged out; take it back with DELETE /api/v1/auth/api-key/{id}",
        ));
    };
    let command = state.control().revocation(who.access(), token);
    state.submit(who, command, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpireIn {
    /// Seconds until it comes into force.
    expiry: Option<u64>,
    session_ids: Option<Vec<String>>,
}

async fn expire_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<ExpireIn>,
) -> Result<StatusCode, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let mut fields = Fields::default();
    let after_secs = post.body.expiry.unwrap_or(0);
    fields.check(
        after_secs <= EXPIRY_SECS_MAX,
        "expiry",
        format_args!("must be 0 to {EXPIRY_SECS_MAX} seconds"),
    );
    let mut sessions = post.body.session_ids.unwrap_or_default();
    let most = limits::SESSIONS_PER_EXPIRY;
    fields.check(sessions.len() <= most, "sessionIds", format_args!("must be at most {most}"));
    for (index, session) in sessions.iter().enumerate().take(most) {
        check_session(&mut fields, ["sessionIds".to_owned(), index.to_string()], session);
    }
    fields.finish()?;
    sessions.sort();
    sessions.dedup();
    let command = state.control().expiry(application.id, &sessions, Duration::from_secs(after_secs));
    state.submit(who, command, post.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes a session's name that is empty or too long.
pub(crate) fn check_session(fields: &mut Fields, place: impl IntoIterator<Item = String>, session: &str) {
    let most = limits::SESSION_CHARACTERS;
    if !(1..=most).contains(&session.chars().count()) {
        fields.push(FieldError::body(place, format!("must be 1 to {most} characters")));
    }
}
