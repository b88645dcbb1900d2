//! `fanfare serve`: the broker.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use crate::{process, run, settings::Options, telemetry};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// TOML file with any of the options below, their dashes as underscores.
    #[arg(long, env = "FANFARE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "mimalloc")]
    process::with_allocator_settings();
    let settings = args.options.or_file(args.config.as_deref())?.check()?.for_serving()?;
    telemetry::start_logs(settings.log_json);
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run::run(settings));
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
