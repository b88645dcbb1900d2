//! What an endpoint tells of the messages it was sent: whether their order was kept, and what came twice.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use fanfare_loadtest::{
    payload::{NO_KEY, Stamp},
    sequence::OrderWatch,
};
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) stamp: Stamp,
    pub(crate) at: Instant,
    /// When it was taken: just before 2xx was written.
    pub(crate) answered: Option<Instant>,
}

/// A message that came again after it had been taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    pub(crate) seq: u64,
    /// When it was taken last.
    pub(crate) answered: Instant,
    pub(crate) again: Instant,
}

/// Promised messages whose first arrival is behind that of one that was sent after their acknowledgement.
pub(crate) fn out_of_order(
    ordering: &str,
    arrivals: &[Arrival],
    is_promised: impl Fn(u64) -> bool,
) -> Vec<u64> {
    let mut watches: HashMap<u32, OrderWatch> = HashMap::new();
    let mut seen = HashSet::new();
    let mut late = Vec::new();
    for stamp in arrivals.iter().map(|arrival| arrival.stamp).filter(|stamp| seen.insert(stamp.seq)) {
        // One that nobody was promised may have been taken in long after its publisher had given up.
        if !is_promised(stamp.seq) {
            continue;
        }
        let (lane, seq, floor) = match ordering {
            "strict" => (NO_KEY, stamp.seq, stamp.floor),
            // Messages without a key share one; they are numbered by the application.
            "keyed" if stamp.key == NO_KEY => (NO_KEY, stamp.seq, stamp.floor),
            "keyed" => (stamp.key, stamp.key_seq, stamp.key_floor),
            _ => continue,
        };
        if !watches.entry(lane).or_default().first_arrival(seq, floor) {
            late.push(stamp.seq);
        }
    }
    late
}

pub(crate) fn repeats(arrivals: &[Arrival]) -> Vec<Repeat> {
    let mut taken: HashMap<u64, Instant> = HashMap::new();
    let mut repeats = Vec::new();
    for arrival in arrivals {
        let seq = arrival.stamp.seq;
        // Taken when the second came: of two at once the answer of the first counts all the same.
        if let Some(&answered) = taken.get(&seq) {
            repeats.push(Repeat { seq, answered, again: arrival.at });
        }
        if let Some(answered) = arrival.answered {
            taken.insert(seq, answered);
        }
    }
    repeats
}

/// What is missing after so long; returns as soon as that is nothing.
pub(crate) async fn missing_in_the_end<T>(patience: Duration, missing: impl Fn() -> Vec<T>) -> Vec<T> {
    let deadline = Instant::now() + patience;
    loop {
        let missing = missing();
        if missing.is_empty() || Instant::now() > deadline {
            return missing;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// For the tests of judges: every message was sent after all before it were answered, and is taken at once.
pub(crate) fn arrival(seq: u64, key: u32, at: Instant) -> Arrival {
    let stamp = Stamp {
        run: 1,
        stream: 0,
        application: 0,
        key,
        seq,
        floor: seq,
        key_seq: seq,
        key_floor: seq,
        at: fanfare_core::Timestamp::ZERO,
    };
    Arrival { stamp, at, answered: Some(at + Duration::from_millis(1)) }
}

#[test]
fn a_swap_is_seen_across_keys_or_within_one() {
    let now = Instant::now();
    let across = [arrival(0, 1, now), arrival(2, 2, now), arrival(1, 3, now)];
    assert_eq!(out_of_order("strict", &across, |_| true), [1]);
    assert_eq!(out_of_order("strict", &across, |seq| seq != 1), [0_u64; 0], "nobody was promised it");
    assert_eq!(out_of_order("keyed", &across, |_| true), [0_u64; 0]);
    assert_eq!(out_of_order("unordered", &across, |_| true), [0_u64; 0]);
    let within = [arrival(2, 1, now), arrival(1, 1, now), arrival(2, 1, now)];
    assert_eq!(out_of_order("keyed", &within, |_| true), [1]);
    let without = within.map(|of| Arrival { stamp: Stamp { key: NO_KEY, ..of.stamp }, ..of });
    assert_eq!(out_of_order("keyed", &without, |_| true), [1]);
}

#[test]
fn a_retry_is_no_repeat() {
    let now = Instant::now();
    let refused = Arrival { answered: None, ..arrival(1, 1, now) };
    assert!(repeats(&[arrival(0, 1, now), refused, arrival(1, 1, now)]).is_empty());
    let [repeat] = repeats(&[arrival(0, 1, now), arrival(0, 1, now)])[..] else { panic!("one") };
    assert_eq!((repeat.seq, repeat.again), (0, now));
}
