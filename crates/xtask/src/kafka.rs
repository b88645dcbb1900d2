//! A real Apache Kafka: one for a run of tests, or one that stays until it is stopped.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use fanfare_testkit::kafka::{
    Cluster, Settings,
    background::{self, Running},
};

use crate::{report::Report, system, workspace::Workspace};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Starts brokers with empty topics and leaves them running.
    Up(Up),
    /// Stops what `up` started, and nothing else.
    Down,
    /// Says what runs.
    Status,
}

#[derive(Args)]
pub(crate) struct Up {
    /// How many brokers; with three every record is kept three times.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    brokers: u32,
    /// Where the first broker listens, the others on the next ports [default: ports that are free].
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, action: &Action) -> Result<()> {
    let directory = directory(workspace);
    match action {
        Action::Up(options) => {
            system::for_kafka(report)?;
            let settings = Settings { port: options.port, ..settings(workspace, options.brokers) };
            let running = report.step("start Apache Kafka", || background::up(&directory, settings))?;
            tell(&running);
        }
        Action::Down => match report.step("stop Apache Kafka", || background::down(&directory))? {
            Some(running) => println!("stopped: {}", running.bootstrap),
            None => println!("nothing was running"),
        },
        Action::Status => match background::find(&directory)? {
            Some(running) => {
                tell(&running);
                let ended = running.brokers.iter().filter(|broker| !broker.process.is_alive()).count();
                ensure!(ended == 0, "{ended} of {} brokers ended by themselves", running.brokers.len());
            }
            None => println!("nothing is running"),
        },
    }
    Ok(())
}

/// One broker, for as long as this value lives.
pub(crate) fn for_tests(workspace: &Workspace, report: &mut Report) -> Result<Cluster> {
    start(report, &settings(workspace, 1))
}

/// The same, to be measured.
pub(crate) fn for_benches(workspace: &Workspace, report: &mut Report) -> Result<Cluster> {
    start(report, &settings(workspace, 1).long_lived())
}

fn start(report: &mut Report, settings: &Settings) -> Result<Cluster> {
    system::for_kafka(report)?;
    report.step("start Apache Kafka", || Cluster::start(settings))
}

fn settings(workspace: &Workspace, brokers: u32) -> Settings {
    Settings { tools: workspace.tools(), ..Settings::new(brokers) }
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target.join("kafka")
}

fn tell(running: &Running) {
    println!("bootstrap: {}", running.bootstrap);
    for broker in &running.brokers {
        let state = if broker.process.is_alive() { "runs" } else { "ended" };
        println!(
            "broker {} {state}: process {}, log {}",
            broker.id,
            broker.process.pid,
            broker.log.display()
        );
    }
}
