//! `POST …/dead-letter/purge`: dead letters of which nobody wants to hear any more.
//!
//! It is a fact in `attempts`, so that history says the same however often it is made again. The delivery stays, and
//! is counted as `purged`.

use std::{collections::BTreeMap, str::FromStr};

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::Application;
use fanfare_core::{EndpointNumber, Fact, MessageEndpointId, Offset, Settlement, Timestamp, limits};
use fanfare_history::{DeadLetterFilter, EndpointAt, MessageFilter, Reach, StatusClass, Window};
use fanfare_http::{ApiError, Authenticated, FieldError, Fields, NAME_FORM, Path, Routes, Who, is_name};
use serde::{Deserialize, Serialize};

use super::{
    answer_content::{partition_of, tell},
    dead_letter::{belongs, endpoints_of},
    filter::STATUS_CLASS,
    reading::{Reading, at, refused},
};
use crate::{
    State,
    endpoint::find,
    owner::EndpointPath,
    post::{Post, given},
};

/// Facts in one record.
const FACTS: usize = 1_000;

pub(crate) fn routes() -> Routes<State> {
    Routes::new().post("/api/v1/app/{app_id}/dead-letter/purge", Who::Application, purge)
}

/// Which; without any field all of the application. So a field that is spelt otherwise must not be passed over, nor one
/// that is `null`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PurgeIn {
    /// Alone.
    #[serde(default, deserialize_with = "given")]
    ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    endpoint_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    reasons: Option<Vec<String>>,
    /// Of the last answer.
    #[serde(default, deserialize_with = "given")]
    status_code_class: Option<u16>,
    #[serde(default, deserialize_with = "given")]
    event_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    channel: Option<String>,
    #[serde(default, deserialize_with = "given")]
    tag: Option<String>,
    /// Dead since before.
    #[serde(default, deserialize_with = "given")]
    before: Option<String>,
    /// Dead since then or later.
    #[serde(default, deserialize_with = "given")]
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct PurgeOut {
    purged: usize,
    /// There are no more; else ask again.
    done: bool,
}

/// What is meant, checked.
enum Which {
    These(Vec<MessageEndpointId>),
    Filter { endpoint: Option<String>, filter: Box<DeadLetterFilter> },
}

async fn purge(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    post: Post<PurgeIn>,
) -> Result<Answer<PurgeOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let (endpoints, filter) = match post.body.check()? {
        Which::These(ids) => {
            let reading = state.reading(Reach::Everything).await?;
            let purged = purge_these(&state, &reading, &application, ids).await?;
            return Ok(Answer(PurgeOut { purged, done: true }));
        }
        Which::Filter { endpoint: Some(endpoint_id), filter } => {
            let endpoint = find(&state, who, &EndpointPath::of(app_id, endpoint_id)).await?;
            (vec![at(&endpoint)], filter)
        }
        Which::Filter { endpoint: None, filter } => (endpoints_of(&state, &application), filter),
    };
    let reading = state.reading(Reach::Everything).await?;
    Ok(Answer(purge_found(&state, &reading, &endpoints, &filter).await?))
}

async fn purge_these(
    state: &State,
    reading: &Reading,
    application: &Application,
    ids: Vec<MessageEndpointId>,
) -> Result<usize, ApiError> {
    let mut dead = Vec::new();
    for id in ids {
        let found = reading.history.delivery_by_id(id).await.map_err(refused)?;
        let is_its = |row: &fanfare_history::DeliveryRow| {
            row.standing.is_dead_letter() && belongs(state, row.endpoint, application)
        };
        dead.extend(found.filter(is_its).map(|row| (row.endpoint, row.offset)));
    }
    tell_purged(state, &dead).await
}

/// Page by page, the oldest first, up to what one request may.
async fn purge_found(
    state: &State,
    reading: &Reading,
    endpoints: &[EndpointAt],
    filter: &DeadLetterFilter,
) -> Result<PurgeOut, ApiError> {
    let mut out = PurgeOut { purged: 0, done: false };
    let mut iterator = None;
    while !out.done && out.purged < limits::PURGED_TOGETHER {
        let window = Window::new(FACTS, iterator.as_deref(), false);
        let page = reading.history.dead_letters(endpoints, filter, &window).await.map_err(refused)?;
        let dead: Vec<_> = page.items.iter().map(|row| (row.endpoint, row.offset)).collect();
        out.purged += tell_purged(state, &dead).await?;
        // A page may be empty and not the last: it looked at as much as it may.
        out.done = page.done || page.iterator.is_none();
        iterator = page.iterator;
    }
    Ok(out)
}

async fn tell_purged(state: &State, dead: &[(EndpointNumber, Offset)]) -> Result<usize, ApiError> {
    let now = state.gate.clock().now();
    let mut by_partition: BTreeMap<_, Vec<Fact>> = BTreeMap::new();
    for &(endpoint, offset) in dead {
        let Some(partition) = partition_of(state, endpoint) else { continue };
        let fact = Fact::Settled { endpoint, offset, reason: Settlement::Purged, at: now };
        by_partition.entry(partition).or_default().push(fact);
    }
    let mut purged = 0;
    for (partition, facts) in by_partition {
        for facts in facts.chunks(FACTS) {
            tell(state, partition, facts.to_vec()).await?;
            purged += facts.len();
        }
    }
    Ok(purged)
}

impl PurgeIn {
    /// 422 naming all that is wrong.
    fn check(self) -> Result<Which, ApiError> {
        let mut fields = Fields::default();
        let reasons = self.reasons.iter().flatten().filter_map(|name| reason(&mut fields, name)).collect();
        for (field, list) in [("reasons", &self.reasons), ("eventTypes", &self.event_types)] {
            let some = list.as_ref().is_none_or(|list| !list.is_empty());
            fields.check(some, field, "must name one at least; leave it out for any");
        }
        let class = self.status_code_class.and_then(StatusClass::new);
        let right = class.is_some() || self.status_code_class.is_none();
        fields.check(right, "statusCodeClass", STATUS_CLASS);
        let before = self.before.and_then(|text| time(&mut fields, "before", &text));
        let after = self.after.and_then(|text| time(&mut fields, "after", &text));
        let right = before.is_none_or(|before| after.is_none_or(|after| after < before));
        fields.check(right, "after", "must be earlier than `before`");
        let most = limits::EVENT_TYPES_PER_ENDPOINT;
        let event_types = self.event_types.unwrap_or_default();
        fields.check(event_types.len() <= most, "eventTypes", format_args!("must be at most {most}"));
        let names = |name: &'static str, most: usize, given: &[String]| {
            (name, most, given.iter().all(|given| is_name(given, most)))
        };
        for (field, most, right) in [
            names("eventTypes", limits::EVENT_TYPE_CHARACTERS, &event_types),
            names("channel", limits::CHANNEL_CHARACTERS, self.channel.as_slice()),
            names("tag", limits::CHANNEL_CHARACTERS, self.tag.as_slice()),
        ] {
            fields.check(right, field, format_args!("must be 1 to {most} characters: {NAME_FORM}"));
        }
        let message =
            MessageFilter { event_types, channel: self.channel, tag: self.tag, ..MessageFilter::default() };
        let filter = Box::new(DeadLetterFilter { message, reasons, class, before, after });
        let Some(ids) = self.ids else {
            fields.finish()?;
            return Ok(Which::Filter { endpoint: self.endpoint_id, filter });
        };
        let alone = self.endpoint_id.is_none() && *filter == DeadLetterFilter::default();
        fields.check(alone, "ids", "must stand alone: leave out what filters");
        let most = limits::ERASED_TOGETHER;
        fields.check((1..=most).contains(&ids.len()), "ids", format_args!("must be 1 to {most}"));
        let mut parsed = Vec::with_capacity(ids.len().min(most));
        for (index, id) in ids.iter().enumerate().take(most) {
            match id.parse::<MessageEndpointId>() {
                Ok(id) => parsed.push(id),
                Err(error) => {
                    fields.push(FieldError::body(["ids".to_owned(), index.to_string()], error.to_string()));
                }
            }
        }
        fields.finish()?;
        Ok(Which::These(parsed))
    }
}

/// A conflict is a message that goes to nobody: it is listed as long as it is kept.
fn reason(fields: &mut Fields, name: &str) -> Option<Settlement> {
    let all = [Settlement::Exhausted, Settlement::Rejected, Settlement::Expired];
    let found = all.into_iter().find(|reason| reason.as_str() == name);
    fields.check(found.is_some(), "reasons", "must be one or more of exhausted, rejected, expired");
    found
}

fn time(fields: &mut Fields, field: &str, text: &str) -> Option<Timestamp> {
    match Timestamp::from_str(text) {
        Ok(at) => Some(at),
        Err(error) => {
            fields.wrong(field, error);
            None
        }
    }
}
