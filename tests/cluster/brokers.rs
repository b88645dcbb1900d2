//! Three brokers, each killed in turn under load. By hand: they take more memory and time than every change can have.

use std::time::Duration;

use fanfare_testkit::kafka::{Cluster, Settings};
use tokio::time::Instant;

use super::{
    alone,
    endpoints::{Endpoints, Wanted},
    installation::Installation,
    judge,
    load::{Load, Pace},
    process::Role,
    scene::missing_in_the_end,
    setting,
};
use crate::support::wait;

const APPLICATIONS: usize = 4;
const PACE: Duration = Duration::from_millis(50);
/// With a broker down, and with all of them back.
const WHILE: Duration = Duration::from_secs(6);

#[ignore = "by hand: cargo test --test cluster brokers -- --ignored --nocapture"]
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_killed_in_turn_lose_nothing() {
    let _alone = alone().await;
    let rounds = setting("FANFARE_ROUNDS", 1);
    let cluster = Cluster::start(&Settings::new(3)).expect("Apache Kafka starts");
    let mut installation = Installation::new(&cluster.bootstrap(), 3);
    for role in [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker, Role::Worker] {
        installation.start(role).await;
    }
    let mut wanted = Vec::new();
    for application in 0..APPLICATIONS {
        for ordering in ["strict", "keyed"] {
            wanted.push(Wanted { application, ordering, takes: Duration::from_millis(5) });
        }
    }
    let endpoints = Endpoints::start(wanted).await;
    let mut load = Load::set_up(&installation, &endpoints, APPLICATIONS).await;
    for application in 0..APPLICATIONS {
        load.publish(&installation, application, application as u64, Pace::Steady(PACE));
    }
    let watching = installation.watch.begin(load.unsettled.clone());
    for _ in 0..rounds {
        for broker in cluster.brokers() {
            println!("kill -9 broker {}", broker.id());
            broker.kill().expect("it runs");
            served(&endpoints).await;
            broker.start(3).expect("it starts again");
            served(&endpoints).await;
        }
    }
    let published = load.stop().await;
    let stopped = Instant::now();
    let missing = missing_in_the_end(&endpoints, &published).await;
    println!("everything had arrived {:.1} s after the last publish", stopped.elapsed().as_secs_f64());
    installation.stop().await;
    watching.abort();
    installation.watch.look(0);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    // No worker was disturbed: nothing explains a repeat but a drain that was cut short, or a log that gave up.
    let seen = installation.watch.seen();
    let disturbance = |kind, at| judge::Disturbance { kind, at };
    let cut_short = seen.cut_short.iter().filter(|(_, name)| name.0 == Role::Worker);
    let mut disturbances: Vec<_> = cut_short.map(|&(at, _)| disturbance(judge::Kind::CutShort, at)).collect();
    let failed = seen.failures.iter().filter(|(_, line)| line.starts_with("worker"));
    disturbances.extend(failed.map(|&(at, _)| disturbance(judge::Kind::Failed, at)));
    let findings = judge::judge(&endpoints, &published, &disturbances);
    println!("{}", findings.summary.join("\n"));
    seen.tell();
    for failed in published.failed.iter().take(3) {
        println!("failed: {failed}");
    }
    assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n"));
    assert_eq!(seen.errors, Vec::<String>::new());
}

/// For a while, and until every endpoint was sent something since.
async fn served(endpoints: &Endpoints) {
    let from = Instant::now();
    wait::until("all endpoints are served", Duration::from_mins(1), async || {
        let last = |number| endpoints.arrivals(number).last().map(|arrival| arrival.at);
        let all =
            (0..endpoints.wanted().count()).all(|number| last(number).is_some_and(|at| at > from + WHILE));
        all.then_some(())
    })
    .await;
}
