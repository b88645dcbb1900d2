//! Ids in the order in which one process mints them.

use std::sync::{Mutex, PoisonError};

use crate::{Entropy, Id, Kind, Timestamp};

const BYTES: usize = 20;
/// Of an id, the time in steps of 4 ms.
const TIME_BYTES: usize = 5;
/// Of what is random behind it, so much is counted up within a step; enough is left so that no two processes meet.
const COUNTED_BYTES: usize = 8;
const COUNTED: std::ops::Range<usize> = TIME_BYTES..TIME_BYTES + COUNTED_BYTES;

/// Mints ids that rise, also within a step of their time: lists of messages go by them.
#[derive(Debug, Default)]
pub struct Minter {
    last: Mutex<[u8; BYTES]>,
}

impl Minter {
    /// An id above all that this minter minted within the same step; unique by what `entropy` gives.
    pub fn mint<K: Kind>(&self, now: Timestamp, entropy: &dyn Entropy) -> Id<K> {
        let mut bytes = *Id::<K>::mint(now, entropy.bytes()).as_bytes();
        // A step has room for far more ids than it has time for.
        bytes[TIME_BYTES] &= 0x7f;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last[..TIME_BYTES] == bytes[..TIME_BYTES] {
            let count = u64::from_be_bytes(last[COUNTED].try_into().expect("it has this length")) + 1;
            bytes[COUNTED].copy_from_slice(&count.to_be_bytes());
        }
        *last = bytes;
        Id::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{MessageId, SystemEntropy};

    #[test]
    fn ids_rise_within_a_step_of_their_time_too() {
        let minter = Minter::default();
        let begin = Timestamp::from_secs(1_700_000_000);
        let times = (0..10_000).map(|n| begin + Duration::from_micros(n));
        let ids: Vec<MessageId> = times.map(|at| minter.mint(at, &SystemEntropy)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        let steps: BTreeSet<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..TIME_BYTES]).collect();
        assert!((2..=4).contains(&steps.len()), "10 ms are two steps and a half");
        assert!(ids.iter().all(|id| id.minted_at().since(begin) < Duration::from_millis(15)));
    }
}
