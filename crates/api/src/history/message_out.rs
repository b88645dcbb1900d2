//! A message as clients see it.

use fanfare_core::MessageId;
use fanfare_history::{MessageRow, Payload};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::application::shown;

const SECONDS_OF_A_DAY: u64 = 24 * 3_600;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageOut {
    id: MessageId,
    event_id: Option<String>,
    event_type: String,
    payload: Box<RawValue>,
    channels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    // Ours.
    /// In days, as far as the log keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_retention_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    /// What was delivered, where that is no JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_payload: Option<String>,
}

impl MessageOut {
    /// `None`: the payload was not asked for.
    pub(crate) fn of(row: MessageRow, payload: Option<Payload>) -> Self {
        let (payload, raw_payload) = match payload {
            None => (object("{}"), None),
            Some(Payload::Gone) => (object(r#"{"expired":true}"#), None),
            Some(Payload::Here(bytes)) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                match RawValue::from_string(text) {
                    Ok(value) if value.get().starts_with('{') => (value, None),
                    // The producer had it sent as it is.
                    _ => (object("{}"), Some(String::from_utf8_lossy(&bytes).into_owned())),
                }
            }
        };
        let some = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
        Self {
            id: row.id,
            event_id: row.event_id,
            event_type: row.event_type,
            payload,
            channels: some(row.channels),
            tags: some(row.tags),
            timestamp: shown(row.accepted_at),
            payload_retention_period: row
                .expires_at
                .map(|expires_at| expires_at.since(row.accepted_at).as_secs() / SECONDS_OF_A_DAY),
            payload_expires_at: row.expires_at.map(shown),
            deliver_at: row.deliver_at.map(shown),
            ordering_key: row.ordering_key,
            raw_payload,
        }
    }
}

fn object(json: &'static str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("it is JSON")
}
