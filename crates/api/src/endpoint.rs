//! `/api/v1/app/{app_id}/endpoint`, and the same for operational webhooks.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Application, Applied, Command, CommandError, Effect, Endpoint, Refusal, Resource};
use fanfare_core::EndpointId;
use fanfare_http::{ApiError, Authenticated, Json, List, Order, Page, Routes, Who, paginate};
use http::StatusCode;
use serde_json::Value;

use crate::{
    State,
    endpoint_form::{ALIASES, Checked, EndpointForm, EndpointOut},
    endpoint_secret::{kind_of, replace_secret},
    owner::{EndpointPath, Owner},
    patch::{Patch, merge},
    post::Post,
    state::{TRIES, change, contended},
};

pub(crate) fn routes() -> Routes<State> {
    let below = |routes: Routes<State>, who, all, one| {
        routes
            .get(all, who, list)
            .post(all, who, create)
            .get(one, who, read)
            .put(one, who, upsert)
            .patch(one, who, update)
            .delete(one, who, delete)
    };
    let routes = below(
        Routes::new(),
        Who::Application,
        "/api/v1/app/{app_id}/endpoint",
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
    );
    below(
        routes,
        Who::Organization,
        "/api/v1/operational-webhook/endpoint",
        "/api/v1/operational-webhook/endpoint/{endpoint_id}",
    )
}

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    owner: Owner,
    page: Page,
) -> Result<Answer<List<EndpointOut>>, ApiError> {
    let application = owner.application(&state, who).await?;
    state.gate.catch_up().await?;
    let view = state.control().view();
    let endpoints = application.iter().flat_map(|application| view.endpoints_of(application.id));
    let key = |endpoint: &&Arc<Endpoint>| endpoint.id.to_string();
    Ok(Answer(paginate(endpoints, &page, Order::Descending, key, |endpoint| EndpointOut::of(endpoint))))
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    owner: Owner,
    post: Post<EndpointForm>,
) -> Result<(StatusCode, Answer<EndpointOut>), ApiError> {
    owner.application(&state, who).await?;
    let checked = post.body.check(&state, None)?;
    owner.check(&checked.settings)?;
    let application = owner.application_or_new(&state, who).await?;
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
    path: &EndpointPath,
) -> Result<Arc<Endpoint>, ApiError> {
    let unknown = || ApiError::not_found("endpoint", &path.endpoint);
    let application = path.owner.application(state, who).await?.ok_or_else(unknown)?;
    let known = || state.control().view().endpoint(application.id, &path.endpoint);
    if let Some(found) = known() {
        return Ok(found);
    }
    state.gate.catch_up().await?;
    known().ok_or_else(unknown)
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
) -> Result<Answer<EndpointOut>, ApiError> {
    Ok(Answer(EndpointOut::of(&*find(&state, who, &path).await?)))
}

/// Replaces the endpoint, or makes it with the path's id as its uid.
async fn upsert(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    Json(mut form): Json<EndpointForm>,
) -> Result<(StatusCode, Answer<EndpointOut>), ApiError> {
    let is_id = path.endpoint.parse::<EndpointId>().is_ok();
    if form.uid.is_none() && !is_id {
        form.uid = Some(path.endpoint.clone());
    }
    // An id that only the path has is one that is not known any more.
    let may_make = !is_id || form.uid.as_ref() == Some(&path.endpoint);
    for _ in 0..TRIES {
        match find(&state, who, &path).await {
            Ok(_) => {
                let endpoint = replace(&state, who, &path, |_| Ok(form.clone())).await?;
                return Ok((StatusCode::OK, Answer(EndpointOut::of(&endpoint))));
            }
            Err(error) if error.status() == StatusCode::NOT_FOUND && may_make => {}
            Err(error) => return Err(error),
        }
        if form.uid.as_ref() != Some(&path.endpoint) {
            return Err(ApiError::invalid_field("uid", "must be the id in the path, or left out"));
        }
        let checked = form.clone().check(&state, None)?;
        path.owner.check(&checked.settings)?;
        let application = path.owner.application_or_new(&state, who).await?;
        let command = creation(&state, &application, checked);
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
    path: EndpointPath,
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
    path: &EndpointPath,
    form: impl Fn(&Endpoint) -> Result<EndpointForm, ApiError> + Sync,
) -> Result<Arc<Endpoint>, ApiError> {
    let applied = change(state, who, || async {
        let endpoint = find(state, who, path).await?;
        let checked = form(&endpoint)?.check(state, Some(&endpoint.settings))?;
        path.owner.check(&checked.settings)?;
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
    path: EndpointPath,
) -> Result<StatusCode, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let command = Command::DeleteEndpoint { application: endpoint.application, id: endpoint.id };
    state.submit(who, command, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
