//! `GET …/endpoint/{endpoint_id}/stats` and `…/attempt-stats`.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::State as Shared;
use fanfare_core::Timestamp;
use fanfare_history::{AttemptHour, Reach, Stats};
use fanfare_http::{ApiError, Authenticated, Routes, Who};
use serde::Serialize;

use super::{
    answer::Shown,
    filter::stats_range,
    reading::{at, refused},
};
use crate::{State, asked::Asked, endpoint::find, owner::EndpointPath};

const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn routes() -> Routes<State> {
    Routes::new().get("/api/v1/app/{app_id}/endpoint/{endpoint_id}/stats", Who::Application, deliveries).get(
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats",
        Who::Application,
        attempts,
    )
}

/// Deliveries by how they stand now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsOut {
    success: u64,
    pending: u64,
    sending: u64,
    fail: u64,
    canceled: u64,
    // Ours.
    /// What `fail` consists of, and those of it that were purged.
    dead_letters: BTreeMap<&'static str, u64>,
    purged: u64,
}

impl StatsOut {
    fn of(stats: Stats) -> Self {
        Self {
            success: stats.delivered,
            pending: stats.pending,
            sending: stats.retrying,
            fail: stats.dead() + stats.purged,
            canceled: stats.cancelled,
            dead_letters: stats.dead_letters,
            purged: stats.purged,
        }
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptStatsOut {
    success: u64,
    fail: u64,
    /// What is cancelled is not attempted.
    canceled: u64,
    // Ours.
    /// By hundreds of the HTTP status; 0 where no answer came.
    by_status_code_class: BTreeMap<u16, u64>,
}

impl AttemptStatsOut {
    fn of(hours: Vec<AttemptHour>) -> Self {
        let mut out = Self::default();
        for hour in hours {
            out.success += hour.delivered;
            out.fail += hour.failed;
            for (class, count) in hour.by_class {
                *out.by_status_code_class.entry(class).or_default() += count;
            }
        }
        out
    }
}

async fn deliveries(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    mut asked: Asked,
) -> Result<Shown<StatsOut>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let range = stats_range(&mut asked, state.gate.clock().now());
    asked.finish()?;
    let (since, until) = range?;
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    let stats = reading.history.stats(at(&endpoint), since, until).await.map_err(refused)?;
    Ok(Shown { body: StatsOut::of(stats), room: None, behind: reading.behind })
}

async fn attempts(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    mut asked: Asked,
) -> Result<Shown<AttemptStatsOut>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let range = stats_range(&mut asked, state.gate.clock().now());
    asked.finish()?;
    let (since, until) = range?;
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    let (since, until) = (hour_of(since), hour_after(until));
    let hours = reading.history.attempt_stats(endpoint.number, since, until).await.map_err(refused)?;
    Ok(Shown { body: AttemptStatsOut::of(hours), room: None, behind: reading.behind })
}

/// The beginning of its hour.
fn hour_of(at: Timestamp) -> Timestamp {
    let micros = i64::try_from(HOUR.as_micros()).expect("an hour is short");
    Timestamp::from_micros(at.as_micros().div_euclid(micros).saturating_mul(micros))
}

/// The end of the hour in which it is the last moment.
fn hour_after(at: Timestamp) -> Timestamp {
    let hour = hour_of(at);
    if hour == at { at } else { hour + HOUR }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_whole() {
        let hour = Timestamp::from_secs(1_700_002_800);
        assert_eq!((hour_of(hour), hour_after(hour)), (hour, hour));
        let later = hour + Duration::from_micros(1);
        assert_eq!((hour_of(later), hour_after(later)), (hour, hour + HOUR));
    }
}
