#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod garbage;
mod histories;
mod injected;
mod model;
mod throttle;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Attempt, EndpointNumber, Fact, Outcome, RetrySchedule};

const SECOND: Duration = Duration::from_secs(1);

/// A lane with an endpoint behind it, in virtual time. Every attempt takes 10 ms. `answer` decides by message,
/// attempt number and time.
struct World<'a> {
    lane: Lane,
    now: Timestamp,
    random: u64,
    keys: BTreeMap<Offset, u64>,
    injected: BTreeSet<Offset>,
    answer: Box<dyn FnMut(Offset, u32, Timestamp) -> Finished + 'a>,
    flights: Vec<(Timestamp, Start)>,
    attempts: Vec<(Timestamp, Offset, u32)>,
    delivered: BTreeMap<Offset, Timestamp>,
    settled: BTreeMap<Offset, Settlement>,
    /// What a worker would have appended to the log.
    facts: Vec<Fact>,
}

const BAD: Finished = Finished::Failed(Failure { kind: FailureKind::Ordinary, retry_after: None });
const REFUSED: Finished = Finished::Failed(Failure { kind: FailureKind::Immediate, retry_after: None });

impl<'a> World<'a> {
    fn new(policy: Policy, answer: impl FnMut(Offset, u32, Timestamp) -> Finished + 'a) -> Self {
        let now = Timestamp::from_secs(1_000_000);
        Self {
            lane: Lane::new(policy, Offset::ZERO, now),
            now,
            random: 7,
            keys: BTreeMap::new(),
            injected: BTreeSet::new(),
            answer: Box::new(answer),
            flights: Vec::new(),
            attempts: Vec::new(),
            delivered: BTreeMap::new(),
            settled: BTreeMap::new(),
            facts: Vec::new(),
        }
    }

    fn publish(&mut self, key: u64) -> Offset {
        let offset = self.lane.next();
        self.keys.insert(offset, key);
        self.lane.push(offset, Trigger::Scheduled);
        offset
    }

    fn inject(&mut self, key: u64) -> Offset {
        let offset = self.lane.next();
        self.keys.insert(offset, key);
        self.injected.insert(offset);
        self.lane.push(offset, Trigger::Manual);
        offset
    }

    fn trigger(&self, offset: Offset) -> Trigger {
        if self.injected.contains(&offset) { Trigger::Manual } else { Trigger::Scheduled }
    }

    fn random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random
    }

    /// Starts all that may start; gives the time of the next event.
    fn start_all(&mut self) -> Option<Timestamp> {
        loop {
            let mut settled = Vec::new();
            let poll = self.lane.poll(self.now, &mut settled);
            self.note(settled);
            match poll {
                Poll::Start(start) => {
                    assert!(
                        self.flights.iter().all(|(_, flight)| flight.offset != start.offset),
                        "{:?} is in flight twice",
                        start.offset
                    );
                    self.attempts.push((self.now, start.offset, start.attempt_number));
                    self.flights.push((self.now + Duration::from_millis(10), start));
                    assert!(self.flights.len() <= self.lane.policy().window());
                }
                Poll::NeedKey(offset) => self.lane.offer_key(offset, self.keys[&offset]),
                Poll::Wait(wake) => {
                    if let Some(wake) = wake {
                        assert!(wake > self.now, "asked to wait until now");
                    }
                    return self.flights.iter().map(|&(at, _)| at).chain(wake).min();
                }
            }
        }
    }

    fn note(&mut self, settled: Settled) {
        for (offset, reason) in settled {
            assert_eq!(self.settled.insert(offset, reason), None, "{offset:?} settled twice");
            self.facts.push(Fact::Settled { endpoint: EndpointNumber(1), offset, reason, at: self.now });
        }
    }

    fn land_due(&mut self) {
        while let Some(index) = self.flights.iter().position(|&(at, _)| at <= self.now) {
            let (_, start) = self.flights.remove(index);
            let answer = (self.answer)(start.offset, start.attempt_number, self.now);
            let random = self.random();
            let mut settled = Vec::new();
            let verdict = self.lane.finished(start.offset, answer, self.now, random, &mut settled);
            let delivered = answer == Finished::Delivered;
            if delivered {
                self.delivered.entry(start.offset).or_insert(self.now);
                self.settled.entry(start.offset).or_insert(Settlement::Delivered);
            }
            self.facts.push(Fact::Attempted(Attempt {
                endpoint: EndpointNumber(1),
                offset: start.offset,
                number: start.attempt_number,
                trigger: self.trigger(start.offset),
                at: self.now,
                duration: Duration::from_millis(10),
                outcome: if delivered { Outcome::Delivered } else { Outcome::Failed },
                status: 0,
                error: None,
                response: Bytes::new(),
                due: verdict.due,
                deadline_used: verdict.deadline_used,
            }));
            self.note(settled);
        }
    }

    /// Lets time pass until `until`, or until nothing is left to happen.
    fn run_until(&mut self, until: Timestamp) {
        loop {
            let next = self.start_all().unwrap_or(Timestamp::MAX);
            if next > until {
                self.now = self.now.max(until);
                return;
            }
            self.now = next;
            self.land_due();
        }
    }

    fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Crash: the lane is rebuilt from `snapshot` and the facts since; what was in flight is forgotten.
    fn recover(&mut self, snapshot: &[u8], facts_from: usize) {
        let mut lane = Lane::restore(snapshot, self.lane.policy().clone(), self.now).unwrap();
        for fact in &self.facts[facts_from..] {
            lane.apply(fact, self.now);
        }
        for &offset in self.keys.keys() {
            lane.push(offset, self.trigger(offset));
        }
        self.flights.clear();
        self.lane = lane;
    }

    fn first_attempts(&self) -> Vec<Offset> {
        self.attempts.iter().filter(|(_, _, number)| *number == 1).map(|&(_, offset, _)| offset).collect()
    }
}

fn policy(ordering: Ordering) -> Policy {
    Policy { ordering, max_in_flight: 4, ..Policy::default() }
}

#[test]
fn strict_sends_one_at_a_time_in_order() {
    let mut world = World::new(policy(Ordering::Strict), |_, _, _| Finished::Delivered);
    for _ in 0..100 {
        world.publish(0);
    }
    world.run_for(SECOND * 2);
    assert_eq!(world.delivered.len(), 100);
    assert!(world.first_attempts().is_sorted());
    assert!(world.lane.is_idle());
    assert_eq!(world.lane.cursor(), Offset(100));
}

#[test]
fn a_failed_head_holds_a_strict_lane_until_it_goes_through() {
    let mut world = World::new(policy(Ordering::Strict), |offset, number, _| {
        if offset == Offset(3) && number < 4 { BAD } else { Finished::Delivered }
    });
    for _ in 0..10 {
        world.publish(0);
    }
    world.run_for(SECOND * 20);
    assert_eq!(world.delivered.len(), 10);
    assert_eq!(world.attempts.len(), 13);
    assert!(world.attempts.iter().map(|(_, offset, _)| offset).is_sorted());
}

#[test]
fn a_schedule_that_runs_out_makes_a_dead_letter() {
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
        let policy = Policy { retry_schedule: RetrySchedule::new(vec![2, 3]).unwrap(), ..policy(ordering) };
        let mut world = World::new(policy, |_, _, _| BAD);
        world.publish(1);
        world.run_for(SECOND * 60);
        assert_eq!(world.settled.get(&Offset(0)), Some(&Settlement::Exhausted), "{ordering:?}");
    }
}

#[test]
fn time_on_hold_does_not_count_against_the_deadline() {
    let policy =
        Policy { retry_schedule: RetrySchedule::new(vec![10, 10]).unwrap(), ..policy(Ordering::Strict) };
    let mut world = World::new(policy, |_, _, _| BAD);
    world.publish(0);
    world.run_for(SECOND * 5);
    world.lane.hold(true, world.now);
    world.now = world.now + SECOND * 10_000;
    world.run_for(SECOND * 5);
    assert!(world.settled.is_empty());
    world.lane.hold(false, world.now);
    world.run_for(SECOND * 60);
    assert_eq!(world.settled[&Offset(0)], Settlement::Exhausted);
}

#[test]
fn retry_after_is_honoured() {
    let wait = Failure { kind: FailureKind::Immediate, retry_after: Some(SECOND * 500) };
    let mut world = World::new(policy(Ordering::Strict), move |_, number, _| {
        if number == 1 { Finished::Failed(wait) } else { Finished::Delivered }
    });
    world.publish(0);
    world.run_for(SECOND * 499);
    assert_eq!(world.attempts.len(), 1);
    world.run_for(SECOND * 100);
    assert_eq!(world.delivered.len(), 1);
}

#[test]
fn cancelling_settles_all_below_and_ignores_what_was_in_flight() {
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
        let mut world = World::new(policy(ordering), |_, _, _| BAD);
        for key in 0..100 {
            world.publish(key % 3);
        }
        world.run_for(Duration::from_millis(15));
        world.start_all();
        let range = world.lane.settle_below(Offset(150)).unwrap();
        assert_eq!(range, (Offset(0), Offset(150)));
        world.run_for(SECOND);
        assert_eq!(world.lane.unsettled(), 0);
        assert_eq!(world.lane.next(), Offset(150));
        assert_eq!(world.lane.in_flight(), 0);
    }
}

/// Or the endpoint would be disabled again as soon as somebody enables it.
#[test]
fn how_long_an_endpoint_failed_is_forgotten_when_it_is_ended() {
    let mut world = World::new(policy(Ordering::Strict), |_, _, _| BAD);
    world.publish(0);
    world.run_for(SECOND * 5);
    assert!(world.lane.failing_since().is_some());
    let mut successor = world.lane.clone();
    let (from, to) = world.lane.settle_below(Offset(1)).unwrap();
    assert_eq!(world.lane.failing_since(), None);
    let (reason, at) = (Settlement::Cancelled, world.now);
    successor.apply(&Fact::SettledRange { endpoint: EndpointNumber(0), from, to, reason, at }, world.now);
    assert_eq!(successor.failing_since(), None);

    // What was in flight then may fail yet.
    world.publish(0);
    world.run_for(SECOND * 5);
    world.lane.hold(true, world.now);
    assert!(world.lane.failing_since().is_some());
    world.lane.hold(false, world.now);
    assert_eq!(world.lane.failing_since(), None);
}

#[test]
fn changing_the_ordering_loses_nothing() {
    let mut world = World::new(policy(Ordering::Unordered), |offset, number, _| {
        if offset.0 % 3 == 0 && number < 3 { BAD } else { Finished::Delivered }
    });
    for key in 0..60 {
        world.publish(key % 7);
    }
    world.run_for(Duration::from_millis(45));
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered, Ordering::Keyed] {
        world.lane.set_policy(policy(ordering), world.now);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(SECOND * 900);
    assert_eq!(world.delivered.len(), 60);
}

fn ordering() -> impl Strategy<Value = Ordering> {
    prop_oneof![Just(Ordering::Strict), Just(Ordering::Keyed), Just(Ordering::Unordered)]
}

#[derive(Clone, Debug)]
enum Step {
    Publish { key: u64, count: u8 },
    Inject { key: u64, count: u8 },
    Run { millis: u32 },
    Snapshot,
    Crash,
    Outage { millis: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..5, 1_u8..20).prop_map(|(key, count)| Step::Publish { key, count }),
        2 => (0_u64..5, 1_u8..20).prop_map(|(key, count)| Step::Inject { key, count }),
        4 => (1_u32..2_000).prop_map(|millis| Step::Run { millis }),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Crash),
        1 => (1_u32..30_000).prop_map(|millis| Step::Outage { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, with an endpoint that heals in the end: everything is settled once, first attempts keep
    /// their order, a recovered lane has the unsettled deliveries of the one that crashed, and nothing is parked.
    #[test]
    fn nothing_is_lost_or_reordered(
        ordering in ordering(),
        rate in prop::option::weighted(0.3, 1_u32..200),
        steps in prop::collection::vec(step(), 1..60),
        flaky in 0_u64..40,
    ) {
        let outage_until = std::cell::Cell::new(Timestamp::ZERO);
        let policy = Policy { throttle_rate: rate.and_then(std::num::NonZeroU32::new), ..policy(ordering) };
        let mut world = World::new(policy, |offset, number, now| {
            let unlucky = (offset.0 * 31 + u64::from(number) * 17) % 100 < flaky;
            if now < outage_until.get() || unlucky { BAD } else { Finished::Delivered }
        });
        let mut snapshot = (world.lane.snapshot(world.now), 0);
        let mut first_of_life = Vec::new();
        for step in steps {
            match step {
                Step::Publish { key, count } => for _ in 0..count { world.publish(key); },
                Step::Inject { key, count } => for _ in 0..count { world.inject(key); },
                Step::Run { millis } => world.run_for(Duration::from_millis(u64::from(millis))),
                Step::Snapshot => snapshot = (world.lane.snapshot(world.now), world.facts.len()),
                Step::Outage { millis } => outage_until.set(world.now + Duration::from_millis(u64::from(millis))),
                Step::Crash => {
                    let before = world.lane.unsettled_offsets();
                    first_of_life.push(std::mem::take(&mut world.attempts));
                    let (bytes, facts) = snapshot.clone();
                    world.recover(&bytes, facts);
                    prop_assert_eq!(world.lane.unsettled_offsets(), before);
                }
            }
            prop_assert_eq!(world.lane.unsettled(), world.lane.unsettled_offsets().len() as u64);
        }
        world.run_for(SECOND * 100_000);
        first_of_life.push(std::mem::take(&mut world.attempts));
        prop_assert_eq!(world.settled.len(), world.keys.len());
        // Below 17 the same message never fails twice in a row but in an outage; above, some are poison for a while.
        prop_assert!(flaky >= 17 || world.settled.values().all(|&reason| reason == Settlement::Delivered));
        prop_assert_eq!(world.lane.unsettled(), 0);
        prop_assert_eq!(world.lane.cursor(), world.lane.next());

        // First attempts, over all lives, in order per sequence; what was injected among itself.
        let mut last: BTreeMap<(bool, u64), Offset> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for &(_, offset, _) in first_of_life.iter().flatten() {
            if ordering == Ordering::Unordered || !seen.insert(offset) {
                continue;
            }
            let key = if ordering == Ordering::Strict { 0 } else { world.keys[&offset] };
            let key = (world.injected.contains(&offset), key);
            prop_assert!(last.insert(key, offset).is_none_or(|before| before < offset), "{:?} out of order", offset);
        }
    }

    /// A snapshot that was damaged is refused or gives some lane; it never panics.
    #[test]
    fn a_damaged_snapshot_never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut world = World::new(policy(Ordering::Keyed), |_, _, _| BAD);
        for key in 0..50 { world.publish(key % 5); world.inject(key % 5); }
        world.run_for(SECOND);
        let mut bytes = world.lane.snapshot(world.now).to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= value;
        }
        for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
            let _ = Lane::restore(&bytes, policy(ordering), world.now);
        }
    }
}
