//! Which messages' contents are erased: what may be shown and sent to nobody any more.
//!
//! A few bits for each message that was erased by itself, one entry for an application whose contents were erased
//! altogether. Nothing is ever taken back.

use std::collections::BTreeMap;

use fanfare_core::{ApplicationId, Fingerprint, Offset, Partition};
use roaring::RoaringTreemap;

/// The name of an application where 64 bits are enough, as in tables.
pub fn application_number(id: ApplicationId) -> u64 {
    Fingerprint::of(&[id.as_bytes()]).short()
}

/// All that was erased so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Erasures {
    /// Messages, by their partition of `messages`.
    single: BTreeMap<Partition, RoaringTreemap>,
    /// Applications, with the offset below which all of theirs is erased.
    below: BTreeMap<u64, Offset>,
    /// Rises with each that came.
    revision: u64,
}

/// Sets of numbers are equal to themselves.
impl Eq for Erasures {}

impl Erasures {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn erase(&mut self, partition: Partition, offsets: &[Offset]) {
        self.single.entry(partition).or_default().extend(offsets.iter().map(|offset| offset.0));
        self.revision += 1;
    }

    pub(crate) fn erase_all(&mut self, application: ApplicationId, below: Offset) {
        let known = self.below.entry(application_number(application)).or_default();
        if below > *known {
            *known = below;
            self.revision += 1;
        }
    }

    /// Whether the message at `offset` is; `application` by its number.
    pub(crate) fn holds(
        &self,
        application: impl FnOnce() -> u64,
        partition: Partition,
        offset: Offset,
    ) -> bool {
        self.single.get(&partition).is_some_and(|offsets| offsets.contains(offset.0))
            || !self.below.is_empty() && self.below.get(&application()).is_some_and(|below| offset < *below)
    }

    /// Messages that were erased by themselves and are not among these.
    pub(crate) fn single_but(&self, partition: Partition, these: &RoaringTreemap) -> RoaringTreemap {
        self.single.get(&partition).map(|offsets| offsets - these).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ApplicationId = ApplicationId::from_bytes([1; 20]);
    const OTHER: ApplicationId = ApplicationId::from_bytes([2; 20]);

    #[test]
    fn what_is_erased_is_named_by_its_place_and_nothing_else_is() {
        let mut erasures = Erasures::default();
        let holds = |erasures: &Erasures, application, partition, offset| {
            erasures.holds(|| application_number(application), Partition(partition), Offset(offset))
        };
        erasures.erase(Partition(1), &[Offset(5), Offset(9)]);
        assert!(holds(&erasures, ONE, 1, 5) && holds(&erasures, ONE, 1, 9));
        assert!(!holds(&erasures, ONE, 1, 6) && !holds(&erasures, ONE, 0, 5));
        erasures.erase_all(ONE, Offset(7));
        erasures.erase_all(ONE, Offset(3));
        assert!(holds(&erasures, ONE, 1, 6), "the higher bound stays");
        assert!(!holds(&erasures, ONE, 1, 7) && !holds(&erasures, OTHER, 1, 6));
        let done = RoaringTreemap::from_iter([5, 6]);
        assert!(erasures.single_but(Partition(1), &done).iter().eq([9]));
        assert!(erasures.single_but(Partition(0), &done).is_empty());
        assert_eq!(erasures.revision(), 2, "what changes nothing is no change");
    }
}
