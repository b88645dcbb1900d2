//! Event types out of a document after `OpenAPI`: what stands there under `webhooks`.
//!
//! A webhook's name is the event type's, its POST operation brings the description, and the schema of its JSON body
//! becomes version 1 of the event type's. Schemas that it refers to come along under `$defs`, so that it can be read
//! without the document. Nothing is fetched: only what stands in the document is looked at.

use fanfare_core::limits;
use fanfare_http::{ApiError, FieldError};
use serde_json::{Map, Value, json};

use crate::event_type::{Checked, EventTypeForm};

const COMPONENTS: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/$defs/";
/// Of an operation, in this order.
const METHODS: [&str; 5] = ["post", "put", "patch", "delete", "get"];
const GROUP: &str = "x-svix-group-name";
const FLAGS: &str = "x-svix-feature-flags";

/// An event type that the document describes.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) checked: Checked,
}

/// Reads a document that is JSON or YAML.
pub(crate) fn parse(text: &str) -> Result<Value, ApiError> {
    if text.trim_start().starts_with('{') {
        let parsed = serde_json::from_str(text);
        return parsed
            .map_err(|error| ApiError::invalid_field("specRaw", format!("malformed JSON: {error}")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::PAYLOAD_DEPTH,
            max_nodes: limits::IMPORT_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::IMPORT_NODES,
        },
        with_snippet: false,
    };
    let parsed = serde_saphyr::from_str_with_options(text, options);
    parsed.map_err(|error| ApiError::invalid_field("specRaw", format!("malformed YAML: {error}")))
}

/// The event types of a document that came in `field`; 422 names what is wrong with which.
pub(crate) fn event_types(field: &str, spec: &Value) -> Result<Vec<Described>, ApiError> {
    let wrong = |path: &[&str], message: String| {
        let place = std::iter::once(field).chain(path.iter().copied());
        Err(ApiError::invalid(vec![FieldError::body(place, message)]))
    };
    if !spec["openapi"].as_str().is_some_and(|version| version.starts_with("3.")) {
        return wrong(&["openapi"], "must be the version of OpenAPI, 3.0 or later".to_owned());
    }
    let webhooks = ["webhooks", "x-webhooks"].iter().find_map(|name| spec.get(*name));
    let Some(webhooks) = webhooks.and_then(Value::as_object) else {
        return wrong(&["webhooks"], "must be an object: event types by name".to_owned());
    };
    let most = limits::IMPORT_EVENT_TYPES;
    if webhooks.len() > most {
        return wrong(&["webhooks"], format!("must be at most {most}"));
    }
    let mut bundler = Bundler { spec, nodes_left: limits::IMPORT_NODES };
    let described = webhooks.iter().map(|(name, webhook)| {
        let described = describe(&mut bundler, name, webhook);
        described.map_err(|error| error.below(&[field.to_owned(), "webhooks".to_owned(), name.clone()]))
    });
    described.collect()
}

fn describe<'a>(bundler: &mut Bundler<'a>, name: &str, webhook: &'a Value) -> Result<Described, ApiError> {
    let webhook = bundler.resolved(webhook);
    let Some(operation) = METHODS.iter().find_map(|method| webhook.get(*method)) else {
        return Err(ApiError::invalid_field("post", "is required: the operation that the webhook is"));
    };
    let text = |field: &str| operation[field].as_str().map(str::to_owned);
    let schema = match body_schema(bundler, operation) {
        Some(schema) => Some(json!({ "1": bundler.bundle(schema)? })),
        None => None,
    };
    let form = EventTypeForm {
        name: Some(name.to_owned()),
        description: text("description").or_else(|| text("summary")),
        archived: Some(false),
        deprecated: operation["deprecated"].as_bool(),
        feature_flag: None,
        feature_flags: flags(&operation[FLAGS]),
        group_name: text(GROUP),
        schemas: schema,
    };
    Ok(Described { name: name.to_owned(), checked: form.check(name)? })
}

fn flags(value: &Value) -> Option<Vec<String>> {
    let flags = value.as_array()?.iter().filter_map(Value::as_str);
    Some(flags.map(str::to_owned).collect())
}

/// The schema of an operation's JSON body.
fn body_schema<'a>(bundler: &Bundler<'a>, operation: &'a Value) -> Option<&'a Value> {
    let body = bundler.resolved(operation.get("requestBody")?);
    let content = body.get("content")?.as_object()?;
    let is_json = |(media_type, _): &(&String, &Value)| {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        essence == "application/json" || essence.ends_with("+json") || essence == "*/*"
    };
    content.iter().find(is_json)?.1.get("schema")
}

/// Copies schemas out of a document, as much as one import may bring.
struct Bundler<'a> {
    spec: &'a Value,
    nodes_left: usize,
}

impl<'a> Bundler<'a> {
    /// What is described, here or where it refers to.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        let pointer = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        pointer.and_then(|pointer| self.spec.pointer(pointer)).unwrap_or(value)
    }

    /// The schema with all that it refers to.
    fn bundle(&mut self, schema: &Value) -> Result<Value, ApiError> {
        let mut definitions = Map::new();
        let mut bundled = self.copy(schema, &mut definitions)?;
        if let Some(object) = bundled.as_object_mut().filter(|_| !definitions.is_empty()) {
            let own = object.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
            if let Some(own) = own.as_object_mut() {
                own.extend(definitions);
            }
        }
        Ok(bundled)
    }

    fn copy(&mut self, value: &Value, definitions: &mut Map<String, Value>) -> Result<Value, ApiError> {
        let Some(left) = self.nodes_left.checked_sub(1) else {
            let message = format!("has schemas of more than {} values in all", limits::IMPORT_NODES);
            return Err(ApiError::invalid_field("post", message));
        };
        self.nodes_left = left;
        match value {
            Value::Array(items) => {
                let copies = items.iter().map(|item| self.copy(item, definitions));
                copies.collect::<Result<Vec<Value>, ApiError>>().map(Value::Array)
            }
            Value::Object(fields) => {
                let mut copy = Map::new();
                for (name, field) in fields {
                    let copied = match field.as_str().and_then(|text| text.strip_prefix(COMPONENTS)) {
                        Some(target) if name == "$ref" => self.reference(target, definitions)?,
                        _ => self.copy(field, definitions)?,
                    };
                    copy.insert(name.clone(), copied);
                }
                Ok(Value::Object(copy))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
        }
    }

    /// Brings along what a schema refers to, once, also where it refers to itself.
    fn reference(&mut self, target: &str, definitions: &mut Map<String, Value>) -> Result<Value, ApiError> {
        let name = target.split('/').next().unwrap_or_default();
        if !definitions.contains_key(name) {
            let Some(schema) = self.spec.pointer(&format!("{}{name}", &COMPONENTS[1..])) else {
                let message = format!("refers to {COMPONENTS}{name}, which is not in the document");
                return Err(ApiError::invalid_field("post", message));
            };
            definitions.insert(name.to_owned(), Value::Null);
            let copy = self.copy(schema, definitions)?;
            definitions.insert(name.to_owned(), copy);
        }
        Ok(Value::String(format!("{DEFINITIONS}{target}")))
    }
}

#[cfg(test)]
mod tests;
