//! What is to be written at the target for one thing: a pure function of what both sides show of it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::signature::SigningKey;
use serde_json::{Value, json};

use crate::{
    compare::{APPLICATION, ENDPOINT, EVENT_TYPE, Object, changes, creation},
    error::Error,
};

/// One request.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Step {
    /// All of it.
    Make(Object),
    /// The fields that differ.
    Change(Object),
    /// An endpoint's secret; the former one signs beside it for a while.
    Secret(String),
    /// Headers of an endpoint; null takes one away.
    Headers(Object),
}

/// What cannot be copied of an endpoint that is copied itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The source hides their values, and the target has none.
    Headers(Vec<String>),
    /// The private half of an ed25519 key.
    PrivateKey,
    /// What the source makes of a message before it sends it.
    Transformation,
}

/// An endpoint as one side shows it.
#[derive(Clone, Default)]
pub(crate) struct Endpoint {
    pub(crate) fields: Object,
    /// `whsec_…`, or `whpk_…` where the key itself is not shown.
    pub(crate) secret: String,
    /// With names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Names of those whose values are hidden.
    pub(crate) hidden: BTreeSet<String>,
    pub(crate) is_transformed: bool,
}

#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct EndpointPlan {
    /// In this order: an endpoint is not enabled before it signs and sends what it must.
    pub(crate) steps: Vec<Step>,
    pub(crate) missing: Vec<Missing>,
}

/// An application or endpoint as it is to be at the target: one without uid is called by its id there too.
pub(crate) fn with_uid(mut source: Object) -> Result<(String, Object), Error> {
    let text = |name: &str| source.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let uid = text("uid").or_else(|| text("id")).ok_or(Error::Missing("id"))?.to_owned();
    source.insert("uid".to_owned(), uid.as_str().into());
    Ok((uid, source))
}

pub(crate) fn application(source: &Object, target: Option<&Object>) -> Option<Step> {
    match target {
        None => Some(Step::Make(creation(APPLICATION, source))),
        Some(target) => change(changes(APPLICATION, source, target)),
    }
}

pub(crate) fn event_type(source: &Object, target: Option<&Object>) -> Option<Step> {
    match target {
        None => Some(Step::Make(creation(EVENT_TYPE, source))),
        Some(target) => change(changes(EVENT_TYPE, source, target)),
    }
}

fn change(changes: Object) -> Option<Step> {
    (!changes.is_empty()).then_some(Step::Change(changes))
}

/// With `hold`, an endpoint is made disabled; and so is one of which something is missing, or its receiver would be sent
/// what it refuses. One that is there and enabled was enabled on purpose and stays so, unless the source disabled it.
pub(crate) fn endpoint(source: &Endpoint, target: Option<&Endpoint>, hold: bool) -> EndpointPlan {
    let secret = secret(&source.secret, target.map(|target| target.secret.as_str()));
    let (headers, no_values) = headers(source, target);
    let mut missing = Vec::new();
    if !no_values.is_empty() {
        missing.push(Missing::Headers(no_values));
    }
    if secret == Secret::Hidden {
        missing.push(Missing::PrivateKey);
    }
    if source.is_transformed {
        missing.push(Missing::Transformation);
    }
    let mut wanted = source.fields.clone();
    let is_held = target.is_none_or(|target| is_disabled(&target.fields)) && (hold || !missing.is_empty());
    wanted.insert("disabled".to_owned(), (is_disabled(&source.fields) || is_held).into());
    let mut steps = Vec::new();
    let Some(target) = target else {
        let mut body = creation(ENDPOINT, &wanted);
        match secret {
            Secret::Set(secret) => drop(body.insert("secret".to_owned(), secret.into())),
            // Of the right kind at least: its owner may as well be given the new public key.
            Secret::Hidden => drop(body.insert("secretType".to_owned(), "ed25519".into())),
            Secret::Equal => {}
        }
        if !source.headers.is_empty() {
            body.insert("headers".to_owned(), json!(source.headers));
        }
        return EndpointPlan { steps: vec![Step::Make(body)], missing };
    };
    if let Secret::Set(secret) = secret {
        steps.push(Step::Secret(secret));
    }
    if !headers.is_empty() {
        steps.push(Step::Headers(headers));
    }
    steps.extend(change(changes(ENDPOINT, &wanted, &target.fields)));
    EndpointPlan { steps, missing }
}

fn is_disabled(fields: &Object) -> bool {
    fields.get("disabled") == Some(&Value::Bool(true))
}

#[derive(PartialEq, Eq)]
enum Secret {
    Equal,
    Set(String),
    /// The source does not show what signs.
    Hidden,
}

fn secret(source: &str, target: Option<&str>) -> Secret {
    let is_equal = target.is_some_and(|target| source == target || verifies(source) == verifies(target));
    if is_equal {
        Secret::Equal
    } else if source.starts_with("whpk_") {
        Secret::Hidden
    } else {
        Secret::Set(source.to_owned())
    }
}

/// The secret in the form in which Fanfare shows it.
fn verifies(secret: &str) -> String {
    let key = secret.parse::<SigningKey>();
    key.map_or_else(|_| secret.to_owned(), |key| key.public_key().unwrap_or_else(|| key.to_string()))
}

/// What is to be changed of the headers, and the names of those whose values nobody tells.
fn headers(source: &Endpoint, target: Option<&Endpoint>) -> (Object, Vec<String>) {
    let nothing = Endpoint::default();
    let target = target.unwrap_or(&nothing);
    let mut changes = Object::new();
    for (name, value) in &source.headers {
        // One that the target hides was set there. Whether to the same, nobody can tell.
        if target.headers.get(name) != Some(value) && !target.hidden.contains(name) {
            changes.insert(name.clone(), value.as_str().into());
        }
    }
    let is_there = |name: &String| target.headers.contains_key(name) || target.hidden.contains(name);
    let no_values = source.hidden.iter().filter(|name| !is_there(name)).cloned().collect();
    for name in target.headers.keys().chain(&target.hidden) {
        if !source.headers.contains_key(name) && !source.hidden.contains(name) {
            changes.insert(name.clone(), Value::Null);
        }
    }
    (changes, no_values)
}
