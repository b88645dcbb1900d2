//! What was injected beside what was routed: it waits for it, and keeps nothing from it.

use super::*;

const ORDERINGS: [Ordering; 3] = [Ordering::Strict, Ordering::Keyed, Ordering::Unordered];

#[test]
fn what_was_routed_goes_first_and_what_was_injected_keeps_its_order() {
    for ordering in ORDERINGS {
        let mut world = World::new(policy(ordering), |_, _, _| Finished::Delivered);
        for key in 0..50 {
            world.inject(key % 3);
            world.publish(key % 3);
        }
        world.run_for(SECOND * 5);
        assert_eq!(world.delivered.len(), 100);
        assert!(world.lane.is_idle());
        let (injected, routed): (Vec<_>, Vec<_>) =
            world.first_attempts().into_iter().partition(|offset| world.injected.contains(offset));
        if ordering != Ordering::Keyed {
            assert!(injected.is_sorted() && routed.is_sorted(), "{ordering:?}");
        }
        if ordering == Ordering::Strict {
            let all = world.first_attempts();
            assert!(all[..50].iter().all(|offset| !world.injected.contains(offset)), "{all:?}");
        }
    }
}

/// An endpoint that refuses all that is replayed, and takes all that is new. A new message waits for one attempt that is
/// under way at most, in the window of a `strict` lane.
#[test]
fn a_replay_that_is_refused_holds_up_nothing() {
    for failure in [BAD, REFUSED] {
        for ordering in ORDERINGS {
            let mut world =
                World::new(
                    policy(ordering),
                    move |offset, _, _| {
                        if offset.0 % 2 == 0 { failure } else { Finished::Delivered }
                    },
                );
            let mut published = Vec::new();
            for round in 0..200 {
                world.inject(round % 3);
                published.push((world.now, world.publish(round % 3)));
                world.run_for(SECOND * 3);
            }
            for (at, offset) in published {
                let case = format!("{ordering:?} {failure:?} {offset:?}");
                let delivered =
                    world.delivered.get(&offset).unwrap_or_else(|| panic!("{case}: not delivered"));
                assert!(
                    delivered.since(at) <= Duration::from_millis(20),
                    "{case}: {:?}",
                    delivered.since(at)
                );
            }
        }
    }
}

#[test]
fn an_endpoint_that_only_a_replay_waits_for_is_found_within_75_seconds() {
    for ordering in ORDERINGS {
        for failure in [BAD, REFUSED] {
            let healed = Timestamp::from_secs(1_000_000) + SECOND * 40_000;
            let mut world =
                World::new(
                    policy(ordering),
                    move |_, _, now| {
                        if now < healed { failure } else { Finished::Delivered }
                    },
                );
            for key in 0..100 {
                world.inject(key % 7);
            }
            world.run_until(healed - SECOND);
            assert_eq!(world.lane.held_by(), Some(HeldBy::Circuit), "{ordering:?} {failure:?}");
            world.run_until(healed + SECOND * 75);
            assert!(!world.delivered.is_empty(), "{ordering:?} {failure:?}: not found again");
            world.run_for(SECOND * 20);
            assert_eq!(world.delivered.len(), 100, "{ordering:?} {failure:?}");
        }
    }
}

#[test]
fn at_a_dead_endpoint_a_replay_makes_no_attempts_of_its_own() {
    for ordering in ORDERINGS {
        let attempts = |replayed: u64| {
            let mut world = World::new(policy(ordering), |_, _, _| REFUSED);
            world.publish(1);
            world.run_for(SECOND);
            for key in 0..replayed {
                world.inject(key);
            }
            world.run_for(SECOND * 4_000);
            assert!(world.attempts.iter().all(|(_, offset, _)| !world.injected.contains(offset)));
            world.attempts.len()
        };
        assert_eq!(attempts(100), attempts(0), "{ordering:?}");
    }
}

#[test]
fn a_poison_message_of_a_replay_is_parked() {
    let mut world =
        World::new(
            policy(Ordering::Strict),
            |offset, _, _| {
                if offset == Offset(5) { BAD } else { Finished::Delivered }
            },
        );
    for _ in 0..50 {
        world.inject(0);
    }
    world.run_for(limits::PARK_AFTER + SECOND * 60);
    assert_eq!(world.delivered.len(), 49);
    assert_eq!(world.settled[&Offset(5)], Settlement::Rejected);
}

#[test]
fn a_long_replay_takes_no_room_from_what_is_routed() {
    for ordering in ORDERINGS {
        let mut world = World::new(policy(ordering), |_, _, _| Finished::Delivered);
        for key in 0..200_000 {
            world.inject(key);
        }
        assert!(world.lane.has_room() && world.lane.wants_more());
        let offset = world.publish(0);
        let at = world.now;
        world.run_for(SECOND);
        assert!(world.delivered[&offset].since(at) <= Duration::from_millis(20), "{ordering:?}");
    }
}

#[test]
fn a_disabled_endpoint_cancels_a_replay_too() {
    for ordering in ORDERINGS {
        let mut world = World::new(policy(ordering), |_, _, _| BAD);
        for key in 0..20 {
            world.inject(key);
            world.publish(key);
        }
        world.run_for(Duration::from_millis(15));
        assert_eq!(world.lane.settle_below(Offset(40)), Some((Offset(0), Offset(40))));
        world.run_for(SECOND);
        assert_eq!((world.lane.unsettled(), world.lane.in_flight()), (0, 0));
        assert!(world.lane.injected.is_empty());
    }
}

#[test]
fn a_snapshot_from_before_there_was_anything_injected_is_read() {
    let mut world = World::new(policy(Ordering::Keyed), |_, _, _| BAD);
    for key in 0..9 {
        world.publish(key);
    }
    world.run_for(SECOND);
    let snapshot = world.lane.snapshot(world.now);
    let old = &snapshot[..snapshot.len() - 1 - OffsetSet::default().to_bytes().len()];
    let restored = |bytes: &[u8]| Lane::restore(bytes, policy(Ordering::Keyed), world.now).unwrap();
    assert_eq!(restored(old).snapshot(world.now), restored(&snapshot).snapshot(world.now));
    assert_eq!(restored(old).unsettled(), 9);
}
