//! The part of a filter that the database decides, so that rows which nobody wants are not brought here.

use crate::{MessageFilter, store::Value};

/// A condition on `messages m` that lets through what the filter does, and perhaps more; its values are appended to
/// `values`. Nothing where every message is wanted.
pub(super) fn of(filter: &MessageFilter, values: &mut Vec<Value>) -> Option<String> {
    let mut named = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let mut conditions = Vec::new();
    if !filter.event_types.is_empty() {
        let types: Vec<String> =
            filter.event_types.iter().map(|event_type| named(Value::Text(event_type.clone()))).collect();
        conditions.push(format!("m.event_type IN ({})", types.join(", ")));
    }
    for (column, wanted) in [("channels", &filter.channel), ("tags", &filter.tag)] {
        if let Some(wanted) = wanted {
            conditions.push(format!("m.{column} LIKE {} ESCAPE '!'", named(Value::Text(among(wanted)))));
        }
    }
    if let Some(after) = filter.after {
        conditions.push(format!("m.accepted_at >= {}", named(Value::Int(after.as_micros()))));
    }
    if let Some(before) = filter.before {
        conditions.push(format!("m.accepted_at < {}", named(Value::Int(before.as_micros()))));
    }
    all(conditions.into_iter().map(Some))
}

/// What meets all of them.
pub(super) fn all(conditions: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    conditions.into_iter().flatten().reduce(|all, one| format!("{all} AND {one}"))
}

/// A pattern for JSON arrays that this text is in. (SQLite takes capital letters for small ones.)
fn among(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut pattern = String::with_capacity(json.len() + 2);
    pattern.push('%');
    for character in json.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
