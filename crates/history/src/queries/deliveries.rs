//! Deliveries: those of a message, those of an endpoint, and dead letters.

use std::collections::BTreeSet;

use fanfare_core::{EndpointNumber, MessageEndpointId, Offset, Settlement, Timestamp};
use fanfare_log::BoxFuture;

use super::{
    list::{self, InMemory, List},
    rows::{self, DELIVERY, DELIVERY_COLUMNS, MESSAGE},
};
use crate::{
    DeadLetterFilter, DeliveryFilter, DeliveryRow, EndpointAt, History, MessageRow, Page, QueryError,
    Standing, Window,
    changes::{DeliveryKey, Shadow, Source, decode_endpoints},
    keys::{Tick, delivery_id_at, delivery_of},
    load::{self, KEYED_DELIVERIES},
    store::{Row, Value},
};

/// Keys asked for at once.
const KEYS: usize = 256;
/// Endpoints whose dead letters are merged by one statement.
const ENDPOINTS: usize = 64;

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
        all.retain(|found| found.counts && fits(filter, found.row.standing));
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

    /// Dead letters of these endpoints, in the order in which they were settled. The iterator is good for this list
    /// alone.
    pub async fn dead_letters(
        &self,
        endpoints: &[EndpointAt],
        filter: &DeadLetterFilter,
        window: &Window,
    ) -> Result<Page<DeliveryRow>, QueryError> {
        list::page(&DeadLetters { history: self, endpoints, filter }, window).await
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

type Key = (Tick, EndpointNumber, Offset);

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
    ) -> Result<Vec<(Key, Option<DeliveryRow>)>, QueryError> {
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
                "SELECT * FROM deliveries WHERE endpoint = $1 AND delivery >= $2 AND delivery <= $3 {which} \
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
        let sql = format!(
            "SELECT {DELIVERY}, {MESSAGE} FROM ({found}) AS d LEFT JOIN messages m ON m.message = d.message \
             ORDER BY d.delivery {order}"
        );
        let values = vec![Value::Int(self.endpoint.0.into()), Value::offset(low), Value::offset(high)];
        let mut all = Vec::with_capacity(limit.min(512));
        for row in &self.history.store().rows(&sql, values).await? {
            let key = (Tick(row.int(2)?), self.endpoint, load::offset(row.int(1)?));
            all.push((key, shown(row)?));
        }
        Ok(all)
    }
}

impl List for Deliveries<'_> {
    type Key = Key;
    type Item = DeliveryRow;

    fn parse<'a>(&'a self, mark: &'a str) -> Result<Key, QueryError> {
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
    ) -> BoxFuture<'a, Result<Vec<(Key, Option<DeliveryRow>)>, QueryError>> {
        Box::pin(self.read(mark, descending, limit))
    }

    fn keeps<'a>(&'a self, item: &'a DeliveryRow) -> BoxFuture<'a, Result<bool, QueryError>> {
        Box::pin(async move {
            Ok(fits(self.filter, item.standing)
                && self.history.lets_through(&self.filter.message, &item.message).await?)
        })
    }

    fn keeps_all(&self) -> bool {
        self.filter.standings.is_empty() && self.filter.message.is_empty()
    }

    fn looks_at(&self) -> usize {
        self.filter.message.looks_at()
    }
}

/// The tick in a key is that of the settlement here.
struct DeadLetters<'a> {
    history: &'a History,
    endpoints: &'a [EndpointAt],
    filter: &'a DeadLetterFilter,
}

impl DeadLetters<'_> {
    async fn read(
        &self,
        mark: Option<&Key>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<(Key, Option<DeliveryRow>)>, QueryError> {
        let mut all: Vec<(Key, Option<DeliveryRow>)> = Vec::new();
        for endpoints in self.endpoints.chunks(ENDPOINTS) {
            all.extend(self.read_some(endpoints, mark, descending, limit).await?);
        }
        all.sort_by_key(|(key, _)| *key);
        if descending {
            all.reverse();
        }
        all.truncate(limit);
        Ok(all)
    }

    async fn read_some(
        &self,
        endpoints: &[EndpointAt],
        mark: Option<&Key>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<(Key, Option<DeliveryRow>)>, QueryError> {
        let low = self.filter.after.map_or(0, |after| Tick::of(after).0);
        let high = self.filter.before.map_or(i64::MAX, |before| Tick::of(before).0);
        let mut values = vec![Value::Int(low), Value::Int(high)];
        values.extend(mark.map(|(tick, ..)| Value::Int(tick.0)));
        values.extend(mark.map(|(.., offset)| Value::offset(*offset)));
        let order = if descending { "DESC" } else { "ASC" };
        let parts: Vec<String> = endpoints
            .iter()
            .map(|endpoint| {
                let number = endpoint.number.0;
                format!(
                    "SELECT * FROM (SELECT * FROM deliveries WHERE endpoint = {number} AND standing >= 20 \
                     AND standing < 30 AND settled_at >= $1 AND settled_at <= $2 {} \
                     ORDER BY settled_at {order}, delivery {order} LIMIT {limit}) AS of_{number}",
                    beyond(mark, endpoint.number, descending)
                )
            })
            .collect();
        let sql = format!(
            "SELECT {DELIVERY}, {MESSAGE} FROM (SELECT * FROM ({}) AS merged \
             ORDER BY settled_at {order}, endpoint {order}, delivery {order} LIMIT {limit}) AS d \
             LEFT JOIN messages m ON m.message = d.message",
            parts.join(" UNION ALL ")
        );
        let mut all = Vec::new();
        for row in &self.history.store().rows(&sql, values).await? {
            let endpoint = EndpointNumber(rows::small(row.int(0)?)?);
            all.push(((Tick(row.int(7)?), endpoint, load::offset(row.int(1)?)), shown(row)?));
        }
        Ok(all)
    }
}

/// What of an endpoint's dead letters lies beyond a mark: within its tick, endpoints stand in order of their numbers.
fn beyond(mark: Option<&Key>, endpoint: EndpointNumber, descending: bool) -> &'static str {
    let Some((_, marked, _)) = mark else { return "" };
    match (endpoint.cmp(marked), descending) {
        (std::cmp::Ordering::Equal, false) => "AND (settled_at, delivery) > ($3, $4)",
        (std::cmp::Ordering::Equal, true) => "AND (settled_at, delivery) < ($3, $4)",
        // Behind the mark, all of its tick is; the offset is named so that both databases know its kind.
        (std::cmp::Ordering::Greater, false) => "AND settled_at >= $3 AND $4 >= 0",
        (std::cmp::Ordering::Less, false) => "AND settled_at > $3 AND $4 >= 0",
        (std::cmp::Ordering::Greater, true) => "AND settled_at < $3 AND $4 >= 0",
        (std::cmp::Ordering::Less, true) => "AND settled_at <= $3 AND $4 >= 0",
    }
}

impl List for DeadLetters<'_> {
    type Key = Key;
    type Item = DeliveryRow;

    fn parse<'a>(&'a self, mark: &'a str) -> Result<Key, QueryError> {
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
    ) -> BoxFuture<'a, Result<Vec<(Key, Option<DeliveryRow>)>, QueryError>> {
        Box::pin(self.read(mark, descending, limit))
    }

    fn keeps<'a>(&'a self, item: &'a DeliveryRow) -> BoxFuture<'a, Result<bool, QueryError>> {
        Box::pin(async move {
            let Standing::Settled(reason) = item.standing else { return Ok(false) };
            let wanted = self.filter.reasons.is_empty() || self.filter.reasons.contains(&reason);
            let at = item.settled_at.unwrap_or_default();
            Ok(wanted
                && self.filter.before.is_none_or(|before| at < before)
                && self.filter.after.is_none_or(|after| at >= Tick::of(after).time())
                && self.history.lets_through(&self.filter.message, &item.message).await?)
        })
    }

    fn keeps_all(&self) -> bool {
        self.filter.reasons.is_empty() && self.filter.message.is_empty()
    }

    fn looks_at(&self) -> usize {
        self.filter.message.looks_at()
    }
}

/// What counts of a message that is still in the tables.
fn shown(row: &Row) -> Result<Option<DeliveryRow>, QueryError> {
    if !counts(row)? {
        return Ok(None);
    }
    let Some(message) = rows::message(row, DELIVERY_COLUMNS)? else { return Ok(None) };
    Ok(Some(rows::delivery(row, message)?))
}

fn counts(row: &Row) -> Result<bool, QueryError> {
    Ok(row.int(10)? != Shadow::Shadowed as i64)
}

fn fits(filter: &DeliveryFilter, standing: Standing) -> bool {
    filter.standings.is_empty() || filter.standings.contains(&standing)
}

fn nothing() -> InMemory<Key, DeliveryRow> {
    InMemory { rows: Vec::new(), parse, id: |key| delivery_id_at(key.0, key.1, key.2).to_string() }
}

fn parse(mark: &str) -> Result<Key, QueryError> {
    mark.parse::<MessageEndpointId>().map(delivery_of).map_err(|_| QueryError::Iterator)
}
