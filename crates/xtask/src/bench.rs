//! Builds a release and lets `fanfare-load` measure it beside the roof: a bare HTTP loop on the same machine.

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{command, kafka, report::Report, workspace::Workspace};

/// What is measured when no case is named.
const CASES: [&str; 4] = ["fanout10", "fanout10x8", "fanout1", "paced500"];

#[derive(Args)]
pub(crate) struct Options {
    /// Cases of benches/cases, or files [default: the four that README tells of].
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// With `both`, an Apache Kafka is started, and every round measures the case on either engine.
    #[arg(long, value_enum, default_value_t = Engines::Both)]
    engines: Engines,
    /// Passed on to `fanfare-load bench`.
    #[arg(last = true, value_name = "OPTION")]
    passed_on: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engines {
    Embedded,
    Both,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let mut build = command::cargo(&workspace.root);
    build.args(["build", "--release", "--locked", "--bins"]);
    build.args(["--package", "fanfare", "--package", "fanfare-loadtest"]);
    report.step("build a release", || command::run(&mut build))?;

    let cluster = match options.engines {
        Engines::Embedded => None,
        Engines::Both => Some(kafka::for_benches(workspace, report)?),
    };
    let programs = workspace.target.join("release");
    let cases: Vec<&str> = match options.cases.as_slice() {
        [] => CASES.to_vec(),
        cases => cases.iter().map(String::as_str).collect(),
    };
    for case in cases {
        let mut bench = Command::new(programs.join("fanfare-load"));
        bench.current_dir(&workspace.root).args(["bench", case, "--fanfare"]).arg(programs.join("fanfare"));
        if let Some(cluster) = &cluster {
            bench.args(["--kafka", &cluster.bootstrap()]);
            for broker in cluster.brokers() {
                bench.arg("--kafka-data").arg(broker.data());
            }
        }
        bench.args(&options.passed_on);
        report.step(&format!("bench {case}"), || command::run(&mut bench))?;
    }
    Ok(())
}
