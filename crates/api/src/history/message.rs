//! `GET /api/v1/app/{app_id}/msg` and one of them.

use axum::extract::State as Shared;
use fanfare_history::{DeliveryFilter, DeliveryRow, MessageRow, Page as Rows, Payload, Reach};
use fanfare_http::{ApiError, Authenticated, List, MemoryPermit, Order, Page, Path, Routes, Who};

use super::{
    answer::{HasMessage, Shown, list, with_payloads},
    filter::{Times, message_filter, status_class, window},
    message_out::MessageOut,
    reading::{Reading, at, refused},
    status::{STATUSES, Status},
};
use crate::{State, asked::Asked, endpoint::find, owner::EndpointPath};

pub(crate) fn routes() -> Routes<State> {
    Routes::new().get("/api/v1/app/{app_id}/msg", Who::Application, list_all).get(
        "/api/v1/app/{app_id}/msg/{msg_id}",
        Who::Application,
        read,
    )
}

/// The path of a message: the application's id or uid; the message's id or event id.
pub(crate) type MessagePath = Path<(String, String)>;

async fn list_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(app_id): Path<String>,
    page: Page,
    mut asked: Asked,
) -> Result<Shown<List<MessageOut>>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let (mut filter, times) = (message_filter(&mut asked), Times::read(&mut asked));
    let with_content = asked.flag("with_content").unwrap_or(true);
    let (endpoint, status) = (asked.one("endpoint"), asked.word("status", &STATUSES));
    let class = status_class(&mut asked);
    for (name, is_given) in [("status", status.is_some()), ("status_code_class", class.is_some())] {
        if is_given && endpoint.is_none() {
            asked.wrong(name, "needs `endpoint`: a message has one for each endpoint that it goes to");
        }
    }
    asked.finish()?;
    let Times { before, after } = times.check(&page, state.gate.clock().now())?;
    (filter.before, filter.after) = (before, after);
    let window = window(&page, Order::Descending);
    let Some(endpoint_id) = endpoint else {
        let reading = state.reading(Reach::Messages(application.partition)).await?;
        let rows = reading.history.messages(application.id, &filter, &window).await.map_err(refused)?;
        let (rows, room) = with_payloads(&state, &reading, rows, with_content, window.back).await?;
        let body = list(rows, |(row, payload)| MessageOut::of(row, payload));
        return Ok(Shown { body, room, behind: reading.behind });
    };
    let endpoint = find(&state, who, &EndpointPath::of(app_id, endpoint_id)).await?;
    let standings = status.map(Status::standings).unwrap_or_default();
    let filter = DeliveryFilter { message: filter, standings, class };
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    let rows = reading.history.deliveries_of_endpoint(at(&endpoint), &filter, &window).await;
    let rows = rows.map_err(refused)?;
    let (rows, room) = with_payloads(&state, &reading, rows, with_content, window.back).await?;
    let body = list(rows, |(row, payload)| MessageOut::of(row.message, payload));
    Ok(Shown { body, room, behind: reading.behind })
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id)): MessagePath,
    mut asked: Asked,
) -> Result<Shown<MessageOut>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let with_content = asked.flag("with_content").unwrap_or(true);
    asked.finish()?;
    // A repeat is known by its delivery record.
    let reading = state.reading(Reach::Messages(application.partition)).await?;
    let row = reading.message(&application, &msg_id).await?;
    let (row, payload, room) = one(&state, &reading, row, with_content).await?;
    Ok(Shown { body: MessageOut::of(row, payload), room, behind: None })
}

/// A single one with its payload.
pub(crate) async fn one(
    state: &State,
    reading: &Reading,
    row: MessageRow,
    with_content: bool,
) -> Result<(MessageRow, Option<Payload>, Option<MemoryPermit>), ApiError> {
    let page = Rows { items: vec![row], iterator: None, prev_iterator: None, done: true };
    let (mut page, room) = with_payloads(state, reading, page, with_content, false).await?;
    let (row, payload) = page.items.pop().expect("a page is not cut before its first row");
    Ok((row, payload, room))
}

impl HasMessage for DeliveryRow {
    fn message(&self) -> &MessageRow {
        &self.message
    }

    fn mark(&self) -> String {
        self.id.to_string()
    }
}
