//! Overload: many more publishers than can be served, while endpoints are slow. A twin, a server of its own
//! that never meets the crowd, shows what the machine gives before and after.

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

use super::{Checks, EndpointPlan, LOOK_EVERY, Programs, Stage, as_f64, median};
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
const RESIDENT_MB: f64 = 400.0;
const BACK_AFTER: Duration = Duration::from_secs(10);
/// Of what the twin does in the same seconds.
const BACK_SHARE: f64 = 0.8;
/// Of each side, in turn.
const PAIRS: usize = 7;
const MODERATE_CONNECTIONS: usize = 32;
const MODERATE_APPLICATIONS: usize = 10;
const MODERATE_TIME: Duration = Duration::from_secs(1);
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
    let mut twin = Stage::start(programs, &[]).await?;
    let plan = |number: usize| EndpointPlan {
        ordering: Ordering::Unordered,
        behaviour: Behaviour { latency_ms: options.latency_ms, ..Behaviour::default() },
        fields: json!({ "maxInFlight": MAX_IN_FLIGHT }),
        ..EndpointPlan::of(number / options.endpoints)
    };
    let mut plans: Vec<_> = (0..options.applications * options.endpoints).map(plan).collect();
    let crowded = plans.len();
    // Every moderate second has applications of its own, so that no number is published twice.
    let seconds = options.applications..options.applications + 2 * PAIRS * MODERATE_APPLICATIONS;
    plans.extend(
        seconds.clone().map(|application| EndpointPlan {
            ordering: Ordering::Unordered,
            ..EndpointPlan::of(application)
        }),
    );
    stage.set_up(seconds.end, &plans).await?;
    twin.set_up(seconds.end, &plans).await?;
    let mut seconds = seconds.step_by(MODERATE_APPLICATIONS);
    let before = moderate(&stage, &twin, seconds.by_ref().take(PAIRS)).await?;
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

    let expected: u64 = accepted.iter().map(SequenceSet::len).sum::<u64>() * options.endpoints as u64;
    sleep(BACK_AFTER.saturating_sub(ended.elapsed())).await;
    let left = expected + before.accepted() - stage.counters().await?.delivered;
    let after = moderate(&stage, &twin, seconds).await?;
    tell(&format!("{} s afterwards: {after}", BACK_AFTER.as_secs()));
    checks.note("not yet delivered 10 s later", format!("{left}"));
    let what = "published + delivered from then on, share of its twin's";
    checks.at_least(what, 100.0 * after.share(), 100.0 * BACK_SHARE, "%");

    let beside = before.accepted() + after.accepted();
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
    checks.at_most("resident at most", most_in.max(most_out), RESIDENT_MB, "MB");
    stage.stop().await?;
    twin.stop().await?;
    Ok(checks)
}

/// The crowd publishes; gives what it saw, the slowest answer to a health check, and the most memory, in MB.
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
    let mut most = stage.resident_mb();
    let output = loop {
        tokio::select! {
            output = &mut publishing => break output??,
            () = sleep(LOOK_EVERY) => most = most.max(stage.resident_mb()),
        }
    };
    health.abort();
    let crowd = serde_json::from_str(&output).context("unexpected output of the publisher")?;
    let slowest = *slowest.borrow();
    Ok((crowd, slowest, most))
}

/// What a moderate number of publishers got of the server and of its twin, second by second in turn: what one
/// machine does in a second is no measure for what it does a minute later.
struct Moderate {
    pairs: Vec<[Second; 2]>,
}

struct Second {
    accepted: u64,
    accepted_rate: f64,
    /// Backlog included.
    delivered_rate: f64,
}

impl Moderate {
    /// By the server.
    fn accepted(&self) -> u64 {
        self.pairs.iter().map(|[server, _]| server.accepted).sum()
    }

    fn median_of(&self, figure: impl Fn(&[Second; 2]) -> f64) -> f64 {
        median(self.pairs.iter().map(figure).collect())
    }

    /// Of what its twin did right after it, what the server did: published and delivered, since a backlog
    /// takes its share of the machine.
    fn share(&self) -> f64 {
        let both = |second: &Second| second.accepted_rate + second.delivered_rate;
        self.median_of(|[server, twin]| both(server) / both(twin).max(1.0))
    }
}

impl std::fmt::Display for Moderate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, side) in [("server", 0), ("twin", 1)] {
            let accepted = self.median_of(|pair| pair[side].accepted_rate);
            let delivered = self.median_of(|pair| pair[side].delivered_rate);
            write!(f, "{name} {accepted:.0} published/s, {delivered:.0} delivered/s; ")?;
        }
        write!(f, "{:.1} %", 100.0 * self.share())
    }
}

async fn moderate(
    stage: &Stage,
    twin: &Stage,
    applications: impl Iterator<Item = usize>,
) -> anyhow::Result<Moderate> {
    let mut pairs = Vec::new();
    for first in applications {
        pairs.push([moderate_second(stage, first).await?, moderate_second(twin, first).await?]);
    }
    Ok(Moderate { pairs })
}

async fn moderate_second(stage: &Stage, first: usize) -> anyhow::Result<Second> {
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
    Ok(Second {
        accepted: published.counts.accepted,
        accepted_rate: as_f64(published.counts.accepted) / elapsed,
        delivered_rate: as_f64(stage.counters().await?.delivered - delivered) / elapsed,
    })
}

fn secs(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
