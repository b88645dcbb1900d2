#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser as _;
use fanfare_core::{SystemEntropy, signature::Signer};

use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const BODY: &[u8] = br#"{"order": 17}"#;
const AT: i64 = 1_700_000_000;

fn args(more: &[&str]) -> Args {
    let always = ["verify", "--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "--body", "-"];
    Cli::try_parse_from(always.iter().chain(more)).unwrap().args
}

/// A key and what it signed.
fn request(key: &SigningKey) -> Signed {
    let signature = Signer::new(vec![key.clone()]).signature_header("msg_1", AT, BODY);
    Signed { id: "msg_1".into(), timestamp: AT.to_string(), signature }
}

fn symmetric() -> (SigningKey, Vec<VerifyingKey>) {
    let key = SigningKey::generate_symmetric(&SystemEntropy);
    let verifying = super::key(&key.to_string()).unwrap();
    (key, vec![verifying])
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn what_was_signed_is_valid_for_five_minutes() {
    let (key, keys) = symmetric();
    let signed = request(&key);
    for now in [Some(at(AT)), Some(at(AT + 300)), Some(at(AT - 300)), None] {
        assert_eq!(check(&keys, &signed, BODY, now), Ok(()));
    }
    let old = check(&keys, &signed, BODY, Some(at(AT + 301))).unwrap_err();
    assert_eq!((old.check, old.reason.contains("301 s old")), ("age", true), "{old:?}");
    let ahead = check(&keys, &signed, BODY, Some(at(AT - 400))).unwrap_err();
    assert!(ahead.reason.contains("400 s in the future"), "{ahead:?}");
}

#[test]
fn any_change_is_found() {
    let (key, keys) = symmetric();
    let signed = request(&key);
    let (_, others) = symmetric();
    let changed = [
        check(&keys, &signed, b"{\"order\": 18}", None),
        check(&others, &signed, BODY, None),
        check(&keys, &Signed { id: "msg_2".into(), ..signed.clone() }, BODY, None),
        check(&keys, &Signed { timestamp: (AT + 1).to_string(), ..signed.clone() }, BODY, None),
    ];
    for result in changed {
        assert_eq!(result.unwrap_err().check, "signature");
    }
    // One of several keys is enough.
    let both: Vec<VerifyingKey> = others.into_iter().chain(keys).collect();
    assert_eq!(check(&both, &signed, BODY, None), Ok(()));
}

#[test]
fn a_public_key_checks_what_its_private_key_signed() {
    let private =
        "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
    let key: SigningKey = private.parse().unwrap();
    let signed = request(&key);
    let public = super::key(&key.public_key().unwrap()).unwrap();
    assert_eq!(check(&[public], &signed, BODY, None), Ok(()));
    assert_eq!(check(&[super::key(private).unwrap()], &signed, BODY, None), Ok(()));
    let (_, wrong_kind) = symmetric();
    let failure = check(&wrong_kind, &signed, BODY, None).unwrap_err();
    assert!(failure.reason.contains("no signature of the key's kind"), "{failure:?}");
}

#[test]
fn malformed_headers_are_named() {
    let (key, keys) = symmetric();
    let signed = request(&key);
    let late = Signed { timestamp: "yesterday".into(), ..signed.clone() };
    let bare = Signed { signature: "c2lnbmF0dXJl".into(), ..signed };
    for (signed, named) in [(late, "`yesterday`"), (bare, "`c2lnbmF0dXJl`")] {
        let failure = check(&keys, &signed, BODY, None).unwrap_err();
        assert_eq!((failure.check, failure.reason.contains(named)), ("headers", true), "{failure:?}");
    }
}

#[test]
fn headers_are_found_among_others_in_either_spelling() {
    let wanted = Signed { id: "msg_1".into(), timestamp: "17".into(), signature: "v1,a= v1,b=".into() };
    let given = |prefix: &str| {
        let lines = [("id", "msg_1"), ("timestamp", "17"), ("signature", " v1,a= v1,b= ")];
        let mut more = vec!["-H".to_owned(), "content-type: application/json".to_owned()];
        for (name, value) in lines {
            more.extend(["-H".to_owned(), format!("{prefix}{name}:{value}")]);
        }
        more
    };
    for prefix in ["webhook-", "Svix-", "WEBHOOK-"] {
        let more = given(prefix);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        assert_eq!(signed(&args(&more)).unwrap(), wanted, "{prefix}");
    }
    let more = given("acme-");
    let mut more: Vec<&str> = more.iter().map(String::as_str).collect();
    assert!(signed(&args(&more)).unwrap_err().reason.contains("webhook-id is missing"));
    more.extend(["--header-prefix", "acme"]);
    assert_eq!(signed(&args(&more)).unwrap(), wanted);
    let options = ["--id", "msg_1", "--timestamp", "17", "--signature", "v1,a= v1,b="];
    assert_eq!(signed(&args(&options)).unwrap(), wanted);
}

#[test]
fn headers_that_are_no_headers_are_refused() {
    let refused = |more: &[&str]| signed(&args(more)).unwrap_err().reason;
    assert!(refused(&["-H", "webhook-id msg_1"]).contains("not `name: value`"));
    assert!(refused(&["-H", "webhook-id: a", "-H", "webhook-id: b"]).contains("twice"));
    assert!(refused(&["-H", "webhook-id:"]).contains("empty"));
}
