//! On the simulated log: two routers that crash, are cut off, lose and gain partitions, and fail to append.

use std::{sync::Arc, time::Duration};

use fanfare_log::{
    Group,
    sim::{SimCluster, SimLog, SimOptions},
};
use tokio::time::{Instant, sleep};

use crate::{
    oracle::{expect, take},
    world::{DELIVERY_PARTITIONS, HandClock, MESSAGE_PARTITIONS, Process, Publish, Routing},
};

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Node {
    log: Arc<SimLog>,
    routing: Routing,
}

async fn node(cluster: &SimCluster, clock: &Arc<HandClock>) -> Node {
    let log = cluster.join();
    let routing = Process::start(Arc::clone(&log) as _, clock).await.route(None);
    Node { log, routing }
}

fn publish(dice: &mut Dice) -> Publish {
    let name = |kind: &str, number: u64| format!("{kind}{number}");
    Publish {
        key: (dice.roll(3) > 0).then(|| name("key", dice.roll(12))),
        event_id: (dice.roll(4) == 0).then(|| name("event", dice.roll(6))),
        short_window: dice.roll(2) == 0,
        channel: (dice.roll(3) == 0).then(|| name("channel", dice.roll(2))),
        body: dice.roll(2),
        wait: (dice.roll(5) == 0).then(|| Duration::from_mins(dice.roll(600))),
    }
}

/// Everything arrives once, in order, and every repeat is found, whatever happens to the routers. Gives how many records
/// were repeated, and how many messages waited for their time when the trouble ended.
async fn survive(seed: u64) -> (usize, usize) {
    let mut dice = Dice(seed);
    let cluster = SimCluster::new(SimOptions::new(seed, MESSAGE_PARTITIONS, DELIVERY_PARTITIONS));
    let clock = Arc::new(HandClock::default());
    let producer = Process::start(cluster.join(), &clock).await;
    let (mut applications, mut endpoints) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let application = producer.application().await;
        for channel in [None, None, Some("channel0"), Some("channel1"), None] {
            endpoints.push(producer.endpoint(application.0, channel).await);
        }
        applications.push(application);
    }
    let mut nodes = vec![node(&cluster, &clock).await, node(&cluster, &clock).await];

    for _ in 0..60 {
        for _ in 0..=dice.roll(4) {
            let application = applications[usize::try_from(dice.roll(3)).unwrap()];
            let publishes: Vec<_> = (0..=dice.roll(5)).map(|_| publish(&mut dice)).collect();
            // The same key says the same thing of its message: its window is a function of the key.
            let publishes: Vec<_> = publishes
                .into_iter()
                .map(|publish| Publish {
                    short_window: publish.key.as_deref().is_some_and(|key| key < "key2"),
                    ..publish
                })
                .collect();
            drop(producer.append(application, &publishes).await);
            sleep(Duration::from_millis(dice.roll(4))).await;
        }
        cluster.set_failures(u32::try_from(dice.roll(3) * 60).unwrap());
        match dice.roll(12) {
            0 => {
                let Node { log, routing } = nodes.remove(0);
                log.crash();
                drop(routing);
                cluster.set_failures(0);
                nodes.push(node(&cluster, &clock).await);
            }
            1 => nodes[0].log.isolate(Duration::from_millis(dice.roll(2_000))),
            2 => cluster.shake_claims(Group::Router),
            3 => clock.advance(Duration::from_mins(dice.roll(30))),
            4 => clock.advance(Duration::from_hours(dice.roll(13))),
            _ => sleep(Duration::from_millis(dice.roll(400))).await,
        }
    }
    cluster.set_failures(0);
    let waiting = expect(&*producer.log, &endpoints).await.waiting.len();
    clock.advance(Duration::from_hours(24));
    // By then every append has become durable or failed.
    let settled = Instant::now() + Duration::from_secs(5);
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let expected = expect(&*producer.log, &endpoints).await;
        let taken = take(&*producer.log).await;
        if taken.outcome == expected && Instant::now() > settled {
            assert!(!expected.aliases.is_empty() && !expected.conflicts.is_empty());
            return (taken.repeats, waiting);
        }
        assert!(Instant::now() < deadline, "seed {seed}:\ntaken {taken:?}\nexpected {expected:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_routers_in_trouble_lose_and_repeat_nothing() {
    let seeds = match std::env::var("FANFARE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..24).collect(),
    };
    let (mut repeats, mut waiting) = (0, 0);
    for seed in seeds.iter().copied() {
        let of_this = survive(seed).await;
        (repeats, waiting) = (repeats + of_this.0, waiting + of_this.1);
    }
    assert!(repeats > 0, "the trouble was none");
    assert!(waiting > 0, "nothing waited for its time");
}
