//! Messages: one by its id, lists of them, and their payloads.

use std::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;
use fanfare_core::{ApplicationId, MessageId, limits};
use fanfare_log::BoxFuture;

use super::{
    condition,
    list::{self, List, Looked},
    rows::{self, MESSAGE, MESSAGE_COLUMNS},
};
use crate::{
    History, MessageFilter, MessageRow, Page, Pointer, QueryError, Twin, Window,
    keys::{MessageKey, Tick, application_key},
    payloads,
    store::Value,
};

/// Each of so many event types is looked up by its own index; of more, all messages are looked at.
const TYPES: usize = 16;

/// A message's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Here(Bytes),
    /// Erased, expired, or no longer kept by the log.
    Gone,
}

impl Payload {
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Gone => 0,
        }
    }
}

impl History {
    /// By its id, that of an alias of it, or its event id.
    pub async fn message(
        &self,
        application: ApplicationId,
        id_or_event_id: &str,
    ) -> Result<Option<MessageRow>, QueryError> {
        if let Ok(id) = id_or_event_id.parse::<MessageId>()
            && let Some(found) = self.message_by_id(application, id).await?
        {
            return match found.twin {
                // The first is kept at least as long, but for retention.
                Some(Twin::Alias { first }) => {
                    Ok(self.message_by_id(application, first).await?.or(Some(found)))
                }
                _ => Ok(Some(found)),
            };
        }
        let sql = format!(
            "SELECT {MESSAGE} FROM messages m WHERE m.application = $1 AND m.event_id = $2 AND m.kind = 0"
        );
        let values = vec![Value::Int(application_key(application)), Value::Text(id_or_event_id.to_owned())];
        // Of several, one for each time that the window was over, the last.
        let mut last: Option<MessageRow> = None;
        for row in &self.store().rows(&sql, values).await? {
            last = rows::message(row, 0)?.into_iter().chain(last).max_by_key(|message| message.id);
        }
        Ok(last)
    }

    async fn message_by_id(
        &self,
        application: ApplicationId,
        id: MessageId,
    ) -> Result<Option<MessageRow>, QueryError> {
        let sql = format!(
            "SELECT {MESSAGE} FROM messages m WHERE m.application = $1 AND m.id = $2 AND m.kind <> 3 LIMIT 1"
        );
        self.one_message(&sql, vec![Value::Int(application_key(application)), bytes(id)]).await
    }

    async fn one_message(&self, sql: &str, values: Vec<Value>) -> Result<Option<MessageRow>, QueryError> {
        let found = self.store().rows(sql, values).await?;
        Ok(found.first().map(|row| rows::message(row, 0)).transpose()?.flatten())
    }

    /// Where the log has what it says: more than once, if it was appended again when it fell due, or was published again.
    pub async fn places(&self, message: &MessageRow) -> Result<Vec<MessageKey>, QueryError> {
        let sql = "SELECT t.message FROM messages f JOIN messages t ON t.application = f.application \
                   AND t.id = f.id WHERE f.message = $1 \
                   UNION ALL SELECT t.message FROM messages f JOIN messages t ON t.application = f.application \
                   AND t.first = f.id AND t.kind = 1 WHERE f.message = $1";
        let rows = self.store().rows(sql, vec![Value::Int(message.key.to_int())]).await?;
        let keys: Result<_, _> = rows.iter().map(|row| row.int(0).map(MessageKey::from_int)).collect();
        Ok(keys?)
    }

    /// From the log.
    pub async fn payload(&self, message: &MessageRow) -> Result<Payload, QueryError> {
        let read = self.payloads(&[message], 0).await?;
        Ok(read.into_iter().next().unwrap_or(Payload::Gone))
    }

    /// Of the first of them: as many as stay within `max_bytes` together, one at least.
    pub async fn payloads(
        &self,
        messages: &[&MessageRow],
        max_bytes: usize,
    ) -> Result<Vec<Payload>, QueryError> {
        Ok(payloads::read(&*self.shared.log, (self.shared.clock.now(), &self.erased), messages, max_bytes)
            .await?)
    }

    /// In order of their ids.
    pub async fn messages(
        &self,
        application: ApplicationId,
        filter: &MessageFilter,
        window: &Window,
    ) -> Result<Page<MessageRow>, QueryError> {
        let list = Messages { history: self, application, filter, kind: 0 };
        list::page(&list, window).await
    }

    /// Messages that found their idempotency key or event id to stand for another one: dead letters of nobody.
    pub async fn conflicts(
        &self,
        application: ApplicationId,
        filter: &MessageFilter,
        window: &Window,
    ) -> Result<Page<MessageRow>, QueryError> {
        let list = Messages { history: self, application, filter, kind: 2 };
        list::page(&list, window).await
    }

    /// Whether a filter lets a message through.
    pub(super) async fn lets_through(
        &self,
        filter: &MessageFilter,
        message: &MessageRow,
    ) -> Result<bool, QueryError> {
        if !filter.fits(message) {
            return Ok(false);
        }
        let Some(pointer) = &filter.payload else { return Ok(true) };
        Ok(self.hold(pointer, &[message]).await? == [true])
    }

    /// Whose payload has what the pointer wants.
    pub(super) async fn hold(
        &self,
        wanted: &Pointer,
        messages: &[&MessageRow],
    ) -> Result<Vec<bool>, QueryError> {
        // As they stand in the log: what is read for one has those behind it too.
        let mut places: Vec<usize> = (0..messages.len()).collect();
        places.sort_by_key(|place| messages[*place].key);
        let in_order: Vec<&MessageRow> = places.iter().map(|place| messages[*place]).collect();
        let mut hold = vec![false; messages.len()];
        let mut read = 0;
        while read < in_order.len() {
            for payload in self.payloads(&in_order[read..], limits::PAYLOAD_RUN_BYTES).await? {
                hold[places[read]] = wanted.is_in(&payload);
                read += 1;
            }
        }
        Ok(hold)
    }
}

impl Pointer {
    fn is_in(&self, payload: &Payload) -> bool {
        let Payload::Here(payload) = payload else { return false };
        let parsed: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
        parsed.as_ref().and_then(|parsed| parsed.pointer(&self.pointer)) == Some(&self.value)
    }
}

impl MessageFilter {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// But for the payload.
    pub(super) fn fits(&self, message: &MessageRow) -> bool {
        let has = |wanted: &Option<String>, all: &[String]| {
            wanted.as_ref().is_none_or(|wanted| all.contains(wanted))
        };
        (self.event_types.is_empty() || self.event_types.contains(&message.event_type))
            && has(&self.channel, &message.channels)
            && has(&self.tag, &message.tags)
            && self.before.is_none_or(|before| message.accepted_at < before)
            && self.after.is_none_or(|after| message.accepted_at >= after)
    }
}

struct Messages<'a> {
    history: &'a History,
    application: ApplicationId,
    filter: &'a MessageFilter,
    kind: i64,
}

impl Messages<'_> {
    async fn read(
        &self,
        mark: Option<&MessageId>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Looked<MessageId, MessageRow>>, QueryError> {
        // An id begins with the time of acceptance, a little less exact.
        let mut low = self.filter.after.map_or([0; 20], |after| Tick::of(after).lowest_id());
        let mut high =
            self.filter.before.map_or([0xff; 20], |before| Tick(Tick::of(before).0 + 1).lowest_id());
        let mark = mark.map(|mark| *mark.as_bytes());
        let (order, over, under) = match (descending, mark) {
            (false, Some(mark)) if mark >= low => {
                low = mark;
                ("ASC", ">", "<=")
            }
            (true, Some(mark)) if mark <= high => {
                high = mark;
                ("DESC", ">=", "<")
            }
            (false, _) => ("ASC", ">=", "<="),
            (true, _) => ("DESC", ">=", "<="),
        };
        let id = |bytes: [u8; 20]| Value::Bytes(Bytes::copy_from_slice(&bytes));
        let by = format!("id {order}");
        let mut values = vec![Value::Int(application_key(self.application)), id(low), id(high)];
        // The kind stands in the text: a partial index is not chosen for a parameter.
        let part = |of_type: String| {
            format!(
                "SELECT * FROM messages WHERE application = $1 AND kind = {} {of_type} AND id {over} $2 AND id {under} $3 \
                 ORDER BY {by} LIMIT {limit}",
                self.kind
            )
        };
        let mut filter = Cow::Borrowed(self.filter);
        // Those in conflict are few, and have no index by type.
        let looked = if self.kind == 0 && (1..=TYPES).contains(&filter.event_types.len()) {
            let types: BTreeSet<String> =
                std::mem::take(&mut filter.to_mut().event_types).into_iter().collect();
            let parts: Vec<String> = types
                .into_iter()
                .map(|event_type| {
                    values.push(Value::Text(event_type));
                    let number = values.len();
                    format!("SELECT * FROM ({}) AS of_{number}", part(format!("AND event_type = ${number}")))
                })
                .collect();
            format!("SELECT * FROM ({}) AS merged ORDER BY {by} LIMIT {limit}", parts.join(" UNION ALL "))
        } else {
            part(String::new())
        };
        let wanted = condition::of(&filter, &mut values);
        let sql = format!(
            "SELECT {MESSAGE}, m.place FROM ({}) AS m WHERE {} ORDER BY m.place",
            list::with_places(&looked, &by),
            list::wanted_or_last(wanted, "m", limit)
        );
        let mut all = Vec::new();
        for row in &self.history.store().rows(&sql, values).await? {
            let message = rows::message(row, 0)?.ok_or("a message")?;
            all.push(Looked {
                place: rows::place(row, MESSAGE_COLUMNS)?,
                key: message.id,
                item: Some(message),
            });
        }
        Ok(all)
    }
}

impl List for Messages<'_> {
    type Key = MessageId;
    type Item = MessageRow;

    fn parse(&self, mark: &str) -> Result<MessageId, QueryError> {
        mark.parse().map_err(|_| QueryError::Iterator)
    }

    fn id(&self, key: &MessageId) -> String {
        key.to_string()
    }

    fn fetch<'a>(
        &'a self,
        mark: Option<&'a MessageId>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Looked<MessageId, MessageRow>>, QueryError>> {
        Box::pin(self.read(mark, descending, limit))
    }

    fn fits(&self, message: &MessageRow) -> bool {
        self.filter.fits(message)
    }

    fn keeps_all(&self) -> bool {
        self.filter.is_empty()
    }

    fn payload(&self) -> Option<(&History, &Pointer)> {
        self.filter.payload.as_ref().map(|pointer| (self.history, pointer))
    }
}

fn bytes(id: MessageId) -> Value {
    Value::Bytes(Bytes::copy_from_slice(id.as_bytes()))
}
