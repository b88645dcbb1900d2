//! Runs the simulation: many seeds, or all planted faults.

use anyhow::Result;
use clap::Args;
use fanfare_testkit::kafka::TOOLS_VARIABLE;

use crate::{command, report::Report, system, workspace::Workspace};

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
    /// With `--planted`: in real processes on a real Apache Kafka, a minute for a seed [default: 5 seeds].
    #[arg(long, requires = "planted")]
    on_kafka: bool,
}

const SEEDS: u64 = 1_000;
const SEEDS_PER_FAULT: u64 = 300;
const SEEDS_PER_FAULT_ON_KAFKA: u64 = 5;

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let mut test = command::cargo(&workspace.root);
    test.args(["test", "--locked", "--package", "fanfare", "--test"]);
    let seeds = match (options.planted, options.on_kafka) {
        (false, _) => SEEDS,
        (true, false) => SEEDS_PER_FAULT,
        (true, true) => SEEDS_PER_FAULT_ON_KAFKA,
    };
    test.env("FANFARE_SIM_SEEDS", options.seeds.unwrap_or(seeds).to_string());
    if options.on_kafka {
        system::for_kafka(report)?;
        test.arg("cluster").env(TOOLS_VARIABLE, workspace.tools());
    } else {
        test.arg("sim").env("FANFARE_SIM_FROM", options.from.to_string());
    }
    if let Some(fault) = &options.fault {
        test.env("FANFARE_SIM_FAULT", fault);
    }
    if options.planted {
        test.args(["--features", "planted"]);
    }
    test.args(["--", "--nocapture"]);
    if options.on_kafka {
        test.arg("planted::");
    }
    report.step(if options.planted { "planted faults" } else { "simulation" }, || command::run(&mut test))
}
