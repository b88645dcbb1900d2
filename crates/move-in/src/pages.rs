//! A list, page by page.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{client::Client, compare::Object, error::Error, limits};

pub(crate) struct Pages {
    /// With its query, to which more is added.
    list: String,
    size: usize,
    iterator: Option<String>,
    is_done: bool,
}

impl Pages {
    pub(crate) fn of(list: impl Into<String>) -> Self {
        Self { list: list.into(), size: limits::PAGE, iterator: None, is_done: false }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self, client: &mut Client) -> Result<Option<Vec<Object>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let page = loop {
            match client.get(&self.path()).await {
                Err(Error::TooLong { .. }) if self.size > 1 => self.size /= 2,
                page => break page?,
            }
        };
        let Some((objects, done)) = objects(&page) else {
            let path = self.path();
            return Err(client.not_compatible(format!("GET {path} answers no list with `data` and `done`")));
        };
        self.is_done = done;
        if !done {
            let next = page["iterator"].as_str().map(str::to_owned);
            if next.is_none() || next == self.iterator {
                let path = self.path();
                return Err(client.not_compatible(format!("GET {path} answers no iterator that goes on")));
            }
            self.iterator = next;
        }
        Ok(Some(objects))
    }

    fn path(&self) -> String {
        let sign = if self.list.contains('?') { '&' } else { '?' };
        let path = format!("{}{sign}limit={}", self.list, self.size);
        match &self.iterator {
            Some(iterator) => format!("{path}&iterator={}", escaped(iterator)),
            None => path,
        }
    }
}

fn objects(page: &Value) -> Option<(Vec<Object>, bool)> {
    let objects = page["data"].as_array()?.iter().map(|object| object.as_object().cloned());
    Some((objects.collect::<Option<_>>()?, page["done"].as_bool()?))
}

/// As a segment of a path, or a value of a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a String takes all");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_would_take_for_its_own_is_escaped() {
        assert_eq!(escaped("ep_1-a.B~"), "ep_1-a.B~");
        assert_eq!(escaped("a/b?c#d e%ä"), "a%2Fb%3Fc%23d%20e%25%C3%A4");
    }
}
