//! The main secret, what is derived from it, and secrets sealed under it.
//!
//! ```text
//! main secret file := base64(32 random bytes) newline                     0600
//! sealing key, token key, API key key, check value := HKDF-SHA256(main secret, salt "fanfare", info = its purpose)
//! sealed      := nonce 12 · AES-256-GCM(sealing key, nonce, text, endpoint id) · tag 16    base64 in JSON
//! ```
//!
//! The endpoint's id is authenticated with the text: a sealed secret is of no use to another endpoint.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_core::{EndpointId, Entropy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The secret under which an installation keeps its others. All its processes have the same.
#[derive(Clone, PartialEq, Eq)]
pub struct MainSecret([u8; 32]);

/// Why there is no main secret. Each is one plain line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum MainSecretError {
    #[error("cannot read the main secret {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot write the main secret {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error(
        "the main secret {path} can be read by others than its owner (mode {mode:03o}): chmod 600 it",
        path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "the main secret {path} does not hold 32 bytes in base64: make one with `openssl rand -base64 32`",
        path = path.display()
    )]
    Malformed { path: PathBuf },
}

impl MainSecret {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads `path`, or makes it with a new secret if it does not exist.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, MainSecretError> {
        if !path.exists() {
            create(path, entropy).map_err(|error| MainSecretError::Write { path: path.to_owned(), error })?;
        }
        // Read back even if it was made here: another process may have been faster.
        Self::from_file(path)
    }

    /// Reads a secret that must exist.
    pub fn from_file(path: &Path) -> Result<Self, MainSecretError> {
        let read = |error| MainSecretError::Read { path: path.to_owned(), error };
        let file = File::open(path).map_err(read)?;
        let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(MainSecretError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        file.take(1_024).read_to_end(&mut text).map_err(read)?;
        let bytes = STANDARD.decode(text.trim_ascii()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| MainSecretError::Malformed { path: path.to_owned() })
    }

    /// Seals and unseals endpoints' secrets.
    pub fn sealer(&self) -> Sealer {
        let key = UnboundKey::new(&AES_256_GCM, &self.derive::<32>(b"fanfare secrets at rest v1"));
        Sealer { key: LessSafeKey::new(key.expect("the key has the algorithm's length")) }
    }

    /// Tells whether two processes have the same main secret, without telling what it is.
    pub fn check_value(&self) -> String {
        STANDARD.encode(self.derive::<16>(b"fanfare check value v1"))
    }

    pub(crate) fn token_key(&self) -> [u8; 32] {
        self.derive(b"fanfare tokens v1")
    }

    pub(crate) fn api_key_key(&self) -> [u8; 32] {
        self.derive(b"fanfare api keys v1")
    }

    fn derive<const N: usize>(&self, purpose: &[u8]) -> [u8; N] {
        struct Bytes(usize);
        impl KeyType for Bytes {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut key = [0; N];
        let pseudo_random_key = Salt::new(HKDF_SHA256, b"fanfare").extract(&self.0);
        let info = [purpose];
        let filled = pseudo_random_key.expand(&info, Bytes(N)).and_then(|output| output.fill(&mut key));
        filled.expect("HKDF-SHA256 gives up to 8,160 bytes");
        key
    }
}

impl std::fmt::Debug for MainSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MainSecret(…)")
    }
}

/// Under its name the file is whole or not there: it is written under another name first.
fn create(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = directory.join(format!(".main-secret-{:016x}", entropy.u64()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let text = STANDARD.encode(entropy.bytes::<32>()) + "\n";
    let linked = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    });
    fs::remove_file(&unfinished)?;
    linked?;
    File::open(directory)?.sync_all()
}

/// Seals texts for endpoints.
#[derive(Debug)]
pub struct Sealer {
    key: LessSafeKey,
}

/// A text that only the main secret opens.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Box<[u8]>);

impl Sealed {
    /// Bytes that a [`Sealer`] made; others will not open.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self::from_bytes).map_err(D::Error::custom)
    }
}

/// A sealed text that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret was damaged, or sealed for another endpoint or under another main secret")]
pub struct SealError;

impl Sealer {
    /// Random nonces are good for 2^32 texts.
    pub fn seal(&self, endpoint: EndpointId, text: &str, entropy: &dyn Entropy) -> Sealed {
        let nonce = entropy.bytes::<NONCE_LEN>();
        let mut sealed = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(endpoint.as_bytes()),
                &mut sealed,
            )
            .expect("a secret is far below what AES-GCM takes");
        Sealed::from_bytes([&nonce[..], &sealed].concat())
    }

    pub fn unseal(&self, endpoint: EndpointId, sealed: &Sealed) -> Result<String, SealError> {
        let mut sealed = sealed.0.clone();
        let (nonce, sealed) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(SealError)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text =
            self.key.open_in_place(nonce, Aad::from(endpoint.as_bytes()), sealed).map_err(|_| SealError)?;
        String::from_utf8(text.to_vec()).map_err(|_| SealError)
    }
}

#[cfg(test)]
mod tests;
