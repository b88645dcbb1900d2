//! `/api/v1/app/{app_id}/dead-letter`: deliveries that were given up, to be looked at.

use axum::extract::State as Shared;
use fanfare_control::Application;
use fanfare_core::{EndpointNumber, MessageEndpointId, MessageId, Settlement, limits};
use fanfare_history::{
    AttemptFilter, AttemptRow, DeadLetterFilter, DeliveryRow, EndpointAt, MessageFilter, MessageRow, Payload,
    Reach, Twin, Window,
};
use fanfare_http::{ApiError, Authenticated, List, Order, Page, Path, Routes, Who};
use serde::Serialize;

use super::{
    answer::{Shown, list},
    attempt::{AttemptOut, former_id},
    filter::{Times, message_filter, status_class, window},
    message::one,
    message_out::MessageOut,
    reading::{Reading, at, refused},
    status::standing_word,
};
use crate::{State, application::shown, asked::Asked, endpoint::find, owner::EndpointPath};

/// Attempts that are shown of one dead letter: the last of them.
const ATTEMPTS: usize = limits::PAGE_MAX;

pub(crate) fn routes() -> Routes<State> {
    let (all, one) =
        ("/api/v1/app/{app_id}/dead-letter", "/api/v1/app/{app_id}/dead-letter/{dead_letter_id}");
    Routes::new().get(all, Who::Application, list_all).get(one, Who::Application, read)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterOut {
    /// Of the delivery; of a message in conflict with another one, which goes nowhere, its own.
    id: String,
    reason: &'static str,
    endpoint_id: Option<String>,
    message: MessageOut,
    attempt_count: u32,
    first_attempt_at: Option<String>,
    last_attempt_at: Option<String>,
    /// 0 where no answer came; null where none was asked for.
    last_status_code: Option<u16>,
    dead_since: Option<String>,
    /// The message that its idempotency key or event id stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts_with: Option<MessageId>,
}

/// One with all that is known of it.
#[derive(Debug, Serialize)]
struct InspectedOut {
    #[serde(flatten)]
    dead_letter: DeadLetterOut,
    /// Newest first.
    attempts: Vec<AttemptOut>,
}

impl DeadLetterOut {
    fn of(state: &State, row: DeliveryRow, payload: Option<Payload>) -> Self {
        let endpoint_id = {
            let view = state.control().view();
            let present = view.endpoint_by_number(row.endpoint).map(|endpoint| endpoint.id.to_string());
            present.unwrap_or_else(|| former_id(&view, row.endpoint))
        };
        Self {
            id: row.id.to_string(),
            reason: standing_word(row.standing),
            endpoint_id: Some(endpoint_id),
            attempt_count: row.attempts,
            first_attempt_at: row.first_attempt_at.map(shown),
            last_attempt_at: row.last_attempt_at.map(shown),
            last_status_code: row.last_status,
            dead_since: row.settled_at.map(shown),
            conflicts_with: None,
            message: MessageOut::of(row.message, payload),
        }
    }

    /// Of a message that was in conflict as it came.
    fn of_conflict(row: MessageRow, payload: Option<Payload>) -> Self {
        let conflicts_with = match row.twin {
            Some(Twin::Conflict { first }) => Some(first),
            Some(Twin::Alias { .. }) | None => None,
        };
        Self {
            id: row.id.to_string(),
            reason: Settlement::IdempotencyConflict.as_str(),
            endpoint_id: None,
            attempt_count: 0,
            first_attempt_at: None,
            last_attempt_at: None,
            last_status_code: None,
            dead_since: Some(shown(row.accepted_at)),
            conflicts_with,
            message: MessageOut::of(row, payload),
        }
    }
}

async fn list_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    page: Page,
    mut asked: Asked,
) -> Result<Shown<List<DeadLetterOut>>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let (message, times) = (message_filter(&mut asked), Times::read(&mut asked));
    let endpoint = asked.one("endpoint");
    let (reasons, class) = (reasons(&mut asked), status_class(&mut asked));
    let narrower = reasons.len() > 1 || endpoint.is_some() || class.is_some();
    if reasons.contains(&Settlement::IdempotencyConflict) && narrower {
        let message = "`idempotency_conflict` stands alone, without `endpoint` and `status_code_class`: such a message goes \
                       to none";
        asked.wrong("reason", message);
    }
    asked.finish()?;
    let Times { before, after } = times.check(&page, state.gate.clock().now())?;
    let window = window(&page, Order::Descending);
    if reasons == [Settlement::IdempotencyConflict] {
        let reading = state.reading(Reach::Everything).await?;
        let filter = MessageFilter { before, after, ..message };
        let rows = reading.history.conflicts(application.id, &filter, &window).await.map_err(refused)?;
        let body = list(rows, |row| DeadLetterOut::of_conflict(row, None));
        return Ok(Shown { body, room: None, behind: reading.behind });
    }
    let (endpoints, reach) = match endpoint {
        Some(endpoint_id) => {
            let endpoint = find(&state, who, &EndpointPath::of(app_id, endpoint_id)).await?;
            (vec![at(&endpoint)], Reach::Endpoints(endpoint.partition))
        }
        None => (endpoints_of(&state, &application), Reach::Everything),
    };
    let reading = state.reading(reach).await?;
    let filter = DeadLetterFilter { message, reasons, class, before, after };
    let rows = reading.history.dead_letters(&endpoints, &filter, &window).await.map_err(refused)?;
    let body = list(rows, |row| DeadLetterOut::of(&state, row, None));
    Ok(Shown { body, room: None, behind: reading.behind })
}

/// Deleted ones too: what is dead of them stays so.
pub(super) fn endpoints_of(state: &State, application: &Application) -> Vec<EndpointAt> {
    let view = state.control().view();
    let present = view.endpoints_of(application.id).map(at);
    let former = view.former_endpoints_of(application.id).into_iter();
    let former = former.map(|former| EndpointAt { number: former.number, partition: former.partition });
    present.chain(former).collect()
}

fn reasons(asked: &mut Asked) -> Vec<Settlement> {
    let named = |name: &str| {
        let mut reasons = Settlement::ALL.into_iter().filter(|settlement| settlement.is_dead_letter());
        reasons.find(|reason| reason.as_str() == name)
    };
    let names = asked.all("reason");
    let reasons: Vec<Settlement> = names.iter().filter_map(|name| named(name)).collect();
    if reasons.len() < names.len() {
        asked.wrong("reason", "must be one or more of exhausted, rejected, expired, idempotency_conflict");
    }
    reasons
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Shown<InspectedOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let reading = state.reading(Reach::Everything).await?;
    if id.parse::<MessageId>().is_ok() {
        let found = reading.history.message(application.id, &id).await.map_err(refused)?;
        let found = found.filter(|row| matches!(row.twin, Some(Twin::Conflict { .. })));
        let row = reading.found(found, "dead letter", &id)?;
        let (row, payload, room) = one(&state, &reading, row, true).await?;
        let dead_letter = DeadLetterOut::of_conflict(row, payload);
        let body = InspectedOut { dead_letter, attempts: Vec::new() };
        return Ok(Shown { body, room, behind: None });
    }
    let found = match id.parse::<MessageEndpointId>() {
        Ok(id) => reading.history.delivery_by_id(id).await.map_err(refused)?,
        Err(_) => None,
    };
    let found = found.filter(|row| row.standing.is_dead_letter());
    let found = found.filter(|row| belongs(&state, row.endpoint, &application));
    let mut row = reading.found(found, "dead letter", &id)?;
    let attempts = attempts(&state, &reading, &row).await?;
    let (message, payload, room) = one(&state, &reading, row.message, true).await?;
    row.message = message;
    let body = InspectedOut { dead_letter: DeadLetterOut::of(&state, row, payload), attempts };
    Ok(Shown { body, room, behind: reading.behind })
}

pub(super) fn belongs(state: &State, number: EndpointNumber, application: &Application) -> bool {
    let view = state.control().view();
    let present = view.endpoint_by_number(number).map(|endpoint| endpoint.application);
    let former = || view.former_endpoint(number).map(|former| former.application);
    present.or_else(former) == Some(application.id)
}

async fn attempts(state: &State, reading: &Reading, row: &DeliveryRow) -> Result<Vec<AttemptOut>, ApiError> {
    let filter = AttemptFilter { endpoint: Some(row.endpoint), ..AttemptFilter::default() };
    let window = Window::new(ATTEMPTS, None, true);
    let attempts = reading.history.attempts_of_message(&row.message, &filter, &window).await;
    let attempts = attempts.map_err(refused)?.items.into_iter();
    // Not those of another delivery of the same message, such as a replay.
    let its_own = attempts.filter(|attempt: &AttemptRow| attempt.offset == row.offset);
    let view = state.control().view();
    Ok(its_own.map(|attempt| AttemptOut::of(&view, attempt, true, false)).collect())
}
