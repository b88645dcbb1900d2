//! Attempts: of an endpoint, of a message, and one of them.

use axum::extract::State as Shared;
use fanfare_control::View;
use fanfare_core::{AttemptError, AttemptId, EndpointNumber, MessageId, Trigger, limits};
use fanfare_history::{AttemptFilter, AttemptRow, AttemptStatus, Page as Rows, Reach, Window};
use fanfare_http::{ApiError, Authenticated, List, Order, Page, Path, Routes, Who};
use serde::Serialize;

use super::{
    answer::{Shown, list},
    filter::{Times, message_filter, status_class, window},
    message::MessagePath,
    message_out::MessageOut,
    reading::{at, refused},
    status::{STATUSES, Status},
};
use crate::{State, application::shown, asked::Asked, endpoint::find, owner::EndpointPath};

pub(crate) fn routes() -> Routes<State> {
    Routes::new()
        .get("/api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}", Who::Application, of_endpoint)
        .get("/api/v1/app/{app_id}/attempt/msg/{msg_id}", Who::Application, of_message)
        .get("/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", Who::Application, read)
        // As former clients ask.
        .get("/api/v1/app/{app_id}/msg/{msg_id}/attempt", Who::Application, of_message)
        .get(
            "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt",
            Who::Application,
            of_message_and_endpoint,
        )
}

/// An attempt as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptOut {
    id: AttemptId,
    url: String,
    response: String,
    response_status_code: u16,
    response_duration_ms: u64,
    status: u8,
    status_text: &'static str,
    trigger_type: u8,
    msg_id: MessageId,
    endpoint_id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageOut>,
    // Ours.
    attempt_number: u32,
    /// Why there is no 2xx.
    error: Option<&'static str>,
    /// When another was to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<String>,
}

impl AttemptOut {
    pub(crate) fn of(view: &View, row: AttemptRow, with_content: bool, with_msg: bool) -> Self {
        let status = match row.status {
            AttemptStatus::Delivered => Status::Success,
            // This one did, whatever comes after it.
            AttemptStatus::Retrying | AttemptStatus::Failed => Status::Fail,
        };
        let (endpoint_id, url) = match view.endpoint_by_number(row.endpoint) {
            Some(endpoint) => (endpoint.id.to_string(), endpoint.settings.url.clone()),
            None => (former_id(view, row.endpoint), String::new()),
        };
        Self {
            id: row.id,
            url,
            response: if with_content { response(&row) } else { "{}".to_owned() },
            response_status_code: row.http_status,
            response_duration_ms: u64::try_from(row.duration.as_millis()).unwrap_or(u64::MAX),
            status: status.number(),
            status_text: status.text(),
            trigger_type: match row.trigger {
                Trigger::Scheduled => 0,
                Trigger::Manual => 1,
            },
            msg_id: row.message.id,
            endpoint_id,
            timestamp: shown(row.at),
            attempt_number: row.number,
            error: row.error.map(AttemptError::as_str),
            next_attempt: row.due.map(shown),
            msg: with_msg.then(|| MessageOut::of(row.message, None)),
        }
    }
}

/// Empty for one that is forgotten.
pub(crate) fn former_id(view: &View, number: EndpointNumber) -> String {
    view.former_endpoint(number).map(|former| former.id.to_string()).unwrap_or_default()
}

/// What was answered; where nothing was, why not.
fn response(row: &AttemptRow) -> String {
    match row.error {
        Some(error) if row.http_status == 0 => format!("no answer: {}", error.as_str()),
        _ => {
            let end = row.response.len().min(limits::RESPONSE_SHOWN_BYTES);
            String::from_utf8_lossy(&row.response[..end]).into_owned()
        }
    }
}

/// What is asked of a list of attempts.
struct Listed {
    filter: AttemptFilter,
    window: Window,
    with_content: bool,
    with_msg: bool,
    /// No attempt is ever shown so.
    nothing: bool,
    endpoint_id: Option<String>,
}

impl Listed {
    fn read(state: &State, page: &Page, mut asked: Asked) -> Result<Self, ApiError> {
        let message = message_filter(&mut asked);
        let times = Times::read(&mut asked);
        let status = asked.word("status", &STATUSES);
        let class = status_class(&mut asked);
        // There is nothing to expand: what is cancelled was not attempted.
        asked.flag("expanded_statuses");
        let with_content = asked.flag("with_content").unwrap_or(true);
        let with_msg = asked.flag("with_msg").unwrap_or(false);
        let endpoint_id = asked.one("endpoint_id");
        asked.finish()?;
        let Times { before, after } = times.check(page, state.gate.clock().now())?;
        let (statuses, nothing) = match status {
            None => (Vec::new(), false),
            Some(Status::Success) => (vec![AttemptStatus::Delivered], false),
            Some(Status::Fail) => (vec![AttemptStatus::Retrying, AttemptStatus::Failed], false),
            Some(Status::Pending | Status::Sending | Status::Canceled) => (Vec::new(), true),
        };
        let filter = AttemptFilter { message, statuses, class, endpoint: None, before, after };
        let window = window(page, Order::Descending);
        Ok(Self { filter, window, with_content, with_msg, nothing, endpoint_id })
    }

    fn show(&self, state: &State, rows: Rows<AttemptRow>) -> List<AttemptOut> {
        let view = state.control().view();
        list(rows, |row| AttemptOut::of(&view, row, self.with_content, self.with_msg))
    }
}

async fn of_endpoint(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    page: Page,
    asked: Asked,
) -> Result<Shown<List<AttemptOut>>, ApiError> {
    let endpoint = find(&state, who, &path).await?;
    let listed = Listed::read(&state, &page, asked)?;
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    if listed.nothing {
        return Ok(Shown { body: listed.show(&state, nothing()), room: None, behind: reading.behind });
    }
    let rows = reading.history.attempts_of_endpoint(at(&endpoint), &listed.filter, &listed.window).await;
    let body = listed.show(&state, rows.map_err(refused)?);
    Ok(Shown { body, room: None, behind: reading.behind })
}

async fn of_message(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id)): MessagePath,
    page: Page,
    asked: Asked,
) -> Result<Shown<List<AttemptOut>>, ApiError> {
    let mut listed = Listed::read(&state, &page, asked)?;
    let endpoint_id = listed.endpoint_id.take();
    attempts(&state, who, (app_id, msg_id), endpoint_id, listed).await
}

async fn of_message_and_endpoint(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id, endpoint_id)): Path<(String, String, String)>,
    page: Page,
    asked: Asked,
) -> Result<Shown<List<AttemptOut>>, ApiError> {
    let listed = Listed::read(&state, &page, asked)?;
    attempts(&state, who, (app_id, msg_id), Some(endpoint_id), listed).await
}

async fn attempts(
    state: &State,
    who: Authenticated,
    (app_id, msg_id): (String, String),
    endpoint_id: Option<String>,
    mut listed: Listed,
) -> Result<Shown<List<AttemptOut>>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let reach = match endpoint_id {
        Some(endpoint_id) => {
            let endpoint = find(state, who, &EndpointPath::of(app_id, endpoint_id)).await?;
            listed.filter.endpoint = Some(endpoint.number);
            Reach::Endpoints(endpoint.partition)
        }
        None => Reach::Everything,
    };
    let reading = state.reading(reach).await?;
    let message = reading.message(&application, &msg_id).await?;
    let rows = if listed.nothing {
        nothing()
    } else {
        let rows = reading.history.attempts_of_message(&message, &listed.filter, &listed.window).await;
        rows.map_err(refused)?
    };
    Ok(Shown { body: listed.show(state, rows), room: None, behind: reading.behind })
}

fn nothing<T>() -> Rows<T> {
    Rows { items: Vec::new(), iterator: None, prev_iterator: None, done: true }
}

/// The path of an attempt: the application's id or uid, the message's id or event id, the attempt's id.
pub(super) type AttemptPath = Path<(String, String, String)>;

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: AttemptPath,
    mut asked: Asked,
) -> Result<Shown<AttemptOut>, ApiError> {
    let with_content = asked.flag("with_content").unwrap_or(true);
    asked.flag("expanded_statuses");
    asked.finish()?;
    let row = find_attempt(&state, who, path).await?;
    let body = AttemptOut::of(&state.control().view(), row, with_content, false);
    Ok(Shown { body, room: None, behind: None })
}

pub(super) async fn find_attempt(
    state: &State,
    who: Authenticated,
    Path((app_id, msg_id, attempt_id)): AttemptPath,
) -> Result<AttemptRow, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let reading = state.reading(Reach::Everything).await?;
    let message = reading.message(&application, &msg_id).await?;
    let found = match attempt_id.parse::<AttemptId>() {
        Ok(id) => reading.history.attempt(id).await.map_err(refused)?,
        Err(_) => None,
    };
    let found = found.filter(|attempt| attempt.message.key == message.key);
    reading.found(found, "attempt", &attempt_id)
}
