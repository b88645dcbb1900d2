//! `fanfare inspect`: what a data directory, or an installation on Kafka, holds; servers running or not. Reads only.

mod report;
mod table;
#[cfg(test)]
mod tests;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use fanfare_control::{Endpoint, View};
use fanfare_core::{Clock as _, Partition, SystemClock};
use fanfare_delivery::inspect::{self, InspectError, Query};
use fanfare_log::{Log, ReadError, Topic, embedded::OpenError};

use self::report::{Place, Report};
use crate::{
    engine::Engine,
    settings::{self, Options, Settings},
};

/// Beside a running server a file may go away, or a copy of the tables be torn, while we look.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data directory to look at; its server may be running.
    #[arg(long, env = "FANFARE_DATA_DIR", default_value = settings::DATA_DIR)]
    data_dir: PathBuf,
    /// Brokers of Apache Kafka as HOST:PORT, comma separated: look there instead of into a data directory.
    #[arg(long, env = "FANFARE_KAFKA")]
    kafka: Option<String>,
    /// Begins the names of the topics on Kafka [default: fanfare.].
    #[arg(long, env = "FANFARE_KAFKA_PREFIX")]
    kafka_prefix: Option<String>,
    /// Settings of librdkafka as NAME=VALUE, comma separated: TLS, SASL and whatever else a cluster needs.
    #[arg(long, env = "FANFARE_KAFKA_PROPERTIES", value_delimiter = ',', hide_env_values = true)]
    kafka_properties: Option<Vec<String>>,
    /// Only this endpoint, by id (`ep_…`) or uid.
    #[arg(long)]
    endpoint: Option<String>,
    /// Only the offsets of this topic: messages, deliveries, attempts, control or dedup.
    #[arg(long, value_parser = Topic::ALL.map(Topic::as_str))]
    topic: Option<String>,
    /// Attempts shown per endpoint, the newest.
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: usize,
    /// Endpoints, retries per endpoint and dead letters shown; all are counted.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// What the server was started with: ordering of endpoints that do not say.
    #[arg(long, env = "FANFARE_ORDERING", default_value = "strict",
        value_parser = ["strict", "keyed", "unordered"])]
    ordering: String,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = settings(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(look(args, &settings)).map_err(plain)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table::render(&report));
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let options = Options {
        data_dir: Some(args.data_dir.clone()),
        kafka: args.kafka.clone(),
        kafka_prefix: args.kafka_prefix.clone(),
        kafka_properties: args.kafka_properties.clone(),
        ordering: Some(args.ordering.clone()),
        ..Options::default()
    };
    options.check()
}

async fn look(args: &Args, settings: &Settings) -> anyhow::Result<Report> {
    for _ in 1..TRIES {
        match open_and_read(args, settings).await {
            Err(error) if is_passing(&error) => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
    open_and_read(args, settings).await
}

/// The message of such an error holds its causes.
fn plain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<InspectError>() {
        Ok(error) => anyhow::anyhow!("{error}"),
        Err(error) => error,
    }
}

/// Whether a second look may see more.
fn is_passing(error: &anyhow::Error) -> bool {
    match (error.downcast_ref::<InspectError>(), error.downcast_ref::<OpenError>()) {
        (Some(InspectError::Read(error)), _) => {
            error.is_retryable() || matches!(error, ReadError::Corrupt(_) | ReadError::Truncated { .. })
        }
        (_, Some(OpenError::Io { .. } | OpenError::Corrupt(_) | OpenError::Tables(_))) => true,
        _ => false,
    }
}

async fn open_and_read(args: &Args, settings: &Settings) -> anyhow::Result<Report> {
    let engine = Engine::open_for_reading(settings).await?;
    let report = read(args, settings, &*engine.log()).await;
    engine.close().await;
    report
}

async fn read(args: &Args, settings: &Settings, log: &dyn Log) -> anyhow::Result<Report> {
    let view = fanfare_control::replay(log).await?;
    let now = SystemClock.now();
    let place = Place::of(settings);
    let mut report = Report::new(&place, &view, now);
    for topic in Topic::ALL {
        if args.topic.as_deref().is_none_or(|only| only == topic.as_str()) {
            for partition in (0..log.partitions(topic)).map(Partition) {
                report.add_topic(topic, partition, log.bounds(topic, partition).await?);
            }
        }
    }
    if args.topic.is_some() {
        return Ok(report);
    }
    let only = args.endpoint.as_deref().map(|id| find(&view, id, &place)).transpose()?;
    let query = Query {
        endpoint: only.as_ref().map(|endpoint| endpoint.number),
        attempts: args.last,
        items: args.limit,
        policy: settings.policy.clone(),
        now,
    };
    let partitions = log.partitions(Topic::Deliveries);
    for partition in (0..partitions).map(Partition) {
        if only.as_ref().is_some_and(|endpoint| endpoint.partition != partition) {
            continue;
        }
        show_progress(Some((partition, partitions)));
        let state = inspect::partition(log, &view, partition, &query).await;
        show_progress(None);
        report.add_partition(partition, &state?, &view, &query);
    }
    Ok(report)
}

fn find(view: &View, id: &str, place: &Place) -> anyhow::Result<Arc<Endpoint>> {
    let is_it = |endpoint: &&Arc<Endpoint>| {
        endpoint.id.to_string() == id || endpoint.settings.uid.as_deref() == Some(id)
    };
    view.endpoints().find(is_it).cloned().with_context(|| format!("there is no endpoint `{id}` in {place}"))
}

/// A large log takes a while; whoever waits at a terminal sees how far it is.
fn show_progress(partition: Option<(Partition, u32)>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    match partition {
        Some((Partition(number), of)) => eprint!("\rreading partition {} of {of} …", number + 1),
        None => eprint!("\r\x1b[K"),
    }
}
