//! Payloads that say of themselves what a receiver must know to judge them.
//!
//! A payload is one JSON object of fixed layout, so that it is read by position and not by a JSON parser. Every
//! number is lower-case hexadecimal in quotes, padded with zeros:
//!
//! ```text
//! {"hash":"32","run":"16","stream":"8","application":"8","key":"8","seq":"16","floor":"16",
//!  "keySeq":"16","keyFloor":"16","at":"16","pad":"…"}          (one line, digits counted in quotes)
//! ```
//!
//! `hash` is the first half of the SHA-256 of every byte after it. `seq` counts the messages of an application,
//! `keySeq` those of one ordering key in it. The floors carry the order: when the message was sent, every
//! message with a number below the floor had been answered. So whatever number of connections publish at
//! once, "acknowledged before this one was sent" can be read from the payloads.

use fanfare_core::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::sequence::MAX_SEQUENCE;

/// The key of a message that has none.
pub const NO_KEY: u32 = u32::MAX;
/// Size of payloads unless a run says otherwise.
pub const DEFAULT_BYTES: usize = 1_024;
/// The smallest payload there is: the fields and an empty pad.
pub const MINIMUM_BYTES: usize = PAD_AT + CLOSE.len();

const OPEN: &[u8] = b"{\"hash\":\"";
const CLOSE: &[u8] = b"\"}";
const HASH_BYTES: usize = 16;
const HASH_AT: usize = OPEN.len();
const HASHED_FROM: usize = HASH_AT + 2 * HASH_BYTES;

/// What stands before each number, and the number's digits.
const FIELDS: [(&[u8], usize); 9] = [
    (b"\",\"run\":\"", 16),
    (b"\",\"stream\":\"", 8),
    (b"\",\"application\":\"", 8),
    (b"\",\"key\":\"", 8),
    (b"\",\"seq\":\"", 16),
    (b"\",\"floor\":\"", 16),
    (b"\",\"keySeq\":\"", 16),
    (b"\",\"keyFloor\":\"", 16),
    (b"\",\"at\":\"", 16),
];
const BEFORE_PAD: &[u8] = b"\",\"pad\":\"";
const PAD_AT: usize = {
    let mut length = HASHED_FROM + BEFORE_PAD.len();
    let mut field = 0;
    while field < FIELDS.len() {
        length += FIELDS[field].0.len() + FIELDS[field].1;
        field += 1;
    }
    length
};
/// Filler; a payload starts in it at a place that its number decides, so that neighbours differ.
const FILLER: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Tells the messages of this run from those of another.
    pub run: u64,
    /// The publishing connection.
    pub stream: u32,
    /// Index of the application in its run.
    pub application: u32,
    /// Index of the ordering key, or [`NO_KEY`].
    pub key: u32,
    /// Number within the application.
    pub seq: u64,
    /// All of the application below this were answered before this message was sent.
    pub floor: u64,
    /// Number within the application's ordering key; 0 without one.
    pub key_seq: u64,
    /// As `floor`, within the ordering key.
    pub key_floor: u64,
    /// When the message was due to be sent.
    pub at: Timestamp,
}

/// Bytes that are no payload of ours, or were changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("not a payload of the load test")]
    Layout,
    #[error("the payload's hash does not match its content")]
    Hash,
}

/// Appends the payload of `stamp`, padded to `size_bytes` (at least [`MINIMUM_BYTES`]).
pub fn write(stamp: &Stamp, size_bytes: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(size_bytes.max(MINIMUM_BYTES));
    out.extend_from_slice(OPEN);
    out.extend_from_slice(&[b'0'; 2 * HASH_BYTES]);
    for ((label, digits), value) in FIELDS.iter().zip(stamp.values()) {
        out.extend_from_slice(label);
        write_hex(value, *digits, out);
    }
    out.extend_from_slice(BEFORE_PAD);
    let mut pad = size_bytes.saturating_sub(MINIMUM_BYTES);
    let mut from = (stamp.seq % 64) as usize;
    while pad > 0 {
        let take = pad.min(FILLER.len() - from);
        out.extend_from_slice(&FILLER[from..from + take]);
        pad -= take;
        from = 0;
    }
    out.extend_from_slice(CLOSE);
    let hash = hash(&out[start + HASHED_FROM..]);
    let place = &mut out[start + HASH_AT..start + HASHED_FROM];
    for (digits, byte) in place.chunks_exact_mut(2).zip(hash) {
        digits.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
}

/// Reads a payload and checks every byte of it.
pub fn read(body: &[u8]) -> Result<Stamp, Damage> {
    if body.len() < MINIMUM_BYTES || !body.starts_with(OPEN) || !body.ends_with(CLOSE) {
        return Err(Damage::Layout);
    }
    let mut values = [0; FIELDS.len()];
    let mut at = HASHED_FROM;
    for ((label, digits), value) in FIELDS.iter().zip(&mut values) {
        if !body[at..].starts_with(label) {
            return Err(Damage::Layout);
        }
        at += label.len();
        *value = read_hex(&body[at..at + digits]).ok_or(Damage::Layout)?;
        at += digits;
    }
    if !body[at..].starts_with(BEFORE_PAD) {
        return Err(Damage::Layout);
    }
    let expected = hash(&body[HASHED_FROM..]);
    let stated = body[HASH_AT..HASHED_FROM].chunks_exact(2);
    if !stated.zip(expected).all(|(digits, byte)| digits == [hex_digit(byte >> 4), hex_digit(byte & 15)]) {
        return Err(Damage::Hash);
    }
    Stamp::from_values(values).ok_or(Damage::Layout)
}

impl Stamp {
    fn values(&self) -> [u64; FIELDS.len()] {
        [
            self.run,
            u64::from(self.stream),
            u64::from(self.application),
            u64::from(self.key),
            self.seq,
            self.floor,
            self.key_seq,
            self.key_floor,
            self.at.as_micros().cast_unsigned(),
        ]
    }

    fn from_values(values: [u64; FIELDS.len()]) -> Option<Self> {
        let [run, stream, application, key, seq, floor, key_seq, key_floor, at] = values;
        let numbers_fit = [seq, floor, key_seq, key_floor].iter().all(|&number| number <= MAX_SEQUENCE);
        numbers_fit.then_some(Self {
            run,
            stream: u32::try_from(stream).ok()?,
            application: u32::try_from(application).ok()?,
            key: u32::try_from(key).ok()?,
            seq,
            floor,
            key_seq,
            key_floor,
            at: Timestamp::from_micros(at.cast_signed()),
        })
    }
}

fn hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let digest = Sha256::digest(bytes);
    digest[..HASH_BYTES].try_into().expect("SHA-256 has 32 bytes")
}

fn write_hex(value: u64, digits: usize, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    for byte in &bytes[bytes.len() - digits / 2..] {
        out.extend_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for &digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: 0x0123_4567_89ab_cdef,
            stream: 3,
            application: 2,
            key: NO_KEY,
            seq: 77,
            floor: 70,
            key_seq: 5,
            key_floor: 4,
            at: Timestamp::from_micros(1_700_000_000_000_001),
        }
    }

    #[test]
    fn a_payload_is_json_of_the_wanted_size_and_reads_back() {
        for size in [0, MINIMUM_BYTES, MINIMUM_BYTES + 1, 1_024, 100_000] {
            let mut body = Vec::new();
            write(&stamp(), size, &mut body);
            assert_eq!(body.len(), size.max(MINIMUM_BYTES));
            assert_eq!(read(&body), Ok(stamp()));
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["seq"], "000000000000004d");
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let mut body = Vec::new();
        write(&stamp(), 400, &mut body);
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
        assert!(read(&body[..body.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0..600_usize) {
            let _ = read(&bytes);
            let mut body = Vec::new();
            write(&stamp(), 500, &mut body);
            body.truncate(cut);
            body.extend_from_slice(&bytes);
            let _ = read(&body);
        }
    }
}
