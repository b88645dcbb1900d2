//! Short digests that stand for texts of any length in records and tables.

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of a SHA-256 over length-prefixed parts: long enough that no two inputs of one
/// installation share it by accident or by an attacker's effort (2^64 work for any pair).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Digests `parts`; each is prefixed by its length, so `["ab", "c"]` and `["a", "bc"]` differ.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }

    /// 64 bits of it, for tables where a collision is harmless.
    pub fn short(self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("16 bytes hold 8"))
    }
}
