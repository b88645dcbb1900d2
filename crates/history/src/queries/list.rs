//! Lists, page by page: rows in the order of their keys, looked at until a page is full.

use fanfare_log::BoxFuture;

use crate::{Page, QueryError, Window};

/// Rows that one page looks at; those that a filter has to read a payload for, fewer.
pub(super) const LOOKED_AT: usize = 10_000;
pub(super) const PAYLOADS_LOOKED_AT: usize = 500;
const FIRST_READ: usize = 256;
const LARGEST_READ: usize = 4_096;

/// Rows of one list. `Key` orders them and is in the id that clients go on with.
pub(super) trait List: Sync {
    type Key: Clone + Send + Sync;
    type Item: Send + Sync;

    fn parse<'a>(&'a self, mark: &'a str) -> Result<Self::Key, QueryError>;

    fn id(&self, key: &Self::Key) -> String;

    /// Up to `limit` rows beyond `mark`, in rising order of keys or in falling; fewer only where there are no more.
    /// A row without an item is passed over.
    #[allow(clippy::type_complexity, reason = "it is said once")]
    fn fetch<'a>(
        &'a self,
        mark: Option<&'a Self::Key>,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Self::Key, Option<Self::Item>)>, QueryError>>;

    /// Whether the filter lets it through.
    fn keeps<'a>(&'a self, item: &'a Self::Item) -> BoxFuture<'a, Result<bool, QueryError>>;

    /// Whether it lets everything through.
    fn keeps_all(&self) -> bool;

    fn looks_at(&self) -> usize {
        LOOKED_AT
    }
}

pub(super) async fn page<L: List>(list: &L, window: &Window) -> Result<Page<L::Item>, QueryError> {
    let descending = window.descending != window.back;
    let mut mark = window.mark.as_deref().map(|mark| list.parse(mark)).transpose()?;
    let mut kept: Vec<(L::Key, L::Item)> = Vec::new();
    let mut looked_at = 0;
    let mut read = if list.keeps_all() { window.limit + 1 } else { FIRST_READ.max(window.limit + 1) };
    // Whether there may be more.
    let more = loop {
        read = read.min(list.looks_at().saturating_sub(looked_at)).max(1);
        let rows = list.fetch(mark.as_ref(), descending, read).await?;
        let last = rows.len() < read;
        for (key, item) in rows {
            mark = Some(key.clone());
            looked_at += 1;
            let Some(item) = item else { continue };
            if list.keeps(&item).await? {
                kept.push((key, item));
                if kept.len() > window.limit {
                    break;
                }
            }
        }
        if kept.len() > window.limit {
            kept.pop();
            mark = None;
            break true;
        }
        if last {
            mark = None;
            break false;
        }
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

/// A list that is in memory.
pub(super) struct InMemory<K, T> {
    /// In rising order of keys.
    pub(super) rows: Vec<(K, T)>,
    pub(super) parse: fn(&str) -> Result<K, QueryError>,
    pub(super) id: fn(&K) -> String,
}

impl<K: Clone + Ord + Send + Sync, T: Clone + Send + Sync> List for InMemory<K, T> {
    type Key = K;
    type Item = T;

    fn parse<'a>(&'a self, mark: &'a str) -> Result<K, QueryError> {
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
    ) -> BoxFuture<'a, Result<Vec<(K, Option<T>)>, QueryError>> {
        let show = |(key, item): &(K, T)| (key.clone(), Some(item.clone()));
        let rows = if descending {
            let end = mark.map_or(self.rows.len(), |mark| self.rows.partition_point(|(key, _)| key < mark));
            self.rows[..end].iter().rev().take(limit).map(show).collect()
        } else {
            let begin = mark.map_or(0, |mark| self.rows.partition_point(|(key, _)| key <= mark));
            self.rows[begin..].iter().take(limit).map(show).collect()
        };
        Box::pin(std::future::ready(Ok(rows)))
    }

    fn keeps<'a>(&'a self, _: &'a T) -> BoxFuture<'a, Result<bool, QueryError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn keeps_all(&self) -> bool {
        true
    }
}
