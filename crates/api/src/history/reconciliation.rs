//! `GET …/endpoint/{endpoint_id}/reconciliation`: what the log has for an endpoint, and what became of each.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::State as Shared;
use fanfare_core::{MessageEndpointId, MessageId, Settlement, Timestamp};
use fanfare_history::{Missing, Reach, Reconciliation, Standing, Why};
use fanfare_http::{ApiError, Authenticated, Routes, Who};
use serde::Serialize;

use super::{
    answer::Shown,
    filter::check_range,
    reading::{at, refused},
    status::standing_word,
};
use crate::{State, application::shown, asked::Asked, endpoint::find, owner::EndpointPath};

/// The range where nothing is said of it.
const RANGE: Duration = Duration::from_hours(24);

pub(crate) fn routes() -> Routes<State> {
    let path = "/api/v1/app/{app_id}/endpoint/{endpoint_id}/reconciliation";
    Routes::new().get(path, Who::Application, reconcile)
}

/// Of which messages ids are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Whatever the endpoint does not have.
    Undelivered,
    /// What the log has and the history does not.
    Missing,
    Pending,
    DeadLetter,
    Cancelled,
    Purged,
}

const WHAT: [(&str, What); 6] = [
    ("undelivered", What::Undelivered),
    ("missing", What::Missing),
    ("pending", What::Pending),
    ("dead_letter", What::DeadLetter),
    ("cancelled", What::Cancelled),
    ("purged", What::Purged),
];

impl What {
    fn wants(self, why: Why) -> bool {
        match self {
            Self::Undelivered => true,
            Self::Missing => why == Why::NotInHistory,
            Self::Pending => matches!(why, Why::Standing(Standing::Pending | Standing::Retrying)),
            Self::DeadLetter => matches!(why, Why::Standing(standing) if standing.is_dead_letter()),
            Self::Cancelled | Self::Purged => Self::of(why) == self,
        }
    }

    /// The one word that is true of it.
    fn of(why: Why) -> Self {
        match why {
            Why::NotInHistory => Self::Missing,
            Why::Standing(Standing::Pending | Standing::Retrying) => Self::Pending,
            Why::Standing(standing) if standing.is_dead_letter() => Self::DeadLetter,
            Why::Standing(Standing::Settled(Settlement::Purged)) => Self::Purged,
            Why::Standing(_) => Self::Cancelled,
        }
    }

    fn as_str(self) -> &'static str {
        WHAT.iter().find(|(_, what)| *what == self).expect("all are listed").0
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReconciliationOut {
    since: String,
    until: String,
    /// Of the part of the range that this page looked at.
    counts: Counts,
    /// What no router has looked at yet, of all that the application's partition of `messages` held when this was asked: it
    /// is accepted, and not counted.
    unrouted: u64,
    data: Vec<MissingOut>,
    /// Give it back with the same range; none when the whole range was looked at.
    iterator: Option<String>,
    done: bool,
}

/// `accepted` is the sum of all others.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    accepted: u64,
    delivered: u64,
    /// Not tried yet.
    pending: u64,
    /// Tried in vain, and to be tried again.
    retrying: u64,
    dead_lettered: u64,
    cancelled: u64,
    /// Dead letters that were purged.
    purged: u64,
    missing: u64,
    /// What `deadLettered` consists of.
    dead_letters: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MissingOut {
    message_id: MessageId,
    delivery_id: MessageEndpointId,
    what: &'static str,
    /// How it stands, or how it was settled; null where that is not known.
    standing: Option<&'static str>,
}

impl MissingOut {
    fn of(missing: &Missing) -> Self {
        Self {
            message_id: missing.message,
            delivery_id: missing.delivery,
            what: What::of(missing.why).as_str(),
            standing: match missing.why {
                Why::Standing(standing) => Some(standing_word(standing)),
                Why::NotInHistory => None,
            },
        }
    }
}

impl ReconciliationOut {
    fn of(found: Reconciliation, unrouted: u64, (since, until): (Timestamp, Timestamp), what: What) -> Self {
        let wanted = found.missing.iter().filter(|missing| what.wants(missing.why));
        Self {
            since: shown(since),
            until: shown(until),
            unrouted,
            data: wanted.map(MissingOut::of).collect(),
            done: found.next.is_none(),
            iterator: found.next,
            counts: Counts {
                accepted: found.accepted,
                delivered: found.stats.delivered,
                pending: found.stats.pending,
                retrying: found.stats.retrying,
                dead_lettered: found.stats.dead(),
                cancelled: found.stats.cancelled,
                purged: found.stats.purged,
                missing: found.not_in_history,
                dead_letters: found.stats.dead_letters,
            },
        }
    }
}

async fn reconcile(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    mut asked: Asked,
) -> Result<Shown<ReconciliationOut>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let (since, until) = (asked.time("since"), asked.time("until"));
    let what = asked.word("what", &WHAT).unwrap_or(What::Undelivered);
    let iterator = asked.one("iterator");
    if iterator.is_some() && (since.is_none() || until.is_none()) {
        asked.wrong("iterator", "goes with `since` and `until` as the page before it had them");
    }
    asked.finish()?;
    let until = until.unwrap_or_else(|| state.gate.clock().now());
    let since = since.unwrap_or(until - RANGE);
    check_range(since, until)?;
    let application = state.control().view().application_by_id(endpoint.application);
    // It may have been deleted meanwhile.
    let application = application.ok_or_else(|| ApiError::not_found("endpoint", &path.endpoint))?;
    let unrouted = state.history()?.unrouted(application.partition).await.map_err(refused)?;
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    let found = reading.history.reconcile(at(&endpoint), since, until, iterator.as_deref()).await;
    let body = ReconciliationOut::of(found.map_err(refused)?, unrouted, (since, until), what);
    Ok(Shown { body, room: None, behind: reading.behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a list is what its page counts: nothing falls between two words.
    #[test]
    fn each_reason_is_wanted_by_its_word_and_by_the_general_one() {
        let mut all = vec![Why::NotInHistory];
        all.extend(Standing::ALL.map(Why::Standing));
        let delivered = |why: &Why| matches!(why, Why::Standing(standing) if standing_word(*standing) == "delivered" || standing_word(*standing) == "acknowledged");
        for why in all.into_iter().filter(|why| !delivered(why)) {
            let wanting: Vec<What> =
                WHAT.iter().map(|(_, what)| *what).filter(|what| what.wants(why)).collect();
            assert_eq!(wanting, [What::Undelivered, What::of(why)], "{why:?}");
        }
    }
}
