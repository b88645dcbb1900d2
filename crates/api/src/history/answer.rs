//! Pages and other answers, with payloads as far as they were asked for.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use fanfare_core::limits;
use fanfare_history::{MessageRow, Page, Payload};
use fanfare_http::{ApiError, List, MemoryPermit, holding_answer};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use super::reading::{Reading, refused};
use crate::State;

/// Seconds by which the history is behind what was acknowledged; only where it is.
const BEHIND: HeaderName = HeaderName::from_static("fanfare-history-behind");

/// What clients are given of one or of many.
pub(crate) struct Shown<T> {
    pub(crate) body: T,
    /// What its payloads take.
    pub(crate) room: Option<MemoryPermit>,
    pub(crate) behind: Option<Duration>,
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let json = serde_json::to_vec(&self.body).expect("texts, numbers and lists of them become JSON");
        let body = match self.room {
            Some(room) => holding_answer(json, Arc::new(room)),
            None => Body::from(json),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(behind) = self.behind {
            headers.insert(BEHIND, HeaderValue::from(behind.as_secs().max(1)));
        }
        response
    }
}

/// A page as clients parse it.
pub(crate) fn list<T, U>(page: Page<T>, show: impl FnMut(T) -> U) -> List<U> {
    let Page { items, iterator, prev_iterator, done } = page;
    List { data: items.into_iter().map(show).collect(), iterator, prev_iterator, done }
}

/// Something of a list that brings a message.
pub(crate) trait HasMessage {
    fn message(&self) -> &MessageRow;
    /// By which the list goes on behind it.
    fn mark(&self) -> String;
}

impl HasMessage for MessageRow {
    fn message(&self) -> &MessageRow {
        self
    }

    fn mark(&self) -> String {
        self.id.to_string()
    }
}

/// Rows with the payloads of their messages; none where none were asked for.
pub(crate) type WithPayloads<T> = (Page<(T, Option<Payload>)>, Option<MemoryPermit>);

/// Reads the payloads of a page. It is cut short where they would be too much at once; `back`: at its beginning, since
/// it was asked for from its end.
pub(crate) async fn with_payloads<T: HasMessage>(
    state: &State,
    reading: &Reading,
    mut page: Page<T>,
    wanted: bool,
    back: bool,
) -> Result<WithPayloads<T>, ApiError> {
    if !wanted || page.items.is_empty() {
        return Ok((page.map(|item| (item, None)), None));
    }
    // What was erased elsewhere is not shown here.
    state.control().fresh().await?;
    // Once as they are read, and once more in the answer.
    let mut room = state.gate.memory().reserve(2 * limits::PAGE_PAYLOAD_BYTES).await?;
    let mut rows: Vec<&MessageRow> = page.items.iter().map(HasMessage::message).collect();
    if back {
        rows.reverse();
    }
    let payloads = reading.history.payloads(&rows, limits::PAGE_PAYLOAD_BYTES).await;
    let mut payloads = payloads.map_err(refused)?;
    room.shrink_to(2 * payloads.iter().map(Payload::size_bytes).sum::<usize>());
    let cut = page.items.len() - payloads.len();
    if back {
        payloads.reverse();
        page.items.drain(..cut);
    } else {
        page.items.truncate(payloads.len());
    }
    if cut > 0 {
        page.done = false;
        if back {
            page.prev_iterator = page.items.first().map(|first| format!("-{}", first.mark()));
        } else {
            page.iterator = page.items.last().map(HasMessage::mark);
        }
    }
    let mut payloads = payloads.into_iter();
    Ok((page.map(|item| (item, payloads.next())), Some(room)))
}
