//! The one door to building, testing and measuring Fanfare. `.ci/run` calls `cargo xtask ci` and nothing else.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{report::Report, test::Suite, workspace::Workspace};

mod bench;
mod checks;
mod command;
mod dist;
mod engines;
mod kafka;
mod layers;
mod report;
mod sdk;
mod sim;
mod system;
mod test;
mod tools;
mod workspace;

/// Builds, tests and measures Fanfare.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every check of a change: fmt, clippy, deny, layers, then all tests.
    Ci,
    /// All tests: unit tests, end-to-end tests, official Standard Webhooks libraries.
    Test,
    /// The unit tests of every crate.
    Unit,
    /// The end-to-end tests, against the real binary.
    E2e,
    /// What we sign, verified by the official Standard Webhooks libraries.
    Official,
    /// Tours of the real binary with the official SDKs.
    Sdk,
    /// The code is formatted.
    Fmt,
    /// The code has no lints.
    Clippy,
    /// The dependencies are ones that we allow.
    Deny,
    /// The crates depend on one another only downwards.
    Layers,
    /// Installs what the tests need beside Rust into target/tools.
    Tools,
    /// A real Apache Kafka to work with.
    #[command(subcommand)]
    Kafka(kafka::Action),
    /// Simulates whole installations with faults, a seed each; or plants faults to see that they are found.
    Sim(sim::Options),
    /// The program to hand out: a release without symbols, and its checksum, in target/dist.
    Dist(dist::Options),
    /// Measures a release build on this machine, beside a bare HTTP loop.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    let result = Workspace::load().and_then(|workspace| run(arguments.task, &workspace, &mut report));
    if let Err(error) = &result {
        eprintln!("\nxtask: {error:#}");
    }
    report.print();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(task: Task, workspace: &Workspace, report: &mut Report) -> Result<()> {
    match task {
        Task::Ci => {
            system::for_build(report)?;
            checks::fmt(workspace, report)?;
            layers::check(workspace, report)?;
            checks::clippy(workspace, report)?;
            checks::deny(workspace, report)?;
            test::run(workspace, report, &Suite::ALL)
        }
        Task::Test => test::run(workspace, report, &Suite::ALL),
        Task::Unit => test::run(workspace, report, &[Suite::Unit]),
        Task::E2e => test::run(workspace, report, &[Suite::EndToEnd]),
        Task::Official => test::run(workspace, report, &[Suite::Official]),
        Task::Sdk => test::run(workspace, report, &[Suite::Sdk]),
        Task::Fmt => checks::fmt(workspace, report),
        Task::Clippy => checks::clippy(workspace, report),
        Task::Deny => checks::deny(workspace, report),
        Task::Layers => layers::check(workspace, report),
        Task::Tools => tools::install(workspace, report),
        Task::Kafka(action) => kafka::run(workspace, report, &action),
        Task::Sim(options) => sim::run(workspace, report, &options),
        Task::Dist(options) => dist::run(workspace, report, &options),
        Task::Bench(options) => bench::run(workspace, report, &options),
    }
}
