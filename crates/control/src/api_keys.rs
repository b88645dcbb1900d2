//! API keys: made here, shown once, kept as a digest.
//!
//! ```text
//! fan_ · id 27 · _ · secret 43 · checksum 6        all of 0-9 A-Z a-z
//!
//! id       := that of the key (key_…), by which it is found
//! secret   := 256 bits at random
//! checksum := CRC-32 of all before it: what was cut off or mistyped is told without a look at any key
//! digest   := HMAC-SHA256(key derived from the main secret, all before the checksum)      kept in `control`
//! ```
//!
//! The secret is random and long: a slow hash would guard nothing. Whoever has `control` but not the main secret cannot
//! even tell whether a key is one of it.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_core::{ApiKeyId, Entropy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::secrets::MainSecret;

const PREFIX: &str = "fan_";
/// Left out in a key.
const ID_PREFIX: &str = "key_";
const ID_CHARACTERS: usize = 27;
/// 43 of 62 characters are 256.03 bits.
const SECRET_CHARACTERS: usize = 43;
const CHECKSUM_CHARACTERS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What is kept of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

/// A key that is well-formed: its checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WellFormed<'a> {
    pub(crate) id: ApiKeyId,
    /// What the digest is of.
    digested: &'a str,
}

/// Makes and checks keys.
pub(crate) struct ApiKeys(hmac::Key);

/// Whether a bearer token is meant to be a key.
pub(crate) fn is_api_key(token: &str) -> bool {
    token.starts_with(PREFIX)
}

pub(crate) fn parse(key: &str) -> Option<WellFormed<'_>> {
    let is_ascii = key.len() == PREFIX.len() + ID_CHARACTERS + 1 + SECRET_CHARACTERS + CHECKSUM_CHARACTERS
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_ascii || !is_api_key(key) {
        return None;
    }
    let (digested, given) = key.split_at(key.len() - CHECKSUM_CHARACTERS);
    let (id, secret) = digested[PREFIX.len()..].split_at(ID_CHARACTERS);
    if checksum(digested) != given || !secret.starts_with('_') {
        return None;
    }
    let id = format!("{ID_PREFIX}{id}").parse().ok()?;
    Some(WellFormed { id, digested })
}

impl ApiKeys {
    pub(crate) fn new(main_secret: &MainSecret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &main_secret.api_key_key()))
    }

    /// The key as it is shown once, and what is kept of it.
    pub(crate) fn make(&self, id: ApiKeyId, entropy: &dyn Entropy) -> (String, KeyDigest) {
        let id = id.to_string();
        let id = id.strip_prefix(ID_PREFIX).expect("an id begins with its prefix");
        let mut key = format!("{PREFIX}{id}_");
        let length = key.len() + SECRET_CHARACTERS;
        while key.len() < length {
            for byte in entropy.bytes::<SECRET_CHARACTERS>() {
                // The rest of the values would make some characters likelier than others.
                let place = usize::from(byte);
                if place < ALPHABET.len() * 4 && key.len() < length {
                    key.push(char::from(ALPHABET[place % ALPHABET.len()]));
                }
            }
        }
        let digest = hmac::sign(&self.0, key.as_bytes());
        let digest = KeyDigest(digest.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes"));
        let checksum = checksum(&key);
        (key + &checksum, digest)
    }

    /// In constant time.
    pub(crate) fn is_right(&self, key: &WellFormed<'_>, digest: &KeyDigest) -> bool {
        hmac::verify(&self.0, key.digested.as_bytes(), &digest.0).is_ok()
    }
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.map(char::from).iter().collect()
}

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use fanfare_core::SystemEntropy;
    use proptest::prelude::*;

    use super::*;

    fn keys(byte: u8) -> ApiKeys {
        ApiKeys::new(&MainSecret::from_bytes([byte; 32]))
    }

    fn id() -> ApiKeyId {
        ApiKeyId::from_bytes([5; 20])
    }

    #[test]
    fn a_key_is_right_for_its_digest_under_its_main_secret() {
        let (key, digest) = keys(1).make(id(), &SystemEntropy);
        assert!(key.starts_with("fan_") && key.len() == 81, "{key}");
        let parsed = parse(&key).unwrap();
        assert_eq!(parsed.id, id());
        assert!(keys(1).is_right(&parsed, &digest));
        assert!(!keys(2).is_right(&parsed, &digest));
        let (other, others) = keys(1).make(id(), &SystemEntropy);
        assert_ne!(key, other);
        assert!(!keys(1).is_right(&parsed, &others));
        assert!(!keys(1).is_right(&parse(&other).unwrap(), &digest));

        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<KeyDigest>(&json).unwrap(), digest);
        let secret = &key[32..75];
        assert!(!json.contains(secret) && !format!("{digest:?}").contains(&json[1..9]));
    }

    #[test]
    fn every_character_counts() {
        let (key, _) = keys(1).make(id(), &SystemEntropy);
        for place in 0..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[place] = if wrong[place] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(parse(&wrong), None, "{place}");
            assert_eq!(parse(&key[..place]), None, "{place}");
        }
        assert_eq!(parse(&format!("{key}0")), None);
    }

    /// All of the alphabet comes up, each about as often as any other.
    #[test]
    fn secrets_are_even() {
        let mut counts = [0_u32; 62];
        for _ in 0..1_000 {
            let (key, _) = keys(1).make(id(), &SystemEntropy);
            for byte in key[32..75].bytes() {
                counts[ALPHABET.iter().position(|one| *one == byte).unwrap()] += 1;
            }
        }
        // 693 each on average, with a deviation of 26.
        assert!(counts.iter().all(|count| (500..900).contains(count)), "{counts:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn garbage_never_panics(text in "\\PC{0,100}", ascii in "fan_[ -~]{77}") {
            prop_assert_eq!(parse(&text), None);
            prop_assert_eq!(parse(&ascii), None);
        }
    }
}
