//! Lists, page by page: rows in the order of their keys, looked at until a page is full.

use fanfare_log::BoxFuture;

use crate::{AttemptRow, DeliveryRow, History, MessageRow, Page, Pointer, QueryError, Window};

/// Rows that one page looks at where looking is cheap, and payloads that it reads.
const LOOKED_AT: usize = 5_000;
const PAYLOADS_LOOKED_AT: usize = 500;
/// Payloads that are read together.
const PAYLOADS: usize = 64;
const FIRST_READ: usize = 256;
const LARGEST_READ: usize = 4_096;

/// A row that was looked at.
pub(super) struct Looked<K, T> {
    /// Which of its read it is, from 1 on: that of the last one tells whether the read was full.
    pub(super) place: usize,
    pub(super) key: K,
    /// None is passed over.
    pub(super) item: Option<T>,
}

/// What is listed.
pub(super) trait Item: Clone + Send + Sync {
    fn message(&self) -> &MessageRow;
}

/// Rows of one list. `Key` orders them and is in the id that clients go on with.
pub(super) trait List: Sync {
    type Key: Clone + Send + Sync;
    type Item: Item;

    fn parse(&self, mark: &str) -> Result<Self::Key, QueryError>;

    fn id(&self, key: &Self::Key) -> String;

    /// Looks at the first `limit` rows beyond `mark`, in rising order of keys or in falling. Gives those that may be
    /// wanted, and the last of so many in any case; where it is not among them, there are no more. A page asks in one
    /// direction, each time behind the last row of the time before.
    #[allow(clippy::type_complexity, reason = "it is said once")]
    fn fetch<'a>(
        &'a self,
        mark: Option<&'a Self::Key>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Looked<Self::Key, Self::Item>>, QueryError>>;

    /// Whether the filter lets it through, but for its payload.
    fn fits(&self, item: &Self::Item) -> bool;

    /// Whether it lets everything through.
    fn keeps_all(&self) -> bool;

    /// How many rows a page looks at.
    fn looks_at(&self) -> usize {
        LOOKED_AT
    }

    /// What has to be in the payload, and who reads it.
    fn payload(&self) -> Option<(&History, &Pointer)> {
        None
    }
}

pub(super) async fn page<L: List>(list: &L, window: &Window) -> Result<Page<L::Item>, QueryError> {
    let descending = window.descending != window.back;
    let mut mark = window.mark.as_deref().map(|mark| list.parse(mark)).transpose()?;
    let mut kept: Vec<(L::Key, L::Item)> = Vec::new();
    let (mut looked_at, mut payloads) = (0, 0);
    let mut read = if list.keeps_all() { window.limit + 1 } else { FIRST_READ.max(window.limit + 1) };
    // Whether there may be more.
    let more = 'pages: loop {
        read = read.min(list.looks_at().saturating_sub(looked_at)).max(1);
        let rows = list.fetch(mark.as_ref(), descending, read).await?;
        let last = rows.last().is_none_or(|row| row.place < read);
        let at_once = if list.payload().is_some() { PAYLOADS } else { read };
        for rows in rows.chunks(at_once) {
            let (fit, payloads_read) = fit(list, rows).await?;
            payloads += payloads_read;
            for (row, fits) in rows.iter().zip(fit) {
                mark = Some(row.key.clone());
                let Some(item) = row.item.as_ref().filter(|_| fits) else { continue };
                if kept.len() == window.limit {
                    mark = None;
                    break 'pages true;
                }
                kept.push((row.key.clone(), item.clone()));
            }
            if payloads >= PAYLOADS_LOOKED_AT {
                break 'pages true;
            }
        }
        if last {
            mark = None;
            break false;
        }
        looked_at += read;
        if looked_at >= list.looks_at() {
            break true;
        }
        read = (read * 2).min(LARGEST_READ);
    };
    // Where the page ends: at its last item, or where looking ended.
    let end = mark.or_else(|| kept.last().map(|(key, _)| key.clone()));
    let begin = kept.first().map(|(key, _)| key.clone()).or_else(|| end.clone());
    if window.back {
        kept.reverse();
    }
    let (begin, end) = if window.back { (end, begin) } else { (begin, end) };
    Ok(Page {
        items: kept.into_iter().map(|(_, item)| item).collect(),
        iterator: end.map(|key| list.id(&key)),
        prev_iterator: begin.map(|key| format!("-{}", list.id(&key))),
        done: !more,
    })
}

/// Rows of `looked` in this order, with the `place` of each.
pub(super) fn with_places(looked: &str, order: &str) -> String {
    format!("SELECT looked.*, row_number() OVER (ORDER BY {order}) AS place FROM ({looked}) AS looked")
}

/// Of rows with places: those that meet a condition, and the last of so many.
pub(super) fn wanted_or_last(condition: Option<String>, table: &str, limit: usize) -> String {
    condition.map_or_else(|| "TRUE".to_owned(), |wanted| format!("({wanted} OR {table}.place = {limit})"))
}

/// Which of them the filter lets through, and how many payloads were read for it.
async fn fit<L: List>(list: &L, rows: &[Looked<L::Key, L::Item>]) -> Result<(Vec<bool>, usize), QueryError> {
    let fits = |row: &Looked<L::Key, L::Item>| row.item.as_ref().is_some_and(|item| list.fits(item));
    let mut fit: Vec<bool> = rows.iter().map(fits).collect();
    let Some((history, pointer)) = list.payload() else { return Ok((fit, 0)) };
    let places: Vec<usize> = (0..rows.len()).filter(|place| fit[*place]).collect();
    let messages: Vec<&MessageRow> =
        places.iter().filter_map(|place| Some(rows[*place].item.as_ref()?.message())).collect();
    for (place, holds) in places.iter().zip(history.hold(pointer, &messages).await?) {
        fit[*place] = holds;
    }
    Ok((fit, messages.len()))
}

impl Item for MessageRow {
    fn message(&self) -> &MessageRow {
        self
    }
}

impl Item for DeliveryRow {
    fn message(&self) -> &MessageRow {
        &self.message
    }
}

impl Item for AttemptRow {
    fn message(&self) -> &MessageRow {
        &self.message
    }
}

/// A list that is in memory.
pub(super) struct InMemory<K, T> {
    /// In rising order of keys.
    pub(super) rows: Vec<(K, T)>,
    pub(super) parse: fn(&str) -> Result<K, QueryError>,
    pub(super) id: fn(&K) -> String,
}

impl<K: Clone + Ord + Send + Sync, T: Item> List for InMemory<K, T> {
    type Key = K;
    type Item = T;

    fn parse(&self, mark: &str) -> Result<K, QueryError> {
        (self.parse)(mark)
    }

    fn id(&self, key: &K) -> String {
        (self.id)(key)
    }

    fn fetch<'a>(
        &'a self,
        mark: Option<&'a K>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Looked<K, T>>, QueryError>> {
        let show = |(index, (key, item)): (usize, &(K, T))| Looked {
            place: index + 1,
            key: key.clone(),
            item: Some(item.clone()),
        };
        let rows = if descending {
            let end = mark.map_or(self.rows.len(), |mark| self.rows.partition_point(|(key, _)| key < mark));
            self.rows[..end].iter().rev().take(limit).enumerate().map(show).collect()
        } else {
            let begin = mark.map_or(0, |mark| self.rows.partition_point(|(key, _)| key <= mark));
            self.rows[begin..].iter().take(limit).enumerate().map(show).collect()
        };
        Box::pin(std::future::ready(Ok(rows)))
    }

    fn fits(&self, _: &T) -> bool {
        true
    }

    fn keeps_all(&self) -> bool {
        true
    }
}
