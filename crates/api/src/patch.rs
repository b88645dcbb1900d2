//! PATCH: what is left out stays, what is null goes back to its default.

use fanfare_http::{ApiError, parse_value};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The body of a PATCH: an object.
pub(crate) type Patch = Map<String, Value>;

/// Lays `patch` over `current`. `aliases` are (former name, name).
pub(crate) fn merge<T: Serialize + DeserializeOwned>(
    current: &T,
    patch: &Patch,
    aliases: &[(&str, &str)],
) -> Result<T, ApiError> {
    let mut merged = serde_json::to_value(current).expect("a form has only text keys");
    let fields = merged.as_object_mut().expect("a form is an object");
    for (name, value) in patch {
        let alias = aliases.iter().find(|(former, _)| former == name);
        let name = match alias {
            Some((_, canonical)) => match patch.get(*canonical) {
                None => (*canonical).to_owned(),
                Some(Value::Null) => continue,
                // The other one counts; this one must be right all the same.
                Some(_) => name.clone(),
            },
            None => name.clone(),
        };
        if value.is_null() {
            fields.remove(&name);
        } else {
            fields.insert(name, value.clone());
        }
    }
    parse_value(merged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Form {
        a: Option<u32>,
        b: Option<u32>,
        #[serde(skip_serializing)]
        old: Option<u32>,
    }

    fn form(a: Option<u32>, b: Option<u32>) -> Form {
        Form { a, b, old: None }
    }

    fn merged(patch: &Value) -> Result<Form, ApiError> {
        merge(&form(Some(1), Some(2)), patch.as_object().unwrap(), &[("old", "a")])
    }

    #[test]
    fn null_clears_and_missing_keeps() {
        assert_eq!(merged(&json!({"a": 3, "unknown": 1})).unwrap(), form(Some(3), Some(2)));
        assert_eq!(merged(&json!({"a": null})).unwrap(), form(None, Some(2)));
        assert_eq!(merged(&json!({"old": 4})).unwrap(), form(Some(4), Some(2)));
        assert_eq!(merged(&json!({"old": 4, "a": 5})).unwrap().a, Some(5));
        assert_eq!(merged(&json!({"old": 4, "a": null})).unwrap(), form(None, Some(2)));
        assert_eq!(merged(&json!({"old": "text", "a": 5})).unwrap_err().status(), 422);
        assert_eq!(merged(&json!({"b": "text"})).unwrap_err().status(), 422);
    }
}
