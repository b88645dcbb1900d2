//! `/api/v1/stats/usage/…`: reports, which clients know as background tasks. What one says is counted when it is read.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{Application, Applied, Effect, Report, ReportKind, Resource};
use fanfare_core::{ApplicationId, JobId, Timestamp, limits};
use fanfare_history::Reach;
use fanfare_http::{ApiError, Authenticated, FieldError, Fields, Routes, Who};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    State,
    application::shown,
    history::{endpoints_ever, refused},
    patch::Patch,
    post::Post,
};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().post("/api/v1/stats/usage/app", Who::Organization, usage).put(
        "/api/v1/stats/usage/event-types",
        Who::Organization,
        event_types,
    )
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageIn {
    since: Option<String>,
    until: Option<String>,
    /// Ids or uids; all if there are none.
    app_ids: Option<Vec<String>>,
}

/// A report that was just made. It needs no more than a look.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportOut {
    id: JobId,
    status: &'static str,
    task: &'static str,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unresolved_app_ids: Option<Vec<String>>,
}

impl ReportOut {
    fn of(report: &Report, unresolved_app_ids: Option<Vec<String>>) -> Self {
        let (status, task) = (FINISHED, task(&report.kind));
        Self { id: report.id, status, task, updated_at: shown(report.created_at), unresolved_app_ids }
    }
}

pub(crate) const FINISHED: &str = "finished";

/// As clients know it.
pub(crate) fn task(kind: &ReportKind) -> &'static str {
    match kind {
        ReportKind::Usage { .. } => "application.stats",
        ReportKind::EventTypes => "event-type.aggregate",
    }
}

async fn usage(
    Shared(state): Shared<State>,
    who: Authenticated,
    post: Post<UsageIn>,
) -> Result<Answer<ReportOut>, ApiError> {
    let mut fields = Fields::default();
    let since = time(&mut fields, "since", post.body.since.as_deref());
    let until = time(&mut fields, "until", post.body.until.as_deref());
    fields.check(since < until, "until", "must be later than `since`");
    let (wanted, most) = (post.body.app_ids, limits::REPORT_APPLICATIONS);
    let few = wanted.as_ref().is_none_or(|ids| (1..=most).contains(&ids.len()));
    fields.check(few, "appIds", format_args!("must be 1 to {most}, or left out to take all"));
    fields.finish()?;
    let (applications, unresolved) = match wanted {
        Some(wanted) => {
            let (found, unresolved) = resolve(&state, who, wanted).await?;
            (Some(found), unresolved)
        }
        None => (None, Vec::new()),
    };
    let kind = ReportKind::Usage { since, until, applications };
    let command = state.control().new_report(who.organization(), kind);
    let report = made(&state, state.submit(who, command, post.key).await?)?;
    Ok(Answer(ReportOut::of(&report, Some(unresolved))))
}

fn time(fields: &mut Fields, field: &str, text: Option<&str>) -> Timestamp {
    match text.map(Timestamp::from_str) {
        Some(Ok(at)) => return at,
        Some(Err(error)) => fields.wrong(field, error),
        None => fields.wrong(field, "is required: a time such as 2026-01-31T12:00:00Z"),
    }
    Timestamp::ZERO
}

/// The applications of these ids or uids, and those that are none; 422 where all are none.
async fn resolve(
    state: &State,
    who: Authenticated,
    wanted: Vec<String>,
) -> Result<(Vec<ApplicationId>, Vec<String>), ApiError> {
    state.gate.catch_up().await?;
    let view = state.control().view();
    let (mut found, mut unresolved) = (Vec::new(), Vec::new());
    for id in wanted {
        match view.application(who.organization(), &id) {
            Some(application) if found.contains(&application.id) => {}
            Some(application) => found.push(application.id),
            None => unresolved.push(id),
        }
    }
    if found.is_empty() {
        let message = "must name an application that exists";
        return Err(ApiError::invalid(vec![FieldError::body(["appIds"], message)]));
    }
    Ok((found, unresolved))
}

async fn event_types(
    Shared(state): Shared<State>,
    who: Authenticated,
    put: Post<Patch>,
) -> Result<Answer<ReportOut>, ApiError> {
    let command = state.control().new_report(who.organization(), ReportKind::EventTypes);
    let report = made(&state, state.submit(who, command, put.key).await?)?;
    Ok(Answer(ReportOut::of(&report, None)))
}

fn made(state: &State, applied: Applied) -> Result<Arc<Report>, ApiError> {
    match applied {
        Applied::Accepted(Effect::Report(report)) => Ok(report),
        Applied::Repeated(Resource::Report(id)) => {
            let found = state.control().view().report(id).map(Arc::clone);
            found.ok_or_else(|| ApiError::not_found("background task", &id.to_string()))
        }
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command asked for a report"),
    }
}

/// What a report says now.
pub(crate) async fn data(state: &State, report: &Report) -> Result<Value, ApiError> {
    match &report.kind {
        ReportKind::Usage { since, until, applications } => {
            let applications = reported(state, report, applications.as_deref());
            let reading = state.reading(Reach::Everything).await?;
            let mut stats = Vec::with_capacity(applications.len());
            for application in applications {
                let endpoints = endpoints_ever(&state.control().view(), application.id);
                let count =
                    reading.history.destinations(&endpoints, *since, *until).await.map_err(refused)?;
                stats.push(json!({
                    "appId": application.id,
                    "appUid": application.settings.uid,
                    "messageDestinations": count,
                }));
            }
            Ok(json!({ "since": shown(*since), "until": shown(*until), "appStats": stats }))
        }
        ReportKind::EventTypes => {
            let (ours, known) = listed(state, report).into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            Ok(json!({ "appEventTypes": ours, "event_types": known }))
        }
    }
}

/// Those that are still there.
fn reported(state: &State, report: &Report, wanted: Option<&[ApplicationId]>) -> Vec<Arc<Application>> {
    let view = state.control().view();
    let all = view.applications(report.organization);
    match wanted {
        None => all.map(Arc::clone).collect(),
        Some(wanted) => wanted.iter().filter_map(|id| view.application_by_id(*id)).collect(),
    }
}

/// Event types that endpoints are limited to, with how many endpoints are; and in the form that clients of Svix know.
fn listed(state: &State, report: &Report) -> Vec<(Value, Value)> {
    let view = state.control().view();
    let of = |application: &Arc<Application>| {
        let mut names: BTreeMap<&str, u64> = BTreeMap::new();
        let mut takes_all = false;
        for endpoint in view.endpoints_of(application.id) {
            takes_all |= endpoint.settings.event_types.is_none();
            for name in endpoint.settings.event_types.iter().flatten() {
                *names.entry(name).or_default() += 1;
            }
        }
        let known = json!({
            "appId": application.id,
            "explicitlySubscribedEventTypes": names.keys().collect::<Vec<_>>(),
            "hasCatchAllEndpoint": takes_all,
        });
        let ours =
            json!({ "appId": application.id, "appUid": application.settings.uid, "eventTypes": names });
        (ours, known)
    };
    view.applications(report.organization).map(of).collect()
}
