//! `fanfare demo`: the main job end to end. A broker, three receivers, a stream of orders; the broker is killed and
//! started again in the middle; the receivers judge what came of it.

mod broker;
mod stage;
mod summary;
mod view;
mod wire;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::signal::unix::{SignalKind, signal};

use self::{broker::Broker, view::View};

const SECONDS: u32 = 12;
const ORDERS_PER_SECOND: u32 = 20;
/// As a shell reports a process that was interrupted.
const INTERRUPTED: u8 = 130;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long orders are sent [default: 12].
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// How many orders are sent [default: 20 a second].
    #[arg(long, value_name = "N")]
    messages: Option<u32>,
    /// Plant a fault between broker and receivers, to see that it is found.
    #[arg(long = "break", value_name = "FAULT", value_enum)]
    fault: Option<Fault>,
    /// Print one JSON object at the end instead of the view.
    #[arg(long)]
    json: bool,
}

/// What can be made to go wrong on the way to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// One delivery is swallowed, and answered 200.
    Drop,
    /// Two deliveries change places.
    Swap,
    /// The body of one delivery is altered.
    Forge,
}

/// What is to happen, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) orders: u32,
    pub(crate) time: Duration,
    pub(crate) fault: Option<Fault>,
}

impl Plan {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let seconds = args.seconds.unwrap_or(SECONDS);
        ensure!((1..=3_600).contains(&seconds), "--seconds {seconds}: from 1 to 3600 are possible");
        let orders = args.messages.unwrap_or(seconds * ORDERS_PER_SECOND);
        ensure!((20..=1_000_000).contains(&orders), "--messages {orders}: from 20 to 1000000 are possible");
        Ok(Self { orders, time: Duration::from_secs(u64::from(seconds)), fault: args.fault })
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(perform(plan, View::new(args.json), args.json))
}

/// Whatever happens in between, the broker is stopped and the directory removed.
async fn perform(plan: Plan, mut view: View, json: bool) -> anyhow::Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("fanfare-demo-").tempdir();
    let directory = directory.context("cannot create a temporary directory")?;
    let mut broker = None;
    let result = tokio::select! {
        biased;
        () = interrupted() => None,
        result = stage::play(&plan, directory.path(), &mut broker, &mut view) => Some(result),
    };
    if let Some(broker) = &mut broker {
        Broker::kill(broker).await;
    }
    directory.close().context("cannot remove the temporary directory")?;
    let Some(result) = result else {
        view.say("interrupted; broker stopped, temporary directory removed");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let summary = result?;
    if json {
        view::print(&format!("{}\n", serde_json::to_string(&summary)?));
    } else {
        view::print(&summary.render());
    }
    Ok(if summary.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Resolves on SIGINT, SIGTERM or SIGHUP.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}
