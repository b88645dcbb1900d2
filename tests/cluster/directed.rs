//! Runs that lead again and again to where one guard matters. With the guard nothing is broken; without it the same
//! run has to show that (planted.rs).

use std::{sync::Arc, time::Duration};

use fanfare_core::planted::Fault;
use fanfare_testkit::kafka::{self, Cluster, Settings};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    endpoints::Wanted,
    installation::{DELIVERY_PARTITIONS, Installation, MESSAGE_PARTITIONS},
    judge::{Disturbance, Kind},
    load::Pace,
    process::Role,
    scene::Scene,
};
use crate::support::random::Random;

/// A guard taken out of the processes of one role.
pub(crate) type Planted = Option<(Fault, Role)>;

/// A course that a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    Handovers,
    Zombie,
    BrokerPauses,
    RoutersKilled,
}

impl Course {
    pub(crate) const ALL: [Self; 4] =
        [Self::Handovers, Self::Zombie, Self::BrokerPauses, Self::RoutersKilled];

    /// Gives what is broken in the end.
    pub(crate) async fn run(self, seed: u64, planted: Planted) -> Vec<String> {
        match self {
            Self::Handovers => handovers(seed, planted).await,
            Self::Zombie => zombie(seed, planted).await,
            Self::BrokerPauses => broker_pauses(seed, planted).await,
            Self::RoutersKilled => routers_killed(seed, planted).await,
        }
    }
}

fn installation(brokers: &str, planted: Planted) -> Installation {
    let mut installation = Installation::new(brokers, 1);
    installation.planted = planted;
    installation
}

/// Partitions are asked back while all their endpoints are in the middle of a request, which ends within the time that a
/// drain has. So nothing may come twice: no process is killed or frozen.
///
/// From the answer to the group to the claim of the next owner more than half a second may pass, as members hear of it
/// with their next heartbeat. So requests take much longer than that, and begin at different times.
async fn handovers(seed: u64, planted: Planted) -> Vec<String> {
    const ROUNDS: u64 = 3;
    const APPLICATIONS: u32 = 8;
    const TAKES: Duration = Duration::from_millis(1_250);
    /// An endpoint has nothing to do for the rest of it.
    const PACE: Duration = Duration::from_millis(1_300);
    let (partitions, moved) = (u64::from(DELIVERY_PARTITIONS), u64::from(DELIVERY_PARTITIONS) / 2);
    let wanted = (0..2 * APPLICATIONS as usize).map(|number| Wanted {
        application: number / 2,
        ordering: "strict",
        takes: TAKES,
    });
    let roles = [Role::Front, Role::Front, Role::Router, Role::Worker];
    let installation = installation(kafka::shared(), planted);
    let mut scene = Scene::begin(installation, &roles, wanted.collect()).await;
    for application in 0..APPLICATIONS as usize {
        scene.publish(application, seed + application as u64, Pace::Steady(PACE));
        sleep(PACE / APPLICATIONS).await;
    }
    scene.until("all partitions are served", |seen| seen.takeovers >= partitions).await;

    let mut random = Random::seeded(seed);
    for round in 1..=ROUNDS {
        let before = scene.installation.watch.seen().takeovers;
        println!("round {round}: a second worker comes and goes");
        let second = scene.installation.start(Role::Worker).await;
        scene.until("half of the partitions moved", |seen| seen.takeovers >= before + moved).await;
        sleep(random.millis(1_000..2_500)).await;
        let status = scene.installation.take(second).stop().await;
        assert!(status.success(), "{second}: {status}");
        scene.until("they moved back", |seen| seen.takeovers >= before + 2 * moved).await;
        sleep(random.millis(1_000..2_500)).await;
    }
    scene.end(&[]).await
}

/// A worker is frozen until others have its partitions, and thawed. From its thaw it has three seconds to learn that it
/// was replaced; after them nothing may come twice.
async fn zombie(seed: u64, planted: Planted) -> Vec<String> {
    /// Longer than a member may be silent.
    const FROZEN: Duration = Duration::from_millis(11_500);
    /// After its thaw.
    const WATCHED: Duration = Duration::from_secs(8);
    let wanted = (0..DELIVERY_PARTITIONS as usize).map(|number| Wanted {
        application: number % 2,
        ordering: "strict",
        takes: Duration::from_millis(20),
    });
    let roles = [Role::Front, Role::Front, Role::Router, Role::Worker, Role::Worker];
    let mut scene = Scene::begin(installation(kafka::shared(), planted), &roles, wanted.collect()).await;
    for application in 0..2 {
        scene.publish(application, seed + application as u64, Pace::Steady(Duration::from_millis(40)));
    }
    let partitions = u64::from(DELIVERY_PARTITIONS);
    scene.until("all partitions are served", |seen| seen.takeovers >= partitions).await;
    sleep(Random::seeded(seed).millis(3_000..4_000)).await;

    let worker = scene.installation.of(Role::Worker)[0];
    println!("freeze {worker}; another one comes");
    let mut disturbances = vec![Disturbance { kind: Kind::Frozen, at: Instant::now() }];
    scene.installation.running.get_mut(&worker).expect("it runs").freeze();
    // With three, those that the group gives back to the one that was frozen cannot be all that it held.
    scene.installation.start(Role::Worker).await;
    let process = scene.installation.running.get_mut(&worker).expect("it is frozen");
    sleep_until(process.frozen_at.expect("it is frozen") + FROZEN).await;
    println!("thaw {worker}");
    disturbances.push(Disturbance { kind: Kind::Thawed, at: Instant::now() });
    process.thaw();
    sleep(WATCHED).await;
    scene.end(&disturbances).await
}

/// The broker pauses for a moment, again and again: shorter than a publish may take, and than the two seconds after which
/// its controller takes it for dead. Nobody has to notice: nothing may come twice, and neither a worker nor a router's
/// session may fail.
///
/// Of a router's session it is the only thing to be seen: what it does not get into the log it sends again, and workers
/// refuse what stands behind the gap until then. So neither a loss nor a repeat comes of it, as it should be.
async fn broker_pauses(seed: u64, planted: Planted) -> Vec<String> {
    const PAUSES: u64 = 3;
    const PAUSE: Duration = Duration::from_millis(1_500);
    /// Deliveries that go on from memory meanwhile.
    const BACKLOG: u64 = 1_000;
    let cluster = Cluster::start(&Settings::new(1)).expect("Apache Kafka starts");
    let broker = &cluster.brokers()[0];
    let applications = MESSAGE_PARTITIONS as usize;
    let wanted = (0..DELIVERY_PARTITIONS as usize).map(|number| Wanted {
        application: number % applications,
        ordering: if number < applications { "strict" } else { "keyed" },
        takes: Duration::from_millis(25),
    });
    let roles = [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker, Role::Worker];
    let installation = installation(&cluster.bootstrap(), planted);
    let mut scene = Scene::begin(installation, &roles, wanted.collect()).await;
    for application in 0..applications {
        let pace = Pace::Fill(BACKLOG, Duration::from_millis(50));
        scene.publish(application, seed + application as u64, pace);
    }
    scene.fill(BACKLOG / 2).await;

    let watch = Arc::clone(&scene.installation.watch);
    let before = watch.seen().failures.len();
    let mut random = Random::seeded(seed);
    for _ in 0..PAUSES {
        sleep(random.millis(1_000..2_000)).await;
        println!("the broker pauses for 1.5 s");
        broker.freeze().expect("it runs");
        sleep(PAUSE).await;
        broker.thaw().expect("it runs");
    }
    sleep(Duration::from_secs(1)).await;
    let mut broken = scene.end(&[]).await;
    broken.extend(watch.seen().failures.split_off(before).into_iter().map(|(_, line)| line));
    broken
}

/// The only router is killed while it routes what came in while nobody did; and so is the next one.
///
/// After a kill the group waits for the session's timeout. What is published meanwhile is routed in batches of hundreds,
/// so that most kills hit one whose claims would be durable, and its deliveries not yet, if the two were not one record.
async fn routers_killed(seed: u64, planted: Planted) -> Vec<String> {
    const KILLS: u64 = 4;
    let applications = MESSAGE_PARTITIONS as usize;
    let mut wanted = Vec::new();
    for ordering in ["strict", "keyed", "unordered", "strict"] {
        let takes = Duration::from_millis(1);
        wanted.extend((0..applications).map(|application| Wanted { application, ordering, takes }));
    }
    let roles = [Role::Front, Role::Front, Role::Router, Role::Worker, Role::Worker];
    let mut scene = Scene::begin(installation(kafka::shared(), planted), &roles, wanted).await;
    for application in 0..applications {
        let pace = Pace::Steady(Duration::from_millis(10));
        scene.publish(application, seed + application as u64, pace);
    }

    let mut random = Random::seeded(seed);
    sleep(random.millis(2_000..3_000)).await;
    for number in 1..=KILLS {
        let router = scene.installation.of(Role::Router)[0];
        println!("kill {number}: -9 {router}; another one comes");
        scene.installation.take(router).kill();
        let before = scene.installation.watch.seen().sessions;
        scene.installation.spawn(Role::Router);
        scene.until("messages are routed again", |seen| seen.sessions > before).await;
        sleep(random.millis(50..600)).await;
    }
    scene.end(&[]).await
}
