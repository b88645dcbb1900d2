//! A case and the bare loop side by side, alternately, on this machine.
//!
//! The absolute figures of a machine vary from day to day and from neighbour to neighbour; the share that a
//! broker reaches of what the machine can do at all varies little. So every round measures both, and what
//! counts is the median of the rounds' shares.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    case::Case,
    client,
    process::{self, Server},
    roof::Roof,
    run::{self, Outcome, Parties},
};

/// What to compare, with which programs.
#[derive(Clone, Debug)]
pub struct Options {
    pub case: Case,
    /// The server.
    pub fanfare: PathBuf,
    /// Further arguments of `fanfare serve`.
    pub serve_arguments: Vec<String>,
    /// The program `fanfare-load`: receiver and bare loop run as processes of their own.
    pub loader: PathBuf,
    pub rounds: usize,
    /// Threads of the receiver and of the bare loop.
    pub threads: usize,
    /// The server's data goes into a fresh directory here; it should be on a disk.
    pub scratch: PathBuf,
}

/// One measurement of both.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    pub roof: Roof,
    pub outcome: Outcome,
}

/// All rounds and what they come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bench {
    pub rounds: Vec<Round>,
    /// Median of deliveries per second ÷ the roof's requests per second.
    pub share_of_roof: f64,
    /// Medians of the difference, in milliseconds.
    pub p50_above_roof_ms: f64,
    pub p99_above_roof_ms: f64,
    /// What the case was to reach and did not, in words; and whatever was lost or wrong.
    pub missed: Vec<String>,
}

/// Runs bare loop and case alternately. `tell` gets a line whenever something begins.
pub async fn run(options: &Options, mut tell: impl FnMut(&str)) -> anyhow::Result<Bench> {
    if process::is_in_memory(&options.scratch) {
        tell(&format!("warning: {} is in memory, syncing costs nothing there", options.scratch.display()));
    }
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        tell(&format!("round {number} of {}: bare loop", options.rounds));
        let receiver = start_receiver(options).await?;
        let roof = run_roof(options, &receiver).await?;
        tell(&format!("round {number} of {}: fanfare", options.rounds));
        let outcome = run_case(options, &receiver).await;
        receiver.stop().await?;
        rounds.push(Round { roof, outcome: outcome? });
    }
    Ok(compare(&options.case, rounds))
}

/// Draws the conclusion.
pub fn compare(case: &Case, rounds: Vec<Round>) -> Bench {
    let median_of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let share_of_roof =
        median_of(|round| round.outcome.deliveries_per_second / round.roof.requests_per_second.max(1.0));
    let p50_above_roof_ms =
        median_of(|round| above_ms(round.outcome.latency.p50_us, round.roof.receipt_latency.p50_us));
    let p99_above_roof_ms =
        median_of(|round| above_ms(round.outcome.latency.p99_us, round.roof.receipt_latency.p99_us));

    let mut missed = Vec::new();
    let target = &case.target;
    if let Some(wanted) = target.share_of_roof.filter(|&wanted| share_of_roof < wanted) {
        missed.push(format!("{:.1} % of the roof, wanted {:.1} %", share_of_roof * 100.0, wanted * 100.0));
    }
    if let Some(wanted) = target.p50_above_roof_ms.filter(|&wanted| p50_above_roof_ms > wanted) {
        missed.push(format!("p50 is {p50_above_roof_ms:.2} ms above the roof's, wanted at most {wanted}"));
    }
    if let Some(wanted) = target.p99_above_roof_ms.filter(|&wanted| p99_above_roof_ms > wanted) {
        missed.push(format!("p99 is {p99_above_roof_ms:.2} ms above the roof's, wanted at most {wanted}"));
    }
    for (number, round) in (1..).zip(&rounds) {
        let Outcome { verdict, drained, publish, .. } = &round.outcome;
        if !verdict.is_clean() || !drained || publish.accepted == 0 {
            missed.push(format!("round {number} is not clean: drained {drained}, {publish:?}, {verdict:?}"));
        }
    }
    Bench { rounds, share_of_roof, p50_above_roof_ms, p99_above_roof_ms, missed }
}

async fn start_receiver(options: &Options) -> anyhow::Result<Server> {
    let threads = options.threads.to_string();
    let arguments = ["receive", "--listen", "127.0.0.1:0", "--threads", &threads].map(str::to_owned);
    Server::start(&options.loader, &arguments).await
}

async fn run_roof(options: &Options, receiver: &Server) -> anyhow::Result<Roof> {
    let case = &options.case;
    let mut arguments = vec!["roof".to_owned(), "--json".to_owned()];
    let mut argument = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    argument("--receiver", receiver.url.clone());
    argument("--threads", options.threads.to_string());
    argument("--connections", case.roof_connections().to_string());
    argument("--payload-bytes", case.payload_bytes.to_string());
    argument("--duration-secs", case.roof_duration().as_secs_f64().to_string());
    if let Some(rate) = case.roof_rate() {
        argument("--rate", rate.to_string());
    }
    let json = process::output(&options.loader, &arguments).await?;
    serde_json::from_str(&json).context("unexpected output of the bare loop")
}

async fn run_case(options: &Options, receiver: &Server) -> anyhow::Result<Outcome> {
    let data = TempDir::with_prefix_in("fanfare-bench-", &options.scratch)?;
    let data_path = data.path().join("data").display().to_string();
    let mut arguments =
        ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"].map(str::to_owned).to_vec();
    arguments.push(data_path.clone());
    arguments.extend(options.serve_arguments.iter().cloned());
    let fanfare = Server::start(&options.fanfare, &arguments).await?;
    let token_arguments = ["token", "--data-dir", &data_path].map(str::to_owned);
    let token = process::output(&options.fanfare, &token_arguments).await?;
    let parties = Parties {
        server: client::Server::resolve(&fanfare.url, Some(token)).await?,
        server_pid: Some(fanfare.pid()),
        receiver: client::Server::resolve(&receiver.url, None).await?.address,
    };
    let outcome = run::run(&options.case, &parties).await;
    fanfare.stop().await?;
    outcome
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn above_ms(figure_us: u64, roof_us: u64) -> f64 {
    (figure_us as f64 - roof_us as f64) / 1_000.0
}
