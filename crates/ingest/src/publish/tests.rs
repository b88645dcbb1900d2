#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use axum::response::IntoResponse as _;

use super::*;

/// 2030-01-01T00:00:00Z.
const DELIVER_BY: Timestamp = Timestamp::from_secs(1_893_456_000);

fn parse(body: &Bytes) -> Result<Parsed, ApiError> {
    super::parse(body, DELIVER_BY)
}

fn parsed(body: &str) -> Parsed {
    parse(&Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// Status and body text of the refusal.
fn refused(body: &str) -> (u16, String) {
    let error = parse(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
    let status = error.status().as_u16();
    (status, format!("{:?}", error.into_response().extensions().get::<ApiError>()))
}

#[test]
fn keeps_the_payload_byte_for_byte() {
    let payload = "{ \"b\":1.50,\n\t\"a\" : \"\\u00e4\u{e4}\", \"a\":[ ] , \"big\": 12345678901234567890123}";
    for field in ["payload", "data"] {
        let body = format!(r#"{{"eventType":"invoice.paid", "{field}" :  {payload}  , "unknown": [1]}}"#);
        assert_eq!(parsed(&body).message.payload, payload);
    }
}

#[test]
fn takes_all_fields() {
    let message = parsed(
        r#"{"eventType": "invoice.paid", "payload": {}, "eventId": "e-1", "channels": ["a", "b", "a"],
            "orderingKey": "customer 7", "tags": ["t"], "payloadRetentionPeriod": 5,
            "deliverAt": "2030-01-01T01:00:00+01:00"}"#,
    );
    let expected = MessageIn {
        event_type: "invoice.paid".into(),
        event_id: Some("e-1".into()),
        channels: vec!["a".into(), "b".into()],
        ordering_key: Some("customer 7".into()),
        tags: vec!["t".into()],
        payload_retention_hours: 5 * 24,
        deliver_at: Some(DELIVER_BY),
        payload: Bytes::from_static(b"{}"),
        only_for: None,
    };
    assert_eq!(message.message, expected);
}

#[test]
fn a_payload_is_kept_for_days_or_hours() {
    let kept = |fields: &str| {
        let body = format!(r#"{{"eventType": "a", "payload": {{}}{fields}}}"#);
        parsed(&body).message.payload_retention_hours
    };
    assert_eq!(kept(""), 90 * 24);
    assert_eq!(kept(r#", "payloadRetentionPeriod": 90"#), 90 * 24);
    assert_eq!(kept(r#", "payloadRetentionHours": 3"#), 3);
    assert_eq!(kept(r#", "payloadRetentionHours": null"#), 90 * 24);
}

#[test]
fn delivers_a_raw_payload_as_it_is() {
    let body = r#"{"eventType": "a", "payload": {}, "transformationsParams": {"rawPayload": "<a>\n</a>"}}"#;
    let parsed = parsed(body);
    assert_eq!(parsed.message.payload, "<a>\n</a>");
    assert_eq!(parsed.payload_value, "{}");
}

#[test]
fn a_small_payload_does_not_keep_a_large_body() {
    let body = Bytes::from(format!(r#"{{"eventType":"a","payload":{{}},"junk":"{}"}}"#, "x".repeat(100_000)));
    let range = body.as_ptr_range();
    assert!(!range.contains(&parse(&body).unwrap().message.payload.as_ptr()));
}

#[test]
fn names_what_is_wrong() {
    let with = |fields: &str| format!(r#"{{"eventType": "a", "payload": {{}}, {fields}}}"#);
    let long = "x".repeat(257);
    for (body, field) in [
        (r#"{"payload": {}}"#.to_owned(), "eventType"),
        (r#"{"eventType": "a b", "payload": {}}"#.to_owned(), "eventType"),
        (format!(r#"{{"eventType": "{long}", "payload": {{}}}}"#), "eventType"),
        (r#"{"eventType": 7, "payload": {}}"#.to_owned(), "eventType"),
        (r#"{"eventType": "a"}"#.to_owned(), "payload"),
        (r#"{"eventType": "a", "payload": null}"#.to_owned(), "payload"),
        (r#"{"eventType": "a", "payload": [1]}"#.to_owned(), "payload"),
        (r#"{"eventType": "a", "payload": "{}"}"#.to_owned(), "payload"),
        (r#"{"eventType": "a", "payload": {}, "data": {}}"#.to_owned(), "payload"),
        (with(r#""eventId": "a/b""#), "eventId"),
        (with(r#""channels": []"#), "channels"),
        (with(r#""channels": ["1", "2", "3", "4", "5", "6"]"#), "channels"),
        (with(r#""channels": ["a", "b c"]"#), r#"["body", "channels", "1"]"#),
        (with(r#""channels": ["a", 1]"#), r#"["body", "channels", "1"]"#),
        (with(r#""orderingKey": """#), "orderingKey"),
        (with(r#""payloadRetentionPeriod": 4"#), "payloadRetentionPeriod"),
        (with(r#""payloadRetentionPeriod": 91"#), "payloadRetentionPeriod"),
        (with(r#""payloadRetentionHours": 0"#), "payloadRetentionHours"),
        (with(r#""payloadRetentionHours": 2161"#), "payloadRetentionHours"),
        (with(r#""payloadRetentionHours": 120, "payloadRetentionPeriod": 5"#), "payloadRetentionHours"),
        (with(r#""deliverAt": "tomorrow""#), "deliverAt"),
        (with(r#""deliverAt": 1893456000"#), "deliverAt"),
        (with(r#""deliverAt": "2030-01-01T00:00:01Z""#), "deliverAt"),
        (with(r#""tags": ["a b"]"#), "tags"),
    ] {
        let (status, text) = refused(&body);
        assert_eq!(status, 422, "{body}");
        assert!(text.contains(field), "{body}: {text}");
    }
}

#[test]
fn says_where_the_json_is_malformed() {
    for body in [
        "",
        "{",
        "{\"eventType\": \"a\",}",
        "nonsense",
        "{\"eventType\":\"a\",\"payload\":{\"a\":01}}",
        "{} x",
    ] {
        let (status, text) = refused(body);
        assert_eq!(status, 422, "{body}");
        assert!(text.contains("value_error.jsondecode") && text.contains("line 1 column"), "{body}: {text}");
    }
    let (_, text) = refused("[]");
    assert!(text.contains("value_error"), "{text}");
}

#[test]
fn a_payload_is_nested_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let inner = depth - 1;
        let payload = format!(r#"{{"a":{}1{}}}"#, "[".repeat(inner), "]".repeat(inner));
        format!(r#"{{"eventType":"a","payload":{payload}}}"#)
    };
    assert!(parse(&Bytes::from(nested(limits::PAYLOAD_DEPTH))).is_ok());
    for depth in [limits::PAYLOAD_DEPTH + 1, 100_000] {
        let (status, text) = refused(&nested(depth));
        assert!(status == 422 && text.contains("payload") && text.contains("128"), "{text}");
    }
    // Many beside one another, and such as are only text.
    let wide = format!(r#"{{"eventType":"a","payload":{{"a":[{}{{}}]}}}}"#, "[],".repeat(1_000));
    let text = format!(r#"{{"eventType":"a","payload":{{"a":"\"\\{}"}}}}"#, "[".repeat(1_000));
    for body in [wide, text] {
        assert!(parse(&Bytes::from(body.clone())).is_ok(), "{body}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let body = br#"{"eventType":"a","payload":{"a":"\u00e4"},"channels":["a"],"transformationsParams":{"rawPayload":"x"}}"#;
    for place in 0..body.len() {
        for byte in [0, b'"', b'{', b'\\', 0xff, b'9'] {
            let mut mangled = body.to_vec();
            mangled[place] = byte;
            let _ = parse(&Bytes::from(mangled));
            let _ = parse(&Bytes::copy_from_slice(&body[..place]));
        }
    }
}
