//! Sending again: many messages are recovered, and then replayed, by one endpoint's jobs, each over a kill; what its
//! endpoint gets, and what live messages to others notice.

use std::time::Duration;

use anyhow::{Context as _, bail};
use fanfare_core::{Clock as _, SystemClock};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Checks, EndpointPlan, LOOK_EVERY, Programs, Stage, as_f64};
use crate::{
    judge::judge,
    payload,
    publisher::{self, Published, Publisher},
};

/// How much, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Messages that are sent again by each job.
    #[arg(long, default_value_t = 100_000)]
    pub messages: u64,
    /// Live deliveries per second beside it.
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// Of each measurement of live messages.
    #[arg(long, default_value_t = 15.0)]
    pub duration_secs: f64,
}

/// Of each application of live messages.
const ENDPOINTS: usize = 10;
const P99_FACTOR: f64 = 1.2;
const P99_MS: f64 = 1.5;
/// In flight at the kill, or answered just before it.
const REPEATS_MOST: u64 = 200;
const WARM_UP: Duration = Duration::from_secs(2);
/// A job that does not move for so long stands.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Deserialize)]
struct Task {
    id: String,
    status: String,
    data: Progress,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Progress {
    sent: u64,
    delivered: u64,
}

pub async fn run(
    programs: &Programs,
    options: &Options,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let mut stage = Stage::start(programs, &[]).await?;
    // What is to be recovered is cancelled: it was held by an endpoint that could not be reached, and then disabled.
    let mut plans = vec![EndpointPlan { refuses: true, ..EndpointPlan::of(0) }];
    plans.extend((1..=3).flat_map(|application| vec![EndpointPlan::of(application); ENDPOINTS]));
    stage.set_up(4, &plans).await?;
    let since = SystemClock.now() - Duration::from_secs(1);
    tell(&format!("{} messages for an endpoint that refuses them", options.messages));
    let old = Publisher::start(stage.publishing(0, options.messages)).finish().await;
    disable(&stage, true).await?;
    cancelled(&stage, old.counts.accepted).await?;
    stage.heal().await?;
    disable(&stage, false).await?;

    let alone = live(&stage, options, 1).await?;
    tell(&format!("live messages alone: p99 {alone:.2} ms"));
    let body = json!({ "since": since.to_string() });
    for (kind, application) in [("recover", 2), ("bulk-replay", 3)] {
        // Each time the endpoint has received nothing.
        stage.forget_received().await?;
        sent_again(&mut stage, options, (kind, &body), application, (&old, alone), &mut checks, &mut tell)
            .await?;
    }
    stage.stop().await?;
    Ok(checks)
}

/// One job, to its end.
async fn sent_again(
    stage: &mut Stage,
    options: &Options,
    (kind, body): (&str, &Value),
    application: usize,
    (old, alone): (&Published, f64),
    checks: &mut Checks,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let path = format!("{}/{kind}", path_of(stage));
    let task: Task = stage.server.call(Method::POST, &path, Some(body)).await?;
    let beside = live(stage, options, application).await?;
    let seen = progress(stage, &task.id).await?;
    let (sent, wanted) = (seen.data.sent, old.counts.accepted);
    tell(&format!("{kind}: {sent} of {wanted} sent; live messages beside it: p99 {beside:.2} ms"));
    checks.add(
        format!("{kind}: progress is seen"),
        sent.to_string(),
        format!("0 to {wanted}"),
        sent > 0 && sent < wanted,
    );
    let allowed = (alone * P99_FACTOR).max(alone + P99_MS);
    checks.add(
        format!("{kind}: p99 of live messages"),
        format!("{beside:.2} ms"),
        format!("≤ {allowed:.2} ms"),
        beside <= allowed,
    );

    stage.restart().await?;
    let ended = ended(stage, &task.id).await?;
    let each = as_f64(ended.data.sent) / began.elapsed().as_secs_f64();
    checks.note(format!("{kind}: messages per second"), format!("{each:.0}"));
    let whole = ended.status == "finished" && ended.data.sent == wanted && ended.data.delivered == wanted;
    checks.add(
        format!("{kind}: sent, and delivered"),
        format!("{:?}", ended.data),
        wanted.to_string(),
        whole,
    );
    let report = stage.report(vec![0], true).await?;
    let verdict = judge(&old.accepted[..1], &report);
    let text = format!("{} lost, {} out of order", verdict.lost + verdict.undelivered, verdict.out_of_order);
    checks.add(format!("{kind}: over a kill"), text, "0, 0", verdict.is_clean());
    let repeated = verdict.repeated + verdict.retried;
    checks.at_most(format!("{kind}: repeated"), as_f64(repeated), as_f64(REPEATS_MOST), "");
    Ok(())
}

/// The p99 of live messages to the endpoints of one application, in milliseconds.
async fn live(stage: &Stage, options: &Options, application: usize) -> anyhow::Result<f64> {
    let time = WARM_UP + Duration::from_secs_f64(options.duration_secs);
    let publishing = publisher::Options {
        connections: 8,
        payload_bytes: payload::DEFAULT_BYTES,
        rate: Some(options.rate / as_f64(ENDPOINTS as u64)),
        messages: None,
        duration: Some(time),
        ..stage.publishing(application, 0)
    };
    let publishing = tokio::spawn(Publisher::start(publishing).finish());
    sleep(WARM_UP).await;
    stage.receiver.call::<(), ()>(Method::POST, "/reset", None).await?;
    let published = publishing.await?;
    if published.counts.accepted == 0 {
        bail!("no live message was accepted: {:?}", published.counts);
    }
    let first = 1 + (application - 1) * ENDPOINTS;
    let report = stage.report((first..first + ENDPOINTS).collect(), false).await?;
    Ok(Duration::from_micros(report.latency.p99_us).as_secs_f64() * 1e3)
}

fn path_of(stage: &Stage) -> String {
    format!("/api/v1/app/{}/endpoint/{}", stage.applications[0], stage.endpoints[0])
}

async fn disable(stage: &Stage, disabled: bool) -> anyhow::Result<()> {
    let change = json!({ "disabled": disabled });
    stage.server.call::<_, Value>(Method::PATCH, &path_of(stage), Some(&change)).await.map(drop)
}

/// Waits until so many messages are cancelled.
async fn cancelled(stage: &Stage, count: u64) -> anyhow::Result<()> {
    let path = format!("{}/stats", path_of(stage));
    until("all are cancelled", async || {
        let stats: Value = stage.server.call::<(), _>(Method::GET, &path, None).await?;
        Ok((stats["canceled"].as_u64() >= Some(count)).then_some(()))
    })
    .await
}

async fn progress(stage: &Stage, task: &str) -> anyhow::Result<Task> {
    stage.server.call::<(), _>(Method::GET, &format!("/api/v1/background-task/{task}"), None).await
}

/// Waits for the end of a job that moves.
async fn ended(stage: &Stage, task: &str) -> anyhow::Result<Task> {
    let mut moved = (0, Instant::now());
    loop {
        let task = progress(stage, task).await?;
        if task.status != "running" {
            return Ok(task);
        }
        if task.data.delivered != moved.0 {
            moved = (task.data.delivered, Instant::now());
        }
        if moved.1.elapsed() > PATIENCE {
            bail!("the job stands at {:?}", task.data);
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> anyhow::Result<Option<()>>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so().await?.is_some() {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    Err(anyhow::anyhow!("{what}: not within {PATIENCE:?}")).context("the trial cannot go on")
}
