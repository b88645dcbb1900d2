//! From rows of an answer to what is shown.

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{AttemptError, EndpointNumber, MessageId, Timestamp, Trigger};

use crate::{
    AttemptRow, AttemptStatus, DeliveryRow, MessageRow, Standing, Twin,
    changes::MessageKind,
    keys::{AttemptKey, MessageKey, Tick, delivery_id_at},
    load::{http_status, offset},
    rows::time,
    store::Row,
};

type Result<T> = std::result::Result<T, &'static str>;

/// Of `messages m`.
pub(super) const MESSAGE: &str = "m.message, m.id, m.kind, m.event_type, m.event_id, m.channels, m.tags, \
    m.ordering_key, m.accepted_at, m.deliver_at, m.expires_at, m.first, m.application";
pub(super) const MESSAGE_COLUMNS: usize = 13;
/// Of `deliveries d`.
pub(super) const DELIVERY: &str = "d.endpoint, d.delivery, d.accepted, d.standing, d.attempts, d.first_at, d.last_at, \
    d.last_status, d.settled_at, d.due, d.job, d.shadow";
pub(super) const DELIVERY_COLUMNS: usize = 12;
pub(super) const SETTLED_AT: usize = 8;
pub(super) const SHADOW: usize = 11;
/// Of `attempts a`.
pub(super) const ATTEMPT: &str = "a.endpoint, a.answer, a.tick, a.delivery, a.number, a.made_at, a.duration, a.status, \
    a.error, a.manual, a.due, a.response";
pub(super) const ATTEMPT_COLUMNS: usize = 12;

/// A message whose columns begin at `from`; none where there is no row (of a message that left the tables before its
/// deliveries did).
pub(super) fn message(row: &Row, from: usize) -> Result<Option<MessageRow>> {
    let Some(key) = row.opt_int(from)? else { return Ok(None) };
    let first = row.bytes(from + 11)?.map(id).transpose()?;
    let kind = row.int(from + 2)?;
    let twin = first.and_then(|first| match kind {
        kind if kind == MessageKind::Alias as i64 => Some(Twin::Alias { first }),
        kind if kind == MessageKind::Conflict as i64 => Some(Twin::Conflict { first }),
        _ => None,
    });
    Ok(Some(MessageRow {
        id: id(row.bytes(from + 1)?.ok_or("a message without an id")?)?,
        key: MessageKey::from_int(key),
        event_type: row.text(from + 3)?.unwrap_or_default().to_owned(),
        event_id: row.text(from + 4)?.map(str::to_owned),
        channels: texts(row.text(from + 5)?)?,
        tags: texts(row.text(from + 6)?)?,
        ordering_key: row.text(from + 7)?.map(str::to_owned),
        accepted_at: time(row.int(from + 8)?),
        deliver_at: row.opt_int(from + 9)?.map(time),
        expires_at: row.opt_int(from + 10)?.map(time),
        application: row.int(from + 12)?.cast_unsigned(),
        twin,
    }))
}

pub(super) fn id(bytes: &Bytes) -> Result<MessageId> {
    Ok(MessageId::from_bytes(bytes.as_ref().try_into().map_err(|_| "an id has 20 bytes")?))
}

fn texts(json: Option<&str>) -> Result<Vec<String>> {
    json.map_or(Ok(Vec::new()), |json| serde_json::from_str(json).map_err(|_| "a list of texts"))
}

/// A delivery whose columns begin the row, with its message.
pub(super) fn delivery(row: &Row, message: MessageRow) -> Result<DeliveryRow> {
    let endpoint = EndpointNumber(small(row.int(0)?)?);
    let at = offset(row.int(1)?);
    Ok(DeliveryRow {
        id: delivery_id_at(Tick(row.int(2)?), endpoint, at),
        endpoint,
        offset: at,
        message,
        standing: Standing::from_code(row.int(3)?).ok_or("a standing")?,
        attempts: small(row.int(4)?)?,
        first_attempt_at: row.opt_int(5)?.map(time),
        last_attempt_at: row.opt_int(6)?.map(time),
        last_status: row.opt_int(7)?.map(http_status).transpose()?,
        settled_at: row.opt_int(SETTLED_AT)?.map(|tick| Tick(tick).time()),
        due: row.opt_int(9)?.map(time),
        job: row.opt_int(10)?.map(i64::cast_unsigned),
    })
}

/// Where an attempt is, from a row that its columns begin.
pub(super) fn attempt_key(row: &Row) -> Result<AttemptKey> {
    Ok(AttemptKey {
        tick: Tick(row.int(2)?),
        endpoint: EndpointNumber(small(row.int(0)?)?),
        offset: offset(row.int(3)?),
        number: small(row.int(4)?)?,
    })
}

pub(super) fn attempt(row: &Row, message: MessageRow) -> Result<AttemptRow> {
    let key = attempt_key(row)?;
    let due: Option<Timestamp> = row.opt_int(10)?.map(time);
    let http_status = http_status(row.int(7)?)?;
    let error = usize::try_from(row.int(8)?).map_err(|_| "an error")?;
    Ok(AttemptRow {
        id: key.id(),
        endpoint: key.endpoint,
        offset: key.offset,
        number: key.number,
        message,
        at: time(row.int(5)?),
        duration: Duration::from_micros(row.int(6)?.cast_unsigned()),
        status: if (200..300).contains(&http_status) {
            AttemptStatus::Delivered
        } else if due.is_some() {
            AttemptStatus::Retrying
        } else {
            AttemptStatus::Failed
        },
        http_status,
        error: error.checked_sub(1).and_then(|place| AttemptError::ALL.get(place)).copied(),
        trigger: if row.int(9)? == 0 { Trigger::Scheduled } else { Trigger::Manual },
        due,
        response: row.bytes(11)?.cloned().unwrap_or_default(),
    })
}

/// See [`super::list::Looked`].
pub(super) fn place(row: &Row, column: usize) -> Result<usize> {
    usize::try_from(row.int(column)?).map_err(|_| "a place")
}

pub(super) fn small(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| "a number is too large")
}
