//! What a receiver does with the three headers and the body.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::ed25519::signature::MultipartVerifier as _;
use subtle::ConstantTimeEq as _;

use super::{
    KeyError,
    key::{SymmetricKey, decode},
};
use crate::{
    Timestamp,
    limits::{SIGNATURE_TOLERANCE, SIGNATURES_CHECKED},
};

/// Why a request is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the timestamp is not a whole number of seconds")]
    Timestamp,
    #[error("the timestamp is more than 5 minutes in the past")]
    TooOld,
    #[error("the timestamp is more than 5 minutes in the future")]
    TooNew,
    /// No signature in the header is of a kind that one of the keys can check.
    #[error("no signature of a known version")]
    NoSignature,
    #[error("no signature matches")]
    NoMatch,
}

/// What a receiver holds: a shared secret (`whsec_…`) or a public key (`whpk_…`).
#[derive(Clone)]
pub enum VerifyingKey {
    Symmetric(SymmetricKey),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

/// Accepts the request if one of its signatures was made by one of `keys` within five minutes of `now`.
/// `timestamp_header` is `webhook-timestamp`, `signature_header` is `webhook-signature`.
pub fn verify(
    keys: &[VerifyingKey],
    id: &str,
    timestamp_header: &str,
    signature_header: &str,
    payload: &[u8],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let signed_at = timestamp_header.parse().map(Timestamp::from_secs).map_err(|_| VerifyError::Timestamp)?;
    let now = Timestamp::from_secs(now.as_secs());
    if now.since(signed_at) > SIGNATURE_TOLERANCE {
        return Err(VerifyError::TooOld);
    }
    if signed_at.since(now) > SIGNATURE_TOLERANCE {
        return Err(VerifyError::TooNew);
    }

    // The timestamp goes in as it was received: what was signed is its text.
    let content = [id.as_bytes(), b".", timestamp_header.as_bytes(), b".", payload];
    let mut checked_any = false;
    for key in keys {
        let version = key.version();
        let expected = key.expected(&content);
        for signature in signature_header.split(' ').take(SIGNATURES_CHECKED) {
            let Some((_, base64)) = signature.split_once(',').filter(|&(name, _)| name == version) else {
                continue;
            };
            checked_any = true;
            let Ok(given) = STANDARD.decode(base64) else { continue };
            if expected.matches(&given, &content) {
                return Ok(());
            }
        }
    }
    Err(if checked_any { VerifyError::NoMatch } else { VerifyError::NoSignature })
}

/// What a key's signature is compared with: computed once, however many signatures the header holds.
enum Expected<'a> {
    Mac([u8; 32]),
    Ed25519(&'a ed25519_dalek::VerifyingKey),
}

impl Expected<'_> {
    fn matches(&self, given: &[u8], content: &[&[u8]]) -> bool {
        match self {
            Self::Mac(mac) => mac[..].ct_eq(given).into(),
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(given)
                .is_ok_and(|signature| key.multipart_verify(content, &signature).is_ok()),
        }
    }
}

impl VerifyingKey {
    fn version(&self) -> &'static str {
        match self {
            Self::Symmetric(_) => "v1",
            Self::Ed25519(_) => "v1a",
        }
    }

    fn expected(&self, content: &[&[u8]]) -> Expected<'_> {
        match self {
            Self::Symmetric(key) => Expected::Mac(key.mac(content)),
            Self::Ed25519(key) => Expected::Ed25519(key),
        }
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if let Some(base64) = text.strip_prefix("whsec_") {
            return SymmetricKey::parse(base64).map(Self::Symmetric);
        }
        let prefix = KeyError::Prefix { expected: "`whsec_` or `whpk_`" };
        let bytes = decode(text.strip_prefix("whpk_").ok_or(prefix)?)?;
        let length = KeyError::Length { expected: "32", found: bytes.len() };
        let bytes = <&[u8; 32]>::try_from(&bytes[..]).map_err(|_| length)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
        // Under a point of small order anybody can sign anything.
        if key.is_weak() { Err(KeyError::Point) } else { Ok(Self::Ed25519(Box::new(key))) }
    }
}

/// `whpk_…`; a shared secret is not printed.
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symmetric(_) => f.write_str("whsec_…"),
            Self::Ed25519(key) => write!(f, "whpk_{}", STANDARD.encode(key.as_bytes())),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}
