//! Bodies that are wrong in every way that does not depend on what a route means by its fields.

use serde_json::{Map, Value};

use crate::support::Answer;

pub(super) struct Case {
    pub(super) name: String,
    pub(super) body: String,
    status: u16,
    /// What the answer has to name, if it is one field.
    field: Option<String>,
}

/// Nested far deeper than any parser bears.
const DEPTH: usize = 20_000;
/// A little more than is taken.
const OVERSIZE_BYTES: usize = (1 << 20) + 1;
/// The same of many messages at once.
const OVERSIZE_BATCH_BYTES: usize = (4 << 20) + 1;

/// Made from a body that is right.
pub(super) fn cases(route: &str, good: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, body: String, status, field: Option<&str>| {
        cases.push(Case { name: name.to_owned(), body, status, field: field.map(str::to_owned) });
    };
    for (name, body) in [
        ("half an object", r#"{"a":"#),
        ("a comma too many", r#"{"a":1,}"#),
        ("no JSON", "nonsense"),
        ("more than one value", "{} {}"),
        ("an array", "[]"),
        ("a text", r#""text""#),
        ("a number", "7"),
        ("null", "null"),
    ] {
        add(name, body.to_owned(), 422, None);
    }
    for length in [1, good.len() / 2, good.len() - 1] {
        let cut = good.char_indices().map(|(at, _)| at).take_while(|at| *at <= length).last();
        add("cut off", good[..cut.unwrap_or(1)].to_owned(), 422, None);
    }
    let oversize = if route.ends_with("/batch") { OVERSIZE_BATCH_BYTES } else { OVERSIZE_BYTES };
    add("too large", format!(r#"{{"pad":"{}"}}"#, "x".repeat(oversize)), 413, None);
    add("deep", "[".repeat(DEPTH), 422, None);

    let fields: Map<String, Value> = serde_json::from_str(good).unwrap();
    for field in fields.keys() {
        let mut with = |name: &str, value: &str| {
            let others = fields.iter().filter(|(other, _)| *other != field);
            let others: Vec<String> = others.map(|(name, value)| format!(r#""{name}":{value},"#)).collect();
            let others = others.concat();
            // The wrong one last, so that nothing else is noticed before it.
            let body = format!(r#"{{{others}"{field}":{value}}}"#);
            add(&format!("{field} is {name}"), body, 422, Some(field));
        };
        // Of no type that any field has.
        with("of a wrong type", r#"[[{"x":1}]]"#);
        with("a deep array", &format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH)));
        // In a field that is known there: what is unknown is passed over, whatever it is.
        let inner =
            fields[field].as_object().and_then(|object| object.keys().next()).map_or("a", String::as_str);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(DEPTH), "}".repeat(DEPTH));
        with("a deep object", &format!(r#"{{"{inner}":{deep}}}"#));
    }
    cases
}

impl Case {
    pub(super) fn judge(&self, answer: &Answer) -> Result<(), String> {
        if answer.status != self.status {
            return Err(format!("status is not {}", self.status));
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let detail = body["detail"].to_string();
        match &self.field {
            Some(field) if !detail.contains(field.as_str()) => Err(format!("{field} is not named")),
            _ if body["code"].as_str().is_none_or(str::is_empty) || detail.len() < 3 => {
                Err("says nothing".to_owned())
            }
            _ => Ok(()),
        }
    }
}
