//! The keys that sign, and their texts.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT},
};
use ed25519_dalek::ed25519::signature::MultipartSigner as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::VerifyingKey;
use crate::Entropy;

const GENERATED_BYTES: usize = 32;
/// What the specification asks of a symmetric secret.
const STRONG_BYTES: usize = 24;
/// Longer than the specification's 64, since Svix's own secrets may have up to 75 bytes.
const SYMMETRIC_BYTES_MAX: usize = 75;

/// Why a text is not a signing key. Never says what the text was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("expected a secret that begins with {expected}")]
    Prefix { expected: &'static str },
    #[error("the part after the prefix is not base64")]
    Base64,
    #[error("expected {expected} bytes in base64, found {found}")]
    Length { expected: &'static str, found: usize },
    #[error("the public half does not belong to the private half")]
    Mismatch,
    #[error("not a point of ed25519")]
    Point,
}

/// A secret too short to be given out anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret must have at least {STRONG_BYTES} bytes, this one has {found}")]
pub struct WeakKey {
    pub found: usize,
}

/// A key that signs. Its `Debug` hides it; its `Display` is the secret's text.
#[derive(Clone)]
pub enum SigningKey {
    Symmetric(SymmetricKey),
    Ed25519(Ed25519Key),
}

/// A secret that both sides share.
#[derive(Clone)]
pub struct SymmetricKey {
    bytes: Box<[u8]>,
    /// Has taken the key in already: each signature starts from a copy of it.
    keyed: Hmac<Sha256>,
}

/// A private key; the other side needs only the public half.
#[derive(Clone)]
pub struct Ed25519Key(Box<ed25519_dalek::SigningKey>);

impl SigningKey {
    /// A new `whsec_` secret of 32 bytes.
    pub fn generate_symmetric(entropy: &dyn Entropy) -> Self {
        Self::Symmetric(SymmetricKey::new(&entropy.bytes::<GENERATED_BYTES>()))
    }

    /// A new `whsk_` key.
    pub fn generate_ed25519(entropy: &dyn Entropy) -> Self {
        Self::Ed25519(Ed25519Key::from_seed(&entropy.bytes()))
    }

    /// `whpk_…` for an ed25519 key.
    pub fn public_key(&self) -> Option<String> {
        match self {
            Self::Symmetric(_) => None,
            Self::Ed25519(_) => Some(self.verifying_key().to_string()),
        }
    }

    /// What verifies this key's signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        match self {
            Self::Symmetric(key) => VerifyingKey::Symmetric(key.clone()),
            Self::Ed25519(key) => VerifyingKey::Ed25519(Box::new(key.0.verifying_key())),
        }
    }

    /// Whether the key may be set as a new secret. One that was set elsewhere may be shorter and still signs.
    pub fn validate_strength(&self) -> Result<(), WeakKey> {
        match self {
            Self::Symmetric(key) if key.bytes.len() < STRONG_BYTES => Err(WeakKey { found: key.bytes.len() }),
            Self::Symmetric(_) | Self::Ed25519(_) => Ok(()),
        }
    }
}

impl SymmetricKey {
    fn new(bytes: &[u8]) -> Self {
        let keyed = Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length");
        Self { bytes: bytes.into(), keyed }
    }

    pub(super) fn parse(base64: &str) -> Result<Self, KeyError> {
        let bytes = decode(base64)?;
        if bytes.is_empty() || bytes.len() > SYMMETRIC_BYTES_MAX {
            return Err(KeyError::Length { expected: "24 to 64", found: bytes.len() });
        }
        Ok(Self::new(&bytes))
    }

    /// HMAC-SHA256 over the parts, one after the other.
    pub(super) fn mac(&self, content: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in content {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl Ed25519Key {
    fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    fn parse(base64: &str) -> Result<Self, KeyError> {
        let bytes = decode(base64)?;
        if let Ok(seed) = <&[u8; 32]>::try_from(&bytes[..]) {
            return Ok(Self::from_seed(seed));
        }
        let length =
            KeyError::Length { expected: "64 (seed and public key) or 32 (seed)", found: bytes.len() };
        let pair = <&[u8; 64]>::try_from(&bytes[..]).map_err(|_| length)?;
        let key = ed25519_dalek::SigningKey::from_keypair_bytes(pair).map_err(|_| KeyError::Mismatch)?;
        Ok(Self(Box::new(key)))
    }

    pub(super) fn sign(&self, content: &[&[u8]]) -> [u8; 64] {
        self.0.multipart_sign(content).to_bytes()
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if let Some(base64) = text.strip_prefix("whsec_") {
            SymmetricKey::parse(base64).map(Self::Symmetric)
        } else if let Some(base64) = text.strip_prefix("whsk_") {
            Ed25519Key::parse(base64).map(Self::Ed25519)
        } else {
            Err(KeyError::Prefix { expected: "`whsec_` or `whsk_`" })
        }
    }
}

/// The secret itself: for the one place that shows it to its owner, and for sealing.
impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symmetric(key) => write!(f, "whsec_{}", STANDARD.encode(&key.bytes)),
            Self::Ed25519(key) => write!(f, "whsk_{}", STANDARD.encode(key.0.to_keypair_bytes())),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symmetric(_) => "SigningKey(whsec_…)",
            Self::Ed25519(_) => "SigningKey(whsk_…)",
        })
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(…)")
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519Key(…)")
    }
}

/// Base64 with or without padding: both are met in the wild.
pub(super) fn decode(base64: &str) -> Result<Vec<u8>, KeyError> {
    STANDARD_PAD_INDIFFERENT.decode(base64).map_err(|_| KeyError::Base64)
}
