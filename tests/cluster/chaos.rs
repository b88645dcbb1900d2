//! Random actions under load: nothing acknowledged is lost, first attempts keep their order, and what comes twice
//! is explained by the drain rule.

use std::{sync::Arc, time::Duration};

use super::{
    actions::Actions,
    alone,
    endpoints::Wanted,
    installation::Installation,
    load::Pace,
    process::Role,
    scene::{LOADED, Scene},
    setting,
};

/// Applications whose endpoints answer at once; what is published keeps their lanes behind.
const BUSY: usize = 4;
/// Deliveries that are unsettled, as far as it goes, all the time.
const BACKLOG: u64 = 2_000;
const REBALANCES: usize = 5;

/// Of its first ten actions each kind happens to a worker at least once.
const SEED: u64 = 14;

#[tokio::test(flavor = "multi_thread")]
async fn chaos_loses_and_reorders_nothing() {
    let _alone = alone().await;
    let (seed, actions) = (setting("FANFARE_SEED", SEED), setting("FANFARE_ACTIONS", 10));
    println!("FANFARE_SEED={seed} FANFARE_ACTIONS={actions}");
    let broken = run(seed, actions).await;
    assert!(broken.is_empty(), "FANFARE_SEED={seed} FANFARE_ACTIONS={actions}\n{}", broken.join("\n"));
}

/// What is broken in the end.
async fn run(seed: u64, count: u64) -> Vec<String> {
    let roles =
        [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker, Role::Worker, Role::Worker];
    let installation = Installation::new(fanfare_testkit::kafka::shared(), 1);
    let mut scene = Scene::begin(installation, &roles, wanted()).await;
    for application in 0..BUSY {
        let pace = Pace::Fill(BACKLOG, Duration::from_millis(100));
        scene.publish(application, seed + application as u64, pace);
    }
    scene.publish(BUSY, seed + BUSY as u64, Pace::Steady(Duration::from_millis(1_500)));
    scene.fill(LOADED).await;

    let mut actions = Actions::new(seed);
    for _ in 0..count {
        actions.next(&mut scene.installation).await;
    }
    actions.finish(&mut scene.installation).await;
    let watch = Arc::clone(&scene.installation.watch);
    let mut broken = scene.end(&actions.disturbances).await;
    let seen = watch.seen();
    let loaded = seen.loaded_rebalances();
    if count >= 10 && loaded < REBALANCES {
        broken.push(format!("only {loaded} rebalances under load: {:?}", seen.rebalances));
    }
    broken
}

/// Each delivery partition has endpoints that are quick, and one that is so slow that it is mostly in the middle of
/// a request.
fn wanted() -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for application in 0..BUSY {
        for (ordering, millis) in [("strict", 25), ("keyed", 25), ("strict", 35), ("unordered", 25)] {
            wanted.push(Wanted { application, ordering, takes: Duration::from_millis(millis) });
        }
    }
    let slow = Wanted { application: BUSY, ordering: "strict", takes: Duration::from_millis(900) };
    wanted.extend(std::iter::repeat_n(slow, 8));
    wanted
}
