//! Endpoints with a rate.

use std::num::NonZeroU32;

use super::*;
use crate::limits::THROTTLE_SLACK;

fn throttled(ordering: Ordering, rate: u32) -> Policy {
    Policy { throttle_rate: NonZeroU32::new(rate), max_in_flight: 64, ..policy(ordering) }
}

/// The most that may start within `time`, the ends included.
fn most(rate: u32, time: Duration) -> u128 {
    1 + u128::from(rate) * (time + THROTTLE_SLACK).as_micros() / 1_000_000
}

/// In no stretch of time more starts than the rate allows.
fn check_rate(rate: u32, starts: &[Timestamp]) {
    assert!(starts.is_sorted());
    for (first, &from) in starts.iter().enumerate() {
        for (count, &to) in (1..).zip(&starts[first..]) {
            let allowed = most(rate, to.since(from));
            assert!(count <= allowed, "{count} starts within {:?}, at {rate} a second", to.since(from));
        }
    }
}

fn starts(world: &World<'_>) -> Vec<Timestamp> {
    world.attempts.iter().map(|&(at, ..)| at).collect()
}

#[test]
fn fifty_messages_at_five_a_second_take_ten_seconds() {
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
        let mut world = World::new(throttled(ordering, 5), |_, _, _| Finished::Delivered);
        for key in 0..50 {
            world.publish(key % 7);
        }
        let began = world.now;
        world.run_for(SECOND * 60);
        assert_eq!(world.delivered.len(), 50, "{ordering:?}");
        let took = world.delivered.values().max().unwrap().since(began);
        assert!((9_500..10_100).contains(&took.as_millis()), "{ordering:?}: {took:?}");
        assert!(world.first_attempts().is_sorted(), "{ordering:?}");
        check_rate(5, &starts(&world));
    }
}

#[test]
fn a_lane_that_waits_for_its_throttle_says_so() {
    let mut world = World::new(throttled(Ordering::Unordered, 2), |_, _, _| Finished::Delivered);
    assert_eq!(world.lane.held_by(world.now), None, "nothing waits");
    for key in 0..3 {
        world.publish(key);
    }
    assert_eq!(world.lane.held_by(world.now), None, "one may go");
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.lane.held_by(world.now), Some(HeldBy::Throttle));
    world.run_for(Duration::from_millis(110));
    assert_eq!(world.delivered.len(), 2);
    world.run_for(SECOND);
    assert_eq!(world.lane.held_by(world.now), None, "nothing waits");
}

/// The owner before this one may have sent up to the last moment, and have told nobody.
#[test]
fn a_new_owner_has_nothing_to_spend() {
    let mut world = World::new(throttled(Ordering::Unordered, 100), |_, _, _| Finished::Delivered);
    for key in 0..100 {
        world.publish(key);
    }
    let snapshot = world.lane.snapshot(world.now);
    world.run_for(Duration::from_millis(200));
    let told = world.facts.len();
    world.recover(&snapshot, told);
    world.lane.resume(world.now, 0);
    assert_eq!(world.lane.held_by(world.now), Some(HeldBy::Throttle));
    world.run_for(SECOND * 3);
    assert!(world.lane.is_idle());
    assert!(world.attempts.len() > 110, "it sent again what no fact told of");
    check_rate(100, &starts(&world));
}

#[test]
fn another_rate_takes_effect_at_once() {
    let mut world = World::new(throttled(Ordering::Strict, 1), |_, _, _| Finished::Delivered);
    for _ in 0..2_000 {
        world.publish(0);
    }
    world.run_for(SECOND * 10);
    assert!((10..=11).contains(&world.delivered.len()), "{}", world.delivered.len());
    world.lane.set_policy(throttled(Ordering::Strict, 50), world.now);
    world.run_for(SECOND * 10);
    assert!((500..=520).contains(&world.delivered.len()), "{}", world.delivered.len());
    world.lane.set_policy(throttled(Ordering::Strict, 1), world.now);
    let before = world.delivered.len();
    world.run_for(SECOND * 10);
    assert!((10..=11).contains(&(world.delivered.len() - before)));
    // The same again changes nothing, however often it is said.
    for _ in 0..100 {
        world.lane.set_policy(throttled(Ordering::Strict, 1), world.now);
        world.run_for(Duration::from_millis(100));
    }
    assert!((20..=21).contains(&(world.delivered.len() - before)));
    // From here on as fast as it takes them; then, of a sudden, one a second, and no burst before.
    world.lane.set_policy(policy(Ordering::Strict), world.now);
    world.run_for(SECOND);
    let before = world.delivered.len();
    assert!(before > 600);
    world.lane.set_policy(throttled(Ordering::Keyed, 1), world.now);
    world.run_for(SECOND * 10);
    assert!((9..=11).contains(&(world.delivered.len() - before)), "also with another ordering");
}

/// What waits for the throttle is not too late for it: each delivery has all the attempts of its schedule.
#[test]
fn time_in_which_the_throttle_lets_nothing_go_does_not_count_against_deadlines() {
    let retry_schedule = RetrySchedule::new(vec![2, 3, 3]).unwrap();
    let policy = Policy { retry_schedule, ..throttled(Ordering::Unordered, 1) };
    // Few enough for the circuit to stay closed.
    let mut world =
        World::new(
            policy,
            |offset, number, _| {
                if offset.0 % 3 == 0 && number < 3 { BAD } else { Finished::Delivered }
            },
        );
    for key in 0..60 {
        world.publish(key);
    }
    world.run_for(SECOND * 2_000);
    assert_eq!((world.delivered.len(), world.attempts.len()), (60, 100), "{:?}", world.settled);
    check_rate(1, &starts(&world));
}

/// And all of them end: a lane that always has more to send than its rate lets go gives up what fails for good.
#[test]
fn what_fails_for_good_is_exhausted_in_a_throttled_lane_too() {
    let retry_schedule = RetrySchedule::new(vec![2, 3, 3]).unwrap();
    let policy = Policy { retry_schedule, ..throttled(Ordering::Unordered, 2) };
    let mut world =
        World::new(policy, |offset, _, _| if offset.0 % 20 == 0 { BAD } else { Finished::Delivered });
    for key in 0..400 {
        world.publish(key);
    }
    world.run_for(SECOND * 180);
    let exhausted = world.settled.values().filter(|&&reason| reason == Settlement::Exhausted).count();
    assert!(exhausted > 5 && world.settled.len() < 400, "{exhausted} of {}", world.settled.len());
}

#[test]
fn retries_that_are_due_do_not_keep_first_attempts_waiting() {
    // One in five fails for long: too few to open the circuit, and more than the rate has room for.
    let mut world = World::new(throttled(Ordering::Unordered, 10), |offset, _, _| {
        if offset.0 % 5 == 0 { BAD } else { Finished::Delivered }
    });
    for key in 0..2_000 {
        world.publish(key);
    }
    world.run_for(SECOND * 100);
    let firsts = world.first_attempts().len();
    assert!((880..=920).contains(&firsts), "{firsts} of {}", world.attempts.len());
    assert!(world.attempts.len() - firsts > 80, "and some retries too");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a bucket with a counter of tokens: what may start, starts at once, and nothing more.
    #[test]
    fn starts_are_those_of_a_bucket_of_tokens(
        rate in prop_oneof![1_u32..20, 20_u32..3_000, Just(999_999), Just(u32::MAX)],
        arrivals in prop::collection::vec((0_u64..400, 1_usize..20), 1..20),
    ) {
        let policy = Policy { max_in_flight: 1_024, ..throttled(Ordering::Unordered, rate) };
        let mut world = World::new(policy, |_, _, _| Finished::Delivered);
        // In millionths of a token.
        let token = 1_000_000_u128;
        let full = token + u128::from(rate) * THROTTLE_SLACK.as_micros();
        let (mut tokens, mut at, mut started) = (full, world.now, 0);
        let mut published = 0;
        let mut arrivals = arrivals.into_iter();
        let mut next_arrival = arrivals.next().map(|(millis, count)| (world.now + Duration::from_millis(millis), count));
        loop {
            while let Some((when, count)) = next_arrival.filter(|&(when, _)| when <= world.now) {
                for _ in 0..count {
                    world.publish(0);
                }
                published += count;
                next_arrival = arrivals.next().map(|(millis, count)| (when + Duration::from_millis(millis), count));
            }
            tokens = full.min(tokens + u128::from(rate) * world.now.since(at).as_micros());
            at = world.now;
            let going = (published - started).min(usize::try_from(tokens / token).unwrap());
            started += going;
            tokens -= token * going as u128;
            let wake = world.start_all();
            prop_assert_eq!(world.attempts.len(), started);
            let next = [wake, next_arrival.map(|(when, _)| when)].into_iter().flatten().min();
            let Some(next) = next else { break };
            world.now = next;
            world.land_due();
        }
        prop_assert_eq!(world.delivered.len(), published);
    }

    /// Whatever happens, also to those who own the lane: never more than the rate allows, and all is settled in the end.
    #[test]
    fn no_stretch_of_time_has_more_attempts_than_the_rate_allows(
        ordering in ordering(),
        rate in 1_u32..60,
        steps in prop::collection::vec(step(), 1..40),
        flaky in 0_u64..17,
    ) {
        let outage_until = std::cell::Cell::new(Timestamp::ZERO);
        let mut world = World::new(throttled(ordering, rate), |offset, number, now| {
            let unlucky = (offset.0 * 31 + u64::from(number) * 17) % 100 < flaky;
            if now < outage_until.get() || unlucky { BAD } else { Finished::Delivered }
        });
        let mut snapshot = (world.lane.snapshot(world.now), 0);
        for step in steps {
            match step {
                Step::Publish { key, count } => for _ in 0..count { world.publish(key); },
                Step::Inject { key, count } => for _ in 0..count { world.inject(key); },
                Step::Run { millis } => world.run_for(Duration::from_millis(u64::from(millis))),
                Step::Snapshot => snapshot = (world.lane.snapshot(world.now), world.facts.len()),
                Step::Outage { millis } => outage_until.set(world.now + Duration::from_millis(u64::from(millis))),
                Step::Crash => {
                    let (bytes, facts) = snapshot.clone();
                    world.recover(&bytes, facts);
                    world.lane.resume(world.now, 7);
                }
            }
        }
        world.run_for(SECOND * 100_000);
        prop_assert_eq!(world.settled.len(), world.keys.len());
        prop_assert!(world.settled.values().all(|&reason| reason == Settlement::Delivered));
        check_rate(rate, &starts(&world));
    }
}
