//! `POST /api/v1/app/{app_id}/msg/precheck/active`: would anybody take such a message?

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::Scope;
use fanfare_core::limits;
use fanfare_http::{ApiError, Authenticated, FieldError, Fields, NAME_FORM, Path, Routes, Who, is_name};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{State, post::Post};

pub(crate) fn routes() -> Routes<State> {
    let path = "/api/v1/app/{app_id}/msg/precheck/active";
    // It changes nothing.
    Routes::new().route(Method::POST, path, (Who::Application, Scope::Read), active)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrecheckIn {
    event_type: Option<String>,
    channels: Option<Vec<String>>,
}

#[derive(Serialize)]
struct PrecheckOut {
    active: bool,
}

/// By the same rule as the router. Nothing is promised: the endpoints of a moment later decide.
async fn active(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<PrecheckIn>,
) -> Result<Answer<PrecheckOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let event_type = post.body.event_type.unwrap_or_default();
    let channels = post.body.channels;
    check(&event_type, channels.as_deref())?;
    // The router brings its view to the end, too.
    state.gate.catch_up().await?;
    let channels = channels.unwrap_or_default();
    let matching = state.control().view().matching(application.id, &event_type, &channels);
    Ok(Answer(PrecheckOut { active: !matching.is_empty() }))
}

/// As a publish is checked.
fn check(event_type: &str, channels: Option<&[String]>) -> Result<(), ApiError> {
    let mut fields = Fields::default();
    let most = limits::EVENT_TYPE_CHARACTERS;
    let right = is_name(event_type, most);
    fields.check(right, "eventType", format_args!("must be 1 to {most} characters: {NAME_FORM}"));
    if let Some(channels) = channels {
        let count = limits::CHANNELS_PER_MESSAGE;
        let right = (1..=count).contains(&channels.len());
        fields.check(right, "channels", format_args!("must be 1 to {count}, or left out"));
        let most = limits::CHANNEL_CHARACTERS;
        for (index, channel) in channels.iter().enumerate().take(count) {
            if !is_name(channel, most) {
                let message = format!("must be 1 to {most} characters: {NAME_FORM}");
                fields.push(FieldError::body(["channels".to_owned(), index.to_string()], message));
            }
        }
    }
    fields.finish()
}
