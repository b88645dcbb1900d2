//! A batch as statements.

use bytes::Bytes;
use fanfare_core::{AttemptError, Timestamp, Trigger};

use super::{Changes, NewAttempt, NewMessage, State, encode_endpoints};
use crate::{
    keys::{MessageKey, application_key},
    store::{
        Kind::{self, Bytes as Blob, Int, Text},
        Statement, Target, Value,
    },
};

static MESSAGES: Target = Target {
    table: "messages",
    columns: &[
        ("message", Int),
        ("application", Int),
        ("id", Blob),
        ("kind", Int),
        ("event_type", Text),
        ("event_id", Text),
        ("channels", Text),
        ("tags", Text),
        ("ordering_key", Text),
        ("accepted_at", Int),
        ("deliver_at", Int),
        ("expires_at", Int),
        ("first", Blob),
    ],
    on_conflict: "ON CONFLICT (message) DO NOTHING",
};
static ROUTES: Target = Target {
    table: "routes",
    columns: &[("message", Int), ("part", Int), ("delivery", Int), ("endpoints", Blob)],
    on_conflict: "ON CONFLICT (message, part, delivery) DO NOTHING",
};
static ENDPOINTS: Target = Target {
    table: "endpoints",
    columns: &[("endpoint", Int), ("part", Int)],
    on_conflict: "ON CONFLICT (endpoint) DO NOTHING",
};
static DELIVERIES: Target = Target {
    table: "deliveries",
    columns: &[
        ("endpoint", Int),
        ("delivery", Int),
        ("message", Int),
        ("accepted", Int),
        ("standing", Int),
        ("attempts", Int),
        ("first_at", Int),
        ("last_at", Int),
        ("last_status", Int),
        ("settled_at", Int),
        ("due", Int),
        ("job", Int),
        ("shadow", Int),
    ],
    on_conflict: "ON CONFLICT (endpoint, delivery) DO UPDATE SET standing = excluded.standing, \
                  attempts = excluded.attempts, first_at = excluded.first_at, last_at = excluded.last_at, \
                  last_status = excluded.last_status, settled_at = excluded.settled_at, due = excluded.due, shadow = excluded.shadow",
};
static ATTEMPTS: Target = Target {
    table: "attempts",
    columns: &[
        ("endpoint", Int),
        ("answer", Int),
        ("tick", Int),
        ("delivery", Int),
        ("number", Int),
        ("message", Int),
        ("made_at", Int),
        ("duration", Int),
        ("status", Int),
        ("error", Int),
        ("manual", Int),
        ("due", Int),
        ("response", Blob),
        ("again", Int),
    ],
    on_conflict: "ON CONFLICT (endpoint, answer, tick, delivery, number) DO NOTHING",
};
static TALLIES: Target = Target {
    table: "tallies",
    columns: &[("endpoint", Int), ("hour", Int), ("what", Int), ("amount", Int)],
    on_conflict: "ON CONFLICT (endpoint, hour, what) DO UPDATE SET amount = tallies.amount + excluded.amount",
};
static MOMENTS: Target = Target {
    table: "moments",
    columns: &[
        ("topic", Int),
        ("part", Int),
        ("injected", Int),
        ("minute", Int),
        ("low", Int),
        ("high", Int),
    ],
    on_conflict: "ON CONFLICT (topic, part, injected, minute) DO UPDATE SET \
                  low = CASE WHEN excluded.low < moments.low THEN excluded.low ELSE moments.low END, \
                  high = CASE WHEN excluded.high > moments.high THEN excluded.high ELSE moments.high END",
};
static POSITIONS: Target = Target {
    table: "positions",
    columns: &[("topic", Int), ("part", Int), ("next", Int), ("state", Blob)],
    on_conflict: "ON CONFLICT (topic, part) DO UPDATE SET next = excluded.next, state = excluded.state",
};

impl Changes {
    pub(crate) fn into_statements(self) -> Vec<Statement> {
        let mut all = Vec::new();
        let mut insert = |into: &'static Target, values: Vec<Value>| {
            if !values.is_empty() {
                all.push(Statement::Insert { into, values });
            }
        };
        insert(&MESSAGES, self.messages.into_iter().flat_map(message).collect());
        let routes = self.routes.into_iter().flat_map(|((message, part, delivery), endpoints)| {
            [
                Value::Int(message.to_int()),
                Value::Int(part.0.into()),
                Value::offset(delivery),
                Value::Bytes(encode_endpoints(&endpoints)),
            ]
        });
        insert(&ROUTES, routes.collect());
        let endpoints = self.endpoints.into_iter();
        insert(
            &ENDPOINTS,
            endpoints.flat_map(|(e, part)| [Value::Int(e.0.into()), Value::Int(part.0.into())]).collect(),
        );
        let deliveries = self.deliveries.into_iter();
        insert(
            &DELIVERIES,
            deliveries.flat_map(|((e, offset), state)| delivery(e.0, offset, &state)).collect(),
        );
        let attempts = self.attempts.into_iter();
        insert(&ATTEMPTS, attempts.flat_map(|(key, new)| attempt(key, new)).collect());
        let tallies = self.tallies.into_iter().filter(|(_, amount)| *amount != 0);
        let tallies = tallies.flat_map(|((endpoint, hour, what), amount)| {
            [Value::Int(endpoint.0.into()), Value::Int(hour), Value::Int(what), Value::Int(amount)]
        });
        insert(&TALLIES, tallies.collect());
        let moments = self.moments.into_iter().flat_map(|((topic, part, injected, minute), span)| {
            [
                Value::Int(topic.code()),
                Value::Int(part.0.into()),
                Value::Int(injected.into()),
                Value::Int(minute),
                Value::offset(span.low),
                Value::offset(span.high),
            ]
        });
        insert(&MOMENTS, moments.collect());
        let positions = self.positions.into_iter().flat_map(|((topic, part), (next, state))| {
            [Value::Int(topic.code()), Value::Int(part.0.into()), Value::offset(next), Value::Bytes(state)]
        });
        insert(&POSITIONS, positions.collect());
        for (key, kind, first) in self.twins {
            let first = Bytes::copy_from_slice(first.as_bytes());
            all.push(Statement::Run {
                sql: "UPDATE messages SET kind = $1, first = $2 WHERE message = $3".to_owned(),
                values: vec![Value::Int(kind as i64), Value::Bytes(first), Value::Int(key.to_int())],
            });
        }
        for (endpoint, tick, delivery, number) in self.erased_answers {
            all.push(Statement::Run {
                sql: "UPDATE attempts SET response = NULL WHERE endpoint = $1 \
                      AND answer IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) AND tick = $2 AND delivery = $3 \
                      AND number = $4"
                    .to_owned(),
                values: vec![
                    Value::Int(endpoint.0.into()),
                    Value::Int(tick.0),
                    Value::offset(delivery),
                    Value::Int(number.into()),
                ],
            });
        }
        all
    }
}

fn message((key, new): (MessageKey, NewMessage)) -> [Value; 13] {
    let NewMessage { message, kind, first } = new;
    let id = Bytes::copy_from_slice(message.id.as_bytes());
    [
        Value::Int(key.to_int()),
        Value::Int(application_key(message.application)),
        Value::Bytes(id),
        Value::Int(kind as i64),
        Value::Text(message.event_type),
        text(message.event_id),
        texts(&message.channels),
        texts(&message.tags),
        text(message.ordering_key),
        Value::Int(message.accepted_at.as_micros()),
        time(message.deliver_at),
        time(message.payload_expires_at),
        first
            .map_or(Value::Null(Kind::Bytes), |first| Value::Bytes(Bytes::copy_from_slice(first.as_bytes()))),
    ]
}

fn delivery(endpoint: u32, offset: fanfare_core::Offset, state: &State) -> [Value; 13] {
    [
        Value::Int(endpoint.into()),
        Value::offset(offset),
        Value::Int(state.message.to_int()),
        Value::Int(state.accepted.0),
        Value::Int(state.standing.code()),
        Value::Int(state.attempts.into()),
        time(state.first_at),
        time(state.last_at),
        state.last_status.map_or(Value::Null(Int), |status| Value::Int(status.into())),
        state.settled_at.map_or(Value::Null(Int), |tick| Value::Int(tick.0)),
        time(state.due),
        state.job.map_or(Value::Null(Int), |job| Value::Int(job.cast_signed())),
        Value::Int(state.shadow as i64),
    ]
}

fn attempt(key: super::AttemptRowKey, new: NewAttempt) -> [Value; 14] {
    let (endpoint, answer, tick, delivery, number) = key;
    let NewAttempt { attempt, message, again } = new;
    let response =
        if attempt.response.is_empty() { Value::Null(Blob) } else { Value::Bytes(attempt.response) };
    [
        Value::Int(endpoint.0.into()),
        Value::Int(answer),
        Value::Int(tick.0),
        Value::offset(delivery),
        Value::Int(number.into()),
        Value::Int(message.to_int()),
        Value::Int(attempt.at.as_micros()),
        Value::Int(i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX)),
        Value::Int(attempt.status.into()),
        Value::Int(attempt.error.map_or(0, error_code)),
        Value::Int((attempt.trigger == Trigger::Manual).into()),
        time(attempt.due),
        response,
        Value::Int(again.into()),
    ]
}

/// Place in the list of errors, which only grows; 0 is none.
pub(super) fn error_code(error: AttemptError) -> i64 {
    let place = AttemptError::ALL.into_iter().position(|known| known == error);
    place.map_or(0, |place| i64::try_from(place + 1).expect("there are few"))
}

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null(Int), |at| Value::Int(at.as_micros()))
}

fn text(text: Option<String>) -> Value {
    text.map_or(Value::Null(Text), Value::Text)
}

fn texts(texts: &[String]) -> Value {
    if texts.is_empty() {
        return Value::Null(Text);
    }
    Value::Text(serde_json::to_string(texts).expect("texts are JSON"))
}
