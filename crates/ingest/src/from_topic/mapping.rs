//! Where in a record the fields of a message stand.

use std::{cell::OnceCell, fmt::Write as _};

use fanfare_log::kafka::UserRecord;
use serde_json::Value;

/// Of a record: which application's message it is, and what of it is key and type. The value is the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    application: Place,
    event_type: Place,
    ordering_key: Option<Place>,
    /// `None`: the record's place in the topic.
    idempotency_key: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Header(String),
    /// The record's own.
    Key,
    /// JSON pointer (RFC 6901) into the value.
    Pointer(String),
    /// The same for all records.
    Text(String),
}

/// What is wrong with one entry of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    #[error("`{0}` is not FIELD=PLACE, such as application=header:tenant")]
    Form(String),
    #[error("`{0}` is none of application, event_type, ordering_key, idempotency_key")]
    Field(String),
    #[error("{field}: `{place}` is none of header:NAME, json:/POINTER, key, text:VALUE{extra}")]
    Place { field: &'static str, place: String, extra: &'static str },
    #[error("{0} is said twice")]
    Twice(&'static str),
}

/// What a record says of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) application: String,
    pub(super) event_type: String,
    pub(super) ordering_key: Option<String>,
    /// `None`: its place in the topic.
    pub(super) idempotency_key: Option<String>,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            application: Place::Header("fanfare-application".to_owned()),
            event_type: Place::Header("fanfare-event-type".to_owned()),
            ordering_key: Some(Place::Key),
            idempotency_key: None,
        }
    }
}

impl Mapping {
    /// Entries as `FIELD=PLACE`; fields that are not named stay as they are by default.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, MappingError> {
        let mut mapping = Self::default();
        let mut said = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let (field, place) = entry.split_once('=').ok_or_else(|| MappingError::Form(entry.to_owned()))?;
            let (field, place) = (field.trim(), place.trim());
            let known = ["application", "event_type", "ordering_key", "idempotency_key"];
            let field = known.into_iter().find(|known| *known == field);
            let field = field.ok_or_else(|| MappingError::Field(entry.to_owned()))?;
            if said.contains(&field) {
                return Err(MappingError::Twice(field));
            }
            said.push(field);
            match field {
                "application" => mapping.application = parse_place(field, place, "")?,
                "event_type" => mapping.event_type = parse_place(field, place, "")?,
                "ordering_key" if place == "none" => mapping.ordering_key = None,
                "ordering_key" => mapping.ordering_key = Some(parse_place(field, place, ", none")?),
                _ if place == "position" => mapping.idempotency_key = None,
                _ => mapping.idempotency_key = Some(parse_place(field, place, ", position")?),
            }
        }
        Ok(mapping)
    }

    /// What the record says, or what of it is missing or of another type.
    pub(super) fn read(&self, record: &UserRecord) -> Result<Mapped, String> {
        let read = Read { record, json: OnceCell::new() };
        let required = |field, place: &Place| {
            read.text(place)?.ok_or_else(|| format!("no {field}: the record has no {}", place.told()))
        };
        let optional = |place: &Option<Place>| place.as_ref().map_or(Ok(None), |place| read.text(place));
        Ok(Mapped {
            application: required("application", &self.application)?,
            event_type: required("event type", &self.event_type)?,
            ordering_key: optional(&self.ordering_key)?,
            idempotency_key: optional(&self.idempotency_key)?,
        })
    }
}

fn parse_place(field: &'static str, text: &str, extra: &'static str) -> Result<Place, MappingError> {
    let place = match text.split_once(':') {
        Some(("header", name)) if !name.is_empty() => Some(Place::Header(name.to_owned())),
        Some(("json", pointer)) if pointer.starts_with('/') => Some(Place::Pointer(pointer.to_owned())),
        Some(("text", value)) if !value.is_empty() => Some(Place::Text(value.to_owned())),
        None if text == "key" => Some(Place::Key),
        _ => None,
    };
    place.ok_or_else(|| MappingError::Place { field, place: text.to_owned(), extra })
}

impl Place {
    fn told(&self) -> String {
        match self {
            Self::Header(name) => format!("header `{name}`"),
            Self::Key => "key".to_owned(),
            Self::Pointer(pointer) => format!("`{pointer}` in its value"),
            Self::Text(_) => "text".to_owned(),
        }
    }
}

/// One record as it is read; its value is parsed at most once.
struct Read<'a> {
    record: &'a UserRecord,
    json: OnceCell<Result<Value, String>>,
}

impl Read<'_> {
    /// `None`: it is not there, or empty.
    fn text(&self, place: &Place) -> Result<Option<String>, String> {
        let text = match place {
            Place::Text(text) => Some(text.clone()),
            Place::Key => self.record.key.as_deref().map(text_or_hexadecimal),
            Place::Header(name) => match self.record.header(name).map(str::from_utf8) {
                None => None,
                Some(Ok(text)) => Some(text.to_owned()),
                Some(Err(_)) => return Err(format!("header `{name}` is not UTF-8")),
            },
            Place::Pointer(pointer) => match self.json()?.pointer(pointer) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                Some(_) => return Err(format!("`{pointer}` in its value is neither text nor a number")),
            },
        };
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn json(&self) -> Result<&Value, String> {
        let value = self.record.value.as_deref().unwrap_or_default();
        let parse =
            || serde_json::from_slice(value).map_err(|error| format!("its value is no JSON: {error}"));
        self.json.get_or_init(parse).as_ref().map_err(Clone::clone)
    }
}

/// Keys of many producers are numbers or records in binary: they order all the same.
fn text_or_hexadecimal(key: &[u8]) -> String {
    match str::from_utf8(key) {
        Ok(text) => text.to_owned(),
        Err(_) => key.iter().fold(String::with_capacity(key.len() * 2), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests;
