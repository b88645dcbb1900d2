//! `fanfare`: one binary for every role and every task around it.

mod cmd;
mod engine;
mod process;
mod retry;
mod run;
mod scaling;
mod settings;
mod telemetry;

use clap::{Parser, Subcommand};

/// Many small allocations that cross threads: docs/adr/0010-mimalloc.md.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fan-out broker: hand it a message once, it brings it to every endpoint that wants it.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker.
    Serve(Box<cmd::serve::Args>),
    /// Tell whether the server of this machine is ready.
    Health(cmd::health::Args),
    /// Print a bearer token for the API.
    Token(cmd::token::Args),
    /// Print the routes of the API, and which tokens open them.
    Routes(cmd::routes::Args),
    /// Check the signature of a request that was received.
    Verify(cmd::verify::Args),
    /// Show what a data directory, or an installation on Kafka, holds: topics, lanes, attempts, dead letters.
    Inspect(cmd::inspect::Args),
    /// Make the tables of history again from the log, or compare them.
    History(cmd::history::Args),
    /// Show, make and check the topics on Apache Kafka.
    #[cfg(feature = "kafka")]
    Topics(cmd::topics::Args),
    /// Copy what is set up elsewhere: applications, event types, endpoints with their secrets.
    MoveIn(Box<cmd::move_in::Args>),
    /// See it work: a broker, three receivers, a stream of orders, a kill in the middle, a verdict.
    Demo(cmd::demo::Args),
}

fn main() -> std::process::ExitCode {
    #[cfg(feature = "planted")]
    process::plant();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => cmd::serve::run(*args),
        Command::Health(args) => cmd::health::run(&args),
        Command::Token(args) => cmd::token::run(&args),
        Command::Routes(args) => Ok(cmd::routes::run(&args)),
        Command::Verify(args) => cmd::verify::run(&args),
        Command::Inspect(args) => cmd::inspect::run(&args),
        Command::History(args) => cmd::history::run(&args),
        #[cfg(feature = "kafka")]
        Command::Topics(args) => cmd::topics::run(&args),
        Command::MoveIn(args) => cmd::move_in::run(*args),
        Command::Demo(args) => cmd::demo::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanfare: {}", one_line(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// The error with its causes, those left out that its text names already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| match cause.to_string() {
        cause if line.contains(&cause) => line,
        cause if line.is_empty() => cause,
        cause => format!("{line}: {cause}"),
    })
}
