//! Which part of a list is wanted, and what came of it.

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub limit: usize,
    pub descending: bool,
    /// The id to go on behind, or to end before.
    pub mark: Option<String>,
    /// The page ends before `mark` instead of beginning behind it.
    pub back: bool,
}

impl Window {
    /// From what a client gave: `iterator` is an id to go on behind, or `-` and an id to go back from.
    pub fn new(limit: usize, iterator: Option<&str>, descending: bool) -> Self {
        let (mark, back) = match iterator.filter(|iterator| !iterator.is_empty()) {
            None => (None, false),
            Some(iterator) => match iterator.strip_prefix('-') {
                Some(mark) => (Some(mark.to_owned()), true),
                None => (Some(iterator.to_owned()), false),
            },
        };
        Self { limit, descending, mark, back }
    }
}

/// A page. It may be short, even empty, and not be the last: where a filter finds little, so many rows are looked at
/// and no more ([`crate::QueryError`] never tells of it; `done` does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// To go on with; also set on the last page, if there is anything on it.
    pub iterator: Option<String>,
    /// To go back with: begins with `-`.
    pub prev_iterator: Option<String>,
    /// Nothing lies beyond this page in the direction it was asked for.
    pub done: bool,
}

impl<T> Page<T> {
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        let Self { items, iterator, prev_iterator, done } = self;
        Page { items: items.into_iter().map(show).collect(), iterator, prev_iterator, done }
    }
}
