//! Sets of offsets, compressed: a few bits to two bytes an offset, whatever the backlog.

use roaring::RoaringTreemap;

use crate::{Offset, codec::Malformed};

/// A sorted set of offsets that knows its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OffsetSet {
    bits: RoaringTreemap,
    len: u64,
}

impl OffsetSet {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, offset: Offset) -> bool {
        let new = self.bits.insert(offset.0);
        self.len += u64::from(new);
        new
    }

    pub(super) fn remove(&mut self, offset: Offset) -> bool {
        let was = self.bits.remove(offset.0);
        self.len -= u64::from(was);
        was
    }

    /// Inserts `[from, to)`.
    pub(super) fn insert_range(&mut self, from: Offset, to: Offset) {
        self.len += self.bits.insert_range(from.0..to.0);
    }

    /// Removes `[from, to)`; says how many were in.
    pub(super) fn remove_range(&mut self, from: Offset, to: Offset) -> u64 {
        let removed = self.bits.remove_range(from.0..to.0);
        self.len -= removed;
        removed
    }

    pub(super) fn contains(&self, offset: Offset) -> bool {
        !self.is_empty() && self.bits.contains(offset.0)
    }

    pub(super) fn min(&self) -> Option<Offset> {
        self.bits.min().map(Offset)
    }

    /// The lowest offset above `offset`.
    pub(super) fn above(&self, offset: Offset) -> Option<Offset> {
        let mut iter = self.bits.iter();
        iter.advance_to(offset.0 + 1);
        iter.next().map(Offset)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Offset> + '_ {
        self.bits.iter().map(Offset)
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.bits |= &other.bits;
        self.len = self.bits.len();
    }

    /// What is in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        Self::of(&self.bits & &other.bits)
    }

    /// What is not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self::of(&self.bits - &other.bits)
    }

    fn of(bits: RoaringTreemap) -> Self {
        let len = bits.len();
        Self { bits, len }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bits.serialized_size());
        self.bits.serialize_into(&mut bytes).expect("writing to memory does not fail");
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8], field: &'static str) -> Result<Self, Malformed> {
        let bits =
            RoaringTreemap::deserialize_from(bytes).map_err(|_| Malformed::Value { field, value: 0 })?;
        // Offsets stay below the highest value so that `Offset::next` cannot overflow.
        if bits.max() == Some(u64::MAX) {
            return Err(Malformed::Value { field, value: u64::MAX });
        }
        Ok(Self::of(bits))
    }
}
