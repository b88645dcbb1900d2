//! `/api/v1/auth/app-portal-access/{app_id}`: a short-lived token for the owner of an application.

use std::time::Duration;

use axum::{Json as Answer, extract::State as Shared};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_control::{Application, Grant, Scope};
use fanfare_core::limits;
use fanfare_http::{
    ApiError, ApplicationIn, Authenticated, FieldError, Fields, NAME_FORM, Path, Routes, Who,
    application_or_new, is_name,
};
use http::{HeaderMap, header, uri::Authority};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{State, auth::check_session, patch::Patch, post::Post};

/// What a token must be good for to change everything of an application that can be changed. There is nothing between
/// that and reading: who is given less reads.
const CHANGING: [&str; 3] = ["ManageEndpoint", "ManageTransformations", "CreateAttempts"];

pub(crate) fn routes() -> Routes<State> {
    Routes::new()
        .post("/api/v1/auth/app-portal-access/{app_id}", Who::Organization, portal_access)
        // The former name.
        .post("/api/v1/auth/dashboard-access/{app_id}", Who::Organization, dashboard_access)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortalIn {
    application: Option<ApplicationIn>,
    read_only: Option<bool>,
    capabilities: Option<Vec<String>>,
    feature_flags: Option<Vec<String>>,
    /// Seconds.
    expiry: Option<u64>,
    session_id: Option<String>,
}

#[derive(Serialize)]
struct PortalOut {
    url: String,
    token: String,
}

async fn portal_access(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    headers: HeaderMap,
    post: Post<PortalIn>,
) -> Result<Answer<PortalOut>, ApiError> {
    let mut body = post.body;
    let wanted = body.application.take();
    let checked = body.check()?;
    let found = who.application(&state.gate, &app_id).await;
    let application = match wanted {
        Some(wanted) => application_or_new(&state.gate, who, &app_id, wanted, found).await?,
        None => found?,
    };
    opened(&state, &application, checked, &headers).await
}

async fn dashboard_access(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    headers: HeaderMap,
    _: Post<Patch>,
) -> Result<Answer<PortalOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    opened(&state, &application, Checked::default(), &headers).await
}

/// A body that was found right.
struct Checked {
    scope: Scope,
    lifetime: Duration,
    feature_flags: Vec<String>,
    session: Option<String>,
}

impl Default for Checked {
    fn default() -> Self {
        Self {
            scope: Scope::Full,
            lifetime: limits::PORTAL_TOKEN_MAX,
            feature_flags: Vec::new(),
            session: None,
        }
    }
}

impl PortalIn {
    fn check(self) -> Result<Checked, ApiError> {
        let mut fields = Fields::default();
        let (least, most) = (limits::PORTAL_TOKEN_MIN, limits::PORTAL_TOKEN_MAX);
        let lifetime = self.expiry.map_or(most, Duration::from_secs);
        fields.check(
            (least..=most).contains(&lifetime),
            "expiry",
            format_args!("must be {} to {} seconds", least.as_secs(), most.as_secs()),
        );
        let feature_flags = self.feature_flags.unwrap_or_default();
        let (count, characters) = (limits::FEATURE_FLAGS, limits::NAME_CHARACTERS);
        fields.check(feature_flags.len() <= count, "featureFlags", format_args!("must be at most {count}"));
        for (index, flag) in feature_flags.iter().enumerate().take(count) {
            if !is_name(flag, characters) {
                let message = format!("must be 1 to {characters} characters: {NAME_FORM}");
                fields.push(FieldError::body(["featureFlags".to_owned(), index.to_string()], message));
            }
        }
        if let Some(session) = &self.session_id {
            check_session(&mut fields, ["sessionId".to_owned()], session);
        }
        fields.finish()?;
        let may_change = self.capabilities.is_none_or(|capabilities| {
            CHANGING.iter().all(|needed| capabilities.iter().any(|capability| capability == needed))
        });
        let scope = if self.read_only == Some(true) || !may_change { Scope::Read } else { Scope::Full };
        Ok(Checked { scope, lifetime, feature_flags, session: self.session_id })
    }
}

/// A token, and a link that brings it along as Svix's does: behind `#`, where no server and no log sees it. There is no
/// portal yet; the link leads to the API.
async fn opened(
    state: &State,
    application: &Application,
    checked: Checked,
    headers: &HeaderMap,
) -> Result<Answer<PortalOut>, ApiError> {
    // All tokens of the application may have been expired elsewhere a moment ago: this one is newer.
    state.gate.catch_up().await?;
    let token = state.control().mint(Grant {
        scope: checked.scope,
        lifetime: checked.lifetime,
        session: checked.session,
        feature_flags: checked.feature_flags,
        ..Grant::application(application.organization, application.id)
    });
    let key = json!({ "appId": application.id, "token": token, "region": "self_hosted" }).to_string();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| host.parse::<Authority>().is_ok());
    let root = host.map_or_else(String::new, |host| format!("http://{host}"));
    Ok(Answer(PortalOut { url: format!("{root}/api/v1#key={}", STANDARD.encode(key)), token }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn checked(body: serde_json::Value) -> Result<Checked, ApiError> {
        serde_json::from_value::<PortalIn>(body).unwrap().check()
    }

    /// Nobody gets more than was asked for.
    #[test]
    fn capabilities_that_cannot_be_told_apart_become_the_lesser_one() {
        let base = ["ViewBase", "ViewEndpointSecret", "ManageEndpointSecret"];
        let scope = |body| checked(body).unwrap().scope;
        assert_eq!(scope(json!({})), Scope::Full);
        assert_eq!(scope(json!({"readOnly": true})), Scope::Read);
        assert_eq!(scope(json!({"capabilities": []})), Scope::Read);
        assert_eq!(scope(json!({"capabilities": base})), Scope::Read);
        assert_eq!(scope(json!({"capabilities": ["ViewBase", "ManageEndpoint"]})), Scope::Read);
        assert_eq!(scope(json!({"capabilities": CHANGING})), Scope::Full);
        assert_eq!(scope(json!({"capabilities": CHANGING, "readOnly": true})), Scope::Read);
    }

    #[test]
    fn a_token_for_a_portal_lives_an_hour_to_a_week() {
        assert_eq!(checked(json!({})).unwrap().lifetime, Duration::from_hours(7 * 24));
        assert_eq!(checked(json!({"expiry": 3_600})).unwrap().lifetime, Duration::from_hours(1));
        for wrong in [0, 3_599, 604_801, u64::MAX] {
            let Err(error) = checked(json!({ "expiry": wrong })) else { panic!("{wrong} is taken") };
            assert_eq!(error.fields()[0].loc, ["body", "expiry"]);
        }
    }
}
