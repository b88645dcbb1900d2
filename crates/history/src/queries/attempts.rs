//! Attempts: one by its id, those of an endpoint, those of a message.

use std::collections::BTreeMap;

use fanfare_core::{AttemptId, EndpointNumber};
use fanfare_log::BoxFuture;

use super::{
    condition, deliveries,
    list::{self, InMemory, List, Looked},
    rows::{self, ATTEMPT, ATTEMPT_COLUMNS, MESSAGE, MESSAGE_COLUMNS},
};
use crate::{
    AttemptFilter, AttemptRow, AttemptStatus, EndpointAt, History, MessageRow, Page, Pointer, QueryError,
    StatusClass, Window,
    changes::{DeliveryKey, answer},
    keys::{AttemptKey, Tick},
    load,
    store::{Row, Value},
};

/// Classes of HTTP statuses, and 0 for none.
const CLASSES: i64 = 6;
const SUCCESS: i64 = 2;
/// Deliveries whose attempts are asked for at once.
const DELIVERIES: usize = 64;

impl History {
    pub async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRow>, QueryError> {
        let key = AttemptKey::of(id);
        let sql = format!(
            "SELECT {ATTEMPT}, {MESSAGE} FROM attempts a LEFT JOIN messages m ON m.message = a.message \
             WHERE a.endpoint = $1 AND a.answer IN ({}) AND a.tick = $2 AND a.delivery = $3 AND a.number = $4",
            all_answers()
        );
        let values = vec![
            Value::Int(key.endpoint.0.into()),
            Value::Int(key.tick.0),
            Value::offset(key.offset),
            Value::Int(key.number.into()),
        ];
        let found = self.store().rows(&sql, values).await?;
        match found.first() {
            Some(row) => shown(row),
            None => Ok(None),
        }
    }

    /// In order of their ids.
    pub async fn attempts_of_endpoint(
        &self,
        endpoint: EndpointAt,
        filter: &AttemptFilter,
        window: &Window,
    ) -> Result<Page<AttemptRow>, QueryError> {
        let list = Attempts { history: self, endpoint: endpoint.number, filter, answers: answers(filter) };
        list::page(&list, window).await
    }

    /// In order of their ids.
    pub async fn attempts_of_message(
        &self,
        message: &MessageRow,
        filter: &AttemptFilter,
        window: &Window,
    ) -> Result<Page<AttemptRow>, QueryError> {
        let mut all = BTreeMap::new();
        let answers = answers(filter);
        let deliveries = deliveries::rows_of_message(self, message).await?;
        let keys: Vec<(DeliveryKey, Option<Tick>)> = deliveries
            .iter()
            .filter(|found| filter.endpoint.is_none_or(|only| only == found.key.0))
            .map(|found| (found.key, found.first_at.map(Tick::of)))
            .collect();
        for keys in keys.chunks(DELIVERIES) {
            for row in self.attempts_of(keys).await? {
                let attempt = rows::attempt(&row, message.clone())?;
                if answers.contains(&row.int(1)?) && in_time(filter, &attempt) {
                    all.insert(rows::attempt_key(&row)?, attempt);
                }
            }
        }
        if !self.lets_through(&filter.message, message).await? {
            all.clear();
        }
        let rows = all.into_iter().collect();
        list::page(&InMemory { rows, parse, id: show }, window).await
    }

    /// All attempts of these deliveries: the first of each by its time, the others by their own index.
    async fn attempts_of(&self, keys: &[(DeliveryKey, Option<Tick>)]) -> Result<Vec<Row>, QueryError> {
        let mut found = Vec::new();
        let first: Vec<(DeliveryKey, Tick)> =
            keys.iter().filter_map(|(key, tick)| Some((*key, (*tick)?))).collect();
        if first.is_empty() {
            return Ok(found);
        }
        let places = (0..first.len())
            .map(|index| format!("(${}, ${}, ${})", 3 * index + 1, 3 * index + 2, 3 * index + 3));
        let places: Vec<String> = places.collect();
        let values = first.iter().flat_map(|((endpoint, offset), tick)| {
            [Value::Int(endpoint.0.into()), Value::Int(tick.0), Value::offset(*offset)]
        });
        let sql = format!(
            "WITH k(endpoint, tick, delivery) AS (VALUES {}) SELECT {ATTEMPT} FROM k CROSS JOIN attempts a \
             WHERE a.endpoint = k.endpoint AND a.answer IN ({}) AND a.tick = k.tick AND a.delivery = k.delivery",
            places.join(", "),
            all_answers()
        );
        found.extend(self.store().rows(&sql, values.collect()).await?);
        let keys: Vec<DeliveryKey> = first.into_iter().map(|(key, _)| key).collect();
        let sql = format!(
            "{} SELECT {ATTEMPT} FROM k CROSS JOIN attempts a \
             WHERE a.again <> 0 AND a.endpoint = k.endpoint AND a.delivery = k.delivery",
            load::with_keys(keys.len())
        );
        found.extend(self.store().rows(&sql, load::key_values(&keys)).await?);
        Ok(found)
    }
}

/// Those of one endpoint. Each kind of answer is in order in the table; here they are merged.
struct Attempts<'a> {
    history: &'a History,
    endpoint: EndpointNumber,
    filter: &'a AttemptFilter,
    answers: Vec<i64>,
}

impl Attempts<'_> {
    async fn read(
        &self,
        mark: Option<&AttemptKey>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Looked<AttemptKey, AttemptRow>>, QueryError> {
        if self.answers.is_empty() {
            return Ok(Vec::new());
        }
        let mut low = self.filter.after.map_or(0, |after| Tick::of(after).0);
        let mut high = self.filter.before.map_or(i64::MAX, |before| Tick::of(before).0);
        // SQLite finds its way by these alone, and passes over what does not lie beyond the mark.
        match mark {
            Some(mark) if descending => high = high.min(mark.tick.0),
            Some(mark) => low = low.max(mark.tick.0),
            None => {}
        }
        let mut values = vec![Value::Int(self.endpoint.0.into()), Value::Int(low), Value::Int(high)];
        let mut beyond = "";
        if let Some(mark) = mark {
            values.extend([
                Value::Int(mark.tick.0),
                Value::offset(mark.offset),
                Value::Int(mark.number.into()),
            ]);
            beyond = if descending {
                "AND (tick, delivery, number) < ($4, $5, $6)"
            } else {
                "AND (tick, delivery, number) > ($4, $5, $6)"
            };
        }
        let order = if descending { "DESC" } else { "ASC" };
        let by = format!("tick {order}, delivery {order}, number {order}");
        let parts: Vec<String> = self
            .answers
            .iter()
            .map(|answer| {
                format!(
                    "SELECT * FROM (SELECT answer, tick, delivery, number, message FROM attempts \
                     WHERE endpoint = $1 AND answer = {answer} AND tick >= $2 AND tick <= $3 {beyond} \
                     ORDER BY {by} LIMIT {limit}) AS of_{answer}"
                )
            })
            .collect();
        let looked =
            format!("SELECT * FROM ({}) AS merged ORDER BY {by} LIMIT {limit}", parts.join(" UNION ALL "));
        let wanted = condition::of(&self.filter.message, &mut values);
        // What is looked at is narrow: the rest of an attempt is read where it is wanted.
        let sql = format!(
            "SELECT {ATTEMPT}, {MESSAGE}, k.place FROM ({}) AS k \
             LEFT JOIN messages m ON m.message = k.message CROSS JOIN attempts a \
             WHERE a.endpoint = $1 AND a.answer = k.answer AND a.tick = k.tick AND a.delivery = k.delivery \
             AND a.number = k.number AND {} ORDER BY k.place",
            list::with_places(&looked, &by),
            list::wanted_or_last(wanted, "k", limit)
        );
        let mut all = Vec::new();
        for row in &self.history.store().rows(&sql, values).await? {
            all.push(Looked {
                place: rows::place(row, ATTEMPT_COLUMNS + MESSAGE_COLUMNS)?,
                key: rows::attempt_key(row)?,
                item: shown(row)?,
            });
        }
        Ok(all)
    }
}

impl List for Attempts<'_> {
    type Key = AttemptKey;
    type Item = AttemptRow;

    fn parse(&self, mark: &str) -> Result<AttemptKey, QueryError> {
        parse(mark)
    }

    fn id(&self, key: &AttemptKey) -> String {
        show(key)
    }

    fn fetch<'a>(
        &'a self,
        mark: Option<&'a AttemptKey>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Looked<AttemptKey, AttemptRow>>, QueryError>> {
        Box::pin(self.read(mark, descending, limit))
    }

    fn fits(&self, attempt: &AttemptRow) -> bool {
        in_time(self.filter, attempt) && self.filter.message.fits(&attempt.message)
    }

    fn keeps_all(&self) -> bool {
        self.filter.message.is_empty()
    }

    fn payload(&self) -> Option<(&History, &Pointer)> {
        self.filter.message.payload.as_ref().map(|pointer| (self.history, pointer))
    }
}

fn shown(row: &Row) -> Result<Option<AttemptRow>, QueryError> {
    let Some(message) = rows::message(row, ATTEMPT_COLUMNS)? else { return Ok(None) };
    Ok(Some(rows::attempt(row, message)?))
}

fn in_time(filter: &AttemptFilter, attempt: &AttemptRow) -> bool {
    filter.before.is_none_or(|before| attempt.at < before)
        && filter.after.is_none_or(|after| attempt.at >= after)
}

/// Kinds of answers that a filter wants.
fn answers(filter: &AttemptFilter) -> Vec<i64> {
    let of_class = |class: &i64| filter.class.map(StatusClass::code).is_none_or(|wanted| wanted == *class);
    let both = (0..CLASSES).filter(of_class).flat_map(|class| [(class, false), (class, true)]);
    let is = |status: &AttemptStatus, class: i64, retried: bool| match status {
        AttemptStatus::Delivered => class == SUCCESS,
        AttemptStatus::Retrying => class != SUCCESS && retried,
        AttemptStatus::Failed => class != SUCCESS && !retried,
    };
    let wanted = both.filter(|&(class, retried)| {
        filter.statuses.is_empty() || filter.statuses.iter().any(|status| is(status, class, retried))
    });
    wanted.map(|(class, retried)| answer(class, retried)).collect()
}

fn all_answers() -> String {
    let all: Vec<String> = (0..CLASSES * 2).map(|answer| answer.to_string()).collect();
    all.join(", ")
}

fn parse(mark: &str) -> Result<AttemptKey, QueryError> {
    mark.parse().map(AttemptKey::of).map_err(|_| QueryError::Iterator)
}

fn show(key: &AttemptKey) -> String {
    key.id().to_string()
}
