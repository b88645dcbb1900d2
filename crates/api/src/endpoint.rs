//! `/api/v1/app/{app_id}/endpoint`.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Application, Applied, Command, CommandError, Effect, Endpoint, Refusal, Resource};
use fanfare_core::EndpointId;
use fanfare_http::{ApiError, Authenticated, Json, List, Order, Page, Path, Routes, Who, paginate};
use http::StatusCode;
use serde_json::Value;

use crate::{
    State,
    endpoint_form::{ALIASES, Checked, EndpointForm, EndpointOut},
    endpoint_secret::{kind_of, replace_secret},
    patch::{Patch, merge},
    post::Post,
    state::{TRIES, change, contended},
};

pub(crate) fn routes() -> Routes<State> {
    let (all, one) = ("/api/v1/app/{app_id}/endpoint", "/api/v1/app/{app_id}/endpoint/{endpoint_id}");
    Routes::new()
        .get(all, Who::Application, list)
        .post(all, Who::Application, create)
        .get(one, Who::Application, read)
        .put(one, Who::Application, upsert)
        .patch(one, Who::Application, update)
        .delete(one, Who::Application, delete)
}

/// The path of an endpoint: ids or uids.
pub(crate) type EndpointPath = Path<(String, String)>;

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    page: Page,
) -> Result<Answer<List<EndpointOut>>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    state.gate.catch_up().await?;
    let view = state.control().view();
    let key = |endpoint: &&Arc<Endpoint>| endpoint.id.to_string();
    Ok(Answer(paginate(view.endpoints_of(application.id), &page, Order::Descending, key, |endpoint| {
        EndpointOut::of(endpoint)
    })))
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<EndpointForm>,
) -> Result<(StatusCode, Answer<EndpointOut>), ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let checked = post.body.check(&state, None)?;
    let applied = state.submit(who, creation(&state, &application, checked), post.key).await?;
    Ok((StatusCode::CREATED, Answer(EndpointOut::of(&*made(&state, applied)?))))
}

fn creation(state: &State, application: &Application, checked: Checked) -> Command {
    let Checked { settings, secret, secret_kind } = checked;
    let secret = secret.unwrap_or_else(|| secret_kind.unwrap_or_default().generate(&*state.entropy));
    state.control().new_endpoint(application, settings, &secret)
}

/// The endpoint that a command left.
pub(crate) fn made(state: &State, applied: Applied) -> Result<Arc<Endpoint>, ApiError> {
    match applied {
        Applied::Accepted(Effect::Endpoint(endpoint)) => Ok(endpoint),
        Applied::Repeated(Resource::Endpoint { application, id }) => {
            let id = id.to_string();
            let found = state.control().view().endpoint(application, &id);
            found.ok_or_else(|| ApiError::not_found("endpoint", &id))
        }
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command was on an endpoint"),
    }
}

/// The endpoint of a path; 404 only after the view was brought to the end of `control`.
pub(crate) async fn find(
    state: &State,
    who: Authenticated,
    (app_id, endpoint_id): &(String, String),
) -> Result<Arc<Endpoint>, ApiError> {
    let application = who.application(&state.gate, app_id).await?;
    let known = || state.control().view().endpoint(application.id, endpoint_id);
    if let Some(found) = known() {
        return Ok(found);
    }
    state.gate.catch_up().await?;
    known().ok_or_else(|| ApiError::not_found("endpoint", endpoint_id))
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(path): EndpointPath,
) -> Result<Answer<EndpointOut>, ApiError> {
    Ok(Answer(EndpointOut::of(&*find(&state, who, &path).await?)))
}

/// Replaces the endpoint, or makes it with the path's id as its uid.
async fn upsert(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(path): EndpointPath,
    Json(mut form): Json<EndpointForm>,
) -> Result<(StatusCode, Answer<EndpointOut>), ApiError> {
    let application = who.application(&state.gate, &path.0).await?;
    let is_id = path.1.parse::<EndpointId>().is_ok();
    if form.uid.is_none() && !is_id {
        form.uid = Some(path.1.clone());
    }
    for _ in 0..TRIES {
        match find(&state, who, &path).await {
            Ok(_) => {
                let endpoint = replace(&state, who, &path, |_| Ok(form.clone())).await?;
                return Ok((StatusCode::OK, Answer(EndpointOut::of(&endpoint))));
            }
            Err(error) if error.status() == StatusCode::NOT_FOUND && !is_id => {}
            Err(error) => return Err(error),
        }
        if form.uid.as_ref() != Some(&path.1) {
            return Err(ApiError::invalid_field("uid", "must be the id in the path, or left out"));
        }
        let command = creation(&state, &application, form.clone().check(&state, None)?);
        match state.submit(who, command, None).await {
            // Somebody else made one with this uid meanwhile.
            Err(CommandError::Refused(Refusal::UidTaken(_))) => {}
            applied => {
                let endpoint = made(&state, applied?)?;
                return Ok((StatusCode::CREATED, Answer(EndpointOut::of(&endpoint))));
            }
        }
    }
    Err(contended())
}

async fn update(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(path): EndpointPath,
    Json(mut changes): Json<Patch>,
) -> Result<Answer<EndpointOut>, ApiError> {
    // Headers are not shown in the form, so that taking them away must be said, not left out.
    if changes.get("headers") == Some(&Value::Null) {
        changes.insert("headers".into(), Value::Object(Patch::new()));
    }
    // One of the two replaces the other.
    if changes.get("parkAfterSecs").is_some_and(|secs| !secs.is_null()) && !changes.contains_key("block") {
        changes.insert("block".into(), Value::Bool(false));
    }
    if changes.get("block") == Some(&Value::Bool(true)) && !changes.contains_key("parkAfterSecs") {
        changes.insert("parkAfterSecs".into(), Value::Null);
    }
    let form = |endpoint: &Endpoint| merge(&EndpointForm::of(&endpoint.settings), &changes, &ALIASES);
    let endpoint = replace(&state, who, &path, form).await?;
    Ok(Answer(EndpointOut::of(&endpoint)))
}

/// Gives the endpoint the settings of `form`, which may depend on what they are now.
async fn replace(
    state: &State,
    who: Authenticated,
    path: &(String, String),
    form: impl Fn(&Endpoint) -> Result<EndpointForm, ApiError> + Sync,
) -> Result<Arc<Endpoint>, ApiError> {
    let applied = change(state, who, || async {
        let endpoint = find(state, who, path).await?;
        let checked = form(&endpoint)?.check(state, Some(&endpoint.settings))?;
        if let (None, Some(kind)) = (&checked.secret, checked.secret_kind)
            && kind != kind_of(state, &endpoint)?
        {
            let message = "is another than that of the secret there is: rotate it";
            return Err(ApiError::invalid_field("secretType", message));
        }
        Ok(Command::UpdateEndpoint {
            application: endpoint.application,
            id: endpoint.id,
            expected_revision: Some(endpoint.revision),
            settings: Box::new(checked.settings),
        })
    });
    let endpoint = made(state, applied.await?)?;
    match form(&endpoint)?.check(state, Some(&endpoint.settings))?.secret {
        Some(secret) => replace_secret(state, who, &endpoint, &secret).await,
        None => Ok(endpoint),
    }
}

async fn delete(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(path): EndpointPath,
) -> Result<StatusCode, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let command = Command::DeleteEndpoint { application: endpoint.application, id: endpoint.id };
    state.submit(who, command, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
