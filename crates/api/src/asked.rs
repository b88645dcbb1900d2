//! The query string of a list: what is wanted of it.

use std::fmt::Display;

use axum::extract::FromRequestParts;
use fanfare_core::Timestamp;
use fanfare_http::{ApiError, FieldError, Fields, Query};
use http::request::Parts;

/// 2015 and 2140.
const EARLIEST: Timestamp = Timestamp::from_secs(1_420_070_400);
const LATEST: Timestamp = Timestamp::from_secs(5_364_662_400);

/// The parameters as they were given, and what was found wrong with them so far. What nobody asks for is passed over.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pairs: Vec<(String, String)>,
    wrong: Fields,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        Ok(Self { pairs, wrong: Fields::default() })
    }
}

impl Asked {
    /// A parameter that can be given once. An empty one is none.
    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(key, value)| key == name && !value.is_empty());
        let first = values.next().map(|(_, value)| value.clone());
        if values.next().is_some() {
            self.wrong(name, "must be given once");
        }
        first
    }

    /// A parameter with several values: given several times, also as `name[]` or `name[0]`, or with commas between them,
    /// as clients do.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let is_it = |key: &str| {
            key.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || (rest.starts_with('[') && rest.ends_with(']')))
        };
        let values = self.pairs.iter().filter(|(key, _)| is_it(key));
        let mut all: Vec<String> = Vec::new();
        for value in values.flat_map(|(_, value)| value.split(',')).map(str::trim) {
            if !value.is_empty() && !all.iter().any(|known| known == value) {
                all.push(value.to_owned());
            }
        }
        all
    }

    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "must be true or false", |text| text.parse().ok())
    }

    /// As far as ids can tell times apart: what lies beyond is as early, or as late, as can be.
    pub(crate) fn time(&mut self, name: &str) -> Option<Timestamp> {
        let at = self.parsed(name, "must be a time such as 2026-01-31T12:00:00Z", time)?;
        Some(at.clamp(EARLIEST, LATEST))
    }

    /// One of these words.
    pub(crate) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("must be one of {}", names.join(", "));
        self.parsed(name, message, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// Notes what is wrong with a parameter.
    pub(crate) fn wrong(&mut self, name: &str, message: impl Display) {
        self.wrong.push(FieldError::at("query", [name], message.to_string()));
    }

    /// The 422 for all that was noted.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        self.wrong.finish()
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        message: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(&self.one(name)?);
        if parsed.is_none() {
            self.wrong(name, message);
        }
        parsed
    }
}

/// As clients write it: some leave the offset out and mean UTC, or name it, and a `+` that nobody escaped has become a
/// space.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim_end_matches(" UTC");
    let forms = [text.to_owned(), format!("{text}Z"), text.replace(' ', "+")];
    forms.iter().find_map(|form| form.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Asked {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Asked { pairs, wrong: Fields::default() }
    }

    #[test]
    fn values_come_with_commas_or_one_by_one() {
        let asked = asked("a=1,2&b=9&a[]=3&a=&a[1]=2, 4&ab=5");
        assert_eq!(asked.all("a"), ["1", "2", "3", "4"]);
        assert!(asked.all("c").is_empty());
    }

    #[test]
    fn times_come_in_every_form_that_clients_write() {
        let at = Timestamp::from_secs(1_700_000_000);
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.000Z",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20.000000 UTC",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T23:13:20 01:00",
        ] {
            assert_eq!(asked(&format!("at={text}")).time("at"), Some(at), "{text}");
        }
    }

    #[test]
    fn one_answer_names_all_that_is_wrong() {
        let mut asked = asked("at=noon&flag=yes&word=c&twice=1&twice=2&empty=");
        assert_eq!(asked.time("at"), None);
        assert_eq!(asked.flag("flag"), None);
        assert_eq!(asked.word("word", &[("a", 1), ("b", 2)]), None);
        asked.one("twice");
        assert_eq!(asked.time("empty"), None);
        let error = asked.finish().unwrap_err();
        let named: Vec<&str> = error.fields().iter().map(|field| field.loc[1].as_str()).collect();
        assert_eq!(named, ["at", "flag", "word", "twice"]);
    }
}
