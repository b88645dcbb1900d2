//! Contents of messages erased: of one, of some, of all of an application.
//!
//! What hides them is a command of `control`, durable before the answer. Where other processes work on the same log the
//! answer also waits until none of them can still be without it ([`fanfare_control::Control::fresh`]).

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Application, Command};
use fanfare_core::{Offset, limits};
use fanfare_history::Reach;
use fanfare_http::{ApiError, Authenticated, Path, Routes, Who};
use fanfare_log::Topic;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{message::MessagePath, reading::refused};
use crate::{
    State,
    background_task::{TaskOut, made},
    messages::unreadable,
    patch::Patch,
    post::Post,
};

pub(crate) fn routes() -> Routes<State> {
    let all = "/api/v1/app/{app_id}/msg/expunge-all-contents";
    Routes::new()
        .delete("/api/v1/app/{app_id}/msg/{msg_id}/content", Who::Application, erase)
        .post("/api/v1/app/{app_id}/msg/bulk-expunge", Who::Application, erase_some)
        .post(all, Who::Organization, erase_all)
}

#[derive(Deserialize)]
struct SomeIn {
    ids: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct SomeOut {
    /// By id as it was given.
    results: BTreeMap<String, &'static str>,
}

async fn erase(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id)): MessagePath,
) -> Result<StatusCode, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let reading = state.reading(Reach::Messages(application.partition)).await?;
    let row = reading.message(&application, &msg_id).await?;
    let places = reading.history.places(&row).await.map_err(refused)?;
    let offsets = places.into_iter().map(|place| place.offset).collect();
    hide(&state, who, &application, offsets).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn erase_some(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<SomeIn>,
) -> Result<Answer<SomeOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let most = limits::ERASED_TOGETHER;
    let ids = post.body.ids.unwrap_or_default();
    if !(1..=most).contains(&ids.len()) {
        let message = format!("must be 1 to {most} ids or event ids of messages");
        return Err(ApiError::invalid_field("ids", message));
    }
    let reading = state.reading(Reach::Messages(application.partition)).await?;
    let (mut results, mut offsets) = (BTreeMap::new(), Vec::new());
    for id in ids {
        let found = reading.history.message(application.id, &id).await.map_err(refused)?;
        let result = match (found, reading.behind) {
            (Some(row), _) => {
                let places = reading.history.places(&row).await.map_err(refused)?;
                offsets.extend(places.into_iter().map(|place| place.offset));
                "expunged"
            }
            (None, None) => "not-found",
            (None, Some(_)) => {
                return Err(reading.found(None::<()>, "message", &id).expect_err("there is none"));
            }
        };
        results.insert(id, result);
    }
    hide(&state, who, &application, offsets).await?;
    Ok(Answer(SomeOut { results }))
}

/// All that was accepted before. A job overwrites what is hidden from now on.
async fn erase_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<Patch>,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let bounds = state.log.bounds(Topic::Messages, application.partition).await;
    let below = bounds.map_err(|error| unreadable(&error))?.end;
    let command = state.control().new_erasure(&application, below);
    let job = made(&state, state.submit(who, command, post.key).await?)?;
    tokio::time::sleep(state.lease).await;
    Ok((StatusCode::ACCEPTED, Answer(TaskOut::of(&job))))
}

/// From the answer on nobody is shown or sent these.
async fn hide(
    state: &State,
    who: Authenticated,
    application: &Application,
    mut offsets: Vec<Offset>,
) -> Result<(), ApiError> {
    {
        let view = state.control().view();
        offsets.retain(|offset| !view.is_erased(application.id, application.partition, *offset));
    }
    if !offsets.is_empty() {
        let command = Command::EraseContents { application: application.id, offsets };
        state.submit(who, command, None).await?;
    }
    // Also where it was erased before: perhaps a moment before, elsewhere.
    tokio::time::sleep(state.lease).await;
    Ok(())
}
