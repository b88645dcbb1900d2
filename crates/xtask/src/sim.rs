//! Runs the simulation: many seeds, or all planted faults.

use anyhow::Result;
use clap::Args;

use crate::{command, report::Report, workspace::Workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// How many seeds; with `--planted`, how many may pass before a fault counts as not found [default: 1000, 300].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Takes guards out one by one; fails if no seed notices.
    #[arg(long, conflicts_with = "from")]
    planted: bool,
    /// With `--planted`: this fault only.
    #[arg(long, requires = "planted")]
    fault: Option<String>,
}

const SEEDS: u64 = 1_000;
const SEEDS_PER_FAULT: u64 = 300;

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let mut test = command::cargo(&workspace.root);
    test.args(["test", "--locked", "--package", "fanfare", "--test", "sim"]);
    let seeds = options.seeds.unwrap_or(if options.planted { SEEDS_PER_FAULT } else { SEEDS });
    test.env("FANFARE_SIM_SEEDS", seeds.to_string());
    test.env("FANFARE_SIM_FROM", options.from.to_string());
    if let Some(fault) = &options.fault {
        test.env("FANFARE_SIM_FAULT", fault);
    }
    if options.planted {
        test.args(["--features", "planted"]);
    }
    test.args(["--", "--nocapture"]);
    report.step(if options.planted { "planted faults" } else { "simulation" }, || command::run(&mut test))
}
