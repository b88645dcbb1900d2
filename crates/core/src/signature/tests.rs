#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use http::HeaderMap;
use proptest::{collection::vec, prelude::*};
use standardwebhooks::Webhook;

use super::*;
use crate::{Entropy, SystemEntropy, Timestamp};

const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: i64 = 1_614_265_330;
const PAYLOAD: &[u8] = br#"{"test": 2432232314}"#;

const SYMMETRIC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SYMMETRIC_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ED25519_SIGNATURE: &str =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

fn key(text: &str) -> SigningKey {
    text.parse().unwrap()
}

fn header(keys: &[&str]) -> String {
    Signer::new(keys.iter().copied().map(key).collect()).signature_header(ID, AT, PAYLOAD)
}

fn check(keys: &[&str], signatures: &str, now_secs: i64) -> Result<(), VerifyError> {
    let keys: Vec<VerifyingKey> = keys.iter().map(|text| text.parse().unwrap()).collect();
    verify(&keys, ID, &AT.to_string(), signatures, PAYLOAD, Timestamp::from_secs(now_secs))
}

#[test]
fn known_vectors_of_the_specification() {
    assert_eq!(header(&[SYMMETRIC]), SYMMETRIC_SIGNATURE);
    assert_eq!(header(&[PRIVATE]), ED25519_SIGNATURE);
    assert_eq!(check(&[SYMMETRIC], SYMMETRIC_SIGNATURE, AT), Ok(()));
    assert_eq!(check(&[PUBLIC], ED25519_SIGNATURE, AT), Ok(()));
    assert_eq!(key(PRIVATE).public_key().as_deref(), Some(PUBLIC));
    assert_eq!(key(SYMMETRIC).public_key(), None);
}

#[test]
fn several_secrets_sign_side_by_side() {
    let signatures = header(&[SYMMETRIC, PRIVATE]);
    assert_eq!(signatures, format!("{SYMMETRIC_SIGNATURE} {ED25519_SIGNATURE}"));
    let other = SigningKey::generate_symmetric(&SystemEntropy).to_string();
    assert_eq!(check(&[&other, SYMMETRIC], &signatures, AT), Ok(()));
    assert_eq!(check(&[&other, PUBLIC], &signatures, AT), Ok(()));
    assert_eq!(check(&[&other], &signatures, AT), Err(VerifyError::NoMatch));
    assert_eq!(Signer::new(Vec::new()).signature_header(ID, AT, PAYLOAD), "");
}

#[test]
fn header_is_written_without_growing() {
    let signatures = Signer::new(vec![key(PRIVATE), key(PRIVATE)]).signature_header(ID, AT, PAYLOAD);
    assert!(signatures.len() <= 2 * SIGNATURE_CHARACTERS);
}

#[test]
fn five_minutes_both_ways() {
    assert_eq!(check(&[SYMMETRIC], SYMMETRIC_SIGNATURE, AT + 300), Ok(()));
    assert_eq!(check(&[SYMMETRIC], SYMMETRIC_SIGNATURE, AT - 300), Ok(()));
    assert_eq!(check(&[SYMMETRIC], SYMMETRIC_SIGNATURE, AT + 301), Err(VerifyError::TooOld));
    assert_eq!(check(&[SYMMETRIC], SYMMETRIC_SIGNATURE, AT - 301), Err(VerifyError::TooNew));
}

#[test]
fn any_change_is_noticed() {
    let now = Timestamp::from_secs(AT);
    for (secret, signatures) in [(SYMMETRIC, SYMMETRIC_SIGNATURE), (PUBLIC, ED25519_SIGNATURE)] {
        let keys = [secret.parse().unwrap()];
        let at = AT.to_string();
        let later = (AT + 1).to_string();
        let refused = Err(VerifyError::NoMatch);
        assert_eq!(verify(&keys, ID, &at, signatures, PAYLOAD, now), Ok(()));
        assert_eq!(verify(&keys, ID, &at, signatures, br#"{"test": 2432232315}"#, now), refused);
        assert_eq!(verify(&keys, "msg_other", &at, signatures, PAYLOAD, now), refused);
        assert_eq!(verify(&keys, ID, &later, signatures, PAYLOAD, now), refused);
    }
}

#[test]
fn garbage_headers_are_refused() {
    for signatures in
        ["", " ", ",", "v1", "v2,abcd", "V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "\u{e9},\0"]
    {
        assert_eq!(check(&[SYMMETRIC], signatures, AT), Err(VerifyError::NoSignature), "{signatures:?}");
    }
    // An HMAC is no ed25519 signature, and the other way round.
    assert_eq!(check(&[PUBLIC], SYMMETRIC_SIGNATURE, AT), Err(VerifyError::NoSignature));
    for signatures in ["v1,", "v1,%%%", "v1,Zm9v", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="] {
        assert_eq!(check(&[SYMMETRIC], signatures, AT), Err(VerifyError::NoMatch), "{signatures:?}");
    }
    assert_eq!(check(&[PUBLIC], "v1a,Zm9v", AT), Err(VerifyError::NoMatch));
    let keys = [SYMMETRIC.parse().unwrap()];
    for timestamp in ["", "now", "1614265330.5", " 1614265330", "99999999999999999999"] {
        let verified = verify(&keys, ID, timestamp, SYMMETRIC_SIGNATURE, PAYLOAD, Timestamp::from_secs(AT));
        assert_eq!(verified, Err(VerifyError::Timestamp), "{timestamp:?}");
    }
    for timestamp in [i64::MIN, i64::MAX] {
        let verified =
            verify(&keys, ID, &timestamp.to_string(), SYMMETRIC_SIGNATURE, PAYLOAD, Timestamp::from_secs(AT));
        assert!(matches!(verified, Err(VerifyError::TooOld | VerifyError::TooNew)));
    }
}

#[test]
fn a_flood_of_signatures_is_not_checked_to_the_end() {
    let flood = "v1,AAAA ".repeat(crate::limits::SIGNATURES_CHECKED) + SYMMETRIC_SIGNATURE;
    assert_eq!(check(&[SYMMETRIC], &flood, AT), Err(VerifyError::NoMatch));
}

#[test]
fn keys_read_back_and_bad_ones_are_refused() {
    for text in [SYMMETRIC, PRIVATE] {
        assert_eq!(key(text).to_string(), text);
    }
    let seed_only = format!("whsk_{}", STANDARD.encode([7; 32]));
    assert_eq!(key(&key(&seed_only).to_string()).public_key(), key(&seed_only).public_key());
    assert!(SYMMETRIC.trim_end_matches('=').parse::<SigningKey>().is_ok(), "padding is optional");

    let bytes = |prefix: &str, count: usize| format!("{prefix}{}", STANDARD.encode(vec![7; count]));
    for bad in [String::new(), "whsec_".into(), "whsec_%".into(), bytes("whsec_", 76), bytes("whsk_", 31)] {
        assert!(bad.parse::<SigningKey>().is_err(), "{bad}");
    }
    assert_eq!(bytes("whsk_", 64).parse::<SigningKey>().unwrap_err(), KeyError::Mismatch);
    assert!(PUBLIC.parse::<SigningKey>().is_err(), "a public key signs nothing");
    assert!(bytes("whpk_", 33).parse::<VerifyingKey>().is_err());
    let small_order = format!("whpk_{}", STANDARD.encode([0; 32]));
    assert_eq!(small_order.parse::<VerifyingKey>().unwrap_err(), KeyError::Point);
    assert!(PRIVATE.parse::<VerifyingKey>().is_err(), "a private key is not a receiver's");
}

#[test]
fn strength_is_asked_for_where_secrets_are_made() {
    let of = |count: usize| key(&format!("whsec_{}", STANDARD.encode(vec![7; count])));
    assert_eq!(of(23).validate_strength(), Err(WeakKey { found: 23 }));
    assert_eq!(of(24).validate_strength(), Ok(()));
    assert_eq!(SigningKey::generate_symmetric(&SystemEntropy).validate_strength(), Ok(()));
    assert_eq!(SigningKey::generate_ed25519(&SystemEntropy).validate_strength(), Ok(()));
}

#[test]
fn secrets_are_never_printed_by_debug() {
    for text in [SYMMETRIC, PRIVATE] {
        let signer = Signer::new(vec![key(text)]);
        let verifying = key(text).verifying_key();
        let printed = format!("{signer:?} {verifying:?}");
        let secret = text.split_once('_').unwrap().1;
        assert!(!printed.contains(&secret[..8]), "{printed}");
        let raw = format!("{:?}", &key::decode(secret).unwrap()[..4]);
        assert!(!printed.contains(raw.trim_matches(['[', ']'])), "{printed}");
    }
}

/// Their clock is the machine's, so these sign with the machine's time.
fn now_secs() -> i64 {
    use crate::Clock as _;
    crate::SystemClock.now().as_secs()
}

#[test]
fn the_official_library_refuses_what_we_refuse() {
    let secret = SigningKey::generate_symmetric(&SystemEntropy);
    let theirs = Webhook::new(&secret.to_string()).unwrap();
    let signer = Signer::new(vec![secret]);
    let now = now_secs();
    let headers = |at: i64| {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", at.to_string().parse().unwrap());
        headers.insert("webhook-signature", signer.signature_header(ID, at, PAYLOAD).parse().unwrap());
        headers
    };
    assert!(theirs.verify(PAYLOAD, &headers(now)).is_ok());
    assert!(theirs.verify(b"{}", &headers(now)).is_err());
    let hour = i64::try_from(Duration::from_hours(1).as_secs()).unwrap();
    assert!(theirs.verify(PAYLOAD, &headers(now - hour)).is_err());
    assert!(theirs.verify(PAYLOAD, &headers(now + hour)).is_err());
    let another = SigningKey::generate_symmetric(&SystemEntropy).to_string();
    assert!(Webhook::new(&another).unwrap().verify(PAYLOAD, &headers(now)).is_err());
}

struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Ours verified by the official library, and the other way round, beside a second secret.
    #[test]
    fn the_official_library_agrees(
        secret in vec(any::<u8>(), 24..=64),
        id in "[a-zA-Z0-9_]{1,64}",
        payload in ".{0,500}",
    ) {
        let payload = payload.into_bytes();
        let ours = key(&format!("whsec_{}", STANDARD.encode(&secret)));
        let theirs = Webhook::from_bytes(secret).unwrap();
        let now = now_secs();

        let signer = Signer::new(vec![SigningKey::generate_ed25519(&Fixed(9)), key(SYMMETRIC), ours.clone()]);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", now.to_string().parse().unwrap());
        headers.insert("webhook-signature", signer.signature_header(&id, now, &payload).parse().unwrap());
        prop_assert!(theirs.verify(&payload, &headers).is_ok());

        let signatures = theirs.sign(&id, now, &payload).unwrap();
        let keys = [ours.verifying_key()];
        let verified =
            verify(&keys, &id, &now.to_string(), &signatures, &payload, Timestamp::from_secs(now));
        prop_assert_eq!(verified, Ok(()));
    }

    #[test]
    fn texts_never_panic(text in ".{0,120}", base64 in "[a-zA-Z0-9+/]{0,100}={0,2}") {
        let _ = text.parse::<SigningKey>();
        for prefix in ["whsec_", "whsk_", "whpk_"] {
            let text = format!("{prefix}{base64}");
            if let Ok(key) = text.parse::<SigningKey>() {
                prop_assert_eq!(key.to_string().parse::<SigningKey>().unwrap().to_string(), key.to_string());
            }
            let _ = text.parse::<VerifyingKey>();
        }
        let keys = [key(SYMMETRIC).verifying_key()];
        prop_assert!(verify(&keys, ID, &AT.to_string(), &text, PAYLOAD, Timestamp::from_secs(AT)).is_err());
    }
}
