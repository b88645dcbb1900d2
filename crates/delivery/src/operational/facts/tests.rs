#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{AttemptError, Settlement, Timestamp, Trigger};

use super::*;

const ENDPOINT: EndpointNumber = EndpointNumber(3);
const OFFSET: Offset = Offset(40);

fn attempt(number: u32, outcome: Outcome) -> Fact {
    Fact::Attempted(Attempt {
        endpoint: ENDPOINT,
        offset: OFFSET,
        number,
        trigger: Trigger::Scheduled,
        at: Timestamp::from_secs(i64::from(number)),
        duration: Duration::from_millis(1),
        outcome,
        status: if outcome == Outcome::Delivered { 204 } else { 500 },
        error: (outcome == Outcome::Failed).then_some(AttemptError::Status),
        response: Bytes::new(),
        due: None,
        deadline_used: Duration::ZERO,
    })
}

fn settled(reason: Settlement) -> Fact {
    Fact::Settled { endpoint: ENDPOINT, offset: OFFSET, reason, at: Timestamp::ZERO }
}

/// Reads records of one epoch after the other, as they stand in the log.
struct World {
    failures: Failures,
    newest_claim: Offset,
    next: u64,
}

impl World {
    fn new() -> Self {
        Self { failures: Failures::default(), newest_claim: Offset::ZERO, next: 0 }
    }

    fn read(&mut self, record: &AttemptRecord) -> Vec<Ending> {
        let offset = Offset(self.next);
        self.next += 1;
        let record = LogRecord { offset, head: record.encode(), payload: None };
        let told = self.failures.read(&record, &mut self.newest_claim).unwrap();
        told.into_iter().map(|telling| telling.ending).collect()
    }

    fn facts(&mut self, facts: Vec<Fact>) -> Vec<Ending> {
        let epoch = self.newest_claim;
        self.read(&AttemptRecord::Facts { epoch, facts })
    }
}

#[test]
fn the_fourth_failure_is_told_and_no_other() {
    let mut world = World::new();
    for number in 1..=6 {
        let told = world.facts(vec![attempt(number, Outcome::Failed)]);
        assert_eq!(!told.is_empty(), number == 4, "attempt {number}");
    }
}

#[test]
fn a_success_is_a_recovery_after_four_failures() {
    for number in 1..=8 {
        let told = World::new().facts(vec![attempt(number, Outcome::Delivered)]);
        assert_eq!(!told.is_empty(), number > 4, "attempt {number}");
    }
}

#[test]
fn an_end_names_the_last_failure() {
    let mut world = World::new();
    world.facts(vec![attempt(1, Outcome::Failed), attempt(2, Outcome::Failed)]);
    let told = world.facts(vec![settled(Settlement::Exhausted)]);
    let [Ending::Dead { reason: Settlement::Exhausted, last: Some(last) }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(last.number, 2);
    // It is forgotten with it.
    let told = world.facts(vec![settled(Settlement::Exhausted)]);
    assert!(matches!(&told[..], [Ending::Dead { last: None, .. }]), "{told:?}");
}

#[test]
fn only_dead_letters_are_told_of_what_is_settled() {
    for reason in Settlement::ALL {
        let told = World::new().facts(vec![settled(reason)]);
        assert_eq!(!told.is_empty(), reason.is_dead_letter(), "{reason:?}");
        let (from, to) = (OFFSET, Offset(50));
        let range = Fact::SettledRange { endpoint: ENDPOINT, from, to, reason, at: Timestamp::ZERO };
        let told = World::new().facts(vec![range]);
        assert_eq!(!told.is_empty(), reason.is_dead_letter(), "a range: {reason:?}");
    }
}

#[test]
fn of_a_zombie_only_what_was_delivered_counts() {
    let mut world = World::new();
    let claim = AttemptRecord::Claim { owner: 1, at: Timestamp::ZERO };
    world.read(&claim);
    let old = world.newest_claim;
    world.read(&claim);
    let facts =
        vec![attempt(4, Outcome::Failed), settled(Settlement::Exhausted), attempt(5, Outcome::Delivered)];
    let stale = world.read(&AttemptRecord::Facts { epoch: old, facts: facts.clone() });
    assert!(matches!(&stale[..], [Ending::Recovered(_)]), "{stale:?}");
    assert_eq!(world.facts(facts).len(), 3);
}
