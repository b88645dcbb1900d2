//! What lists may be asked for.

use fanfare_core::{Timestamp, limits};
use fanfare_history::{MessageFilter, Pointer, StatusClass, Window};
use fanfare_http::{ApiError, NAME_FORM, Order, Page, is_name};
use http::StatusCode;
use serde_json::Value;

use crate::asked::Asked;

/// What a class of statuses may be.
pub(crate) const STATUS_CLASS: &str = "must be 0, 100, 200, 300, 400 or 500";

/// `before` and `after`, or whatever a route calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) before: Option<Timestamp>,
    pub(crate) after: Option<Timestamp>,
}

impl Times {
    pub(crate) fn read(asked: &mut Asked) -> Self {
        Self { before: asked.time("before"), after: asked.time("after") }
    }

    /// 400 where nothing can lie between them. Without an iterator a list goes back 90 days.
    pub(crate) fn check(self, page: &Page, now: Timestamp) -> Result<Self, ApiError> {
        let Self { before, after } = self;
        if let (Some(before), Some(after)) = (before, after)
            && after >= before
        {
            return Err(invalid_range("`after` must be earlier than `before`"));
        }
        let from_here = || before.unwrap_or(now) - limits::HISTORY_WINDOW;
        let after = if page.iterator.is_none() { after.or_else(|| Some(from_here())) } else { after };
        Ok(Self { before, after })
    }
}

/// `since` and `until` of statistics: at most 28 days, the last ones unless told otherwise.
pub(crate) fn stats_range(asked: &mut Asked, now: Timestamp) -> Result<(Timestamp, Timestamp), ApiError> {
    let (since, until) = (asked.time("since"), asked.time("until"));
    let most = limits::STATS_RANGE;
    let until = until.unwrap_or_else(|| since.map_or(now, |since| now.min(since + most)));
    let since = since.unwrap_or(until - most);
    check_range(since, until)?;
    if until.since(since) > most {
        return Err(invalid_range("`since` and `until` must be at most 28 days apart"));
    }
    Ok((since, until))
}

/// 400 unless there is time between them.
pub(crate) fn check_range(since: Timestamp, until: Timestamp) -> Result<(), ApiError> {
    if since < until { Ok(()) } else { Err(invalid_range("`since` must be earlier than `until`")) }
}

fn invalid_range(detail: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_range", detail)
}

/// What is wanted of messages, but for their times.
pub(crate) fn message_filter(asked: &mut Asked) -> MessageFilter {
    let event_types = asked.all("event_types");
    let (count, most) = (limits::EVENT_TYPES_PER_ENDPOINT, limits::EVENT_TYPE_CHARACTERS);
    if event_types.len() > count {
        asked.wrong("event_types", format_args!("must be at most {count}"));
    } else if event_types.iter().any(|name| !is_name(name, most)) {
        asked.wrong("event_types", format_args!("must each be 1 to {most} characters: {NAME_FORM}"));
    }
    MessageFilter {
        event_types,
        channel: name(asked, "channel"),
        tag: name(asked, "tag"),
        before: None,
        after: None,
        payload: pointer(asked),
    }
}

/// `status_code_class`: of an attempt's answer, or of the last one of a delivery.
pub(crate) fn status_class(asked: &mut Asked) -> Option<StatusClass> {
    let class = asked.one("status_code_class")?.parse().ok().and_then(StatusClass::new);
    if class.is_none() {
        asked.wrong("status_code_class", STATUS_CLASS);
    }
    class
}

fn name(asked: &mut Asked, parameter: &str) -> Option<String> {
    let most = limits::CHANNEL_CHARACTERS;
    let name = asked.one(parameter)?;
    if !is_name(&name, most) {
        asked.wrong(parameter, format_args!("must be 1 to {most} characters: {NAME_FORM}"));
    }
    Some(name)
}

/// `pointer` names a place in the payload and `value` what must stand there: JSON, or else a text.
fn pointer(asked: &mut Asked) -> Option<Pointer> {
    let (pointer, value) = (asked.one("pointer"), asked.one("value"));
    match (pointer, value) {
        (None, None) => None,
        (Some(pointer), Some(value)) => {
            if !pointer.starts_with('/') {
                asked.wrong("pointer", "must be a JSON pointer such as /invoice/id");
            }
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            Some(Pointer { pointer, value })
        }
        (Some(_), None) => {
            asked.wrong("value", "is required beside `pointer`: what must stand there");
            None
        }
        (None, Some(_)) => {
            asked.wrong("pointer", "is required beside `value`: a JSON pointer such as /invoice/id");
            None
        }
    }
}

/// The page that is wanted of a list.
pub(crate) fn window(page: &Page, default_order: Order) -> Window {
    let descending = page.order.unwrap_or(default_order) == Order::Descending;
    Window::new(page.limit, page.iterator.as_deref(), descending)
}
