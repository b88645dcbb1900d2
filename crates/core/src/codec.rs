//! How records become bytes: the primitives that all record formats share.
//!
//! Constraints: a decoder never panics and never allocates more than its input holds, whatever the input;
//! a record of a newer version is an error of its own, never half understood.
//!
//! ```text
//! record := version u8 · kind u8 · fields…
//! uint   := LEB128, 7 bits a byte, lowest first, at most 10 bytes
//! bytes  := uint length · that many bytes
//! option := 0 | 1 · value
//! list   := uint count · items
//! ```
//!
//! Fields may be appended to a kind within one version: a decoder takes a default for what is missing at the
//! end of its input and ignores what is left over. Anything else is a new version.

use bytes::Bytes;

use crate::{Offset, Timestamp};

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("record ends before its field `{0}`")]
    Truncated(&'static str),
    #[error("field `{field}` has the impossible value {value}")]
    Value { field: &'static str, value: u64 },
    #[error("field `{0}` is not UTF-8")]
    NotUtf8(&'static str),
    /// Written by a newer Fanfare: stop and say so instead of skipping it.
    #[error("record version {found} is newer than this build understands ({known})")]
    NewerVersion { found: u8, known: u8 },
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// Starts a record of this version and kind.
    pub fn record(version: u8, kind: u8) -> Self {
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&[version, kind]);
        Self { buffer }
    }

    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    pub fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            #[allow(clippy::cast_possible_truncation, reason = "the low seven bits are what is meant")]
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        #[allow(clippy::cast_possible_truncation, reason = "below 0x80 here")]
        self.buffer.push(value as u8);
    }

    pub fn offset(&mut self, offset: Offset) {
        self.uint(offset.0);
    }

    /// Zigzag, so that times before 1970 stay short and legal.
    pub fn timestamp(&mut self, at: Timestamp) {
        let micros = at.as_micros();
        self.uint(((micros << 1) ^ (micros >> 63)).cast_unsigned());
    }

    pub fn fixed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.uint(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.uint(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    pub fn finish(self) -> Bytes {
        Bytes::from(self.buffer)
    }
}

/// Takes fields off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads version and kind; the version must be one of `1..=known`.
    pub fn record(bytes: &'a [u8], known: u8) -> Result<(Self, u8), Malformed> {
        let mut reader = Self::new(bytes);
        let found = reader.u8("version")?;
        if found == 0 {
            return Err(Malformed::Value { field: "version", value: 0 });
        }
        if found > known {
            return Err(Malformed::NewerVersion { found, known });
        }
        let kind = reader.u8("kind")?;
        Ok((reader, kind))
    }

    /// True when nothing is left: the place for defaults of fields added later.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Truncated(field))?;
        self.rest = rest;
        Ok(first)
    }

    pub fn uint(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            if shift == 63 && byte > 1 {
                return Err(Malformed::Value { field, value: u64::from(byte) });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Value { field, value })
    }

    pub fn uint32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        let value = self.uint(field)?;
        u32::try_from(value).map_err(|_| Malformed::Value { field, value })
    }

    pub fn uint16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        let value = self.uint(field)?;
        u16::try_from(value).map_err(|_| Malformed::Value { field, value })
    }

    pub fn offset(&mut self, field: &'static str) -> Result<Offset, Malformed> {
        // The highest value is kept out so that `Offset::next` cannot overflow.
        match self.uint(field)? {
            u64::MAX => Err(Malformed::Value { field, value: u64::MAX }),
            value => Ok(Offset(value)),
        }
    }

    pub fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, Malformed> {
        let zigzag = self.uint(field)?;
        Ok(Timestamp::from_micros((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()))
    }

    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.uint(field)?;
        let length = usize::try_from(length).map_err(|_| Malformed::Truncated(field))?;
        if length > self.rest.len() {
            return Err(Malformed::Truncated(field));
        }
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(head)
    }

    pub fn string(&mut self, field: &'static str) -> Result<String, Malformed> {
        let bytes = self.bytes(field)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed::NotUtf8(field))
    }

    pub fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8(field)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            other => Err(Malformed::Value { field, value: u64::from(other) }),
        }
    }

    pub fn list<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.uint(field)?;
        // Each item takes at least one byte, so a count beyond the rest is a lie: refuse it before allocating.
        if count > self.rest.len() as u64 {
            return Err(Malformed::Truncated(field));
        }
        (0..count).map(|_| read(self)).collect()
    }
}
