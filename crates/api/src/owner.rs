//! Whose endpoints a path is about: those of an application, or those that an organization's operational webhooks go to.
//! The latter are endpoints of an application that Fanfare keeps, so everything else about them is the same.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::FromRequestParts;
use fanfare_control::{Application, CommandError, EndpointSettings, OperationalEvent};
use fanfare_http::{ApiError, Authenticated, Fields, Path};
use http::request::Parts;

use crate::State;

#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// By its id or uid.
    Application(String),
    /// Of the organization whose token it is.
    Operational,
}

/// The path of an endpoint: ids or uids.
#[derive(Clone, Debug)]
pub(crate) struct EndpointPath {
    pub(crate) owner: Owner,
    pub(crate) endpoint: String,
}

impl EndpointPath {
    pub(crate) fn of(application: String, endpoint: String) -> Self {
        Self { owner: Owner::Application(application), endpoint }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(mut captures) = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await?;
        Ok(captures.remove("app_id").map_or(Self::Operational, Self::Application))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EndpointPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(mut captures) = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await?;
        let owner = captures.remove("app_id").map_or(Owner::Operational, Owner::Application);
        Ok(Self { owner, endpoint: captures.remove("endpoint_id").unwrap_or_default() })
    }
}

impl Owner {
    /// The application that has the endpoints. `None`: there never was an endpoint for operational webhooks.
    pub(crate) async fn application(
        &self,
        state: &State,
        who: Authenticated,
    ) -> Result<Option<Arc<Application>>, ApiError> {
        let Self::Application(id) = self else {
            let known = || state.control().view().operational_application(who.organization());
            if let Some(found) = known() {
                return Ok(Some(found));
            }
            state.gate.catch_up().await?;
            return Ok(known());
        };
        who.application(&state.gate, id).await.map(Some)
    }

    /// The same for who is about to make an endpoint: what operational webhooks need is made with the first one, and what
    /// a newer version needs beside it with the next.
    pub(crate) async fn application_or_new(
        &self,
        state: &State,
        who: Authenticated,
    ) -> Result<Arc<Application>, ApiError> {
        if let Self::Operational = self {
            let needs = || state.control().operational_needs(who.organization());
            if !needs().is_empty() {
                state.gate.catch_up().await?;
            }
            for command in needs() {
                match state.control().submit(command, None).await {
                    // Somebody else was faster: just as well.
                    Ok(_) | Err(CommandError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.application(state, who).await?.ok_or_else(|| {
            tracing::error!("the application of operational webhooks was not made");
            ApiError::internal()
        })
    }

    /// 422 for settings with which an endpoint would be told nothing.
    pub(crate) fn check(&self, settings: &EndpointSettings) -> Result<(), ApiError> {
        if let Self::Application(_) = self {
            return Ok(());
        }
        let mut fields = Fields::default();
        let names = OperationalEvent::ALL.map(OperationalEvent::as_str);
        let unknown = settings.event_types.iter().flatten().any(|name| !names.contains(&name.as_str()));
        fields.check(!unknown, "eventTypes", format_args!("must be some of {}", names.join(", ")));
        let none = settings.channels.is_none();
        fields.check(none, "channels", "must be left out: operational webhooks have no channels");
        fields.finish()
    }
}
