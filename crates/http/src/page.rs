//! Query strings, and lists that are read page by page.

use axum::extract::FromRequestParts;
use fanfare_core::limits;
use http::request::Parts;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ApiError, FieldError};

/// The parsed query string; 400 when it cannot be parsed.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        serde_urlencoded::from_str(query).map(Self).map_err(|_| explain::<T>(query))
    }
}

/// Parses it again, now with an eye on which parameter it is.
fn explain<T: DeserializeOwned>(query: &str) -> ApiError {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let parsed = serde_path_to_error::deserialize::<_, T>(serde_urlencoded::Deserializer::new(pairs));
    let text = parsed.err().map_or_else(|| "malformed".to_owned(), |error| error.to_string());
    ApiError::bad_request(format!("query string: {text}"))
}

/// Order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Order {
    #[serde(rename = "ascending", alias = "asc")]
    Ascending,
    #[serde(rename = "descending", alias = "desc")]
    Descending,
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 1 to [`limits::PAGE_MAX`].
    pub limit: usize,
    /// As an earlier page gave it: a key to go on behind, or `-` and a key to go back from.
    pub iterator: Option<String>,
    pub order: Option<Order>,
}

#[derive(Deserialize)]
struct PageIn {
    limit: Option<usize>,
    iterator: Option<String>,
    order: Option<Order>,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(page) = Query::<PageIn>::from_request_parts(parts, state).await?;
        let limit = page.limit.unwrap_or(limits::PAGE_DEFAULT);
        if !(1..=limits::PAGE_MAX).contains(&limit) {
            let message = format!("must be 1 to {}", limits::PAGE_MAX);
            return Err(ApiError::invalid(vec![FieldError::at("query", ["limit"], message)]));
        }
        let iterator = page.iterator.filter(|iterator| !iterator.is_empty());
        Ok(Self { limit, iterator, order: page.order })
    }
}

/// A page as clients parse it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub data: Vec<T>,
    /// Of the next page; also set on the last.
    pub iterator: Option<String>,
    pub prev_iterator: Option<String>,
    /// Nothing lies beyond this page in the direction it was asked for.
    pub done: bool,
}

/// Cuts a page out of `items`, which come in rising order of `key`.
pub fn paginate<I, K, T>(
    items: I,
    page: &Page,
    default_order: Order,
    key: K,
    show: impl FnMut(&I::Item) -> T,
) -> List<T>
where
    I: IntoIterator,
    K: Fn(&I::Item) -> String,
{
    let descending = page.order.unwrap_or(default_order) == Order::Descending;
    let mut items: Vec<I::Item> = items.into_iter().collect();
    if descending {
        items.reverse();
    }
    // In the order of the list, does `item` come behind `mark`?
    let behind = |item: &I::Item, mark: &str| match key(item).as_str().cmp(mark) {
        std::cmp::Ordering::Equal => false,
        order => order.is_lt() == descending,
    };
    let (from, to, done) = match page.iterator.as_deref() {
        Some(iterator) if iterator.starts_with('-') => {
            let mark = &iterator[1..];
            let to = items.partition_point(|item| key(item) != mark && !behind(item, mark));
            let from = to.saturating_sub(page.limit);
            (from, to, from == 0)
        }
        iterator => {
            let from = iterator.map_or(0, |mark| items.partition_point(|item| !behind(item, mark)));
            let to = items.len().min(from + page.limit);
            (from, to, to == items.len())
        }
    };
    let shown = &items[from..to];
    List {
        iterator: shown.last().map(&key),
        prev_iterator: shown.first().map(|item| format!("-{}", key(item))),
        data: shown.iter().map(show).collect(),
        done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: usize, iterator: Option<&str>, order: Order) -> List<char> {
        let page = Page { limit, iterator: iterator.map(Into::into), order: Some(order) };
        paginate('a'..='e', &page, Order::Ascending, char::to_string, |item| *item)
    }

    fn shown(list: &List<char>) -> (String, bool) {
        (list.data.iter().collect(), list.done)
    }

    /// Going on with the iterator of each page shows everything once, in either order, and back again.
    #[test]
    fn pages_meet_without_gaps() {
        for (order, all) in [(Order::Ascending, "abcde"), (Order::Descending, "edcba")] {
            for limit in 1..=6 {
                let (mut seen, mut iterator, mut pages) = (String::new(), None, Vec::new());
                loop {
                    let list = page(limit, iterator.as_deref(), order);
                    seen.extend(&list.data);
                    iterator.clone_from(&list.iterator);
                    let done = list.done;
                    pages.push(list);
                    if done {
                        break;
                    }
                }
                assert_eq!(seen, all);
                for back in pages.windows(2) {
                    let list = page(limit, back[1].prev_iterator.as_deref(), order);
                    assert_eq!(list.data, back[0].data);
                }
            }
        }
    }

    #[test]
    fn an_iterator_may_name_what_is_gone() {
        assert_eq!(shown(&page(2, Some("bb"), Order::Ascending)), ("cd".into(), false));
        assert_eq!(shown(&page(2, Some("-bb"), Order::Ascending)), ("ab".into(), true));
        assert_eq!(shown(&page(2, Some("bb"), Order::Descending)), ("ba".into(), true));
        let past = page(2, Some("z"), Order::Ascending);
        assert_eq!((shown(&past), past.iterator), ((String::new(), true), None));
    }
}
