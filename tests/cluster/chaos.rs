//! Random actions under load: nothing acknowledged is lost, first attempts keep their order, and what comes twice
//! is explained by the drain rule.

use std::{fmt::Write as _, time::Duration};

use fanfare_testkit::kafka::Cluster;
use tokio::time::{Instant, sleep};

use super::{
    actions::Actions,
    endpoints::{Endpoints, Wanted},
    installation::Installation,
    judge::{self, Disturbance, Findings, Kind},
    load::{Load, Pace, Published},
    process::Role,
    watch::Watch,
};

/// Applications whose endpoints answer at once; what is published keeps their lanes behind.
const BUSY: usize = 4;
/// Deliveries that are unsettled, as far as it goes, all the time.
const BACKLOG: u64 = 2_000;
/// Rebalances count while at least so many are unsettled.
const LOADED: u64 = 1_000;
const REBALANCES: usize = 5;
/// From the end of the load until everything arrived: a session's timeout, and the backlog.
const CATCH_UP: Duration = Duration::from_secs(90);

/// Of its first ten actions each kind happens to a worker at least once.
pub(crate) const SEED: u64 = 14;

/// What is done, and with what taken out.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) actions: u64,
    pub(crate) planted: Option<&'static str>,
    /// Frozen now and then, for less than a session's timeout.
    pub(crate) broker: Option<Cluster>,
}

#[cfg(not(feature = "planted"))]
#[tokio::test(flavor = "multi_thread")]
async fn chaos_loses_and_reorders_nothing() {
    let _alone = super::alone().await;
    let (seed, actions) = (super::setting("FANFARE_SEED", SEED), super::setting("FANFARE_ACTIONS", 10));
    println!("FANFARE_SEED={seed} FANFARE_ACTIONS={actions}");
    let broken = run(Plan { seed, actions, planted: None, broker: None }).await;
    assert!(broken.is_empty(), "FANFARE_SEED={seed} FANFARE_ACTIONS={actions}\n{}", broken.join("\n"));
}

/// What is broken in the end.
pub(crate) async fn run(plan: Plan) -> Vec<String> {
    let brokers =
        plan.broker.as_ref().map_or_else(|| fanfare_testkit::kafka::shared().to_owned(), Cluster::bootstrap);
    let mut installation = Installation::new(&brokers, 1);
    installation.planted = plan.planted;
    for role in
        [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker, Role::Worker, Role::Worker]
    {
        installation.start(role).await;
    }
    let endpoints = Endpoints::start(wanted()).await;
    let mut load = Load::set_up(&installation, &endpoints, BUSY + 1).await;
    for application in 0..BUSY {
        let pace = Pace::Fill(BACKLOG, Duration::from_millis(100));
        load.publish(&installation, application, plan.seed + application as u64, pace);
    }
    load.publish(&installation, BUSY, plan.seed + BUSY as u64, Pace::Steady(Duration::from_millis(1_500)));
    let watching = installation.watch.begin(load.unsettled.clone());
    fill(&load).await;

    let mut actions = Actions::new(plan.seed);
    for number in 0..plan.actions {
        actions.next(&mut installation).await;
        if let Some(broker) = &plan.broker
            && number % 3 == 1
        {
            freeze(broker).await;
        }
    }
    actions.finish(&mut installation).await;
    let published = load.stop().await;
    let stopped = Instant::now();
    let mut broken = missing_in_the_end(&endpoints, &published).await;
    println!("everything had arrived {:.1} s after the last publish", stopped.elapsed().as_secs_f64());
    installation.stop().await;
    watching.abort();
    installation.watch.look(0);
    let findings = judge::judge(&endpoints, &published, &disturbances(&actions, &installation.watch));
    broken.extend(told(&findings, &installation.watch, plan.actions));
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

/// Until so much is unsettled that a rebalance counts.
async fn fill(load: &Load) {
    crate::support::wait::until("there is a backlog", Duration::from_mins(1), async || {
        (load.unsettled.count() >= LOADED).then_some(())
    })
    .await;
}

/// A pause of the broker that nobody has to notice: shorter than a publish may take, and than the two seconds after which
/// its controller takes it for dead.
async fn freeze(broker: &Cluster) {
    let broker = &broker.brokers()[0];
    println!("           the broker pauses for 1.5 s");
    broker.freeze().expect("it runs");
    sleep(Duration::from_millis(1_500)).await;
    broker.thaw().expect("it runs");
    // What had gathered meanwhile becomes durable, so that the next kill is judged as any other.
    sleep(Duration::from_secs(1)).await;
}

/// What was acknowledged and did not arrive within [`CATCH_UP`]; returns as soon as that is nothing.
pub(crate) async fn missing_in_the_end(endpoints: &Endpoints, published: &Published) -> Vec<String> {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let missing = endpoints.missing(&published.acknowledged);
        if missing.is_empty() || Instant::now() > deadline {
            let tell = |(endpoint, missing): (&usize, &Vec<u64>)| {
                let some = &missing[..missing.len().min(10)];
                format!("endpoint {endpoint}: {} acknowledged, never received: {some:?}", missing.len())
            };
            return missing.iter().map(tell).collect();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What was done to the workers, and drains that were over before they were done.
pub(crate) fn disturbances(actions: &Actions, watch: &Watch) -> Vec<Disturbance> {
    let cut_short = watch.seen().cut_short.clone();
    let cut_short = cut_short.into_iter().filter(|(_, name)| name.0 == Role::Worker);
    let cut_short = cut_short.map(|(at, _)| Disturbance { kind: Kind::CutShort, at });
    actions.disturbances.iter().copied().chain(cut_short).collect()
}

/// Prints what there was, and gives what is wrong with it.
fn told(findings: &Findings, watch: &Watch, actions: u64) -> Vec<String> {
    let seen = watch.seen();
    let loaded = seen.rebalances.iter().filter(|rebalance| rebalance.unsettled >= LOADED).count();
    let mut text = findings.summary.join("\n");
    let _ = write!(
        text,
        "\n{} rebalances, {loaded} of them with {LOADED} deliveries unsettled; {} takeovers; \
         {} drains cut short; {} workers claimed again",
        seen.rebalances.len(),
        seen.takeovers,
        seen.cut_short.len(),
        seen.restarts.len(),
    );
    println!("{text}");
    for restart in seen.restarts.iter().take(5) {
        println!("  {restart}");
    }
    let mut broken = findings.wrong.clone();
    broken.extend(seen.errors.iter().cloned());
    if actions >= 10 && loaded < REBALANCES {
        broken.push(format!("only {loaded} rebalances under load: {:?}", seen.rebalances));
    }
    broken
}
