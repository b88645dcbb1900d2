//! Signatures after the Standard Webhooks specification: HMAC-SHA256 (`v1`) and ed25519 (`v1a`).
//!
//! ```text
//! signed content := id "." timestamp "." payload       timestamp := whole seconds since 1970, decimal
//! header         := signature *( " " signature )       signature := "v1," base64 | "v1a," base64
//! secret         := "whsec_" base64(1–75 bytes)                     symmetric
//!                 | "whsk_"  base64(seed 32 · public 32, or seed)   ed25519, signs
//!                 | "whpk_"  base64(public 32)                      ed25519, verifies
//! ```
//!
//! While a secret is being replaced, old and new sign side by side; a verifier is content with one match.

mod key;
#[cfg(test)]
mod tests;
mod verify;

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub use key::{KeyError, SigningKey, WeakKey};
pub use verify::{VerifyError, VerifyingKey, verify};

/// Characters of the longest signature, `v1a,` with 64 bytes in base64, and the blank before it.
const SIGNATURE_CHARACTERS: usize = 4 + 88 + 1;

/// Signs for one endpoint with all secrets it has now.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Vec<SigningKey>,
}

impl Signer {
    /// `keys` sign in this order: newest first.
    pub fn new(keys: Vec<SigningKey>) -> Self {
        Self { keys }
    }

    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The value of the header `webhook-signature`. `timestamp_secs` is what goes out as `webhook-timestamp`.
    pub fn signature_header(&self, id: &str, timestamp_secs: i64, payload: &[u8]) -> String {
        let mut digits = [0; 20];
        let content = [id.as_bytes(), b".", decimal(timestamp_secs, &mut digits), b".", payload];
        let mut header = String::with_capacity(self.keys.len() * SIGNATURE_CHARACTERS);
        for key in &self.keys {
            if !header.is_empty() {
                header.push(' ');
            }
            match key {
                SigningKey::Symmetric(key) => {
                    header.push_str("v1,");
                    STANDARD.encode_string(key.mac(&content), &mut header);
                }
                SigningKey::Ed25519(key) => {
                    header.push_str("v1a,");
                    STANDARD.encode_string(key.sign(&content), &mut header);
                }
            }
        }
        header
    }
}

/// `number` as text, without an allocation.
fn decimal(number: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = &mut digits[..];
    write!(rest, "{number}").expect("20 bytes hold any i64");
    let unused = rest.len();
    &digits[..20 - unused]
}
