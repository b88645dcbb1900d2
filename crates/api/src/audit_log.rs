//! `/api/v1/audit-log`: who changed what, newest first, as `control` has it.

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Actor, Envelope, View};
use fanfare_core::{ApplicationId, Offset, OrganizationId, Timestamp};
use fanfare_http::{ApiError, Authenticated, FieldError, List, Page, Query, Routes, Who};
use serde::Deserialize;

use crate::{
    State,
    audited::{ACTIONS, AuditedOut, action, audited},
};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().get("/api/v1/audit-log", Who::Organization, list)
}

#[derive(Deserialize)]
struct FilterIn {
    before: Option<String>,
    after: Option<String>,
    action: Option<String>,
    /// Id or uid.
    application: Option<String>,
    /// The token's `jti`, the key's id, or `fanfare`.
    principal: Option<String>,
}

/// Which commands are wanted.
struct Filter {
    organization: OrganizationId,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
    action: Option<String>,
    application: Option<ApplicationId>,
    principal: Option<String>,
}

/// Where a page begins, and which way it goes.
enum From {
    Below(Offset),
    Above(Offset),
}

/// One page looks at a bounded number of commands: there may be none on it, and more beyond.
async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    page: Page,
    Query(filter): Query<FilterIn>,
) -> Result<Answer<List<AuditedOut>>, ApiError> {
    state.gate.catch_up().await?;
    let filter = filter.check(&state, who.organization())?;
    let end = state.control().position();
    let from = from(page.iterator.as_deref(), end)?;
    let show = |offset: Offset, envelope: &Envelope| {
        let view = state.control().view();
        if filter.wants(&view, envelope) { audited(&view, offset, envelope) } else { None }
    };
    let control = state.control();
    let (mut looked, upwards) = match from {
        From::Below(below) => (control.look_back(below, page.limit, show).await?, false),
        From::Above(above) => (control.look_ahead(above, page.limit, show).await?, true),
    };
    if upwards {
        looked.found.reverse();
    }
    let first = looked.found.first().map(|(offset, _)| *offset);
    let last = looked.found.last().map(|(offset, _)| *offset);
    let reached = looked.last.filter(|_| !looked.at_end);
    // Where there is more, a page goes on behind what was looked at, which may be beyond what was found.
    let (iterator, previous) = if upwards { (last, reached.or(first)) } else { (reached.or(last), first) };
    Ok(Answer(List {
        iterator: iterator.map(|offset| offset.to_string()),
        prev_iterator: previous.map(|offset| format!("-{offset}")),
        data: looked.found.into_iter().map(|(_, shown)| shown).collect(),
        done: looked.at_end,
    }))
}

fn from(iterator: Option<&str>, end: Offset) -> Result<From, ApiError> {
    let Some(iterator) = iterator else { return Ok(From::Below(end)) };
    let (upwards, number) = match iterator.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, iterator),
    };
    // Not beyond the end: no offset is so high that the next one does not exist.
    match number.parse().map(|number: u64| Offset(number.min(end.0))) {
        Ok(offset) if upwards => Ok(From::Above(offset)),
        Ok(offset) => Ok(From::Below(offset)),
        Err(_) => Err(wrong("iterator", "must be one that an earlier page gave")),
    }
}

impl FilterIn {
    fn check(self, state: &State, organization: OrganizationId) -> Result<Filter, ApiError> {
        let time = |name: &'static str, text: Option<String>| {
            let parsed = text.map(|text| text.parse::<Timestamp>()).transpose();
            parsed.map_err(|error| wrong(name, &error.to_string()))
        };
        if let Some(action) = &self.action
            && !ACTIONS.contains(&action.as_str())
        {
            return Err(wrong("action", &format!("must be one of {}", ACTIONS.join(", "))));
        }
        // By its id its commands may be looked for when it is gone itself.
        let found = |text: &str| Some(state.control().view().application(organization, text)?.id);
        let application = self.application.map(|text| {
            let id = found(&text).or_else(|| text.parse().ok());
            id.ok_or_else(|| wrong("application", "there is no such application"))
        });
        Ok(Filter {
            organization,
            before: time("before", self.before)?,
            after: time("after", self.after)?,
            action: self.action,
            application: application.transpose()?,
            principal: self.principal,
        })
    }
}

impl Filter {
    fn wants(&self, view: &View, envelope: &Envelope) -> bool {
        whose(view, envelope) == Some(self.organization)
            && self.before.is_none_or(|before| envelope.at < before)
            && self.after.is_none_or(|after| envelope.at > after)
            && self.action.as_deref().is_none_or(|wanted| action(&envelope.command) == Some(wanted))
            && self.application.is_none_or(|wanted| envelope.command.application() == Some(wanted))
            && self.principal.as_deref().is_none_or(|wanted| is_by(envelope, wanted))
    }
}

/// Whose things a command is about. Of one that does not say, only as long as the application is there.
fn whose(view: &View, envelope: &Envelope) -> Option<OrganizationId> {
    let said = envelope.command.organization().or(envelope.origin.and_then(|origin| origin.organization));
    said.or_else(|| {
        let application = envelope.command.application()?;
        Some(view.application_by_id(application)?.organization)
    })
}

fn is_by(envelope: &Envelope, wanted: &str) -> bool {
    match envelope.origin.map(|origin| origin.by) {
        None => false,
        Some(Actor::Fanfare) => wanted == "fanfare",
        Some(Actor::OrganizationToken { id } | Actor::ApplicationToken { id, .. }) => {
            id.to_string() == wanted
        }
        Some(Actor::ApiKey { id }) => id.to_string() == wanted,
    }
}

fn wrong(parameter: &'static str, message: &str) -> ApiError {
    ApiError::invalid(vec![FieldError::at("query", [parameter], message)])
}
