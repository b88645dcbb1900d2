//! What is copied of each kind of thing, and what of it differs between two servers.
//!
//! Servers show the same in different forms: left out, null or at its default; lists in another order; under the name
//! that a field had formerly. Both sides are brought to one form before they are compared.

use serde_json::{Map, Value};

/// A thing as a server shows it, or as it is sent.
pub(crate) type Object = Map<String, Value>;

/// A field that is copied.
pub(crate) struct Field {
    name: &'static str,
    /// Its name in older versions.
    former: Option<&'static str>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Null, an empty text or object, and `false` are the default.
    Plain,
    /// The same, and so is this number.
    From(u64),
    /// A set of names. One alone, as it was formerly, is a set too.
    Names,
    /// Fanfare's own. A server that does not show it has no say.
    Own,
}

const fn field(name: &'static str, form: Form) -> Field {
    Field { name, former: None, form }
}

const fn renamed(name: &'static str, former: &'static str, form: Form) -> Field {
    Field { name, former: Some(former), form }
}

pub(crate) const APPLICATION: &[Field] = &[
    field("name", Form::Plain),
    field("uid", Form::Plain),
    renamed("throttleRate", "rateLimit", Form::Plain),
    field("metadata", Form::Plain),
    field("publishRate", Form::Own),
    field("ordering", Form::Own),
];

pub(crate) const EVENT_TYPE: &[Field] = &[
    field("description", Form::Plain),
    field("archived", Form::Plain),
    field("deprecated", Form::Plain),
    renamed("featureFlags", "featureFlag", Form::Names),
    field("groupName", Form::Plain),
    field("schemas", Form::Plain),
];

pub(crate) const ENDPOINT: &[Field] = &[
    field("url", Form::Plain),
    field("uid", Form::Plain),
    field("description", Form::Plain),
    field("version", Form::From(1)),
    field("disabled", Form::Plain),
    renamed("eventTypes", "filterTypes", Form::Names),
    field("channels", Form::Names),
    renamed("throttleRate", "rateLimit", Form::Plain),
    field("metadata", Form::Plain),
    field("ordering", Form::Own),
    field("retrySchedule", Form::Own),
    field("parkAfterSecs", Form::Own),
    field("block", Form::Own),
    field("maxInFlight", Form::Own),
    field("timeoutSecs", Form::Own),
];

impl Field {
    /// Its value in the one form; null if it is the default.
    fn of(&self, object: &Object) -> Value {
        let shown = |name: &str| object.get(name).filter(|value| !value.is_null());
        let value = shown(self.name).or_else(|| shown(self.former?)).cloned().unwrap_or_default();
        match (self.form, value) {
            (Form::Own, value) => value,
            (Form::From(default), value) if value == default => Value::Null,
            (Form::Names, Value::Array(names)) if names.is_empty() => Value::Null,
            (Form::Names, name @ Value::String(_)) => Value::Array(vec![name]),
            (_, Value::Bool(false)) => Value::Null,
            (_, Value::String(text)) if text.is_empty() => Value::Null,
            (_, Value::Object(fields)) if fields.is_empty() => Value::Null,
            (_, value) => value,
        }
    }

    fn is_equal(&self, one: &Value, other: &Value) -> bool {
        match (self.form, one, other) {
            (Form::Names, Value::Array(one), Value::Array(other)) => {
                one.iter().all(|name| other.contains(name)) && other.iter().all(|name| one.contains(name))
            }
            _ => one == other,
        }
    }

    /// Whether a server that shows `object` says what this field is to be.
    fn is_said(&self, object: &Object) -> bool {
        self.form != Form::Own || object.contains_key(self.name)
    }
}

/// The fields that make a thing like `source` where there is none.
pub(crate) fn creation(fields: &[Field], source: &Object) -> Object {
    let set = fields.iter().map(|field| (field.name.to_owned(), field.of(source)));
    set.filter(|(_, value)| !value.is_null()).collect()
}

/// The fields of `target` that are not as in `source`, with what they are to be: null for the default.
pub(crate) fn changes(fields: &[Field], source: &Object, target: &Object) -> Object {
    let mut changes = Object::new();
    for field in fields.iter().filter(|field| field.is_said(source)) {
        let wanted = field.of(source);
        if !field.is_equal(&wanted, &field.of(target)) {
            changes.insert(field.name.to_owned(), wanted);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().cloned().unwrap_or_default()
    }

    fn changed(fields: &[Field], source: &Value, target: &Value) -> Value {
        Value::Object(changes(fields, &object(source), &object(target)))
    }

    #[test]
    fn the_same_in_another_form_is_equal() {
        for (fields, one, other) in [
            (
                APPLICATION,
                json!({"name": "A", "rateLimit": 5}),
                json!({"name": "A", "throttleRate": 5, "rateLimit": 5}),
            ),
            (APPLICATION, json!({"name": "A"}), json!({"name": "A", "metadata": {}, "throttleRate": null})),
            (EVENT_TYPE, json!({"featureFlag": "a"}), json!({"featureFlag": "a", "featureFlags": ["a"]})),
            (EVENT_TYPE, json!({"archived": false, "featureFlags": []}), json!({"description": ""})),
            (ENDPOINT, json!({"filterTypes": ["a", "b"]}), json!({"eventTypes": ["b", "a"], "version": 1})),
            (ENDPOINT, json!({"channels": ["x"], "id": "ep_1"}), json!({"channels": ["x"], "id": "ep_2"})),
        ] {
            assert_eq!(changed(fields, &one, &other), json!({}), "{one} {other}");
            assert_eq!(changed(fields, &other, &one), json!({}), "{other} {one}");
        }
    }

    #[test]
    fn what_differs_is_named_with_what_it_is_to_be() {
        for (fields, source, target, expected) in [
            (
                APPLICATION,
                json!({"name": "A"}),
                json!({"name": "B", "metadata": {"k": "v"}}),
                json!({"name": "A", "metadata": null}),
            ),
            (
                APPLICATION,
                json!({"metadata": {"k": "w"}}),
                json!({"metadata": {"k": "v"}}),
                json!({"metadata": {"k": "w"}}),
            ),
            (EVENT_TYPE, json!({"archived": true}), json!({"archived": false}), json!({"archived": true})),
            (EVENT_TYPE, json!({}), json!({"schemas": {"1": {}}}), json!({"schemas": null})),
            (
                ENDPOINT,
                json!({"filterTypes": ["a"]}),
                json!({"eventTypes": ["a", "b"]}),
                json!({"eventTypes": ["a"]}),
            ),
            (ENDPOINT, json!({"version": 2}), json!({"version": 1}), json!({"version": 2})),
            (
                ENDPOINT,
                json!({"rateLimit": 3}),
                json!({"rateLimit": 4, "throttleRate": 4}),
                json!({"throttleRate": 3}),
            ),
        ] {
            assert_eq!(changed(fields, &source, &target), expected, "{source} {target}");
        }
    }

    #[test]
    fn what_only_fanfare_has_counts_only_where_it_is_shown() {
        let target = json!({"ordering": "keyed", "retrySchedule": [1, 2], "block": true});
        assert_eq!(changed(ENDPOINT, &json!({}), &target), json!({}));
        let source = json!({"ordering": null, "retrySchedule": [2, 1], "block": true});
        assert_eq!(changed(ENDPOINT, &source, &target), json!({"ordering": null, "retrySchedule": [2, 1]}));
    }

    #[test]
    fn a_thing_is_made_of_what_is_not_default() {
        let source = json!({"id": "ep_1", "url": "https://a.example", "uid": "e", "description": "", "version": 1,
            "disabled": true, "filterTypes": ["a"], "channels": null, "rateLimit": 7, "metadata": {},
            "createdAt": "…", "ordering": "keyed"});
        let expected = json!({"url": "https://a.example", "uid": "e", "disabled": true, "eventTypes": ["a"],
            "throttleRate": 7, "ordering": "keyed"});
        assert_eq!(Value::Object(creation(ENDPOINT, &object(&source))), expected);
    }
}
