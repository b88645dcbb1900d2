//! `POST /api/v1/app/{app_id}/msg/batch`: many messages by one request, with an answer for each.
//!
//! ```text
//! request := {"messages": [message, …], "application": {…}?}
//! message := as when it is sent alone, and "idempotencyKey"?
//! answer  := {"data": [{"status": 202, "message": {…}} | {"status": 409, "error": {…}}, …]}
//! ```
//!
//! Answers stand in the order of the messages, and so do the messages in the log; all that are new are one append.
//! Each has its own claims. A key of the whole request stands, with its place, for every message that has none, so
//! that a request that is sent again takes in nothing twice. Where nothing was taken in, and the same request may be
//! sent again, the answer is that one error and no list.

use std::{fmt, sync::Arc};

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use fanfare_control::Application;
use fanfare_core::{Timestamp, limits};
use fanfare_http::{
    ApiError, ApplicationIn, Authenticated, FieldError, MemoryPermit, Path, Query, application_or_new,
    check_idempotency_key, idempotency_key, parse_json, read_body, require_json,
};
use http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    Accepted, Publish, State,
    http::{Shown, answer, extract},
    publish::{self, Parsed},
    trace::traceparent,
};

/// Messages parsed before others on this thread have their turn.
const PARSED_AT_ONCE: usize = 32;

#[derive(Deserialize)]
struct Options {
    /// Nobody needs thousands of payloads back; who does says so.
    #[serde(default)]
    with_content: bool,
}

#[derive(Deserialize)]
struct BatchIn<'a> {
    #[serde(borrow)]
    messages: Option<Messages<'a>>,
    /// To be created if it does not exist.
    application: Option<ApplicationIn>,
}

/// As many as there may be, and how many there are: a list of millions is not kept.
struct Messages<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Messages<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Messages<'de>, A::Error> {
        let mut messages = Messages { first: Vec::new(), count: 0 };
        while messages.count < limits::BATCH_MESSAGES
            && let Some(message) = items.next_element()?
        {
            messages.first.push(message);
            messages.count += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            messages.count += 1;
        }
        Ok(messages)
    }
}

/// What a message of a batch says that one alone says elsewhere.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Beside {
    idempotency_key: Option<String>,
}

/// A message that may be taken in, and what its answer shows.
struct Read {
    message: crate::MessageIn,
    idempotency_key: Option<String>,
    payload_value: Bytes,
}

pub(crate) async fn create_messages(
    axum::extract::State(state): axum::extract::State<State>,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = take_in(&state, request).await;
    if let Err(error) = &answer {
        state.ingest.count_refused(error.code());
    }
    answer
}

/// The same order as for one message: application, rate, size, form, idempotency, append.
async fn take_in(state: &State, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let who = Authenticated::of(&parts.extensions)?;
    let Path(app_id) = extract::<Path<String>>(&mut parts, state).await?;
    let Query(options) = extract::<Query<Options>>(&mut parts, state).await?;
    let key = idempotency_key(&parts.headers)?.map(str::to_owned);
    require_json(&parts.headers)?;
    let application = who.application(&state.gate, &app_id).await;
    let credential = &who.access().credential;
    let mut standing = state.rates.admit(credential, application.as_deref().ok())?;
    let body_bytes = state.body_bytes.min(limits::BODY_BYTES_MAX);
    let body = read_body(body, limits::BATCH_BYTES.max(body_bytes), state.gate.memory()).await?;
    let batch: BatchIn<'_> = parse_json(&body.bytes)?;
    let messages = checked(batch.messages)?;
    let deliver_by = state.deliver_by();
    let mut read = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        if index % PARSED_AT_ONCE == PARSED_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        read.push(read_message(index, message, (body_bytes, deliver_by), key.as_deref()));
    }
    let wanted = batch.application;
    drop(body.bytes);
    let application = match wanted {
        Some(wanted) => application_or_new(&state.gate, who, &app_id, wanted, application).await?,
        None => application?,
    };
    let further = u32::try_from(read.len() - 1).expect("a batch is small");
    if further > 0 {
        standing = state.rates.charge(credential, &application, further);
    }
    let memory = Arc::new(body.permit);
    let entries = publish_all(state, &application, read, traceparent(&parts.headers), &memory).await?;
    let mut answer = answer(write(&entries, options.with_content), memory);
    standing.write(answer.headers_mut());
    Ok(answer)
}

/// 422 unless it is a list of 1 to 500 objects.
fn checked(messages: Option<Messages<'_>>) -> Result<Vec<&RawValue>, ApiError> {
    let most = limits::BATCH_MESSAGES;
    let messages = messages.unwrap_or(Messages { first: Vec::new(), count: 0 });
    if !(1..=most).contains(&messages.count) {
        return Err(ApiError::invalid_field("messages", format!("must be 1 to {most} messages")));
    }
    let wrong = messages.first.iter().position(|message| !message.get().starts_with('{'));
    if let Some(index) = wrong {
        let place = ["messages".to_owned(), index.to_string()];
        return Err(ApiError::invalid(vec![FieldError::body(place, "must be a JSON object")]));
    }
    Ok(messages.first)
}

/// One message, with errors that name its place.
fn read_message(
    index: usize,
    message: &RawValue,
    (body_bytes, deliver_by): (usize, Timestamp),
    key_of_request: Option<&str>,
) -> Result<Read, ApiError> {
    // Bytes of its own: a payload that somebody keeps for a while must not keep all the others alive.
    let text = Bytes::copy_from_slice(message.get().as_bytes());
    if text.len() > body_bytes {
        return Err(ApiError::too_large(body_bytes));
    }
    let mut read =
        parse(&text, deliver_by).map_err(|error| error.below(&["messages".to_owned(), index.to_string()]))?;
    if let (None, Some(key)) = (&read.idempotency_key, key_of_request) {
        // No key of a message has a blank.
        read.idempotency_key = Some(format!("{key} {index}"));
    }
    Ok(read)
}

fn parse(text: &Bytes, deliver_by: Timestamp) -> Result<Read, ApiError> {
    let Beside { idempotency_key } = parse_json(text)?;
    if let Some(key) = &idempotency_key {
        check_idempotency_key(key).map_err(|wrong| ApiError::invalid_field("idempotencyKey", wrong))?;
    }
    let Parsed { message, payload_value, application } = publish::parse(text, deliver_by)?;
    if application.is_some() {
        return Err(ApiError::invalid_field("application", "stands beside `messages`, once for all"));
    }
    Ok(Read { message, idempotency_key, payload_value })
}

/// What became of a message.
enum Entry {
    Taken { shown: Shown, accepted: Accepted, payload_value: Bytes },
    Refused(ApiError),
}

async fn publish_all(
    state: &State,
    application: &Arc<Application>,
    read: Vec<Result<Read, ApiError>>,
    traceparent: Option<String>,
    memory: &Arc<MemoryPermit>,
) -> Result<Vec<Entry>, ApiError> {
    let mut publishes = Vec::with_capacity(read.len());
    let mut shown = Vec::with_capacity(read.len());
    for read in read {
        shown.push(read.map(|Read { message, idempotency_key, payload_value }| {
            let shown = Shown::of(&message, &state.ingest);
            publishes.push(Publish {
                application: Arc::clone(application),
                message,
                idempotency_key,
                traceparent: traceparent.clone(),
                memory: Some(Arc::clone(memory)),
            });
            (shown, payload_value)
        }));
    }
    let mut outcomes = state.ingest.accept_batch(publishes).await?.into_iter();
    let entries: Vec<Entry> = shown
        .into_iter()
        .map(|shown| match shown {
            Err(error) => Entry::Refused(error),
            Ok((shown, payload_value)) => match outcomes.next().expect("each message has its outcome") {
                Ok(accepted) => Entry::Taken { shown, accepted, payload_value },
                Err(error) => Entry::Refused(error.into()),
            },
        })
        .collect();
    let mut refused = entries.iter().filter_map(|entry| match entry {
        Entry::Refused(error) => Some(error),
        Entry::Taken { .. } => None,
    });
    let nothing_taken = refused.clone().count() == entries.len();
    if nothing_taken && let Some(error) = refused.find(|error| is_passing(error)) {
        return Err(error.clone());
    }
    for entry in &entries {
        // Those that met what stands in the log were counted where they met it.
        if let Entry::Refused(error) = entry
            && error.status() != StatusCode::CONFLICT
        {
            state.ingest.count_refused(error.code());
        }
    }
    Ok(entries)
}

/// The same request may do better later.
fn is_passing(error: &ApiError) -> bool {
    error.status() == StatusCode::SERVICE_UNAVAILABLE
}

fn write(entries: &[Entry], with_content: bool) -> Vec<u8> {
    let mut out = br#"{"data":["#.to_vec();
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match entry {
            Entry::Taken { shown, accepted, payload_value } => {
                let payload = if with_content { &payload_value[..] } else { b"{}" };
                out.extend_from_slice(br#"{"status":202,"message":"#);
                out.extend_from_slice(&shown.write(*accepted, payload));
            }
            Entry::Refused(error) => {
                let status = error.status().as_u16();
                out.extend_from_slice(
                    format!(r#"{{"status":{status},"error":{}"#, error.problem()).as_bytes(),
                );
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}
