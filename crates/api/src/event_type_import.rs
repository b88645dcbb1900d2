//! `/api/v1/event-type/import/openapi`: event types from a document that describes them.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Command, EventType};
use fanfare_http::{ApiError, Authenticated, Routes, Who};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    State,
    event_type::{Checked, EventTypeForm, put},
    openapi::{self, Described},
    post::Post,
};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().post("/api/v1/event-type/import/openapi", Who::Organization, import)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImportIn {
    /// Only tell what would change.
    dry_run: Option<bool>,
    /// Archive what the document does not have.
    replace_all: Option<bool>,
    spec: Option<Map<String, Value>>,
    /// The same as text: JSON or YAML.
    spec_raw: Option<String>,
}

#[derive(Serialize)]
struct ImportOut {
    data: Changes,
}

#[derive(Default, Serialize)]
struct Changes {
    modified: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_modify: Option<Vec<EventTypeForm>>,
}

/// Each event type is a change of its own: one that fails leaves those before it as they are now, and the same import
/// can be sent again.
async fn import(
    Shared(state): Shared<State>,
    who: Authenticated,
    post: Post<ImportIn>,
) -> Result<Answer<ImportOut>, ApiError> {
    let organization = who.organization();
    let ImportIn { dry_run, replace_all, spec, spec_raw } = post.body;
    // A large document takes a while to read.
    let reading = tokio::task::spawn_blocking(move || read(spec, spec_raw));
    let described = reading.await.map_err(|error| {
        tracing::error!(%error, "an OpenAPI document could not be read");
        ApiError::internal()
    })??;
    state.gate.catch_up().await?;
    let event_types: Vec<Arc<EventType>> =
        state.control().view().event_types(organization).cloned().collect();
    let found = |name: &str| event_types.iter().find(|event_type| event_type.name == name);
    let changed = |one: &Described| found(&one.name).is_none_or(|old| !is_same(old, &one.checked));
    let to_modify: Vec<&Described> = described.iter().filter(|one| changed(one)).collect();
    let others = event_types.iter().filter(|old| {
        replace_all == Some(true) && !old.archived && described.iter().all(|one| one.name != old.name)
    });
    let to_archive: Vec<&str> = others.map(|old| old.name.as_str()).collect();

    let mut changes = Changes::default();
    changes.modified.extend(to_modify.iter().map(|one| one.name.clone()));
    changes.modified.extend(to_archive.iter().map(|&name| name.to_owned()));
    if dry_run == Some(true) {
        let shown = to_modify.iter().map(|one| EventTypeForm::of_settings(&one.name, &one.checked));
        changes.to_modify = Some(shown.collect());
        return Ok(Answer(ImportOut { data: changes }));
    }
    for Described { name, checked } in to_modify {
        put(&state, who, (organization, name), checked).await?;
    }
    for name in to_archive {
        let command = Command::ArchiveEventType { organization, name: name.to_owned(), expunge: false };
        state.submit(who, command, None).await?;
    }
    Ok(Answer(ImportOut { data: changes }))
}

fn read(spec: Option<Map<String, Value>>, spec_raw: Option<String>) -> Result<Vec<Described>, ApiError> {
    match (spec, spec_raw) {
        (Some(spec), None) => openapi::event_types("spec", &Value::Object(spec)),
        (None, Some(text)) => openapi::event_types("specRaw", &openapi::parse(&text)?),
        (None, None) | (Some(_), Some(_)) => {
            Err(ApiError::bad_request("send the document as `spec` or as `specRaw`, one of them"))
        }
    }
}

fn is_same(old: &EventType, wanted: &Checked) -> bool {
    old.settings == wanted.settings && old.archived == wanted.archived
}
