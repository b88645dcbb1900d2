use serde_json::json;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn object(value: &Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

/// One that both sides show alike.
fn equal() -> Endpoint {
    Endpoint {
        fields: object(&json!({"uid": "e", "url": "https://a.example", "disabled": false})),
        secret: SECRET.to_owned(),
        headers: BTreeMap::from([("x-a".to_owned(), "1".to_owned())]),
        hidden: BTreeSet::from(["authorization".to_owned()]),
        is_transformed: false,
    }
}

fn disabled(mut endpoint: Endpoint) -> Endpoint {
    endpoint.fields.insert("disabled".to_owned(), true.into());
    endpoint
}

fn made(plan: &EndpointPlan) -> Value {
    match &plan.steps[..] {
        [Step::Make(body)] => Value::Object(body.clone()),
        steps => panic!("it is made at once: {steps:?}"),
    }
}

#[test]
fn one_without_uid_is_called_by_its_id() {
    for (source, expected) in [
        (json!({"id": "app_1", "uid": "a"}), Ok("a")),
        (json!({"id": "app_1", "uid": null}), Ok("app_1")),
        (json!({"id": "app_1", "uid": ""}), Ok("app_1")),
        (json!({"id": "app_1"}), Ok("app_1")),
        (json!({"name": "A"}), Err("it has no id".to_owned())),
    ] {
        let named = with_uid(object(&source)).map_err(|error| error.to_string());
        assert_eq!(named.as_ref().map(|(uid, _)| uid.as_str()), expected.as_ref().copied(), "{source}");
        assert!(named.is_err() || named.is_ok_and(|(uid, named)| named["uid"] == uid), "{source}");
    }
}

#[test]
fn what_is_not_there_is_made_and_what_is_equal_is_left_alone() {
    let source = object(&json!({"id": "app_1", "uid": "a", "name": "A", "rateLimit": 5}));
    let target = object(&json!({"id": "app_2", "uid": "a", "name": "A", "throttleRate": 5, "metadata": {}}));
    let expected = object(&json!({"uid": "a", "name": "A", "throttleRate": 5}));
    assert_eq!(application(&source, None), Some(Step::Make(expected)));
    assert_eq!(application(&source, Some(&target)), None);

    let source = object(&json!({"name": "n", "archived": true, "schemas": {"1": {"type": "object"}}}));
    let expected = object(&json!({"archived": true, "schemas": {"1": {"type": "object"}}}));
    assert_eq!(event_type(&source, None), Some(Step::Make(expected)));
    assert_eq!(event_type(&source, Some(&source)), None);
    let target = object(&json!({"name": "n", "archived": false, "schemas": {"1": {"type": "object"}}}));
    assert_eq!(event_type(&source, Some(&target)), Some(Step::Change(object(&json!({"archived": true})))));

    for hold in [false, true] {
        assert_eq!(endpoint(&equal(), Some(&equal()), hold), EndpointPlan::default());
    }
}

#[test]
fn an_endpoint_is_made_whole() {
    let source = Endpoint { hidden: BTreeSet::new(), ..equal() };
    let expected = json!({"uid": "e", "url": "https://a.example", "secret": SECRET, "headers": {"x-a": "1"}});
    let plan = endpoint(&source, None, false);
    assert_eq!((made(&plan), &plan.missing), (expected, &Vec::new()));
    assert_eq!(made(&endpoint(&source, None, true))["disabled"], true);
    assert_eq!(made(&endpoint(&disabled(source), None, false))["disabled"], true);
}

#[test]
fn it_signs_and_sends_what_it_must_before_it_is_enabled() {
    let mut target = disabled(equal());
    target.secret = OTHER.to_owned();
    target.headers = BTreeMap::from([("x-a".to_owned(), "2".to_owned()), ("x-b".to_owned(), "3".to_owned())]);
    target.hidden.insert("cookie".to_owned());
    let steps = endpoint(&equal(), Some(&target), false).steps;
    let expected = [
        Step::Secret(SECRET.to_owned()),
        Step::Headers(object(&json!({"x-a": "1", "x-b": null, "cookie": null}))),
        Step::Change(object(&json!({"disabled": null}))),
    ];
    assert_eq!(steps, expected);
}

/// Whoever switches over enables by a run without it.
#[test]
fn who_is_held_stays_disabled_and_who_was_enabled_stays_enabled() {
    let change = |source: &Endpoint, target: &Endpoint, hold| endpoint(source, Some(target), hold).steps;
    let enabled = Step::Change(object(&json!({"disabled": null})));
    let disables = Step::Change(object(&json!({"disabled": true})));
    assert_eq!(change(&equal(), &disabled(equal()), true), []);
    assert_eq!(change(&equal(), &disabled(equal()), false), [enabled]);
    for hold in [false, true] {
        assert_eq!(change(&disabled(equal()), &equal(), hold), std::slice::from_ref(&disables));
        assert_eq!(change(&disabled(equal()), &disabled(equal()), hold), []);
    }
}

#[test]
fn a_hidden_header_is_missing_until_somebody_set_it() {
    let plan = endpoint(&equal(), None, false);
    assert_eq!(plan.missing, [Missing::Headers(vec!["authorization".to_owned()])]);
    let body = made(&plan);
    assert_eq!((&body["disabled"], &body["headers"]), (&json!(true), &json!({"x-a": "1"})));

    let made = Endpoint { hidden: BTreeSet::new(), ..disabled(equal()) };
    let again = endpoint(&equal(), Some(&made), false);
    assert_eq!((again.steps, again.missing), (Vec::new(), plan.missing));
    let set = endpoint(&equal(), Some(&disabled(equal())), false);
    assert_eq!((set.steps.len(), set.missing), (1, Vec::new()));
    // What only the target hides cannot be compared.
    let shown = Endpoint {
        headers: BTreeMap::from([
            ("x-a".to_owned(), "1".to_owned()),
            ("authorization".to_owned(), "?".to_owned()),
        ]),
        hidden: BTreeSet::new(),
        ..equal()
    };
    assert_eq!(endpoint(&shown, Some(&equal()), false), EndpointPlan::default());
}

#[test]
fn of_an_ed25519_key_only_its_like_can_be_made() {
    let key: SigningKey =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
            .parse()
            .expect("the specification's example");
    let public = key.public_key().expect("of ed25519");
    let source = Endpoint { secret: public.clone(), hidden: BTreeSet::new(), ..equal() };
    let plan = endpoint(&source, None, false);
    assert_eq!(plan.missing, [Missing::PrivateKey]);
    let body = made(&plan);
    assert_eq!((&body["secretType"], &body["disabled"]), (&json!("ed25519"), &json!(true)));
    assert_eq!(body.get("secret"), None);

    // Its owner was given the new public key: that is nothing to undo.
    let target = Endpoint { secret: OTHER.to_owned(), ..source.clone() };
    let plan = endpoint(&source, Some(&target), false);
    assert_eq!((plan.steps, plan.missing), (Vec::new(), vec![Missing::PrivateKey]));
    // The operator rotated to the private key.
    assert_eq!(endpoint(&source, Some(&source), false), EndpointPlan::default());
    // A source that shows it.
    let shows = Endpoint { secret: key.to_string(), ..source.clone() };
    assert_eq!(endpoint(&shows, Some(&source), false), EndpointPlan::default());
    assert_eq!(made(&endpoint(&shows, None, false))["secret"], key.to_string());
}

#[test]
fn the_same_secret_in_another_form_is_equal() {
    let source = Endpoint { secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBk=".to_owned(), ..equal() };
    let target = Endpoint { secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBk".to_owned(), ..equal() };
    assert_eq!(endpoint(&source, Some(&target), false), EndpointPlan::default());
}

#[test]
fn what_the_source_transforms_is_made_disabled() {
    let source = Endpoint { is_transformed: true, hidden: BTreeSet::new(), ..equal() };
    let plan = endpoint(&source, None, false);
    assert_eq!((&made(&plan)["disabled"], plan.missing), (&json!(true), vec![Missing::Transformation]));
    let enabled = Endpoint { is_transformed: false, ..source.clone() };
    assert_eq!(endpoint(&source, Some(&enabled), false).steps, []);
}
