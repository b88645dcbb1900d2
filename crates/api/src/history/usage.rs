//! `GET /api/v1/usage`: what was published for each application of an organization, and sent, day by day.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use axum::extract::State as Shared;
use fanfare_control::{Application, View};
use fanfare_core::{ApplicationId, EndpointNumber, Timestamp};
use fanfare_history::{Day, Reach, Usage};
use fanfare_http::{ApiError, Authenticated, List, Order, Page, Routes, Who, paginate};
use serde::Serialize;

use super::{answer::Shown, filter::stats_range, reading::refused};
use crate::{State, application::shown, asked::Asked};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().get("/api/v1/usage", Who::Organization, usage)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageOut {
    app_id: ApplicationId,
    app_uid: Option<String>,
    #[serde(flatten)]
    total: Counts,
    /// Those on which there was something.
    days: Vec<DayOut>,
}

#[derive(Debug, Serialize)]
struct DayOut {
    date: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counts {
    messages: u64,
    deliveries: u64,
    attempts: u64,
}

impl Counts {
    fn of(usage: &Usage) -> Self {
        Self { messages: usage.messages, deliveries: usage.deliveries, attempts: usage.attempts }
    }
}

impl UsageOut {
    fn of(application: &Application, days: &BTreeMap<Day, Usage>) -> Self {
        let mut total = Counts::default();
        for usage in days.values() {
            total.messages += usage.messages;
            total.deliveries += usage.deliveries;
            total.attempts += usage.attempts;
        }
        let days = days.iter().map(|(day, usage)| {
            let date = shown(day.beginning()).chars().take_while(|character| *character != 'T').collect();
            DayOut { date, counts: Counts::of(usage) }
        });
        let app_uid = application.settings.uid.clone();
        Self { app_id: application.id, app_uid, total, days: days.collect() }
    }
}

/// The days of a range, whole.
fn days(since: Timestamp, until: Timestamp) -> Range<Day> {
    let last = Day::of(until);
    let end = if last.beginning() < until { last.next() } else { last };
    Day::of(since)..end
}

async fn usage(
    Shared(state): Shared<State>,
    who: Authenticated,
    page: Page,
    mut asked: Asked,
) -> Result<Shown<List<UsageOut>>, ApiError> {
    let range = stats_range(&mut asked, state.gate.clock().now());
    asked.finish()?;
    let (since, until) = range?;
    state.gate.catch_up().await?;
    let applications = {
        let view = state.control().view();
        let key = |application: &&Arc<Application>| application.id.to_string();
        let with_endpoints =
            |application: &Arc<Application>| (Arc::clone(application), endpoints_ever(&view, application.id));
        paginate(view.applications(who.organization()), &page, Order::Ascending, key, |application| {
            with_endpoints(application)
        })
    };
    let reading = state.reading(Reach::Everything).await?;
    let List { data, iterator, prev_iterator, done } = applications;
    let mut shown = Vec::with_capacity(data.len());
    for (application, endpoints) in data {
        let days = reading.history.usage(application.id, &endpoints, days(since, until)).await;
        shown.push(UsageOut::of(&application, &days.map_err(refused)?));
    }
    Ok(Shown {
        body: List { data: shown, iterator, prev_iterator, done },
        room: None,
        behind: reading.behind,
    })
}

/// Those that are deleted too: what was sent to them was sent.
pub(crate) fn endpoints_ever(view: &View, application: ApplicationId) -> Vec<EndpointNumber> {
    let former = view.former_endpoints_of(application).into_iter().map(|former| former.number);
    view.endpoints_of(application).map(|endpoint| endpoint.number).chain(former).collect()
}
