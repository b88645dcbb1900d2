//! `GET …/endpoint/{endpoint_id}/msg`: the messages of an endpoint, and how each stands there.

use axum::extract::State as Shared;
use fanfare_core::MessageEndpointId;
use fanfare_history::{DeliveryFilter, DeliveryRow, Payload, Reach};
use fanfare_http::{ApiError, Authenticated, List, Order, Page, Routes, Who};
use serde::Serialize;

use super::{
    answer::{Shown, list, with_payloads},
    filter::{Times, message_filter, status_class, window},
    message_out::MessageOut,
    reading::{at, refused},
    status::{STATUSES, Status, standing_word},
};
use crate::{State, application::shown, asked::Asked, endpoint::find, owner::EndpointPath};

pub(crate) fn routes() -> Routes<State> {
    let path = "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg";
    Routes::new().get(path, Who::Application, list_all)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointMessageOut {
    #[serde(flatten)]
    message: MessageOut,
    #[serde(flatten)]
    standing: StandingOut,
}

/// How a delivery stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StandingOut {
    status: u8,
    status_text: &'static str,
    next_attempt: Option<String>,
    // Ours.
    delivery_id: MessageEndpointId,
    /// `pending`, `retrying`, or how it was settled.
    standing: &'static str,
    attempts: u32,
    /// 0 where no answer came; null where none was asked for.
    last_status_code: Option<u16>,
    settled_at: Option<String>,
}

impl StandingOut {
    pub(crate) fn of(row: &DeliveryRow, expanded: bool) -> Self {
        let status = Status::of(row.standing).shown(expanded);
        Self {
            status: status.number(),
            status_text: status.text(),
            next_attempt: row.due.map(shown),
            delivery_id: row.id,
            standing: standing_word(row.standing),
            attempts: row.attempts,
            last_status_code: row.last_status,
            settled_at: row.settled_at.map(shown),
        }
    }
}

impl EndpointMessageOut {
    fn of(row: DeliveryRow, payload: Option<Payload>, expanded: bool) -> Self {
        Self { standing: StandingOut::of(&row, expanded), message: MessageOut::of(row.message, payload) }
    }
}

async fn list_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    page: Page,
    mut asked: Asked,
) -> Result<Shown<List<EndpointMessageOut>>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let (mut message, times) = (message_filter(&mut asked), Times::read(&mut asked));
    let status = asked.word("status", &STATUSES);
    let class = status_class(&mut asked);
    let with_content = asked.flag("with_content").unwrap_or(true);
    let expanded = asked.flag("expanded_statuses").unwrap_or(false);
    asked.finish()?;
    let Times { before, after } = times.check(&page, state.gate.clock().now())?;
    (message.before, message.after) = (before, after);
    let standings = status.map(Status::standings).unwrap_or_default();
    let filter = DeliveryFilter { message, standings, class };
    let mut window = window(&page, Order::Descending);
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    // Clients may go on behind a message that they know from elsewhere.
    if let Some(mark) = window.mark.as_deref().filter(|mark| mark.starts_with("msg_")) {
        let known = reading.history.message(endpoint.application, mark).await.map_err(refused)?;
        if let Some(message) = known {
            let delivery = reading.history.delivery(&message, at(&endpoint)).await.map_err(refused)?;
            window.mark = delivery.map(|delivery| delivery.id.to_string()).or(window.mark);
        }
    }
    let rows = reading.history.deliveries_of_endpoint(at(&endpoint), &filter, &window).await;
    let rows = rows.map_err(refused)?;
    let (rows, room) = with_payloads(&state, &reading, rows, with_content, window.back).await?;
    let body = list(rows, |(row, payload)| EndpointMessageOut::of(row, payload, expanded));
    Ok(Shown { body, room, behind: reading.behind })
}
