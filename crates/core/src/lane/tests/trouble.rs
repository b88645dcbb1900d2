//! Endpoints that are down, and messages that are always rejected.

use super::*;

#[test]
fn an_outage_parks_nothing_and_healing_is_found_within_75_seconds() {
    // The last two are longer than the schedule.
    let outages = [3, 1_200, 40_000, 90_000, 3 * 86_400, 6 * 86_400].map(Duration::from_secs);
    for ordering in [Ordering::Strict, Ordering::Keyed, Ordering::Unordered] {
        for failure in [BAD, REFUSED] {
            for outage in outages {
                let case = format!("{ordering:?} {outage:?} {failure:?}");
                let healed = Timestamp::from_secs(1_000_000) + outage;
                let mut world =
                    World::new(
                        policy(ordering),
                        move |_, _, now| {
                            if now < healed { failure } else { Finished::Delivered }
                        },
                    );
                for key in 0..500 {
                    world.publish(key % 20);
                }
                world.run_until(healed - SECOND);
                // However long the outage was, these are too young to be exhausted.
                for key in 0..100 {
                    world.publish(key % 20);
                }
                world.run_until(healed + SECOND * 75);
                assert!(!world.delivered.is_empty(), "{case}: not found again");
                world.run_for(SECOND * 20);
                assert_eq!(world.settled.len(), 600, "{case}");
                assert!((500..600).all(|offset| world.delivered.contains_key(&Offset(offset))), "{case}");
                check_exhausted(&world);
                assert!(came_in_order(&world), "{case}: out of order");
                let first = world.delivered.values().min().unwrap();
                let last = world.delivered.values().max().unwrap();
                assert!(last.since(*first) < SECOND * 10, "{case}: paused while delivering the rest");
            }
        }
    }
}

/// Nothing was settled without a success but what went on failing for as long as its schedule is.
fn check_exhausted(world: &World<'_>) {
    let mut first_tried = BTreeMap::new();
    for &(at, offset, _) in &world.attempts {
        first_tried.entry(offset).or_insert(at);
    }
    for fact in &world.facts {
        if let Fact::Settled { offset, reason, at, .. } = fact {
            assert_eq!(*reason, Settlement::Exhausted, "{offset:?}");
            assert!(at.since(first_tried[offset]) >= RetrySchedule::default().deadline(), "{offset:?}");
        }
    }
}

/// Whether deliveries came in the order of their offsets, as far as the ordering goes.
fn came_in_order(world: &World<'_>) -> bool {
    let ordering = world.lane.policy().ordering;
    if ordering == Ordering::Unordered {
        // What failed comes when it is due.
        return world.first_attempts().is_sorted();
    }
    let mut latest = BTreeMap::new();
    world.delivered.iter().all(|(offset, &at)| {
        let key = if ordering == Ordering::Strict { 0 } else { world.keys[offset] };
        latest.insert(key, at).is_none_or(|before| before < at)
    })
}

#[test]
fn one_or_three_poison_messages_hold_a_strict_lane_no_longer_than_parking_takes() {
    for poison in [vec![5], vec![5, 6, 7]] {
        let bad = poison.clone();
        let mut world = World::new(policy(Ordering::Strict), move |offset, _, _| {
            if bad.contains(&offset.0) { BAD } else { Finished::Delivered }
        });
        for _ in 0..50 {
            world.publish(0);
        }
        world.run_for(limits::PARK_AFTER + SECOND * 60);
        assert_eq!(world.delivered.len(), 50 - poison.len());
        for offset in poison {
            assert_eq!(world.settled[&Offset(offset)], Settlement::Rejected);
        }
    }
}

#[test]
fn block_turns_parking_off() {
    let policy = Policy { park_after: None, ..policy(Ordering::Strict) };
    let mut world =
        World::new(policy, |offset, _, _| if offset == Offset(5) { BAD } else { Finished::Delivered });
    for _ in 0..50 {
        world.publish(0);
    }
    world.run_for(SECOND * 3_600);
    assert_eq!(world.delivered.len(), 5);
    assert!(matches!(world.lane.held_by(world.now), Some(HeldBy::Circuit | HeldBy::Ordering)));
    assert!(world.settled.values().all(|&reason| reason == Settlement::Delivered));
}

#[test]
fn a_poison_key_of_100_000_messages_never_stops_the_other_keys() {
    let mut world = World::new(policy(Ordering::Keyed), |offset, _, _| {
        if offset.0 % 2 == 0 && offset.0 < 200_000 { BAD } else { Finished::Delivered }
    });
    for offset in 0..200_000_u64 {
        world.publish(if offset % 2 == 0 { 1 } else { 2 + offset % 100 });
        assert!(world.lane.has_room());
        if offset % 1_000 == 999 {
            world.run_for(SECOND * 3);
        }
    }
    world.run_for(SECOND * 60);
    assert_eq!(world.delivered.len(), 100_000, "all of the other keys");
    assert!(
        world.settled.values().any(|&reason| reason == Settlement::Rejected),
        "the poison is being parked"
    );
    assert!(
        world
            .settled
            .keys()
            .all(|offset| { world.settled[offset] != Settlement::Rejected || offset.0 % 2 == 0 })
    );
}

#[test]
fn thirty_percent_poison_never_stops_an_unordered_lane() {
    let policy = Policy { max_in_flight: 20, ..policy(Ordering::Unordered) };
    let mut world =
        World::new(
            policy,
            |offset, _, _| {
                if offset.0 * 2_654_435_761 % 1_000 < 300 { BAD } else { Finished::Delivered }
            },
        );
    for _ in 0..20_000 {
        world.publish(0);
    }
    let good = (0..20_000_u64).filter(|offset| offset * 2_654_435_761 % 1_000 >= 300).count();
    // 20,000 first attempts of 10 ms, 20 at once, take 10 s; retries may take a tenth of that again.
    world.run_for(SECOND * 12);
    assert_eq!(world.delivered.len(), good);
}

#[test]
fn a_full_unordered_lane_parks_what_failed_longest_ago() {
    let policy = Policy { max_in_flight: 1_024, ..policy(Ordering::Unordered) };
    let mut world =
        World::new(policy, |offset, _, _| if offset.0 % 5 > 1 { Finished::Delivered } else { BAD });
    let mut published = 0;
    while published < 250_000 {
        while world.lane.has_room() && published < 250_000 {
            world.publish(0);
            published += 1;
        }
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(SECOND * 5);
    let parked = world.settled.values().filter(|&&reason| reason == Settlement::Rejected).count();
    assert!(parked >= 100_000 - limits::LANE_ENTRIES, "parked {parked}");
    assert_eq!(world.delivered.len(), 150_000);
}
