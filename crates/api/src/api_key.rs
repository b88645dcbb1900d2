//! `/api/v1/auth/api-key`: credentials with a name, which are shown once and can be taken back.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{ApiKey, Applied, Command, Effect, Resource, Scope};
use fanfare_core::{ApiKeyId, ApplicationId, Timestamp, limits};
use fanfare_http::{ApiError, Authenticated, Fields, List, Order, Page, Path, Routes, Who, paginate};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{State, application::shown, post::Post};

pub(crate) fn routes() -> Routes<State> {
    let (all, one) = ("/api/v1/auth/api-key", "/api/v1/auth/api-key/{id}");
    Routes::new()
        // Who may not make keys has no business with those of others.
        .route(Method::GET, all, (Who::Organization, Scope::Full), list)
        .post(all, Who::Organization, create)
        .delete(one, Who::Organization, delete)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeyIn {
    name: Option<String>,
    /// Id or uid of the only one that it opens.
    application: Option<String>,
    scope: Option<Scope>,
    expires_at: Option<String>,
}

/// A key as clients see it. The key itself is not in it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeyOut {
    id: ApiKeyId,
    name: String,
    application: Option<ApplicationId>,
    scope: Scope,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
}

/// The only answer that has it.
#[derive(Serialize)]
struct CreatedOut {
    key: String,
    #[serde(flatten)]
    of: ApiKeyOut,
}

impl ApiKeyOut {
    fn of(key: &ApiKey, used_at: Option<Timestamp>) -> Self {
        Self {
            id: key.id,
            name: key.name.clone(),
            application: key.application,
            scope: key.scope,
            created_at: shown(key.created_at),
            expires_at: key.expires_at.map(shown),
            last_used_at: used_at.map(shown),
        }
    }
}

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    page: Page,
) -> Result<Answer<List<ApiKeyOut>>, ApiError> {
    state.gate.catch_up().await?;
    let keys: Vec<Arc<ApiKey>> = state.control().view().api_keys(who.organization()).cloned().collect();
    let id = |key: &Arc<ApiKey>| key.id.to_string();
    Ok(Answer(paginate(keys, &page, Order::Ascending, id, |key| {
        ApiKeyOut::of(key, state.gate.key_used_at(key.id))
    })))
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    post: Post<ApiKeyIn>,
) -> Result<(StatusCode, Answer<CreatedOut>), ApiError> {
    let mut fields = Fields::default();
    let name = post.body.name.unwrap_or_default();
    let most = limits::NAME_CHARACTERS;
    let right = (1..=most).contains(&name.chars().count());
    fields.check(right, "name", format_args!("is required: 1 to {most} characters"));
    let expires_at = match post.body.expires_at.as_deref().map(str::parse::<Timestamp>) {
        Some(Err(error)) => {
            fields.wrong("expiresAt", error);
            None
        }
        Some(Ok(at)) => {
            fields.check(at > state.gate.clock().now(), "expiresAt", "must be a time to come");
            Some(at)
        }
        None => None,
    };
    let application = match &post.body.application {
        Some(id_or_uid) => match who.application(&state.gate, id_or_uid).await {
            Ok(application) => Some(application.id),
            Err(error) if error.status() == StatusCode::NOT_FOUND => {
                fields.wrong("application", format_args!("there is no application `{id_or_uid}`"));
                None
            }
            Err(error) => return Err(error),
        },
        None => None,
    };
    fields.finish()?;
    let scope = post.body.scope.unwrap_or(Scope::Full);
    let (command, key) =
        state.control().new_api_key(who.organization(), application, name, scope, expires_at);
    match state.submit(who, command, post.key).await? {
        Applied::Accepted(Effect::ApiKey(made)) => {
            Ok((StatusCode::CREATED, Answer(CreatedOut { key, of: ApiKeyOut::of(&made, None) })))
        }
        Applied::Repeated(Resource::ApiKey(id)) => Err(ApiError::conflict(format!(
            "the first request with this idempotency key made {id}, and only its answer had the key; delete it and \
             make another"
        ))),
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command was on an API key"),
    }
}

async fn delete(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let not_found = || ApiError::not_found("API key", &id);
    let parsed = id.parse().map_err(|_| not_found())?;
    let command = Command::DeleteApiKey { organization: who.organization(), id: parsed };
    state.submit(who, command, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
