//! A case and the bare loop side by side, alternately, on this machine.
//!
//! The absolute figures of a machine vary from day to day and from neighbour to neighbour; the share that a
//! broker reaches of what the machine can do at all varies little. So every round measures both, and what
//! counts is the median of the rounds' shares. With Kafka given, a round measures the case on both engines; before the
//! first one it runs there once for nothing, since a JVM compiles what it runs often only while it runs it.

mod stored;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use fanfare_core::{Entropy, SystemEntropy};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    case::{Case, Target},
    client,
    process::{self, Server},
    roof::Roof,
    run::{self, Outcome, Parties},
};

/// With history on, deliveries reach at least this share of their speed without.
const SHARE_OF_NO_HISTORY: f64 = 0.75;

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
    /// Where to run the case a second time, on the other engine.
    pub kafka: Option<Kafka>,
    /// Run the case once more, on the embedded engine, by a server that keeps no history.
    pub without_history: bool,
}

/// Brokers to measure with.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub brokers: String,
    /// Their data directories, if they are on this machine: then what they store is told.
    pub data: Vec<PathBuf>,
}

/// One measurement of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    pub roof: Roof,
    /// On the embedded engine.
    pub outcome: Outcome,
    pub kafka: Option<OnKafka>,
    pub without_history: Option<Outcome>,
}

/// The same case on Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnKafka {
    pub outcome: Outcome,
    /// Bytes that the brokers store for the run, by topic; compressed, all copies.
    pub stored: BTreeMap<String, u64>,
}

/// Medians of an engine's rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Medians {
    /// Deliveries per second ÷ the roof's requests per second.
    pub share_of_roof: f64,
    /// Of the difference, in milliseconds.
    pub p50_above_roof_ms: f64,
    pub p99_above_roof_ms: f64,
}

/// All rounds and what they come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bench {
    pub rounds: Vec<Round>,
    /// On the embedded engine.
    pub medians: Medians,
    pub kafka: Option<Medians>,
    /// Deliveries per second ÷ those without history.
    pub share_of_no_history: Option<f64>,
    /// What the case was to reach and did not, in words; and whatever was lost or wrong.
    pub missed: Vec<String>,
}

/// Runs bare loop and case alternately. `tell` gets a line whenever something begins.
pub async fn run(options: &Options, mut tell: impl FnMut(&str)) -> anyhow::Result<Bench> {
    if process::is_in_memory(&options.scratch) {
        tell(&format!("warning: {} is in memory, syncing costs nothing there", options.scratch.display()));
    }
    if let Some(kafka) = &options.kafka {
        tell("warming up: fanfare on Kafka");
        let receiver = start_receiver(options).await?;
        let warmed = run_on_kafka(options, &receiver, kafka).await;
        receiver.stop().await?;
        warmed?;
    }
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        tell(&format!("round {number} of {}: bare loop", options.rounds));
        let receiver = start_receiver(options).await?;
        let roof = run_roof(options, &receiver).await?;
        tell(&format!("round {number} of {}: fanfare", options.rounds));
        let outcome = run_case(options, &receiver, None).await;
        let on_kafka = match &options.kafka {
            Some(kafka) if outcome.is_ok() => {
                tell(&format!("round {number} of {}: fanfare on Kafka", options.rounds));
                Some(run_on_kafka(options, &receiver, kafka).await)
            }
            _ => None,
        };
        let without_history = if options.without_history && outcome.is_ok() {
            tell(&format!("round {number} of {}: fanfare without history", options.rounds));
            let mut options = options.clone();
            options.serve_arguments.extend(["--history", "off"].map(str::to_owned));
            Some(run_case(&options, &receiver, None).await)
        } else {
            None
        };
        receiver.stop().await?;
        let (kafka, without_history) = (on_kafka.transpose()?, without_history.transpose()?);
        rounds.push(Round { roof, outcome: outcome?, kafka, without_history });
    }
    Ok(compare(&options.case, rounds))
}

/// Draws the conclusion.
pub fn compare(case: &Case, rounds: Vec<Round>) -> Bench {
    let mut missed = Vec::new();
    let embedded: Vec<(&Roof, &Outcome)> = rounds.iter().map(|round| (&round.roof, &round.outcome)).collect();
    let medians = medians(&embedded);
    judge("", &case.target, medians, &embedded, &mut missed);

    let on_kafka = rounds.iter().filter_map(|round| Some((&round.roof, &round.kafka.as_ref()?.outcome)));
    let on_kafka: Vec<(&Roof, &Outcome)> = on_kafka.collect();
    let kafka = (!on_kafka.is_empty()).then(|| self::medians(&on_kafka));
    if let Some(medians) = kafka {
        judge("on Kafka: ", &case.target_on_kafka, medians, &on_kafka, &mut missed);
    }
    let shares = rounds.iter().filter_map(|round| {
        let without = round.without_history.as_ref()?.deliveries_per_second;
        Some(round.outcome.deliveries_per_second / without.max(1.0))
    });
    let shares: Vec<f64> = shares.collect();
    let share_of_no_history = (!shares.is_empty()).then(|| median(shares));
    if let Some(share) = share_of_no_history.filter(|&share| share < SHARE_OF_NO_HISTORY) {
        missed.push(format!(
            "with history {:.1} % of the speed without, wanted {:.1} %",
            share * 100.0,
            SHARE_OF_NO_HISTORY * 100.0
        ));
    }
    Bench { rounds, medians, kafka, share_of_no_history, missed }
}

fn medians(rounds: &[(&Roof, &Outcome)]) -> Medians {
    let median_of = |figure: fn(&Roof, &Outcome) -> f64| {
        median(rounds.iter().map(|(roof, outcome)| figure(roof, outcome)).collect())
    };
    Medians {
        share_of_roof: median_of(|roof, outcome| {
            outcome.deliveries_per_second / roof.requests_per_second.max(1.0)
        }),
        p50_above_roof_ms: median_of(|roof, outcome| {
            above_ms(outcome.latency.p50_us, roof.receipt_latency.p50_us)
        }),
        p99_above_roof_ms: median_of(|roof, outcome| {
            above_ms(outcome.latency.p99_us, roof.receipt_latency.p99_us)
        }),
    }
}

/// Notes what was to be reached and was not.
fn judge(
    engine: &str,
    target: &Target,
    reached: Medians,
    rounds: &[(&Roof, &Outcome)],
    missed: &mut Vec<String>,
) {
    let Medians { share_of_roof, p50_above_roof_ms, p99_above_roof_ms } = reached;
    if let Some(wanted) = target.share_of_roof.filter(|&wanted| share_of_roof < wanted) {
        let (share, wanted) = (share_of_roof * 100.0, wanted * 100.0);
        missed.push(format!("{engine}{share:.1} % of the roof, wanted {wanted:.1} %"));
    }
    let latencies = [
        ("p50", p50_above_roof_ms, target.p50_above_roof_ms),
        ("p99", p99_above_roof_ms, target.p99_above_roof_ms),
    ];
    for (name, reached, wanted) in latencies {
        if let Some(wanted) = wanted.filter(|&wanted| reached > wanted) {
            missed
                .push(format!("{engine}{name} is {reached:.2} ms above the roof's, wanted at most {wanted}"));
        }
    }
    for (number, (_, outcome)) in (1..).zip(rounds) {
        let Outcome { verdict, drained, publish, history_lag_secs, .. } = outcome;
        if let Some(wanted) = target.history_lag_secs {
            match history_lag_secs {
                Some(lag) if *lag <= wanted => {}
                Some(lag) => missed.push(format!(
                    "{engine}round {number}: history was {lag:.1} s behind, wanted at most {wanted}"
                )),
                None => {
                    missed.push(format!("{engine}round {number}: nobody told how far behind history was"));
                }
            }
        }
        if !verdict.is_clean() || !drained || publish.accepted == 0 {
            missed.push(format!(
                "{engine}round {number} is not clean: drained {drained}, {publish:?}, {verdict:?}"
            ));
        }
    }
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

async fn run_on_kafka(options: &Options, receiver: &Server, kafka: &Kafka) -> anyhow::Result<OnKafka> {
    let prefix = format!("bench-{:016x}.", <dyn Entropy>::u64(&SystemEntropy));
    let outcome = run_case(options, receiver, Some((&kafka.brokers, &prefix))).await?;
    let stored = stored::by_topic(&kafka.data, &prefix)?;
    // Brokers with many partitions take longer for everything: the next round would be another case.
    let delete = ["topics", "delete", "--yes", "--kafka", &kafka.brokers, "--kafka-prefix", &prefix]
        .map(str::to_owned);
    if let Err(error) = process::output(&options.fanfare, &delete).await {
        eprintln!("the topics {prefix}… stay: {error:#}");
    }
    Ok(OnKafka { outcome, stored })
}

/// `kafka`: brokers, and a prefix that nobody has used.
async fn run_case(
    options: &Options,
    receiver: &Server,
    kafka: Option<(&str, &str)>,
) -> anyhow::Result<Outcome> {
    let data = TempDir::with_prefix_in("fanfare-bench-", &options.scratch)?;
    let data_path = data.path().join("data").display().to_string();
    let token_arguments = ["token", "--data-dir", &data_path].map(str::to_owned);
    // On Kafka the server is given the main secret that this makes.
    let token = process::output(&options.fanfare, &token_arguments).await?;
    let mut arguments =
        ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"].map(str::to_owned).to_vec();
    arguments.push(data_path.clone());
    if let Some((brokers, prefix)) = kafka {
        let secret = format!("{data_path}/main-secret");
        let on_kafka = ["--kafka", brokers, "--kafka-prefix", prefix, "--main-secret-file", &secret];
        arguments.extend(on_kafka.map(str::to_owned));
    }
    arguments.extend(options.serve_arguments.iter().cloned());
    let fanfare = Server::start(&options.fanfare, &arguments).await?;
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
