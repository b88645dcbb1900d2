#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanfare_core::{
    ApplicationId, Policy, Trigger,
    lane::{Lane, Poll},
};

use super::{room::SETTLED, *};

const TARGET: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp::from_secs(2);

fn ordered(window: u32) -> Policy {
    Policy { ordering: fanfare_core::Ordering::Unordered, max_in_flight: window, ..Policy::default() }
}

/// A lane with so much to do, of which it has started all that it may.
fn slot(window: u32, deliveries: u64, start: bool) -> Slot {
    let now = Timestamp::from_secs(1);
    let mut lane = Lane::new(ordered(window), Offset::ZERO, now);
    (0..deliveries).map(Offset).for_each(|offset| lane.push(offset, Trigger::Scheduled));
    while start && let Poll::Start(_) = lane.poll(now, &mut Vec::new()) {}
    let mut slot = Slot::new(lane, ApplicationId::from_bytes([1; 20]), now);
    slot.arrived = u32::try_from(deliveries).unwrap();
    slot
}

/// `count` deliveries of 50 ms in the second that ends now.
async fn second(meter: &mut Meter, count: u64, budget: usize, contended: bool) -> Tally {
    tokio::time::advance(SECOND).await;
    (0..count).for_each(|_| meter.delivered(Duration::from_millis(50)));
    meter.tally(budget, contended, TARGET)
}

fn capacity(tally: &Tally, processor_share: f64) -> (u64, Limit) {
    let capacity = tally.capacity(processor_share).unwrap();
    (capacity.rate.0 / 1_000, capacity.limit)
}

#[tokio::test(start_paused = true)]
async fn capacity_is_what_the_room_takes_whatever_the_rate() {
    let mut meter = Meter::new();
    assert_eq!(second(&mut meter, 0, 8, false).await.capacity(0.0), None, "nothing was delivered yet");
    assert_eq!(capacity(&second(&mut meter, 2, 8, false).await, 0.0), (160, Limit::Room));
    assert_eq!(capacity(&second(&mut meter, 120, 8, false).await, 0.4), (160, Limit::Room));
    assert_eq!(capacity(&second(&mut meter, 0, 4, false).await, 0.0), (80, Limit::Room), "the mean is kept");
}

#[tokio::test(start_paused = true)]
async fn where_starts_wait_for_room_it_is_the_rate_reached() {
    let mut meter = Meter::new();
    for _ in 0..3 {
        let early = second(&mut meter, 140, 8, true).await;
        assert_eq!(capacity(&early, 0.0), (160, Limit::Room), "a second or two show nothing");
    }
    assert_eq!(capacity(&second(&mut meter, 140, 8, true).await, 0.0), (140, Limit::Room));
    let other = second(&mut meter, 70, 4, true).await;
    assert_eq!(capacity(&other, 0.0), (80, Limit::Room), "a rate with other room does not count");
}

#[tokio::test(start_paused = true)]
async fn a_second_in_which_nothing_moved_is_no_smaller_room() {
    let mut meter = Meter::new();
    for _ in 0..4 {
        second(&mut meter, 150, 8, true).await;
    }
    (0..8).for_each(|_| meter.delivered(Duration::from_millis(900)));
    let stalled = second(&mut meter, 0, 8, true).await;
    assert_eq!(capacity(&stalled, 0.0), (150, Limit::Room));
    for _ in 0..4 {
        second(&mut meter, 80, 8, true).await;
    }
    let slower = second(&mut meter, 80, 8, true).await;
    assert_eq!(capacity(&slower, 0.0), (80, Limit::Room), "what stays so is so");
}

#[tokio::test(start_paused = true)]
async fn a_busy_processor_is_the_limit() {
    let mut meter = Meter::new();
    let tally = second(&mut meter, 120, 100, false).await;
    assert_eq!(capacity(&tally, 0.8), (150, Limit::Processor));
    assert_eq!(capacity(&tally, 0.4), (2_000, Limit::Room), "below that it says little");
}

#[tokio::test(start_paused = true)]
async fn what_a_window_cannot_take_within_the_drain_target_is_held() {
    let mut meter = Meter::new();
    let mut tally = second(&mut meter, 40, 100, false).await;
    tally.lane(&mut slot(4, 5_000, true), NOW);
    assert_eq!((tally.workable, tally.in_flight), (800, 4), "four at once for the drain target");
    assert_eq!(tally.held.iter().sum::<u64>(), 4_196);
    assert_eq!(tally.arrived, 80, "four at once in a second");
    tally.lane(&mut slot(4, 50, false), NOW);
    assert_eq!((tally.workable, tally.arrived), (850, 130), "a lane with nothing in its way");
    tally.lane(&mut slot(4, 5_000, false), NOW);
    assert_eq!(tally.workable, 1_650, "the same lane, at a moment when its window has room");
}

/// Whether the throttle is what it waits for just now or not.
#[tokio::test(start_paused = true)]
async fn what_a_rate_does_not_let_go_within_the_drain_target_is_held() {
    let mut meter = Meter::new();
    let throttled = |start| {
        let mut slot = slot(4, 5_000, start);
        let throttle_rate = std::num::NonZeroU32::new(7);
        slot.lane.set_policy(Policy { throttle_rate, ..ordered(4) }, NOW);
        slot
    };
    let place = HeldBy::ALL.iter().position(|&by| by == HeldBy::Throttle).unwrap();
    for (start, now) in [(true, NOW), (false, NOW), (false, NOW + SECOND)] {
        let mut tally = second(&mut meter, 40, 100, false).await;
        let mut slot = throttled(start);
        let waiting = slot.backlog() - slot.lane.in_flight() as u64;
        tally.lane(&mut slot, now);
        assert_eq!((tally.workable, tally.arrived), (70, 7), "seven a second");
        assert_eq!(tally.held[place], waiting - 70);
        assert_eq!(tally.held.iter().sum::<u64>(), waiting - 70);
    }
    let mut tally = second(&mut meter, 40, 100, false).await;
    let mut few = slot(4, 3, false);
    let throttle_rate = std::num::NonZeroU32::new(7);
    few.lane.set_policy(Policy { throttle_rate, ..ordered(4) }, NOW);
    tally.lane(&mut few, NOW);
    assert_eq!((tally.workable, tally.held.iter().sum::<u64>()), (3, 0), "these it will have sent by then");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_counts_neither_as_work_nor_as_arrival() {
    let mut meter = Meter::new();
    let mut tally = second(&mut meter, 40, 100, false).await;
    let mut paused = slot(4, 5_000, false);
    paused.lane.hold(true, NOW);
    tally.lane(&mut paused, NOW);
    assert_eq!((tally.workable, tally.arrived), (0, 0));
    assert_eq!(tally.held[0], 5_000);
    tally.lane(&mut paused, NOW);
    assert_eq!(paused.arrived, 0, "arrivals are counted once");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_no_rate_of_arrival() {
    let mut meter = Meter::new();
    let mut arrival = |rate| meter.arrival(Rate(rate)).0;
    assert!((0..4).all(|_| arrival(9_000) == 0), "what comes in a few seconds is a backlog");
    assert_eq!(arrival(9_000), 9_000, "what goes on coming is a rate");
    assert_eq!(arrival(0), 9_000);
}

#[tokio::test(start_paused = true)]
async fn room_is_shared_by_the_partitions_held() {
    let room = Room::new(64, 32);
    assert_eq!(room.first_share(), 2);
    room.holds(4);
    assert_eq!(room.share(2), 2, "more partitions may be coming");
    tokio::time::advance(SETTLED).await;
    assert_eq!(room.share(2), 16);
    room.holds(8);
    assert_eq!(room.share(16), 8, "room that others need is given up at once");
    let small = Room::new(2, 32);
    small.holds(32);
    assert_eq!(small.share(1), 1, "every partition goes on");
}
