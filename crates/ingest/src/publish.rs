//! The body of a publish.

use std::ops::RangeInclusive;

use bytes::Bytes;
use fanfare_core::{EndpointNumber, Timestamp, limits};
use fanfare_http::{ApiError, ApplicationIn, FieldError, Fields, NAME_FORM, is_name, parse_json};
use serde::Deserialize;
use serde_json::value::RawValue;

const EVENT_ID_CHARACTERS: usize = 256;
const TAG_CHARACTERS: usize = 128;
const RETENTION_DAYS: RangeInclusive<i64> = 5..=90;
/// For who asks for hours.
const RETENTION_HOURS: RangeInclusive<i64> = 1..=2_160;
/// 90 days.
const RETENTION_HOURS_DEFAULT: u32 = 2_160;

/// A message as a producer sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageIn {
    pub event_type: String,
    pub event_id: Option<String>,
    /// At most 5, each once.
    pub channels: Vec<String>,
    pub ordering_key: Option<String>,
    pub tags: Vec<String>,
    /// As it was asked for; the log may keep it for less.
    pub payload_retention_hours: u32,
    /// Not to be delivered before.
    pub deliver_at: Option<Timestamp>,
    /// For this endpoint and no other.
    pub only_for: Option<EndpointNumber>,
    /// What is delivered: the bytes of the value exactly as they stood in the body (or `rawPayload`).
    pub payload: Bytes,
}

impl MessageIn {
    /// A message of which all but the payload came beside the payload, as in a record of Kafka. 422 names what is wrong.
    pub fn from_parts(
        event_type: String,
        ordering_key: Option<String>,
        value: &Bytes,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::default();
        check_name(&mut fields, "eventType", &event_type, limits::EVENT_TYPE_CHARACTERS);
        check_ordering_key(&mut fields, ordering_key.as_deref());
        let payload = serde_json::from_slice::<&RawValue>(value).map(RawValue::get);
        match payload {
            Ok(payload) => {
                fields.check(payload.starts_with('{'), "payload", "must be a JSON object");
                check_depth(&mut fields, payload);
            }
            Err(ref error) => fields.wrong("payload", format_args!("must be a JSON object: {error}")),
        }
        fields.finish()?;
        Ok(Self {
            event_type,
            event_id: None,
            channels: Vec::new(),
            ordering_key,
            tags: Vec::new(),
            payload_retention_hours: RETENTION_HOURS_DEFAULT,
            deliver_at: None,
            only_for: None,
            payload: value.slice_ref(payload.expect("an error was noted above").as_bytes()),
        })
    }
}

/// A body with what is used of it before and after the message itself.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) message: MessageIn,
    /// The value of `payload`, to be shown in the answer.
    pub(crate) payload_value: Bytes,
    /// To be created if it does not exist.
    pub(crate) application: Option<ApplicationIn>,
}

/// Unknown fields are ignored: clients send some that are not for us. A field given twice is an error, since
/// nobody could say which of the two was meant.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    event_type: Option<String>,
    #[serde(borrow, alias = "data")]
    payload: Option<&'a RawValue>,
    event_id: Option<String>,
    channels: Option<Vec<String>>,
    ordering_key: Option<String>,
    tags: Option<Vec<String>>,
    /// Days.
    payload_retention_period: Option<i64>,
    payload_retention_hours: Option<i64>,
    deliver_at: Option<String>,
    transformations_params: Option<TransformationsParams>,
    application: Option<ApplicationIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransformationsParams {
    raw_payload: Option<String>,
}

/// In hours, however it was given.
fn retention(fields: &mut Fields, days: Option<i64>, hours: Option<i64>) -> u32 {
    if let Some(days) = days {
        fields.check(RETENTION_DAYS.contains(&days), "payloadRetentionPeriod", "must be 5 to 90 days");
    }
    if let Some(hours) = hours {
        let (least, most) = (RETENTION_HOURS.start(), RETENTION_HOURS.end());
        fields.check(
            RETENTION_HOURS.contains(&hours),
            "payloadRetentionHours",
            format_args!("must be {least} to {most} hours"),
        );
        fields.check(
            days.is_none(),
            "payloadRetentionHours",
            "goes not together with `payloadRetentionPeriod`",
        );
    }
    let hours = hours.or_else(|| days.and_then(|days| days.checked_mul(24)));
    hours.and_then(|hours| u32::try_from(hours).ok()).unwrap_or(RETENTION_HOURS_DEFAULT)
}

/// Parses and checks a body; 422 names all that is wrong. No message waits for a time after `deliver_by`.
pub(crate) fn parse(body: &Bytes, deliver_by: Timestamp) -> Result<Parsed, ApiError> {
    let wire: Wire<'_> = parse_json(body)?;
    let mut fields = Fields::default();
    let event_type = wire.event_type.unwrap_or_default();
    check_name(&mut fields, "eventType", &event_type, limits::EVENT_TYPE_CHARACTERS);
    if let Some(event_id) = &wire.event_id {
        check_name(&mut fields, "eventId", event_id, EVENT_ID_CHARACTERS);
    }
    let channels = distinct(wire.channels.as_deref().unwrap_or_default(), limits::CHANNELS_PER_MESSAGE);
    check_channels(&mut fields, wire.channels.is_some(), &channels);
    let tags = distinct(wire.tags.as_deref().unwrap_or_default(), limits::TAGS_PER_MESSAGE);
    check_tags(&mut fields, &tags);
    check_ordering_key(&mut fields, wire.ordering_key.as_deref());
    let retention = retention(&mut fields, wire.payload_retention_period, wire.payload_retention_hours);
    let deliver_at = wire.deliver_at.as_deref().map(str::parse::<Timestamp>);
    match deliver_at {
        Some(Err(_)) => fields.wrong("deliverAt", "must be a time such as 2026-01-31T12:00:00Z"),
        Some(Ok(at)) if at > deliver_by => fields.wrong(
            "deliverAt",
            format_args!(
                "must not be later than {deliver_by}: a message waits for at most half the retention"
            ),
        ),
        Some(Ok(_)) | None => {}
    }
    // A JSON text begins with its value: the parser has skipped the white space.
    let payload = wire.payload.map(RawValue::get).filter(|value| value.starts_with('{'));
    fields.check(payload.is_some(), "payload", "is required and must be a JSON object");
    check_depth(&mut fields, payload.unwrap_or_default());
    fields.finish()?;

    let payload_value = kept(body, payload.expect("its absence was noted above").as_bytes());
    let raw_payload = wire.transformations_params.and_then(|params| params.raw_payload);
    Ok(Parsed {
        message: MessageIn {
            event_type,
            event_id: wire.event_id,
            channels,
            ordering_key: wire.ordering_key,
            tags,
            payload_retention_hours: retention,
            deliver_at: deliver_at.and_then(Result::ok),
            only_for: None,
            payload: raw_payload.map_or_else(|| payload_value.clone(), Bytes::from),
        },
        payload_value,
        application: wire.application,
    })
}

/// The value's bytes: a slice that shares the body where it is most of it, else a copy, so that a small payload
/// does not keep a large body alive.
fn kept(body: &Bytes, value: &[u8]) -> Bytes {
    if value.len() * 2 >= body.len() { body.slice_ref(value) } else { Bytes::copy_from_slice(value) }
}

/// Each once, in the order given; of more than `max` enough to be refused.
fn distinct(texts: &[String], max: usize) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(texts.len().min(max));
    for text in texts {
        if distinct.len() <= max && !distinct.contains(text) {
            distinct.push(text.clone());
        }
    }
    distinct
}

fn check_name(fields: &mut Fields, field: &str, text: &str, max: usize) {
    fields.check(is_name(text, max), field, format_args!("must be 1 to {max} characters: {NAME_FORM}"));
}

fn check_channels(fields: &mut Fields, given: bool, channels: &[String]) {
    let max = limits::CHANNELS_PER_MESSAGE;
    if given {
        fields.check(
            (1..=max).contains(&channels.len()),
            "channels",
            format_args!("must be 1 to {max}, or left out"),
        );
    }
    check_each(fields, "channels", channels, limits::CHANNEL_CHARACTERS);
}

fn check_tags(fields: &mut Fields, tags: &[String]) {
    let max = limits::TAGS_PER_MESSAGE;
    fields.check(tags.len() <= max, "tags", format_args!("must be at most {max}"));
    check_each(fields, "tags", tags, TAG_CHARACTERS);
}

fn check_each(fields: &mut Fields, field: &str, texts: &[String], max: usize) {
    for (index, text) in texts.iter().enumerate() {
        if !is_name(text, max) {
            let message = format!("must be 1 to {max} characters: {NAME_FORM}");
            fields.push(FieldError::body([field.to_owned(), index.to_string()], message));
        }
    }
}

/// What no parser on the way could read is refused here.
fn check_depth(fields: &mut Fields, json: &str) {
    let most = limits::PAYLOAD_DEPTH;
    let message = format_args!("must have at most {most} arrays and objects within one another");
    // Most payloads do not open so many in all: counting is much cheaper than following.
    let opened = json.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    fields.check(opened <= most || depth(json) <= most, "payload", message);
}

/// How many arrays and objects of a JSON text stand within one another at most.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn check_ordering_key(fields: &mut Fields, key: Option<&str>) {
    let max = limits::ORDERING_KEY_CHARACTERS;
    let right = key.is_none_or(|key| (1..=max).contains(&key.chars().count()));
    fields.check(right, "orderingKey", format_args!("must be 1 to {max} characters, or left out"));
}

#[cfg(test)]
mod tests;
