//! Overload: many more publishers than can be served, while endpoints are slow.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use fanfare_core::Ordering;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Checks, EndpointPlan, LOOK_EVERY, Programs, Stage, as_f64};
use crate::{
    judge::judge,
    latency::Summary,
    process,
    publisher::{self, Counts, Publisher},
    receiver::Behaviour,
    sequence::SequenceSet,
};

/// How much too much.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Publishing connections.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// How long they publish.
    #[arg(long, default_value_t = 60.0)]
    pub duration_secs: f64,
    /// Applications, published to in turn.
    #[arg(long, default_value_t = 100)]
    pub applications: usize,
    /// Endpoints of each application.
    #[arg(long, default_value_t = 1)]
    pub endpoints: usize,
    /// What an endpoint takes for each delivery.
    #[arg(long, default_value_t = 200)]
    pub latency_ms: u64,
    /// How long everything accepted may take to be delivered afterwards.
    #[arg(long, default_value_t = 600.0)]
    pub drain_secs: f64,
}

const ANSWER_SECS: f64 = 5.0;
const HEALTH_SECS: f64 = 1.0;
const RESIDENT_MIB: f64 = 400.0;
const BACK_AFTER: Duration = Duration::from_secs(10);
/// Of what was published per second before, with a moderate number of connections.
const BACK_SHARE: f64 = 0.8;
const MODERATE_CONNECTIONS: usize = 32;
const MODERATE_APPLICATIONS: usize = 10;
const MODERATE_TIME: Duration = Duration::from_secs(5);
const MAX_IN_FLIGHT: u32 = 64;
const HEALTH_EVERY: Duration = Duration::from_millis(200);

/// What `fanfare-load publish --json` prints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Crowd {
    counts: Counts,
    accepted: Vec<SequenceSet>,
    latency: Summary,
    shed_latency: Summary,
    complaint: Option<String>,
}

pub async fn run(
    programs: &Programs,
    options: &Options,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Checks> {
    ensure!(options.applications > 0 && options.endpoints > 0, "somebody has to be delivered to");
    let mut checks = Checks::default();
    let mut stage = Stage::start(programs, &[]).await?;
    let plan = |number: usize| EndpointPlan {
        ordering: Ordering::Unordered,
        behaviour: Behaviour { latency_ms: options.latency_ms, ..Behaviour::default() },
        fields: json!({ "maxInFlight": MAX_IN_FLIGHT }),
        ..EndpointPlan::of(number / options.endpoints)
    };
    // Two more groups of applications show what a moderate number of publishers gets before and after.
    let mut plans: Vec<_> = (0..options.applications * options.endpoints).map(plan).collect();
    let crowded = plans.len();
    let groups = [options.applications, options.applications + MODERATE_APPLICATIONS];
    plans.extend(
        (groups[0]..groups[1] + MODERATE_APPLICATIONS).map(|application| EndpointPlan {
            ordering: Ordering::Unordered,
            ..EndpointPlan::of(application)
        }),
    );
    stage.set_up(groups[1] + MODERATE_APPLICATIONS, &plans).await?;
    let before = moderate(&stage, groups[0]).await?;
    tell(&format!("before: {before}"));

    let (crowd, slowest_health, most_in) = overload(&stage, options).await?;
    let ended = Instant::now();
    let Crowd { counts, accepted, latency, shed_latency, complaint } = crowd;
    tell(&format!("{counts:?}; 202 {}; 503 {}; {complaint:?}", latency.text(), shed_latency.text()));
    let other = counts.other + counts.errors + counts.unknown;
    let measured = format!("{} and {}", counts.accepted, counts.shed);
    checks.note("202 and 503", measured);
    checks.add("neither 202 nor 503", format!("{other}"), "0", other == 0);
    let without = counts.shed_without_retry_after;
    checks.add("503 without Retry-After", format!("{without}"), "0", without == 0);
    checks.at_most("slowest 202", secs(latency.max_us), ANSWER_SECS, "s");
    checks.at_most("slowest 503", secs(shed_latency.max_us), ANSWER_SECS, "s");
    checks.at_most("slowest health answer", slowest_health.as_secs_f64(), HEALTH_SECS, "s");

    sleep(BACK_AFTER.saturating_sub(ended.elapsed())).await;
    let after = moderate(&stage, groups[1]).await?;
    tell(&format!("{} s afterwards: {after}", BACK_AFTER.as_secs()));
    let what = format!("published + delivered {} s later, share of before", BACK_AFTER.as_secs());
    checks.at_least(what, 100.0 * after.both() / before.both().max(1.0), 100.0 * BACK_SHARE, "%");

    let expected: u64 = accepted.iter().map(SequenceSet::len).sum::<u64>() * options.endpoints as u64;
    let beside = before.accepted + after.accepted;
    let (all, most_out) =
        stage.delivered(expected + beside, Duration::from_secs_f64(options.drain_secs)).await?;
    let drained = ended.elapsed().as_secs_f64();
    let verdict = judge(&accepted, &stage.report((0..crowded).collect(), true).await?);
    checks.add(
        "delivered afterwards",
        format!("{} of {expected}, {} lost", verdict.delivered, verdict.lost + verdict.undelivered),
        "all",
        all && verdict.is_clean(),
    );
    checks.note("delivered after", format!("{drained:.0} s"));
    checks.at_most("resident at most", most_in.max(most_out), RESIDENT_MIB, "MiB");
    stage.stop().await?;
    Ok(checks)
}

/// The crowd publishes; gives what it saw, the slowest answer to a health check, and the most memory, in MiB.
async fn overload(stage: &Stage, options: &Options) -> anyhow::Result<(Crowd, Duration, f64)> {
    let mut arguments =
        ["publish", "--json", "--server", stage.url(), "--token", stage.token()].map(str::to_owned).to_vec();
    let mut argument = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    argument("--connections", options.connections.to_string());
    argument("--duration-secs", options.duration_secs.to_string());
    argument("--payload-bytes", crate::payload::DEFAULT_BYTES.to_string());
    argument("--run", stage.run.to_string());
    for application in &stage.applications[..options.applications] {
        argument("--app", application.clone());
    }
    let loader = stage.loader().to_owned();
    let mut publishing = tokio::spawn(async move { process::output(&loader, &arguments).await });
    let server = stage.server.clone();
    let (found, slowest) = watch::channel(Duration::ZERO);
    let health = tokio::spawn(async move {
        loop {
            let asked = Instant::now();
            let answer = server.call::<(), Value>(Method::GET, "/api/v1/health", None).await;
            let took = if answer.is_ok() { asked.elapsed() } else { Duration::MAX };
            found.send_modify(|slowest| *slowest = took.max(*slowest));
            sleep(HEALTH_EVERY).await;
        }
    });
    let mut most = stage.resident_mib();
    let output = loop {
        tokio::select! {
            output = &mut publishing => break output??,
            () = sleep(LOOK_EVERY) => most = most.max(stage.resident_mib()),
        }
    };
    health.abort();
    let crowd = serde_json::from_str(&output).context("unexpected output of the publisher")?;
    let slowest = *slowest.borrow();
    Ok((crowd, slowest, most))
}

/// What a moderate number of publishers got, and what was delivered meanwhile, backlog included.
struct Moderate {
    accepted: u64,
    accepted_per_second: f64,
    delivered_per_second: f64,
}

impl Moderate {
    /// What the machine did in all: a backlog that is delivered takes its share of it.
    fn both(&self) -> f64 {
        self.accepted_per_second + self.delivered_per_second
    }
}

impl std::fmt::Display for Moderate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accepted_per_second, delivered_per_second, .. } = self;
        write!(f, "{accepted_per_second:.0} published/s, {delivered_per_second:.0} delivered/s")
    }
}

async fn moderate(stage: &Stage, first: usize) -> anyhow::Result<Moderate> {
    let options = publisher::Options {
        connections: MODERATE_CONNECTIONS,
        payload_bytes: crate::payload::DEFAULT_BYTES,
        messages: None,
        duration: Some(MODERATE_TIME),
        applications: stage.applications[first..first + MODERATE_APPLICATIONS].to_vec(),
        ..stage.publishing(first, 0)
    };
    let delivered = stage.counters().await?.delivered;
    let published = Publisher::start(options).finish().await;
    let elapsed = published.elapsed.as_secs_f64();
    Ok(Moderate {
        accepted: published.counts.accepted,
        accepted_per_second: as_f64(published.counts.accepted) / elapsed,
        delivered_per_second: as_f64(stage.counters().await?.delivered - delivered) / elapsed,
    })
}

fn secs(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
