//! Numbers of messages: which were seen, which were answered, and whether an order was kept.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Larger numbers are taken for damage: the sets below cost a bit per number up to the largest.
pub const MAX_SEQUENCE: u64 = 1 << 30;

/// A set of message numbers, one bit each. As JSON: its ranges `[[first, end], …]`, `end` not included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<[u64; 2]>", into = "Vec<[u64; 2]>")]
pub struct SequenceSet {
    words: Vec<u64>,
    count: u64,
}

impl SequenceSet {
    /// Adds `seq`; false if it was there or is above [`MAX_SEQUENCE`].
    pub fn insert(&mut self, seq: u64) -> bool {
        if seq > MAX_SEQUENCE {
            return false;
        }
        let word = (seq / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (seq % 64);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        new
    }

    pub fn contains(&self, seq: u64) -> bool {
        self.word(seq / 64) & 1 << (seq % 64) != 0
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many of these `other` does not have.
    pub fn missing_from(&self, other: &Self) -> u64 {
        (0_u64..).zip(&self.words).map(|(at, word)| u64::from((word & !other.word(at)).count_ones())).sum()
    }

    /// All numbers, upwards.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0_u64..).zip(&self.words).filter(|(_, word)| **word != 0).flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| at * 64 + bit)
        })
    }

    fn word(&self, at: u64) -> u64 {
        usize::try_from(at).ok().and_then(|at| self.words.get(at)).copied().unwrap_or(0)
    }
}

impl From<SequenceSet> for Vec<[u64; 2]> {
    fn from(set: SequenceSet) -> Self {
        let mut ranges: Self = Self::new();
        for seq in set.iter() {
            match ranges.last_mut() {
                Some([_, end]) if *end == seq => *end += 1,
                _ => ranges.push([seq, seq + 1]),
            }
        }
        ranges
    }
}

impl From<Vec<[u64; 2]>> for SequenceSet {
    fn from(ranges: Vec<[u64; 2]>) -> Self {
        ranges.into_iter().flat_map(|[first, end]| first..end.min(MAX_SEQUENCE + 1)).collect()
    }
}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::default();
        for seq in numbers {
            set.insert(seq);
        }
        set
    }
}

/// Hands out the numbers of one application or key and knows below which all were answered.
#[derive(Debug, Default)]
pub struct Numbering {
    /// Everything below was answered.
    floor: u64,
    /// From `floor` on: was it answered?
    answered: VecDeque<bool>,
}

impl Numbering {
    /// The next number, and the floor as it is now.
    pub fn begin(&mut self) -> (u64, u64) {
        let seq = self.floor + self.answered.len() as u64;
        self.answered.push_back(false);
        (seq, self.floor)
    }

    /// `seq` was answered, or given up.
    pub fn finish(&mut self, seq: u64) {
        let ahead = seq.checked_sub(self.floor).and_then(|ahead| usize::try_from(ahead).ok());
        let place = ahead.and_then(|ahead| self.answered.get_mut(ahead));
        *place.expect("a number is finished once, after it was begun") = true;
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.floor += 1;
        }
    }
}

/// Checks that what was answered before another was sent also arrives before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderWatch {
    floor: u64,
}

impl OrderWatch {
    /// The first arrival of a message; false if it comes after one that was sent after its answer.
    pub fn first_arrival(&mut self, seq: u64, floor: u64) -> bool {
        let in_order = seq >= self.floor;
        self.floor = self.floor.max(floor);
        in_order
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_set_counts_finds_gaps_and_survives_json() {
        let set: SequenceSet = (0..200).filter(|seq| seq % 100 != 50).collect();
        assert_eq!(set.len(), 198);
        assert!(!set.contains(50) && set.contains(51) && !set.contains(1 << 40));
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, "[[0,50],[51,150],[151,200]]");
        assert_eq!(serde_json::from_str::<SequenceSet>(&json).unwrap(), set);
        let all: SequenceSet = (0..201).collect();
        assert_eq!((all.missing_from(&set), set.missing_from(&all)), (3, 0));
    }

    #[test]
    fn a_set_takes_a_number_once_and_no_wild_one() {
        let mut set = SequenceSet::default();
        assert!(set.insert(7) && !set.insert(7) && !set.insert(MAX_SEQUENCE + 1));
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn the_floor_follows_the_oldest_unanswered() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.begin(), (0, 0));
        assert_eq!(numbering.begin(), (1, 0));
        numbering.finish(1);
        assert_eq!(numbering.begin(), (2, 0));
        numbering.finish(0);
        assert_eq!(numbering.begin(), (3, 2));
    }

    #[test]
    fn order_is_what_was_answered_before_it_was_sent() {
        let mut watch = OrderWatch::default();
        // 1 was sent while 0 was unanswered: either may come first.
        assert!(watch.first_arrival(1, 0));
        assert!(watch.first_arrival(0, 0));
        assert!(watch.first_arrival(3, 3));
        assert!(!watch.first_arrival(2, 2), "2 was answered before 3 was sent");
    }
}
