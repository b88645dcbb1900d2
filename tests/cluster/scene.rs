//! What runs have in common: an installation with its endpoints and its load, and what is asked of it in the end.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    endpoints::{Endpoints, Wanted},
    installation::Installation,
    judge::{self, Disturbance, Kind},
    load::{Load, Pace, Published},
    process::Role,
    watch::{Seen, Watch},
};
use crate::support::wait;

/// Rebalances count while at least so many deliveries are unsettled.
pub(crate) const LOADED: u64 = 1_000;
/// From the end of the load until everything arrived: a session's timeout, and the backlog.
const CATCH_UP: Duration = Duration::from_secs(90);
/// Where nothing arrives for so long, nothing more will: a session's timeout, a takeover, and as much again.
const STANDSTILL: Duration = Duration::from_secs(25);

pub(crate) struct Scene {
    pub(crate) installation: Installation,
    endpoints: Endpoints,
    load: Load,
    watching: JoinHandle<()>,
}

impl Scene {
    /// Starts the processes and makes the applications. Nothing is published yet.
    pub(crate) async fn begin(mut installation: Installation, roles: &[Role], wanted: Vec<Wanted>) -> Self {
        for &role in roles {
            installation.start(role).await;
        }
        let applications = wanted.iter().map(|wanted| wanted.application + 1).max().unwrap_or(0);
        let endpoints = Endpoints::start(wanted).await;
        let load = Load::set_up(&installation, &endpoints, applications).await;
        let watching = installation.watch.begin(load.unsettled.clone());
        Self { installation, endpoints, load, watching }
    }

    /// Publishes to an application until the end.
    pub(crate) fn publish(&mut self, application: usize, seed: u64, pace: Pace) {
        self.load.publish(&self.installation, application, seed, pace);
    }

    /// Until so many deliveries are unsettled.
    pub(crate) async fn fill(&self, deliveries: u64) {
        wait::until("there is a backlog", Duration::from_mins(1), async || {
            (self.load.unsettled.count() >= deliveries).then_some(())
        })
        .await;
    }

    /// Until the processes have said enough.
    #[cfg_attr(not(feature = "planted"), allow(dead_code, reason = "random actions wait for nothing"))]
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let watch = &self.installation.watch;
        wait::until(what, Duration::from_mins(1), async || enough(&watch.seen()).then_some(())).await;
    }

    /// Ends the load, waits for what is to arrive, stops everything, and gives what is broken.
    pub(crate) async fn end(mut self, disturbances: &[Disturbance]) -> Vec<String> {
        let published = self.load.stop().await;
        let stopped = Instant::now();
        let mut broken = missing_in_the_end(&self.endpoints, &published).await;
        println!("arrivals ended {:.1} s after the last publish", stopped.elapsed().as_secs_f64());
        self.installation.stop().await;
        self.watching.abort();
        let watch = &self.installation.watch;
        watch.look(0);
        let disturbances = with_cut_short(disturbances, watch);
        let findings = judge::judge(&self.endpoints, &published, &disturbances);
        println!("{}", findings.summary.join("\n"));
        broken.extend(findings.wrong);
        let seen = watch.seen();
        seen.tell();
        broken.extend(seen.errors.iter().cloned());
        broken
    }
}

/// What was done to the workers, and drains that were over before they were done.
fn with_cut_short(disturbances: &[Disturbance], watch: &Watch) -> Vec<Disturbance> {
    let seen = watch.seen();
    let cut_short = seen.cut_short.iter().filter(|(_, name)| name.0 == Role::Worker);
    let cut_short = cut_short.map(|&(at, _)| Disturbance { kind: Kind::CutShort, at });
    disturbances.iter().copied().chain(cut_short).collect()
}

/// What was acknowledged and did not arrive within [`CATCH_UP`]; returns as soon as that is nothing, or nothing more is
/// to be expected.
pub(crate) async fn missing_in_the_end(endpoints: &Endpoints, published: &Published) -> Vec<String> {
    let deadline = Instant::now() + CATCH_UP;
    let delivered = endpoints.delivered();
    let mut last = (delivered(), Instant::now());
    loop {
        let missing = endpoints.missing(&published.acknowledged);
        let count = delivered();
        if count != last.0 {
            last = (count, Instant::now());
        }
        if missing.is_empty() || Instant::now() > deadline || last.1.elapsed() > STANDSTILL {
            let tell = |(endpoint, missing): &(usize, Vec<u64>)| {
                let some = &missing[..missing.len().min(10)];
                format!("endpoint {endpoint}: {} acknowledged, never received: {some:?}", missing.len())
            };
            return missing.iter().map(tell).collect();
        }
        sleep(Duration::from_millis(50)).await;
    }
}
