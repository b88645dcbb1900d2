use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    Offset,
    lane::HeldBy,
    load::{Capacity, Rate},
};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const SETTINGS: Settings = Settings { drain_target: Duration::from_secs(10), min_workers: 1 };

/// A partition of a worker that holds `held` of them, whose room for it delivers `capacity` each second.
fn load(owner: u128, held: u32, capacity: u64) -> PartitionLoad {
    PartitionLoad {
        at: NOW,
        owner,
        epoch: Offset(1),
        partitions_held: held,
        tail: Offset(9),
        arrival: Rate(0),
        delivered: Rate(0),
        capacity: Some(Capacity { rate: Rate(capacity * 1_000), limit: Limit::Room }),
        in_flight: 0,
        workable: 0,
        held: Vec::new(),
        oldest_workable: Duration::ZERO,
        next_due: None,
    }
}

fn of(load: PartitionLoad) -> Observed {
    Observed { load: Some(load), ..Observed::default() }
}

fn desired(partitions: &[Observed]) -> u32 {
    hint(&SETTINGS, partitions, None, NOW).desired
}

#[test]
fn a_burst_asks_for_the_workers_that_drain_it_in_time() {
    // One worker with six partitions delivers 6 × 40 = 240 each second, 2,400 in ten.
    let burst = |workable| -> Vec<Observed> {
        (0..6).map(|_| of(PartitionLoad { workable, ..load(1, 6, 40) })).collect()
    };
    assert_eq!(desired(&burst(399)), 1);
    assert_eq!(desired(&burst(401)), 2);
    assert_eq!(desired(&burst(1_150)), 3);
    assert_eq!(desired(&burst(1_000_000)), 6, "more workers than partitions would be idle");
}

#[test]
fn arrivals_count_like_a_backlog_of_one_drain_target() {
    let steady = |arrival: u64| of(PartitionLoad { arrival: Rate(arrival * 1_000), ..load(1, 2, 100) });
    assert_eq!(desired(&[steady(90), steady(90)]), 1);
    assert_eq!(desired(&[steady(110), steady(110)]), 2);
}

#[test]
fn one_busy_partition_needs_room_to_itself() {
    let mut partitions = vec![of(load(1, 4, 100)); 4];
    partitions[0] = of(PartitionLoad { workable: 1_900, ..load(1, 4, 100) });
    assert_eq!(desired(&partitions), 2);
    // Where the processor is the limit its neighbours are not in the way.
    for one in &mut partitions {
        let capacity = Capacity { rate: Rate(100_000), limit: Limit::Processor };
        one.load.as_mut().expect("each has figures").capacity = Some(capacity);
    }
    assert_eq!(desired(&partitions), 1);
}

#[test]
fn nothing_to_do_needs_the_least() {
    let none = Settings { min_workers: 0, ..SETTINGS };
    assert_eq!(desired(&vec![of(load(1, 4, 100)); 4]), 1);
    assert_eq!(hint(&none, &vec![of(load(1, 4, 100)); 4], None, NOW).desired, 0);
    assert_eq!(hint(&none, &vec![Observed::default(); 4], None, NOW).desired, 0);
}

#[test]
fn partitions_without_a_worker_wake_up_from_zero() {
    let none = Settings { min_workers: 0, ..SETTINGS };
    let wakes = |one: Observed| hint(&none, &[one, Observed::default()], None, NOW).desired;
    let gone = || PartitionLoad { at: Timestamp::from_secs(999_000), ..load(1, 2, 100) };
    assert_eq!(wakes(Observed { unseen: 1, ..Observed::default() }), 1, "records that nobody looked at");
    assert_eq!(wakes(of(PartitionLoad { workable: 5, ..gone() })), 1, "work left behind");
    assert_eq!(wakes(of(PartitionLoad { next_due: Some(NOW), ..gone() })), 1, "a retry that is due");
    assert_eq!(wakes(Observed { unsettled: true, ..Observed::default() }), 1, "lanes of long ago");
    assert_eq!(wakes(of(PartitionLoad { held: vec![(HeldBy::Circuit, 9)], ..gone() })), 0, "what is held");
    let later = NOW + Duration::from_mins(1);
    assert_eq!(wakes(of(PartitionLoad { next_due: Some(later), ..gone() })), 0, "a retry that is not due");
}

#[test]
fn old_figures_do_not_count() {
    let mut figures = PartitionLoad { arrival: Rate(500_000), ..load(1, 1, 100) };
    figures.at = NOW - LOAD_FRESH;
    assert_eq!(desired(&vec![of(figures.clone()); 8]), 8);
    for at in [NOW - LOAD_FRESH - Duration::from_millis(1), NOW + LOAD_FRESH + Duration::from_millis(1)] {
        figures.at = at;
        let hint = hint(&SETTINGS, &vec![of(figures.clone()); 8], None, NOW);
        assert_eq!((hint.desired, hint.figures.live_workers), (1, 0), "at {at}");
        assert_eq!(hint.figures.unowned_partitions, 8);
    }
}

#[test]
fn it_goes_down_only_after_a_drain_target_and_then_to_the_most_needed_since() {
    let with = |workable, at| vec![of(PartitionLoad { at, workable, ..load(1, 4, 25) }); 4];
    let mut last = hint(&SETTINGS, &with(900, NOW), None, NOW);
    assert_eq!(last.desired, 4);
    let mut seen = Vec::new();
    for second in 1..=25 {
        let at = NOW + Duration::from_secs(second);
        last = hint(&SETTINGS, &with(if second < 5 { 600 } else { 0 }, at), Some(&last.previous), at);
        seen.push(last.desired);
    }
    let expected = [[4; 10].as_slice(), &[3; 10], &[1; 5]].concat();
    assert_eq!(seen, expected);
}

fn held() -> impl Strategy<Value = Vec<(HeldBy, u64)>> {
    vec((select(HeldBy::ALL.to_vec()), 0..1_000_000_u64), 0..4)
}

prop_compose! {
    fn any_load()(
        age_ms in -30_000..30_000_i64,
        owner in 0..4_u128,
        partitions_held in 0..8_u32,
        arrival in 0..1_000_000_u64,
        capacity in option::of((0..1_000_000_u64, any::<bool>())),
        workable in prop_oneof![Just(0_u64), 0..1_000_000_u64],
        held in held(),
        due_ms in option::of(-30_000..30_000_i64),
    ) -> PartitionLoad {
        let limit = |room| if room { Limit::Room } else { Limit::Processor };
        PartitionLoad {
            at: Timestamp::from_micros(NOW.as_micros() + age_ms * 1_000),
            partitions_held,
            arrival: Rate(arrival),
            capacity: capacity.map(|(rate, room)| Capacity { rate: Rate(rate), limit: limit(room) }),
            workable,
            held,
            next_due: due_ms.map(|ms| Timestamp::from_micros(NOW.as_micros() + ms * 1_000)),
            ..load(owner, 1, 1)
        }
    }
}

prop_compose! {
    fn observed()(load in option::of(any_load()), unseen in 0..3_u64, unsettled in any::<bool>()) -> Observed {
        Observed { load, unseen, unsettled }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    (1..120_u64, 0..10_u32)
        .prop_map(|(secs, min_workers)| Settings { drain_target: Duration::from_secs(secs), min_workers })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_most_the_partitions_and_at_least_the_minimum(
        settings in settings(),
        first in vec(observed(), 1..12),
        second in vec(observed(), 1..12),
    ) {
        let before = hint(&settings, &first, None, NOW);
        let after = hint(&settings, &second, Some(&before.previous), NOW);
        for (hint, partitions) in [(before, first.len()), (after, second.len())] {
            let most = u32::try_from(partitions).expect("a few");
            prop_assert!(hint.desired <= most);
            prop_assert!(hint.desired >= settings.min_workers.min(most));
        }
    }

    #[test]
    fn what_is_held_never_counts(
        settings in settings(),
        mut partitions in vec(observed(), 1..12),
        more in held(),
    ) {
        let before = hint(&settings, &partitions, None, NOW);
        for load in partitions.iter_mut().filter_map(|one| one.load.as_mut()) {
            load.held.clone_from(&more);
        }
        let after = hint(&settings, &partitions, None, NOW);
        prop_assert_eq!((before.desired, before.reason), (after.desired, after.reason));
    }

    #[test]
    fn more_work_never_needs_fewer(
        settings in settings(),
        mut partitions in vec(observed(), 1..12),
        at in any::<prop::sample::Index>(),
        more in 0..1_000_000_u64,
    ) {
        let before = hint(&settings, &partitions, None, NOW).desired;
        let at = at.index(partitions.len());
        match &mut partitions[at].load {
            Some(load) => load.workable += more,
            None => partitions[at].unseen += more,
        }
        prop_assert!(hint(&settings, &partitions, None, NOW).desired >= before);
    }

    /// Of old figures nothing is used but what was left behind, and when it is due.
    #[test]
    fn rates_of_old_figures_never_count(settings in settings(), mut partitions in vec(observed(), 1..12)) {
        let before = hint(&settings, &partitions, None, NOW);
        for one in &mut partitions {
            if one.fresh(NOW).is_none() && let Some(load) = &mut one.load {
                load.arrival = Rate(u64::MAX);
                load.capacity = Some(Capacity { rate: Rate(1), limit: Limit::Room });
                load.owner = u128::MAX;
            }
        }
        prop_assert_eq!(before, hint(&settings, &partitions, None, NOW));
    }

    #[test]
    fn without_load_it_falls_to_the_minimum(settings in settings(), first in vec(observed(), 1..12)) {
        let mut last = hint(&settings, &first, None, NOW);
        let idle = vec![Observed::default(); first.len()];
        for turn in 1..=4_u32 {
            last = hint(&settings, &idle, Some(&last.previous), NOW + settings.drain_target * turn);
        }
        prop_assert_eq!(last.desired, settings.min_workers.min(u32::try_from(first.len()).expect("a few")));
    }
}
