//! What stands in the value of a Kafka record.
//!
//! ```text
//! value   version (1 byte) · length of the head (4 bytes, big-endian) · head · payload
//! key     of a table's entry; none in a topic
//! ```
//!
//! A table's value stands where a payload does, with no head; a removed entry has no value at all, as Kafka's
//! compaction wants it. Times are Kafka's own. A higher version is an error for the reader of that record: a newer
//! Fanfare wrote it.

use bytes::Bytes;

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 5;

/// Writes a value into `buffer`, in place of what is there.
pub(super) fn encode(head: &[u8], payload: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.reserve(PREFIX_BYTES + head.len() + payload.len());
    buffer.push(VERSION);
    let head_bytes = u32::try_from(head.len()).expect("appends are bounded far below 4 GiB");
    buffer.extend_from_slice(&head_bytes.to_be_bytes());
    buffer.extend_from_slice(head);
    buffer.extend_from_slice(payload);
}

/// Why a value cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("has format {0}, this program reads format {VERSION}: a newer Fanfare wrote it; run that one")]
    Version(u8),
    #[error("ends too early: something other than Fanfare wrote it")]
    Truncated,
}

/// Head and payload.
pub(super) fn decode(value: &Bytes) -> Result<(Bytes, Bytes), Malformed> {
    match value.first() {
        None => return Err(Malformed::Truncated),
        Some(&VERSION) => {}
        Some(&version) => return Err(Malformed::Version(version)),
    }
    let (prefix, _) = value.split_first_chunk::<PREFIX_BYTES>().ok_or(Malformed::Truncated)?;
    let [_, head_bytes @ ..] = prefix;
    let payload = usize::try_from(u32::from_be_bytes(*head_bytes))
        .ok()
        .and_then(|head_bytes| PREFIX_BYTES.checked_add(head_bytes))
        .filter(|payload| *payload <= value.len())
        .ok_or(Malformed::Truncated)?;
    Ok((value.slice(PREFIX_BYTES..payload), value.slice(payload..)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn encoded(head: &[u8], payload: &[u8]) -> Bytes {
        let mut buffer = vec![9; 3];
        encode(head, payload, &mut buffer);
        buffer.into()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(head: Vec<u8>, payload: Vec<u8>) {
            let value = encoded(&head, &payload);
            prop_assert_eq!(decode(&value), Ok((head.into(), payload.into())));
        }

        #[test]
        fn no_bytes_make_it_panic(value: Vec<u8>) {
            drop(decode(&value.into()));
        }
    }

    #[test]
    fn newer_and_cut_records_are_refused() {
        let value = encoded(b"head", b"payload");
        for length in 0..PREFIX_BYTES + 4 {
            assert_eq!(decode(&value.slice(..length)), Err(Malformed::Truncated), "{length} bytes");
        }
        let mut newer = value.to_vec();
        newer[0] = 2;
        assert_eq!(decode(&newer.into()), Err(Malformed::Version(2)));
    }
}
