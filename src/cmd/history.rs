//! `fanfare history`: the tables that answer what was sent and what came of it.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use fanfare_core::{InstallationId, SystemClock};
use fanfare_history::{Options as HistoryOptions, Place};
use fanfare_log::Log;
use serde_json::json;

use crate::{
    engine::Engine,
    settings::{self, Options, Settings},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Data directory whose history it is.
    #[arg(long, env = "FANFARE_DATA_DIR", default_value = settings::DATA_DIR, global = true)]
    data_dir: PathBuf,
    /// Brokers of Apache Kafka as HOST:PORT, comma separated, where the log is there.
    #[arg(long, env = "FANFARE_KAFKA", global = true)]
    kafka: Option<String>,
    /// Begins the names of the topics on Kafka [default: fanfare.].
    #[arg(long, env = "FANFARE_KAFKA_PREFIX", global = true)]
    kafka_prefix: Option<String>,
    /// Settings of librdkafka as NAME=VALUE, comma separated.
    #[arg(
        long,
        env = "FANFARE_KAFKA_PROPERTIES",
        value_delimiter = ',',
        hide_env_values = true,
        global = true
    )]
    kafka_properties: Option<Vec<String>>,
    /// Where the tables are: as the server was told [default: sqlite].
    #[arg(long, env = "FANFARE_HISTORY", hide_env_values = true, global = true)]
    history: Option<String>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Drop the tables and make them again from the log. No server may keep them meanwhile.
    Rebuild,
    /// Print a hash of each table: equal for tables that say the same.
    Digest,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        data_dir: Some(args.data_dir.clone()),
        kafka: args.kafka.clone(),
        kafka_prefix: args.kafka_prefix.clone(),
        kafka_properties: args.kafka_properties.clone(),
        history: args.history.clone(),
        ..Options::default()
    };
    let settings = options.check()?;
    let Some(place) = settings.history.clone() else { bail!("history: it is off") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::open_for_reading(&settings).await?;
        let result = match args.what {
            What::Rebuild => rebuild(args, &settings, engine.log(), place).await,
            What::Digest => digest(args, engine.log(), place).await,
        };
        engine.close().await;
        result.map(|()| ExitCode::SUCCESS)
    })
}

async fn rebuild(args: &Args, settings: &Settings, log: Arc<dyn Log>, place: Place) -> anyhow::Result<()> {
    let installation = installation(&*log).await?;
    let options = HistoryOptions {
        log,
        clock: Arc::new(SystemClock),
        place,
        installation,
        retention: settings.retention,
    };
    let shows = std::io::stderr().is_terminal() && !args.json;
    let records = fanfare_history::rebuild(options, |done, all| {
        if shows {
            eprint!("\r{done} of {all} records \u{2026}");
            // Where it cannot be shown, it is not.
            drop(std::io::stderr().flush());
        }
    })
    .await?;
    if shows {
        eprint!("\r\x1b[K");
    }
    if args.json {
        println!("{}", json!({ "records": records }));
    } else {
        println!("{records} records projected");
    }
    Ok(())
}

async fn digest(args: &Args, log: Arc<dyn Log>, place: Place) -> anyhow::Result<()> {
    let tables = fanfare_history::digest(&place, installation(&*log).await?).await?;
    if args.json {
        let of = |table: &fanfare_history::TableDigest| {
            (table.table.to_owned(), json!({ "rows": table.rows, "digest": table.digest }))
        };
        println!("{}", serde_json::Value::Object(tables.iter().map(of).collect()));
        return Ok(());
    }
    for table in tables {
        println!("{:<12} {:>12} rows  {}", table.table, table.rows, table.digest);
    }
    Ok(())
}

async fn installation(log: &dyn Log) -> anyhow::Result<InstallationId> {
    let view = fanfare_control::replay(log).await?;
    Ok(view.installation().context("nothing was installed here yet")?.id)
}
