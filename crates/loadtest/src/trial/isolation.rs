//! Isolation: ten endpoints in one delivery partition, some of them bad; what the others notice.
//!
//! Each bad run stands beside a good one at the same pace, one after the other, each with a server of its own.
//! What counts is the median over the pairs: the machine's neighbours come and go.

use std::time::Duration;

use fanfare_core::Ordering;
use http::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Checks, EndpointPlan, LOOK_EVERY, Programs, Stage, as_f64, median};
use crate::{
    judge::judge,
    payload,
    publisher::{self, Publisher},
    receiver::{Answer, Behaviour, Report},
};

/// How endpoints go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// 500 after 5 s.
    SlowError,
    /// Never answers.
    Silent,
    /// Refuses connections.
    Refuses,
    /// Resets connections.
    Resets,
    /// 302 to a private address.
    Redirects,
    /// 429 with Retry-After.
    Throttles,
    /// 200 and a body of 1 GB.
    Huge,
    /// 200 and a byte each second.
    Drip,
    /// Bytes that are no HTTP.
    Garbage,
    /// 2,000 informational answers.
    Informational,
    /// Five endpoints, each bad in another way.
    Five,
    /// A single `unordered` endpoint that answers 1 % with 500, as fast as it goes.
    OnePercent,
}

/// What to try, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// All of them if none is named.
    pub kinds: Vec<Kind>,
    /// Pairs of a good and a bad run.
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    #[arg(long, default_value_t = 8.0)]
    pub duration_secs: f64,
    #[arg(long, default_value_t = 2.0)]
    pub warm_up_secs: f64,
    /// Deliveries per second; by default 500, and half of what the machine reaches.
    #[arg(long = "rate")]
    pub rates: Vec<f64>,
}

const ENDPOINTS: usize = 10;
const SLOW_RATE: f64 = 500.0;
const CONNECTIONS: usize = 32;
const THROUGHPUT_SHARE: f64 = 0.9;
const ONE_PERCENT_SHARE: f64 = 0.95;
const P99_FACTOR: f64 = 1.2;
const P99_MS: f64 = 1.5;
const GROWTH_MB: f64 = 30.0;
const ALL: [Kind; 12] = [
    Kind::SlowError,
    Kind::Silent,
    Kind::Refuses,
    Kind::Resets,
    Kind::Redirects,
    Kind::Throttles,
    Kind::Huge,
    Kind::Drip,
    Kind::Garbage,
    Kind::Informational,
    Kind::Five,
    Kind::OnePercent,
];
const FIVE: [Kind; 5] = [Kind::Silent, Kind::Resets, Kind::Huge, Kind::Drip, Kind::Garbage];

/// One run, as its good endpoints saw it.
struct Run {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    resident_mb: f64,
    stray: u64,
    clean: bool,
}

pub async fn run(
    programs: &Programs,
    options: &Options,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let kinds = if options.kinds.is_empty() { &ALL[..] } else { &options.kinds };
    let mut rates = options.rates.clone();
    let needs_rates = kinds.iter().any(|&kind| kind != Kind::OnePercent);
    if rates.is_empty() && needs_rates {
        let most = measure(programs, options, &[], Kind::Five, None).await?.per_second;
        // Half of the endpoints were counted.
        rates = vec![SLOW_RATE, most];
        tell(&format!("ten good endpoints take {:.0} deliveries/s", 2.0 * most));
    }
    for &kind in kinds {
        if kind == Kind::OnePercent {
            compare(programs, options, kind, None, &mut checks, &mut tell).await?;
            continue;
        }
        for &rate in &rates {
            compare(programs, options, kind, Some(rate), &mut checks, &mut tell).await?;
        }
    }
    Ok(checks)
}

/// Good and bad runs by turns, and what the good endpoints of the bad ones noticed.
async fn compare(
    programs: &Programs,
    options: &Options,
    kind: Kind,
    rate: Option<f64>,
    checks: &mut Checks,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    let name = rate.map_or_else(|| format!("{kind:?}"), |rate| format!("{kind:?} at {rate:.0}/s"));
    let mut pairs = Vec::new();
    for number in 1..=options.pairs {
        let good = measure(programs, options, &[], kind, rate).await?;
        let bad = measure(programs, options, &bad_of(kind), kind, rate).await?;
        let text = |run: &Run| {
            let Run { per_second, p50_ms, p99_ms, resident_mb, .. } = run;
            format!("{per_second:.0}/s, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, {resident_mb:.0} MB")
        };
        tell(&format!("{name}, pair {number}: good {}; bad {}", text(&good), text(&bad)));
        pairs.push((good, bad));
    }
    let median_of = |figure: fn(&(Run, Run)) -> f64| median(pairs.iter().map(figure).collect());
    let share = median_of(|(good, bad)| bad.per_second / good.per_second.max(1.0));
    let least = if kind == Kind::OnePercent { ONE_PERCENT_SHARE } else { THROUGHPUT_SHARE };
    checks.at_least(format!("{name}: throughput"), 100.0 * share, 100.0 * least, "%");
    if kind != Kind::OnePercent {
        let good = median_of(|(good, _)| good.p99_ms);
        // How far each bad run is above what its good one allows.
        let above =
            median_of(|(good, bad)| bad.p99_ms - (good.p99_ms * P99_FACTOR).max(good.p99_ms + P99_MS));
        let measured = format!("{:.2} ms", median_of(|(_, bad)| bad.p99_ms));
        let allowed = format!("≤ {:.2} ms", (good * P99_FACTOR).max(good + P99_MS));
        checks.add(format!("{name}: p99"), measured, allowed, above <= 0.0);
    }
    let growth = median_of(|(good, bad)| bad.resident_mb - good.resident_mb);
    checks.at_most(format!("{name}: memory"), growth, GROWTH_MB, "MB");
    let stray: u64 = pairs.iter().map(|(_, bad)| bad.stray).sum();
    checks.add(format!("{name}: others contacted"), stray.to_string(), "0", stray == 0);
    let clean = pairs.iter().all(|(good, bad)| good.clean && bad.clean);
    checks.add(format!("{name}: nothing lost or out of order"), clean.to_string(), "true", clean);
    Ok(())
}

/// The kinds of the bad endpoints, which are the last ones.
fn bad_of(kind: Kind) -> Vec<Kind> {
    if kind == Kind::Five { FIVE.to_vec() } else { vec![kind] }
}

/// Whether the endpoint is judged in runs of this kind, bad or good.
fn good_endpoints(kind: Kind) -> Vec<usize> {
    match kind {
        Kind::OnePercent => vec![0],
        _ => (0..ENDPOINTS - bad_of(kind).len()).collect(),
    }
}

/// One run. `rate`: deliveries per second, the bad ones included.
async fn measure(
    programs: &Programs,
    options: &Options,
    bad: &[Kind],
    kind: Kind,
    rate: Option<f64>,
) -> anyhow::Result<Run> {
    let mut stage = Stage::start(programs, &["--delivery-partitions", "1"]).await?;
    let good = good_endpoints(kind);
    let mut plans = if kind == Kind::OnePercent {
        // What fails twice is to come back before the run is over.
        let fields = json!({ "retrySchedule": [1, 1, 1, 1, 1, 1, 1, 1] });
        vec![EndpointPlan { ordering: Ordering::Unordered, fields, ..EndpointPlan::of(0) }]
    } else {
        vec![EndpointPlan::of(0); ENDPOINTS]
    };
    let first_bad = plans.len() - bad.len();
    for (plan, &kind) in plans[first_bad..].iter_mut().zip(bad) {
        plan.refuses = kind == Kind::Refuses;
        plan.behaviour = behaviour(kind, &format!("http://{}/private", stage.receiver.address));
    }
    let endpoints = as_f64(plans.len() as u64);
    stage.set_up(1, &plans).await?;
    let (warm_up, time) = (options.warm_up_secs, options.duration_secs);
    let publishing = publisher::Options {
        connections: CONNECTIONS,
        payload_bytes: payload::DEFAULT_BYTES,
        rate: rate.map(|rate| rate / endpoints),
        messages: None,
        duration: Some(Duration::from_secs_f64(warm_up + time)),
        ..stage.publishing(0, 0)
    };
    let publishing = tokio::spawn(Publisher::start(publishing).finish());
    sleep(Duration::from_secs_f64(warm_up)).await;
    stage.receiver.call::<(), ()>(Method::POST, "/reset", None).await?;
    let before = delivered(&stage.report(good.clone(), false).await?);
    let began = Instant::now();
    let mut resident_mb = stage.resident_mb();
    while began.elapsed().as_secs_f64() < time {
        sleep(LOOK_EVERY).await;
        resident_mb = resident_mb.max(stage.resident_mb());
    }
    let report = stage.report(good.clone(), false).await?;
    let per_second = as_f64(delivered(&report) - before) / began.elapsed().as_secs_f64();
    let published = publishing.await?;
    let expected = published.counts.accepted * good.len() as u64;
    let deadline = Instant::now() + Duration::from_secs_f64(30.0 + 2.0 * time);
    while Instant::now() < deadline && delivered(&stage.report(good.clone(), false).await?) < expected {
        sleep(LOOK_EVERY).await;
        resident_mb = resident_mb.max(stage.resident_mb());
    }
    let whole = stage.report(good, true).await?;
    let verdict = judge(&published.accepted, &whole);
    stage.stop().await?;
    Ok(Run {
        per_second,
        p50_ms: Duration::from_micros(report.latency.p50_us).as_secs_f64() * 1e3,
        p99_ms: Duration::from_micros(report.latency.p99_us).as_secs_f64() * 1e3,
        resident_mb,
        stray: whole.stray,
        clean: verdict.is_clean() && verdict.delivered >= expected && published.counts.accepted > 0,
    })
}

fn delivered(report: &Report) -> u64 {
    report.endpoints.iter().map(|endpoint| endpoint.delivered).sum()
}

fn behaviour(kind: Kind, elsewhere: &str) -> Behaviour {
    let status = |status, retry_after_secs| Answer::Status { status, retry_after_secs };
    let (latency_ms, answer) = match kind {
        Kind::SlowError => (5_000, status(500, None)),
        Kind::Silent => (0, Answer::Hang),
        Kind::Resets => (0, Answer::Reset),
        Kind::Redirects => (0, Answer::Redirect { location: elsewhere.to_owned() }),
        Kind::Throttles => (0, status(429, Some(2))),
        Kind::Huge => (0, Answer::Huge { bytes: 1 << 30 }),
        Kind::Drip => (0, Answer::Drip { interval_ms: 1_000 }),
        Kind::Garbage => (0, Answer::Garbage),
        Kind::Informational => (0, Answer::Informational { count: 2_000 }),
        Kind::OnePercent => return Behaviour { fail_fraction: 0.01, ..Behaviour::default() },
        Kind::Refuses | Kind::Five => (0, Answer::Ok),
    };
    Behaviour { latency_ms, answer, ..Behaviour::default() }
}
