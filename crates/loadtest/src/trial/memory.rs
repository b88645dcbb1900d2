//! Memory: what backlogs, idle endpoints and large payloads cost, as growth of the server's resident size.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Checks, EndpointPlan, Programs, Stage, as_f64};
use crate::{
    judge::judge,
    payload,
    publisher::{self, Published},
    receiver::Behaviour,
};

/// Part of a trial of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A backlog of one dead endpoint, a kill, and its healing.
    Parked,
    /// Many dead endpoints, each with a backlog.
    ManyDead,
    /// Endpoints with nothing to do.
    Idle,
    /// 10 MB payloads for many endpoints.
    Large,
}

/// What to try, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// All of them if none is named.
    pub parts: Vec<Part>,
    /// Messages parked for one dead endpoint.
    #[arg(long, default_value_t = 1_000_000)]
    pub parked: u64,
    /// Dead endpoints …
    #[arg(long, default_value_t = 1_000)]
    pub dead: usize,
    /// … and messages parked for each of them.
    #[arg(long, default_value_t = 10_000)]
    pub pending: u64,
    /// Endpoints with nothing to do.
    #[arg(long, default_value_t = 100_000)]
    pub idle: usize,
    /// Large messages.
    #[arg(long, default_value_t = 6)]
    pub large: u64,
    /// Endpoints of large messages.
    #[arg(long, default_value_t = 100)]
    pub fan_out: usize,
}

const PARKED_MB: f64 = 50.0;
const FIRST_DELIVERY_SECS: f64 = 3.0;
const MANY_DEAD_MB: f64 = 150.0;
const IDLE_MB: f64 = 150.0;
const LARGE_MB: f64 = 400.0;
const LARGE_BODY_BYTES: usize = 10 << 20;
/// A probe comes at most so long after healing.
const FOUND_SECS: f64 = 75.0;
const ENDPOINTS_PER_APPLICATION: usize = 100;
/// Share of the messages that goes through before memory is looked at for the first time.
const WARM_UP_SHARE: u64 = 10;

pub async fn run(
    programs: &Programs,
    options: &Options,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Checks> {
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let mut checks = Checks::default();
    if wanted(Part::Parked) {
        tell(&format!("{} messages for a dead endpoint", options.parked));
        checks.extend(parked(programs, options.parked, &mut tell).await?);
    }
    if wanted(Part::ManyDead) {
        tell(&format!("{} dead endpoints with {} messages each", options.dead, options.pending));
        checks.extend(many_dead(programs, options.dead, options.pending).await?);
    }
    if wanted(Part::Idle) {
        tell(&format!("{} idle endpoints", options.idle));
        checks.extend(idle(programs, options.idle).await?);
    }
    if wanted(Part::Large) {
        for latency_ms in [0, 3_000] {
            tell(&format!("10 MB payloads to {} endpoints that take {latency_ms} ms", options.fan_out));
            checks.extend(large(programs, options, latency_ms).await?);
        }
    }
    Ok(checks)
}

/// Applications of the trial with one dead endpoint.
const NOBODY: usize = 0;
const DEAD: usize = 1;
const WELL: usize = 2;
const OTHER: usize = 3;

async fn parked(programs: &Programs, messages: u64, tell: &mut impl FnMut(&str)) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let one_partition = ["--delivery-partitions", "1", "--message-partitions", "1"];
    let mut stage = Stage::start(programs, &one_partition).await?;
    let dead = EndpointPlan { refuses: true, ..EndpointPlan::of(DEAD) };
    let empty = stage.settled_mb().await;
    stage.set_up(4, &[dead, EndpointPlan::of(WELL), EndpointPlan::of(OTHER)]).await?;
    let warm_up = (messages / WARM_UP_SHARE).max(1);
    let (nobody, _) = stage.publish(stage.publishing(NOBODY, warm_up)).await?;
    let (well, _) = stage.publish(stage.publishing(WELL, warm_up)).await?;
    stage.delivered(well.counts.accepted, Duration::from_mins(5)).await?;
    let idle = stage.settled_mb().await;
    checks.note("resident, empty and after warming up", format!("{empty:.1}, {idle:.1} MB"));
    tell(&format!("warmed up with {} messages to nobody: {}", nobody.counts.accepted, rate(&nobody)));

    let (published, peak) = stage.publish(stage.publishing(DEAD, messages)).await?;
    let parked = stage.settled_mb().await;
    tell(&format!("published: {}", rate(&published)));
    let accepted = published.counts.accepted;
    checks.add(
        "parked messages accepted",
        format!("{accepted}"),
        format!("= {messages}"),
        accepted == messages,
    );
    checks.note("growth at most while publishing", format!("{:.1} MB", peak - idle));
    checks.at_most(format!("growth by {messages} parked messages"), parked - idle, PARKED_MB, "MB");

    let started = stage.restart().await?;
    checks.note("listening again after kill -9", format!("{:.2} s", started.elapsed().as_secs_f64()));
    let (single, _) = stage.publish(stage.publishing(OTHER, 1)).await?;
    let expected = well.counts.accepted + single.counts.accepted;
    let (came, _) = stage.delivered(expected, Duration::from_mins(1)).await?;
    let took = if came { started.elapsed().as_secs_f64() } else { f64::INFINITY };
    checks.at_most("new message to another endpoint, from process start", took, FIRST_DELIVERY_SECS, "s");
    let restarted = stage.settled_mb().await;
    checks.note("resident after the restart", format!("{restarted:.1} MB"));

    stage.heal().await?;
    let healed = Instant::now();
    let (found, _) = stage.delivered(expected + 1, Duration::from_mins(3)).await?;
    let after = if found { healed.elapsed().as_secs_f64() } else { f64::INFINITY };
    checks.at_most("healed endpoint found after", after, FOUND_SECS, "s");
    let found = Instant::now();
    let patience = Duration::from_mins(2) + Duration::from_millis(messages);
    let (all, peak) = stage.delivered(expected + accepted, patience).await?;
    let per_second = as_f64(accepted) / found.elapsed().as_secs_f64();
    checks.note("catching up", format!("{per_second:.0}/s"));
    checks.at_most("growth while catching up", peak - idle, PARKED_MB, "MB");
    let report = stage.report(vec![0], true).await?;
    let verdict = judge(&published.accepted, &with_application_0(report));
    let right = all && verdict.is_clean();
    let measured = format!(
        "{} lost, {} undelivered, {} out of order",
        verdict.lost, verdict.undelivered, verdict.out_of_order
    );
    checks.add("all arrive, in order", measured, "none", right);
    stage.stop().await?;
    Ok(checks)
}

/// The only application that is judged comes first.
fn with_application_0(mut report: crate::receiver::Report) -> crate::receiver::Report {
    report.endpoints.iter_mut().for_each(|endpoint| endpoint.application = 0);
    report
}

/// Probes and retries go on: a backlog that costs more with every one of them is found.
const PROBED: Duration = Duration::from_secs(30);

async fn many_dead(programs: &Programs, endpoints: usize, messages: u64) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let mut stage = Stage::start(programs, &[]).await?;
    let plans = vec![EndpointPlan { refuses: true, ..EndpointPlan::of(DEAD) }; endpoints];
    stage.set_up(2, &plans).await?;
    stage.publish(stage.publishing(NOBODY, messages)).await?;
    let idle = stage.settled_mb().await;
    let (published, peak) = stage.publish(stage.publishing(DEAD, messages)).await?;
    tokio::time::sleep(PROBED).await;
    let parked = stage.settled_mb().await;
    let accepted = published.counts.accepted;
    checks.add(
        "accepted for dead endpoints",
        format!("{accepted}"),
        format!("= {messages}"),
        accepted == messages,
    );
    checks.note("growth at most while publishing", format!("{:.1} MB", peak - idle));
    checks.at_most(
        format!("growth by {endpoints} dead endpoints × {messages}"),
        parked - idle,
        MANY_DEAD_MB,
        "MB",
    );
    let started = stage.restart().await?;
    checks.note("listening again after kill -9", format!("{:.2} s", started.elapsed().as_secs_f64()));
    let restarted = stage.settled_mb().await;
    checks.at_most("the same after kill -9", restarted - idle, MANY_DEAD_MB, "MB");
    stage.stop().await?;
    Ok(checks)
}

async fn idle(programs: &Programs, endpoints: usize) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let mut stage = Stage::start(programs, &[]).await?;
    let before = stage.resident_mb();
    stage.set_up(endpoints.div_ceil(ENDPOINTS_PER_APPLICATION), &[]).await?;
    let began = Instant::now();
    let body = |number: usize| {
        let application = &stage.applications[number / ENDPOINTS_PER_APPLICATION];
        let body = json!({ "url": format!("http://127.0.0.1:9/idle/{number}") });
        (format!("/api/v1/app/{application}/endpoint"), body)
    };
    let created = stage.create((0..endpoints).map(body).collect()).await?.len();
    let per_second = as_f64(created as u64) / began.elapsed().as_secs_f64();
    checks.note("created", format!("{created}, {per_second:.0}/s"));
    let resident = stage.settled_mb().await;
    checks.note("empty server", format!("{before:.1} MB"));
    checks.at_most(format!("resident with {endpoints} idle endpoints"), resident, IDLE_MB, "MB");
    let started = stage.restart().await?;
    checks.note("listening again after kill -9", format!("{:.2} s", started.elapsed().as_secs_f64()));
    let resident = stage.settled_mb().await;
    checks.at_most("the same after kill -9", resident, IDLE_MB, "MB");
    stage.stop().await?;
    Ok(checks)
}

async fn large(programs: &Programs, options: &Options, latency_ms: u64) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let body_bytes = LARGE_BODY_BYTES.to_string();
    let mut stage = Stage::start(programs, &["--body-bytes", &body_bytes]).await?;
    let behaviour = Behaviour { latency_ms, ..Behaviour::default() };
    let fields = json!({ "timeoutSecs": 60 });
    let well = EndpointPlan { behaviour: behaviour.clone(), fields: fields.clone(), ..EndpointPlan::of(1) };
    stage.set_up(2, &vec![well; options.fan_out]).await?;
    stage.publish(stage.publishing(NOBODY, 1_000)).await?;
    let idle = stage.settled_mb().await;
    let publishing = publisher::Options {
        connections: 4,
        // Beside the payload a request holds its event type.
        payload_bytes: LARGE_BODY_BYTES - 1_024,
        ..stage.publishing(1, options.large)
    };
    assert!(publishing.payload_bytes >= payload::MINIMUM_BYTES, "large");
    let (published, peak_in) = stage.publish(publishing).await?;
    let accepted = published.counts.accepted;
    let measured = format!("{accepted}");
    checks.add(
        "large messages accepted",
        measured,
        format!("= {}", options.large),
        accepted == options.large,
    );
    let expected = accepted * options.fan_out as u64;
    let (all, peak_out) = stage.delivered(expected, Duration::from_mins(5)).await?;
    let report = stage.report((0..options.fan_out).collect(), true).await?;
    let verdict = judge(&published.accepted, &with_application_0(report));
    checks.add(
        "large messages delivered",
        format!("{} of {expected}, {} retried", verdict.delivered, verdict.retried),
        "all",
        all && verdict.is_clean(),
    );
    let growth = peak_in.max(peak_out) - idle;
    let what = format!("growth by 10 MB × {} endpoints, {latency_ms} ms", options.fan_out);
    checks.at_most(what, growth, LARGE_MB, "MB");
    stage.stop().await?;
    Ok(checks)
}

fn rate(published: &Published) -> String {
    let per_second = as_f64(published.counts.accepted) / published.elapsed.as_secs_f64();
    let complaint = published.complaint.as_deref().unwrap_or("");
    format!("{per_second:.0}/s, {:?} {complaint}", published.counts)
}
