//! Dead letters of any number of endpoints, in the order in which they were settled.
//!
//! The index has them endpoint by endpoint. They are merged here, of a run of keys for each endpoint that is read on
//! when it is used up: a page costs what it looks at, and some keys for each endpoint.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, VecDeque},
};

use fanfare_core::EndpointNumber;
use fanfare_log::BoxFuture;
use tokio::sync::Mutex;

use super::{
    condition,
    deliveries::{KEYS, Key, is_of, of_class, parse, shown},
    list::{self, List, Looked},
    rows::{self, DELIVERY, MESSAGE, SETTLED_AT},
};
use crate::{
    DeadLetterFilter, DeliveryRow, EndpointAt, History, Page, Pointer, QueryError, Standing, Window,
    changes::DeliveryKey,
    keys::{Tick, delivery_id_at},
    load,
    store::Value,
};

/// Rows that one page looks at: each is looked up by itself.
const LOOKED_AT: usize = 2_000;
/// Endpoints whose runs one statement begins.
const ENDPOINTS: usize = 64;
/// Keys of a run that are read at once.
const FEWEST_KEYS: usize = 16;
const MOST_KEYS: usize = 1_024;

impl History {
    /// Dead letters of these endpoints, in the order in which they were settled. The iterator is good for this list
    /// alone.
    pub async fn dead_letters(
        &self,
        endpoints: &[EndpointAt],
        filter: &DeadLetterFilter,
        window: &Window,
    ) -> Result<Page<DeliveryRow>, QueryError> {
        let list = DeadLetters { history: self, endpoints, filter, runs: Mutex::new(None) };
        list::page(&list, window).await
    }
}

/// The tick in a key is that of the settlement.
struct DeadLetters<'a> {
    history: &'a History,
    endpoints: &'a [EndpointAt],
    filter: &'a DeadLetterFilter,
    /// From the first read on: a further one goes on here, whatever its mark.
    runs: Mutex<Option<Runs>>,
}

/// Keys of all endpoints that lie ahead.
struct Runs {
    descending: bool,
    /// The next key of each endpoint that has one.
    heads: BTreeMap<Key, Run>,
}

/// What follows of one endpoint.
struct Run {
    keys: VecDeque<Key>,
    /// How many the next read is for; none where there are no more.
    next: Option<usize>,
}

impl DeadLetters<'_> {
    async fn read(
        &self,
        mark: Option<&Key>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Looked<Key, DeliveryRow>>, QueryError> {
        let mut runs = self.runs.lock().await;
        let mut ahead = match runs.take() {
            Some(runs) => runs,
            None => self.begin(mark, descending, limit).await?,
        };
        let mut keys = Vec::with_capacity(limit);
        while keys.len() < limit
            && let Some(key) = self.advance(&mut ahead).await?
        {
            keys.push(key);
        }
        *runs = Some(ahead);
        let mut found = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(KEYS) {
            self.wanted(keys, &mut found).await?;
        }
        let looked = keys.into_iter().enumerate().filter_map(|(index, key)| {
            let item = found.remove(&key);
            (item.is_some() || index + 1 == limit).then(|| Looked {
                place: index + 1,
                key,
                item: item.flatten(),
            })
        });
        Ok(looked.collect())
    }

    /// Beyond a mark.
    async fn begin(&self, mark: Option<&Key>, descending: bool, limit: usize) -> Result<Runs, QueryError> {
        let at_once = (2 * limit / self.endpoints.len().max(1)).clamp(FEWEST_KEYS, MOST_KEYS);
        let mut heads = BTreeMap::new();
        for endpoints in self.endpoints.chunks(ENDPOINTS) {
            let endpoints: Vec<EndpointNumber> = endpoints.iter().map(|endpoint| endpoint.number).collect();
            let keys = self.keys(&endpoints, mark, descending, at_once).await?;
            let mut of_each: HashMap<EndpointNumber, VecDeque<Key>> = HashMap::new();
            for key in keys {
                of_each.entry(key.1).or_default().push_back(key);
            }
            heads.extend(of_each.into_values().filter_map(|keys| Run::of(keys, at_once)));
        }
        Ok(Runs { descending, heads })
    }

    /// The next key of all.
    async fn advance(&self, runs: &mut Runs) -> Result<Option<Key>, QueryError> {
        let first = if runs.descending { runs.heads.pop_last() } else { runs.heads.pop_first() };
        let Some((key, mut run)) = first else { return Ok(None) };
        if run.keys.is_empty()
            && let Some(at_once) = run.next
        {
            let keys = self.keys(&[key.1], Some(&key), runs.descending, at_once).await?;
            runs.heads.extend(Run::of(keys.into(), at_once));
        } else if let Some(next) = run.keys.pop_front() {
            runs.heads.insert(next, run);
        }
        Ok(Some(key))
    }

    /// The first so many of each of these endpoints.
    async fn keys(
        &self,
        endpoints: &[EndpointNumber],
        mark: Option<&Key>,
        descending: bool,
        at_once: usize,
    ) -> Result<Vec<Key>, QueryError> {
        let mut low = self.filter.after.map_or(0, |after| Tick::of(after).0);
        let mut high = self.filter.before.map_or(i64::MAX, |before| Tick::of(before).0);
        match mark {
            Some((tick, ..)) if descending => high = high.min(tick.0),
            Some((tick, ..)) => low = low.max(tick.0),
            None => {}
        }
        let mut values = vec![Value::Int(low), Value::Int(high)];
        values.extend(mark.map(|(tick, ..)| Value::Int(tick.0)));
        values.extend(mark.map(|(.., offset)| Value::offset(*offset)));
        let order = if descending { "DESC" } else { "ASC" };
        let by = format!("settled_at {order}, delivery {order}");
        let parts: Vec<String> = endpoints
            .iter()
            .map(|&endpoint| {
                format!(
                    "SELECT * FROM (SELECT settled_at, endpoint, delivery FROM deliveries WHERE endpoint = {number} \
                     AND standing >= 20 AND standing < 30 AND settled_at >= $1 AND settled_at <= $2 {} \
                     ORDER BY {by} LIMIT {at_once}) AS of_{number}",
                    beyond(mark, endpoint, descending),
                    number = endpoint.0,
                )
            })
            .collect();
        let sql = format!("SELECT * FROM ({}) AS keys ORDER BY {by}", parts.join(" UNION ALL "));
        let mut keys = Vec::new();
        for row in self.history.store().rows(&sql, values).await? {
            let endpoint = EndpointNumber(rows::small(row.int(1)?)?);
            keys.push((Tick(row.int(0)?), endpoint, load::offset(row.int(2)?)));
        }
        Ok(keys)
    }

    /// Those of the keys that may be wanted.
    async fn wanted(
        &self,
        keys: &[Key],
        found: &mut HashMap<Key, Option<DeliveryRow>>,
    ) -> Result<(), QueryError> {
        let keys: Vec<DeliveryKey> = keys.iter().map(|&(_, endpoint, offset)| (endpoint, offset)).collect();
        let mut values = load::key_values(&keys);
        let codes: Vec<String> =
            self.filter.reasons.iter().map(|reason| Standing::Settled(*reason).code().to_string()).collect();
        let reasons = (!codes.is_empty()).then(|| format!("d.standing IN ({})", codes.join(", ")));
        let message = condition::of(&self.filter.message, &mut values);
        let wanted = condition::all([reasons, of_class(self.filter.class), message]);
        let sql = format!(
            "{} SELECT {DELIVERY}, {MESSAGE} FROM k CROSS JOIN deliveries d \
             LEFT JOIN messages m ON m.message = d.message \
             WHERE d.endpoint = k.endpoint AND d.delivery = k.delivery AND {}",
            load::with_keys(keys.len()),
            wanted.as_deref().unwrap_or("TRUE")
        );
        for row in &self.history.store().rows(&sql, values).await? {
            let endpoint = EndpointNumber(rows::small(row.int(0)?)?);
            // It is no dead letter any more where there is none.
            let Some(tick) = row.opt_int(SETTLED_AT)? else { continue };
            found.insert((Tick(tick), endpoint, load::offset(row.int(1)?)), shown(row)?);
        }
        Ok(())
    }
}

impl Run {
    /// With its first key, if there is one.
    fn of(mut keys: VecDeque<Key>, at_once: usize) -> Option<(Key, Self)> {
        let next = (keys.len() == at_once).then_some((at_once * 2).min(MOST_KEYS));
        keys.pop_front().map(|first| (first, Self { keys, next }))
    }
}

/// What of an endpoint's dead letters lies beyond a mark: within its tick, endpoints stand in order of their numbers.
fn beyond(mark: Option<&Key>, endpoint: EndpointNumber, descending: bool) -> &'static str {
    let Some((_, marked, _)) = mark else { return "" };
    match (endpoint.cmp(marked), descending) {
        (Ordering::Equal, false) => "AND (settled_at, delivery) > ($3, $4)",
        (Ordering::Equal, true) => "AND (settled_at, delivery) < ($3, $4)",
        // Behind the mark, all of its tick is; the offset is named so that both databases know its kind.
        (Ordering::Greater, false) => "AND settled_at >= $3 AND $4 >= 0",
        (Ordering::Less, false) => "AND settled_at > $3 AND $4 >= 0",
        (Ordering::Greater, true) => "AND settled_at < $3 AND $4 >= 0",
        (Ordering::Less, true) => "AND settled_at <= $3 AND $4 >= 0",
    }
}

impl List for DeadLetters<'_> {
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
        let Standing::Settled(reason) = delivery.standing else { return false };
        let at = delivery.settled_at.unwrap_or_default();
        (self.filter.reasons.is_empty() || self.filter.reasons.contains(&reason))
            && is_of(self.filter.class, delivery)
            && self.filter.before.is_none_or(|before| at < before)
            && self.filter.after.is_none_or(|after| at >= Tick::of(after).time())
            && self.filter.message.fits(&delivery.message)
    }

    fn keeps_all(&self) -> bool {
        let DeadLetterFilter { message, reasons, class, .. } = self.filter;
        message.is_empty() && reasons.is_empty() && class.is_none()
    }

    fn looks_at(&self) -> usize {
        LOOKED_AT
    }

    fn payload(&self) -> Option<(&History, &Pointer)> {
        self.filter.message.payload.as_ref().map(|pointer| (self.history, pointer))
    }
}
