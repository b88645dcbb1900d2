//! `fanfare topics`: what the topics on Kafka are, must be, and would be made; and their end.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use fanfare_log::kafka::topics;

use crate::{engine, settings::Options};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Show what `apply` would make or change.
    Plan(TaskArgs),
    /// Make what is missing and set what is set otherwise; removes nothing.
    Apply(TaskArgs),
    /// Tell whether the topics can be worked with; ends with an error if not.
    Check(TaskArgs),
    /// Remove the topics and everything in them: the end of an installation. Stop its processes before.
    Delete(DeleteArgs),
}

#[derive(clap::Args)]
struct DeleteArgs {
    /// Do it; without this, it is only told what would be deleted.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: TaskArgs,
}

#[derive(clap::Args)]
struct TaskArgs {
    /// TOML file with any of the options below, their dashes as underscores.
    #[arg(long, env = "FANFARE_CONFIG")]
    config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Box<Options>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (Task::Plan(common)
    | Task::Apply(common)
    | Task::Check(common)
    | Task::Delete(DeleteArgs { common, .. })) = &args.task;
    let settings = (*common.options).clone().or_file(common.config.as_deref())?.check()?;
    let kafka = settings.kafka.as_ref().context("kafka: say where it is, with --kafka HOST:PORT")?;
    let options = engine::kafka_options(&settings, kafka);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        anyhow::Ok(match &args.task {
            Task::Plan(_) => topics::plan(&options).await?,
            Task::Apply(_) => topics::apply(&options).await?,
            Task::Check(_) => {
                let recorded = engine::recorded(&options).await?;
                topics::check(&options, recorded.as_ref()).await?.report
            }
            Task::Delete(DeleteArgs { yes, .. }) => topics::delete(&options, *yes).await?,
        })
    })?;
    if common.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if report.lines.is_empty() {
        let is_delete = matches!(args.task, Task::Delete(_));
        println!("{}", if is_delete { "there are no topics" } else { "the topics are what they must be" });
    } else {
        print!("{report}");
    }
    Ok(if report.is_usable() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
