//! Deliveries: those of a message, and those of an endpoint.

use std::collections::BTreeSet;

use fanfare_core::{EndpointNumber, MessageEndpointId, Offset, Settlement, Timestamp};
use fanfare_log::BoxFuture;

use super::{
    condition,
    list::{self, InMemory, List, Looked},
    rows::{self, DELIVERY, DELIVERY_COLUMNS, MESSAGE, MESSAGE_COLUMNS, SHADOW},
};
use crate::{
    DeliveryFilter, DeliveryRow, EndpointAt, History, MessageRow, Page, Pointer, QueryError, Standing,
    StatusClass, Window,
    changes::{DeliveryKey, Shadow, Source, decode_endpoints},
    keys::{Tick, delivery_id_at, delivery_of},
    load::{self, KEYED_DELIVERIES},
    store::{Row, Value},
};

/// Keys asked for at once.
pub(super) const KEYS: usize = 256;

/// A delivery of a message.
pub(super) struct OfMessage {
    pub(super) key: DeliveryKey,
    pub(super) first_at: Option<Timestamp>,
    counts: bool,
    row: DeliveryRow,
}

/// All deliveries of a message, those that do not count too.
pub(super) async fn rows_of_message(
    history: &History,
    message: &MessageRow,
) -> Result<Vec<OfMessage>, QueryError> {
    // When it fell due it was appended again, and it is that record that was routed.
    let sql = "SELECT r.delivery, r.endpoints FROM messages f JOIN messages t ON t.application = f.application \
               AND t.id = f.id JOIN routes r ON r.message = t.message WHERE f.message = $1";
    let mut keys: BTreeSet<DeliveryKey> = BTreeSet::new();
    for row in history.store().rows(sql, vec![Value::Int(message.key.to_int())]).await? {
        let at = load::offset(row.int(0)?);
        let endpoints = decode_endpoints(row.bytes(1)?.ok_or("a route")?).map_err(|_| "a route")?;
        keys.extend(endpoints.into_iter().map(|endpoint| (endpoint, at)));
    }
    let keys: Vec<DeliveryKey> = keys.into_iter().collect();
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(KEYS) {
        let sql = format!("{} SELECT {DELIVERY} FROM {KEYED_DELIVERIES}", load::with_keys(keys.len()));
        for row in history.store().rows(&sql, load::key_values(keys)).await? {
            let counts = counts(&row)?;
            let row = rows::delivery(&row, message.clone())?;
            let key = (row.endpoint, row.offset);
            found.push(OfMessage { key, first_at: row.first_attempt_at, counts, row });
        }
    }
    found.sort_by_key(|found| found.key);
    Ok(found)
}

impl History {
    /// A message's deliveries, by endpoint. The iterator is a delivery's id.
    pub async fn deliveries_of_message(
        &self,
        message: &MessageRow,
        filter: &DeliveryFilter,
        window: &Window,
    ) -> Result<Page<DeliveryRow>, QueryError> {
        let mut all = rows_of_message(self, message).await?;
        all.retain(|found| found.counts && fits(filter, &found.row));
        if !self.lets_through(&filter.message, message).await? {
            all.clear();
        }
        let rows = all.into_iter().map(|found| ((found.key, Tick::of_id(message.id.as_bytes())), found.row));
        let parse = |mark: &str| parse(mark).map(|(tick, endpoint, offset)| ((endpoint, offset), tick));
        let id = |key: &(DeliveryKey, Tick)| delivery_id_at(key.1, key.0.0, key.0.1).to_string();
        list::page(&InMemory { rows: rows.collect(), parse, id }, window).await
    }

    /// An endpoint's deliveries in the order of its log. The iterator is a delivery's id.
    pub async fn deliveries_of_endpoint(
        &self,
        endpoint: EndpointAt,
        filter: &DeliveryFilter,
        window: &Window,
    ) -> Result<Page<DeliveryRow>, QueryError> {
        let bounds = self.accepted_between(endpoint, filter.message.after, filter.message.before).await?;
        let Some((low, high)) = bounds else { return list::page(&nothing(), window).await };
        list::page(&Deliveries { history: self, endpoint: endpoint.number, filter, low, high }, window).await
    }

    /// The delivery of a message to an endpoint: of several, the one that counts.
    pub async fn delivery(
        &self,
        message: &MessageRow,
        endpoint: EndpointAt,
    ) -> Result<Option<DeliveryRow>, QueryError> {
        let all = rows_of_message(self, message).await?;
        Ok(all
            .into_iter()
            .find(|found| found.counts && found.key.0 == endpoint.number)
            .map(|found| found.row))
    }

    /// By its id alone, if it counts: whether it is for the one who asks, tells its endpoint.
    pub async fn delivery_by_id(&self, id: MessageEndpointId) -> Result<Option<DeliveryRow>, QueryError> {
        let (tick, endpoint, offset) = delivery_of(id);
        let sql = format!(
            "SELECT {DELIVERY}, {MESSAGE} FROM deliveries d LEFT JOIN messages m ON m.message = d.message \
             WHERE d.endpoint = $1 AND d.delivery = $2 AND d.accepted = $3"
        );
        let values = vec![Value::Int(endpoint.0.into()), Value::offset(offset), Value::Int(tick.0)];
        let found = self.store().rows(&sql, values).await?;
        let found = found.first().map(shown).transpose()?.flatten();
        Ok(found.filter(|delivery| delivery.id == id))
    }

    /// Between which offsets of its partition an endpoint's deliveries of messages of that time stand; nothing where
    /// there are none.
    pub(super) async fn accepted_between(
        &self,
        endpoint: EndpointAt,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<(Offset, Offset)>, QueryError> {
        if since.is_none() && until.is_none() {
            return Ok(Some((Offset::ZERO, Offset(i64::MAX.cast_unsigned()))));
        }
        let minute = |at: Timestamp| at.as_secs().div_euclid(60);
        let sql = "SELECT MIN(low), MAX(high) FROM moments WHERE topic = $1 AND part = $2 \
                   AND injected IN (0, 1) AND minute >= $3 AND minute <= $4";
        let values = vec![
            Value::Int(Source::Deliveries.code()),
            Value::Int(endpoint.partition.0.into()),
            Value::Int(since.map_or(i64::MIN, minute)),
            Value::Int(until.map_or(i64::MAX, minute)),
        ];
        let found = self.store().rows(sql, values).await?;
        let Some(row) = found.first() else { return Ok(None) };
        Ok(row.opt_int(0)?.zip(row.opt_int(1)?).map(|(low, high)| (load::offset(low), load::offset(high))))
    }
}

pub(super) type Key = (Tick, EndpointNumber, Offset);

struct Deliveries<'a> {
    history: &'a History,
    endpoint: EndpointNumber,
    filter: &'a DeliveryFilter,
    low: Offset,
    high: Offset,
}

impl Deliveries<'_> {
    async fn read(
        &self,
        mark: Option<&Key>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Looked<Key, DeliveryRow>>, QueryError> {
        let (mut low, mut high) = (self.low, self.high);
        match mark {
            Some((.., offset)) if descending => high = high.min(Offset(offset.0.saturating_sub(1))),
            Some((.., offset)) => low = low.max(offset.next()),
            None => {}
        }
        if low > high || (descending && mark.is_some_and(|(.., offset)| *offset == Offset::ZERO)) {
            return Ok(Vec::new());
        }
        let order = if descending { "DESC" } else { "ASC" };
        let part = |which: String| {
            format!(
                "SELECT delivery, message FROM deliveries \
                 WHERE endpoint = $1 AND delivery >= $2 AND delivery <= $3 {which} \
                 ORDER BY delivery {order} LIMIT {limit}"
            )
        };
        let standings = &self.filter.standings;
        let delivered = Standing::Settled(Settlement::Delivered);
        let found = if standings.is_empty() || standings.contains(&delivered) {
            part(String::new())
        } else {
            let parts: Vec<String> = standings
                .iter()
                .map(|standing| {
                    let code = standing.code();
                    let part = part(format!("AND standing = {code} AND standing <> {}", delivered.code()));
                    format!("SELECT * FROM ({part}) AS of_{code}")
                })
                .collect();
            format!(
                "SELECT * FROM ({}) AS merged ORDER BY delivery {order} LIMIT {limit}",
                parts.join(" UNION ALL ")
            )
        };
        let mut values = vec![Value::Int(self.endpoint.0.into()), Value::offset(low), Value::offset(high)];
        let standing = (!standings.is_empty()).then(|| {
            let codes: Vec<String> = standings.iter().map(|standing| standing.code().to_string()).collect();
            format!("d.standing IN ({})", codes.join(", "))
        });
        let message = condition::of(&self.filter.message, &mut values);
        let wanted = condition::all([standing, of_class(self.filter.class), message]);
        let sql = format!(
            "SELECT {DELIVERY}, {MESSAGE}, k.place FROM ({}) AS k \
             LEFT JOIN messages m ON m.message = k.message CROSS JOIN deliveries d \
             WHERE d.endpoint = $1 AND d.delivery = k.delivery AND {} ORDER BY k.place",
            list::with_places(&found, &format!("delivery {order}")),
            list::wanted_or_last(wanted, "k", limit)
        );
        let mut all = Vec::new();
        for row in &self.history.store().rows(&sql, values).await? {
            let key = (Tick(row.int(2)?), self.endpoint, load::offset(row.int(1)?));
            all.push(Looked { place: place(row)?, key, item: shown(row)? });
        }
        Ok(all)
    }
}

impl List for Deliveries<'_> {
    type Key = Key;
    type Item = DeliveryRow;

    fn parse(&self, mark: &str) -> Result<Key, QueryError> {
        parse(mark)
    }

    fn id(&self, key: &Key) -> String {
        delivery_id_at(key.0, key.1, key.2).to_string()
    }

    fn fetch<'a>(
        &'a self,
        mark: Option<&'a Key>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Looked<Key, DeliveryRow>>, QueryError>> {
        Box::pin(self.read(mark, descending, limit))
    }

    fn fits(&self, delivery: &DeliveryRow) -> bool {
        fits(self.filter, delivery) && self.filter.message.fits(&delivery.message)
    }

    fn keeps_all(&self) -> bool {
        *self.filter == DeliveryFilter::default()
    }

    fn payload(&self) -> Option<(&History, &Pointer)> {
        self.filter.message.payload.as_ref().map(|pointer| (self.history, pointer))
    }
}

/// What counts of a message that is still in the tables.
pub(super) fn shown(row: &Row) -> Result<Option<DeliveryRow>, QueryError> {
    if !counts(row)? {
        return Ok(None);
    }
    let Some(message) = rows::message(row, DELIVERY_COLUMNS)? else { return Ok(None) };
    Ok(Some(rows::delivery(row, message)?))
}

/// Of a row of a delivery and its message.
fn place(row: &Row) -> Result<usize, QueryError> {
    Ok(rows::place(row, DELIVERY_COLUMNS + MESSAGE_COLUMNS)?)
}

fn counts(row: &Row) -> Result<bool, QueryError> {
    Ok(row.int(SHADOW)? != Shadow::Shadowed as i64)
}

fn fits(filter: &DeliveryFilter, delivery: &DeliveryRow) -> bool {
    (filter.standings.is_empty() || filter.standings.contains(&delivery.standing))
        && is_of(filter.class, delivery)
}

pub(super) fn is_of(class: Option<StatusClass>, delivery: &DeliveryRow) -> bool {
    class.is_none_or(|class| delivery.last_status.map(StatusClass::of) == Some(class))
}

/// A condition on `deliveries d`.
pub(super) fn of_class(class: Option<StatusClass>) -> Option<String> {
    class.map(|class| {
        format!("d.last_status / 100 {} {}", if class.is_last() { ">=" } else { "=" }, class.code())
    })
}

fn nothing() -> InMemory<Key, DeliveryRow> {
    InMemory { rows: Vec::new(), parse, id: |key| delivery_id_at(key.0, key.1, key.2).to_string() }
}

pub(super) fn parse(mark: &str) -> Result<Key, QueryError> {
    mark.parse::<MessageEndpointId>().map(delivery_of).map_err(|_| QueryError::Iterator)
}
