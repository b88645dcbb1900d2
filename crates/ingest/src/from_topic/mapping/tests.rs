#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use bytes::Bytes;

use super::*;

fn record(headers: &[(&str, &[u8])], key: Option<&[u8]>, value: &str) -> UserRecord {
    let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), Some(Bytes::copy_from_slice(value)));
    let headers = headers.iter().map(header).collect();
    UserRecord::new(
        3,
        7,
        key.map(Bytes::copy_from_slice),
        Some(Bytes::copy_from_slice(value.as_bytes())),
        headers,
    )
}

fn mapped(application: &str, ordering_key: Option<&str>, idempotency_key: Option<&str>) -> Mapped {
    Mapped {
        application: application.to_owned(),
        event_type: "order.paid".to_owned(),
        ordering_key: ordering_key.map(str::to_owned),
        idempotency_key: idempotency_key.map(str::to_owned),
    }
}

const HEADERS: [(&str, &[u8]); 2] = [("fanfare-application", b"acme"), ("fanfare-event-type", b"order.paid")];

#[test]
fn headers_and_the_key_by_default() {
    let mapping = Mapping::parse::<&str>(&[]).unwrap();
    assert_eq!(mapping, Mapping::default());
    let read = |key| mapping.read(&record(&HEADERS, key, "{}")).unwrap();
    assert_eq!(read(Some(b"o-1")), mapped("acme", Some("o-1"), None));
    assert_eq!(read(None), mapped("acme", None, None));
    assert_eq!(read(Some(b"")), mapped("acme", None, None), "what is empty is not there");
    assert_eq!(read(Some(&[0, 255])), mapped("acme", Some("00ff"), None), "a binary key orders too");
}

#[test]
fn places_in_the_value() {
    let entries = [
        "application=json:/tenant/id",
        "event_type = text:order.paid",
        "ordering_key=json:/a~1b",
        "idempotency_key=json:/n",
    ];
    let mapping = Mapping::parse(&entries).unwrap();
    let value = r#"{"tenant":{"id":"acme"},"a/b":"k","n":12}"#;
    assert_eq!(mapping.read(&record(&[], None, value)).unwrap(), mapped("acme", Some("k"), Some("12")));
    let value = r#"{"tenant":{"id":"acme"},"a/b":null}"#;
    assert_eq!(mapping.read(&record(&[], None, value)).unwrap(), mapped("acme", None, None));
    let value = r#"{"tenant":{"id":["acme"]}}"#;
    let error = mapping.read(&record(&[], None, value)).unwrap_err();
    assert!(error.contains("/tenant/id") && error.contains("neither"), "{error}");
    let error = mapping.read(&record(&[], None, "{")).unwrap_err();
    assert!(error.contains("no JSON"), "{error}");
}

#[test]
fn the_last_header_counts() {
    let mut headers = HEADERS.to_vec();
    headers.push(("fanfare-application", b"other"));
    let read = Mapping::default().read(&record(&headers, None, "{}")).unwrap();
    assert_eq!(read.application, "other");
}

#[test]
fn what_is_required_and_missing_is_named() {
    let mapping = Mapping::default();
    let error = mapping.read(&record(&HEADERS[1..], None, "{}")).unwrap_err();
    assert_eq!(error, "no application: the record has no header `fanfare-application`");
    let error = mapping.read(&record(&HEADERS[..1], None, "{}")).unwrap_err();
    assert_eq!(error, "no event type: the record has no header `fanfare-event-type`");
    let error = mapping.read(&record(&[("fanfare-application", &[255])], None, "{}")).unwrap_err();
    assert_eq!(error, "header `fanfare-application` is not UTF-8");
}

#[test]
fn what_is_no_mapping_is_told() {
    for (entry, part) in [
        ("application", "FIELD=PLACE"),
        ("app=key", "none of application"),
        ("application=tenant", "none of header:NAME"),
        ("application=header:", "none of header:NAME"),
        ("application=json:tenant", "json:/POINTER"),
        ("application=none", "none of header:NAME"),
        ("ordering_key=", "none"),
        ("idempotency_key=no", "position"),
    ] {
        let error = Mapping::parse(&[entry]).unwrap_err().to_string();
        assert!(error.contains(part), "{entry}: {error}");
    }
    let twice = Mapping::parse(&["ordering_key=none", "ordering_key=key"]);
    assert_eq!(twice, Err(MappingError::Twice("ordering_key")));
    assert_eq!(Mapping::parse(&["ordering_key=none"]).unwrap().ordering_key, None);
    let default = Mapping::parse(&["idempotency_key=position"]).unwrap();
    assert_eq!(default, Mapping::default());
}
