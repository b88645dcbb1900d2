//! What the tour checks with. The first thing that is wrong ends it.

use anyhow::{Result, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A body as the SDK types it: only what it knows of gets through.
pub(crate) fn input<T: DeserializeOwned>(body: Value) -> T {
    serde_json::from_value(body).expect("the SDK knows these fields")
}

/// An answer as the SDK parsed it, written again.
pub(crate) fn shown<T: Serialize>(parsed: T) -> Value {
    serde_json::to_value(parsed).expect("what was parsed can be written")
}

/// The same without some of its fields.
pub(crate) fn without(mut shown: Value, fields: &[&str]) -> Value {
    if let Some(object) = shown.as_object_mut() {
        object.retain(|name, _| !fields.contains(&name.as_str()));
    }
    shown
}

#[derive(Default)]
pub(crate) struct Checks(pub(crate) u32);

impl Checks {
    pub(crate) fn equal<A, B>(&mut self, what: &str, found: &A, expected: B) -> Result<()>
    where
        A: PartialEq<B> + std::fmt::Debug + ?Sized,
        B: std::fmt::Debug,
    {
        self.0 += 1;
        ensure!(*found == expected, "{what}: {found:?} is not {expected:?}");
        Ok(())
    }

    pub(crate) fn prefixed(&mut self, what: &str, found: &Value, prefix: &str) -> Result<()> {
        self.0 += 1;
        let right = found.as_str().is_some_and(|text| text.starts_with(prefix));
        ensure!(right, "{what}: {found} does not begin with {prefix}");
        Ok(())
    }

    pub(crate) fn between(&mut self, what: &str, found: &Value, least: u64, most: u64) -> Result<()> {
        self.0 += 1;
        let right = found.as_u64().is_some_and(|found| (least..=most).contains(&found));
        ensure!(right, "{what}: {found} is not {least} to {most}");
        Ok(())
    }

    /// Something, and not nothing.
    pub(crate) fn says(&mut self, what: &str, found: &Value) -> Result<()> {
        self.0 += 1;
        ensure!(found.as_str().is_some_and(|text| !text.trim().is_empty()), "{what}: {found} says nothing");
        Ok(())
    }

    /// A time that the SDK could parse.
    pub(crate) fn moment(&mut self, what: &str, found: &Value) -> Result<()> {
        self.0 += 1;
        ensure!(
            found.as_str().is_some_and(|text| text.starts_with("20") && text.contains('T')),
            "{what}: {found} is no time"
        );
        Ok(())
    }

    /// A list that ends with this page. Its iterators are those fields of its first and last item.
    pub(crate) fn last_page(&mut self, what: &str, list: &Value, field: &str) -> Result<()> {
        self.equal(&format!("{what}: done"), &list["done"], true)?;
        let items = list["data"].as_array().cloned().unwrap_or_default();
        let (Some(first), Some(last)) = (items.first(), items.last()) else { bail!("{what}: nothing") };
        self.equal(&format!("{what}: iterator"), &list["iterator"], last[field].clone())?;
        let previous = format!("-{}", first[field].as_str().unwrap_or_default());
        self.equal(&format!("{what}: prevIterator"), &list["prevIterator"], previous)
    }

    /// The same of one whose iterators begin so.
    pub(crate) fn last_page_of(&mut self, what: &str, list: &Value, prefix: &str) -> Result<()> {
        self.equal(&format!("{what}: done"), &list["done"], true)?;
        self.prefixed(&format!("{what}: iterator"), &list["iterator"], prefix)?;
        self.prefixed(&format!("{what}: prevIterator"), &list["prevIterator"], &format!("-{prefix}"))
    }

    /// It must have been refused with this status; gives the body of the answer as the SDK parsed it.
    pub(crate) fn refused(
        &mut self,
        what: &str,
        status: u16,
        outcome: Result<(), (u16, Value)>,
    ) -> Result<Value> {
        self.0 += 1;
        match outcome {
            Err((found, body)) if found == status => Ok(body),
            Err((found, body)) => bail!("{what}: not {status} but {found}: {body}"),
            Ok(()) => bail!("{what}: not refused"),
        }
    }

    /// The same of an error with a code and a text.
    pub(crate) fn refused_as(
        &mut self,
        what: &str,
        (status, code): (u16, &str),
        outcome: Result<(), (u16, Value)>,
    ) -> Result<()> {
        let body = self.refused(what, status, outcome)?;
        self.equal(&format!("{what}: code"), &body["code"], code)?;
        self.says(&format!("{what}: detail"), &body["detail"])
    }

    /// The same of wrong fields: the place of the first.
    pub(crate) fn invalid(
        &mut self,
        what: &str,
        place: Value,
        outcome: Result<(), (u16, Value)>,
    ) -> Result<()> {
        let body = self.refused(what, 422, outcome)?;
        let first = &body["detail"][0];
        self.equal(&format!("{what}: place"), &first["loc"], place)?;
        self.says(&format!("{what}: text"), &first["msg"])?;
        self.equal(&format!("{what}: type"), &first["type"], "value_error")
    }
}
