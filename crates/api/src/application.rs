//! `/api/v1/app`.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{
    Application, Applied, Command, CommandError, Effect, Endpoint, Refusal, Resource, View,
};
use fanfare_core::{ApplicationId, OrganizationId, Timestamp};
use fanfare_http::{
    ApiError, ApplicationIn, Authenticated, Json, List, Order, Page, Path, Query, Routes, Who, paginate,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{
    State,
    patch::{Patch, merge},
    post::Post,
    state::{TRIES, change, contended},
};

/// Where Svix lets people look at webhooks.
const PLAY: &str = "https://play.svix.com/";
const ALIASES: [(&str, &str); 1] = [("rateLimit", "throttleRate")];

pub(crate) fn routes() -> Routes<State> {
    let (all, one) = ("/api/v1/app", "/api/v1/app/{app_id}");
    Routes::new()
        .get(all, Who::Organization, list)
        .post(all, Who::Organization, create)
        .get(one, Who::Application, read)
        .put(one, Who::Organization, upsert)
        .patch(one, Who::Organization, update)
        .delete(one, Who::Organization, delete)
}

/// An application as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApplicationOut {
    id: ApplicationId,
    #[serde(flatten)]
    form: ApplicationIn,
    created_at: String,
    updated_at: String,
}

impl ApplicationOut {
    fn of(application: &Application) -> Self {
        Self {
            id: application.id,
            form: form(application),
            created_at: shown(application.created_at),
            updated_at: shown(application.updated_at),
        }
    }
}

pub(crate) fn shown(at: Timestamp) -> String {
    at.to_string()
}

fn form(application: &Application) -> ApplicationIn {
    let settings = application.settings.clone();
    ApplicationIn {
        name: Some(settings.name),
        uid: settings.uid,
        throttle_rate: settings.throttle_rate,
        rate_limit: settings.throttle_rate,
        publish_rate: settings.publish_rate,
        metadata: Some(settings.metadata),
        ordering: settings.ordering,
    }
}

#[derive(Deserialize)]
struct CreateOptions {
    #[serde(default)]
    get_if_exists: bool,
}

/// Which applications a list leaves out. One that has no endpoint at all is left out by the first only.
#[derive(Clone, Copy, Deserialize)]
struct ListOptions {
    #[serde(default)]
    exclude_apps_with_no_endpoints: bool,
    /// Those that have no other.
    #[serde(default)]
    exclude_apps_with_disabled_endpoints: bool,
    #[serde(default)]
    exclude_apps_with_svix_play_endpoints: bool,
}

impl ListOptions {
    fn includes(self, view: &View, application: ApplicationId) -> bool {
        let endpoints = || view.endpoints_of(application);
        let has_some = endpoints().next().is_some();
        let are_all = |is: fn(&Endpoint) -> bool| has_some && endpoints().all(|endpoint| is(endpoint));
        let is_disabled =
            |endpoint: &Endpoint| endpoint.settings.disabled || endpoint.disabled_by_policy.is_some();
        let is_play = |endpoint: &Endpoint| endpoint.settings.url.starts_with(PLAY);
        !(self.exclude_apps_with_no_endpoints && !has_some
            || self.exclude_apps_with_disabled_endpoints && are_all(is_disabled)
            || self.exclude_apps_with_svix_play_endpoints && are_all(is_play))
    }
}

type Created = (StatusCode, Answer<ApplicationOut>);

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    page: Page,
    Query(options): Query<ListOptions>,
) -> Result<Answer<List<ApplicationOut>>, ApiError> {
    let organization = who.organization();
    state.gate.catch_up().await?;
    let view = state.control().view();
    let applications =
        view.applications(organization).filter(|application| options.includes(&view, application.id));
    let key = |application: &&Arc<Application>| application.id.to_string();
    Ok(Answer(paginate(applications, &page, Order::Ascending, key, |application| {
        ApplicationOut::of(application)
    })))
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    Query(options): Query<CreateOptions>,
    post: Post<ApplicationIn>,
) -> Result<Created, ApiError> {
    let organization = who.organization();
    let settings = post.body.into_settings()?;
    let uid = settings.uid.clone();
    let existing = || uid.as_deref().and_then(|uid| state.control().view().application(organization, uid));
    if options.get_if_exists
        && let Some(application) = existing()
    {
        return Ok((StatusCode::OK, Answer(ApplicationOut::of(&application))));
    }
    let command = state.control().new_application(organization, settings);
    match state.submit(who, command, post.key).await {
        Err(CommandError::Refused(Refusal::UidTaken(uid))) if options.get_if_exists => {
            let application = existing().ok_or_else(|| ApiError::not_found("application", &uid))?;
            Ok((StatusCode::OK, Answer(ApplicationOut::of(&application))))
        }
        applied => {
            let application = made(&state, applied?)?;
            Ok((StatusCode::CREATED, Answer(ApplicationOut::of(&application))))
        }
    }
}

/// The application that a command left.
fn made(state: &State, applied: Applied) -> Result<Arc<Application>, ApiError> {
    match applied {
        Applied::Accepted(Effect::Application(application)) => Ok(application),
        Applied::Repeated(Resource::Application(id)) => {
            let found = state.control().view().application_by_id(id);
            found.ok_or_else(|| ApiError::not_found("application", &id.to_string()))
        }
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command was on an application"),
    }
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
) -> Result<Answer<ApplicationOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    Ok(Answer(ApplicationOut::of(&application)))
}

/// Replaces the application, or makes it with the path's id as its uid.
async fn upsert(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    Json(mut body): Json<ApplicationIn>,
) -> Result<Created, ApiError> {
    let organization = who.organization();
    let is_id = app_id.parse::<ApplicationId>().is_ok();
    if body.uid.is_none() && !is_id {
        body.uid = Some(app_id.clone());
    }
    let settings = body.into_settings()?;
    // An id that only the path has is one that is not known any more.
    let may_make = !is_id || settings.uid.as_ref() == Some(&app_id);
    for _ in 0..TRIES {
        let replace = change(&state, who, || async {
            let application = who.application(&state.gate, &app_id).await?;
            Ok(Command::UpdateApplication {
                id: application.id,
                expected_revision: Some(application.revision),
                settings: settings.clone(),
            })
        });
        match replace.await {
            Err(error) if error.status() == StatusCode::NOT_FOUND && may_make => {}
            applied => return Ok((StatusCode::OK, Answer(ApplicationOut::of(&*made(&state, applied?)?)))),
        }
        if settings.uid.as_deref() != Some(&app_id) {
            return Err(ApiError::invalid_field("uid", "must be the id in the path, or left out"));
        }
        if let Some(application) = create_unless_taken(&state, who, organization, &settings).await? {
            return Ok((StatusCode::CREATED, Answer(ApplicationOut::of(&application))));
        }
    }
    Err(contended())
}

/// `None` when somebody else made one with this uid meanwhile.
async fn create_unless_taken(
    state: &State,
    who: Authenticated,
    organization: OrganizationId,
    settings: &fanfare_control::ApplicationSettings,
) -> Result<Option<Arc<Application>>, ApiError> {
    let command = state.control().new_application(organization, settings.clone());
    match state.submit(who, command, None).await {
        Err(CommandError::Refused(Refusal::UidTaken(_))) => Ok(None),
        applied => made(state, applied?).map(Some),
    }
}

async fn update(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    Json(patch): Json<Patch>,
) -> Result<Answer<ApplicationOut>, ApiError> {
    let applied = change(&state, who, || async {
        let application = who.application(&state.gate, &app_id).await?;
        let mut current = form(&application);
        current.rate_limit = None;
        Ok(Command::UpdateApplication {
            id: application.id,
            expected_revision: Some(application.revision),
            settings: merge(&current, &patch, &ALIASES)?.into_settings()?,
        })
    });
    Ok(Answer(ApplicationOut::of(&*made(&state, applied.await?)?)))
}

async fn delete(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    state.submit(who, Command::DeleteApplication { id: application.id }, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
