#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn spec(webhooks: Value) -> Value {
    let mut spec = json!({ "openapi": "3.1.0" });
    spec["webhooks"] = webhooks;
    spec
}

fn hook(schema: Value) -> Value {
    let mut hook = json!({ "post": { "requestBody": { "content": { "application/json": {} } } } });
    hook["post"]["requestBody"]["content"]["application/json"]["schema"] = schema;
    hook
}

fn one(spec: &Value) -> Checked {
    event_types("spec", spec).unwrap().remove(0).checked
}

fn refused(spec: &Value) -> FieldError {
    event_types("spec", spec).map(drop).unwrap_err().fields()[0].clone()
}

#[test]
fn a_webhook_becomes_an_event_type() {
    let mut described = spec(json!({ "order.paid": hook(json!({ "type": "object" })) }));
    let operation = &mut described["webhooks"]["order.paid"]["post"];
    operation["description"] = "Paid".into();
    operation["summary"] = "Not this".into();
    operation["deprecated"] = true.into();
    operation[GROUP] = "orders".into();
    operation[FLAGS] = json!(["beta"]);
    let Checked { settings, archived } = one(&described);
    assert_eq!((settings.description.as_str(), settings.deprecated, archived), ("Paid", true, false));
    assert_eq!(settings.schemas, Some(json!({ "1": { "type": "object" } })));
    assert_eq!(settings.group_name.as_deref(), Some("orders"));
    assert_eq!(settings.feature_flags, Some(vec!["beta".to_owned()]));

    let bare = one(&spec(json!({ "a": { "post": { "summary": "Short" } } }))).settings;
    assert_eq!((bare.description.as_str(), bare.schemas), ("Short", None));
}

#[test]
fn what_a_schema_refers_to_comes_along() {
    let mut document = spec(json!({ "a": hook(json!({ "$ref": "#/components/schemas/Order" })) }));
    document["components"]["schemas"] = json!({
        "Order": { "properties": { "of": { "$ref": "#/components/schemas/Customer/properties/id" } } },
        "Customer": { "properties": { "id": {}, "friend": { "$ref": "#/components/schemas/Customer" } } },
        "Unused": {},
    });
    let schema = json!({
        "$ref": "#/$defs/Order",
        "$defs": {
            "Order": { "properties": { "of": { "$ref": "#/$defs/Customer/properties/id" } } },
            "Customer": { "properties": { "id": {}, "friend": { "$ref": "#/$defs/Customer" } } },
        },
    });
    assert_eq!(one(&document).settings.schemas, Some(json!({ "1": schema })));
}

#[test]
fn webhooks_and_bodies_may_stand_elsewhere() {
    let document = json!({
        "openapi": "3.0.3",
        "x-webhooks": { "a": { "$ref": "#/components/pathItems/Hook" } },
        "components": {
            "pathItems": { "Hook": { "post": { "requestBody": { "$ref": "#/components/requestBodies/Body" } } } },
            "requestBodies": { "Body": { "content": { "application/vnd.a+json; v=1": { "schema": {} } } } },
        },
    });
    assert_eq!(one(&document).settings.schemas, Some(json!({ "1": {} })));
}

#[test]
fn yaml_is_read_within_bounds() {
    let text = "openapi: 3.1.0\nwebhooks:\n  order.paid:\n    post:\n      description: Paid\n";
    assert_eq!(one(&parse(text).unwrap()).settings.description, "Paid");
    let mut laughs = "l0: &l0 [x]\n".to_owned();
    for n in 1..12 {
        let ten = vec![format!("*l{}", n - 1); 10].join(",");
        laughs = format!("{laughs}l{n}: &l{n} [{ten}]\n");
    }
    for wrong in ["a: [", "{\"a\":", &laughs, &"- ".repeat(2_000)] {
        assert_eq!(parse(wrong).unwrap_err().fields()[0].loc, ["body", "specRaw"], "{wrong:.40}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let place = |document: &Value| refused(document).loc.join(" ");
    assert_eq!(place(&json!({ "swagger": "2.0" })), "body spec openapi");
    assert_eq!(place(&json!({ "openapi": "3.1.0" })), "body spec webhooks");
    assert_eq!(place(&spec(json!([]))), "body spec webhooks");
    assert_eq!(place(&spec(json!({ "a b": hook(json!({})) }))), "body spec webhooks a b name");
    assert_eq!(place(&spec(json!({ "a": {} }))), "body spec webhooks a post");
    let missing = spec(json!({ "a": hook(json!({ "$ref": "#/components/schemas/None" })) }));
    assert!(refused(&missing).msg.contains("None"), "{:?}", refused(&missing));
    let many = (0..=limits::IMPORT_EVENT_TYPES).map(|n| (format!("a{n}"), json!({ "post": {} })));
    assert_eq!(place(&spec(Value::Object(many.collect()))), "body spec webhooks");
}

/// A schema that many webhooks refer to is not copied without end.
#[test]
fn what_comes_along_is_bounded() {
    let hooks = (0..500).map(|n| (format!("a{n}"), hook(json!({ "$ref": "#/components/schemas/Large" }))));
    let mut document = spec(Value::Object(hooks.collect()));
    document["components"]["schemas"]["Large"] = json!({ "enum": vec![1; 10_000] });
    assert!(refused(&document).msg.contains("in all"), "{:?}", refused(&document));
}
