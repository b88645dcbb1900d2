//! Load on a Fanfare server, and a judge of what comes out: see benches/README.md.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use fanfare_core::{Entropy, SystemEntropy};
use fanfare_loadtest::{
    bench,
    case::Case,
    client::Server,
    payload, process,
    publisher::{self, Publisher},
    receiver::Receiver,
    report, roof,
    run::{self, Parties},
    trial::{Checks, Programs, isolation, jobs, memory, overload},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(version, about)]
struct Command {
    /// Threads of this process; one is enough for most machines' share of the work.
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Be the endpoints, until stopped; prints where it listens.
    Receive {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Endpoints from the start, as JSON (the body of `POST /configure`).
        #[arg(long)]
        endpoints: Option<PathBuf>,
    },
    /// Publish to applications that exist.
    Publish(Publish),
    /// Send signed requests from a bare loop to a receiver.
    Roof {
        /// Base URL of a receiver in another process.
        #[arg(long)]
        receiver: String,
        #[arg(long, default_value_t = 10)]
        connections: usize,
        #[arg(long, default_value_t = payload::DEFAULT_BYTES)]
        payload_bytes: usize,
        #[arg(long, default_value_t = 10.0)]
        duration_secs: f64,
        /// Requests per second; as fast as they are answered if not given.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Run a case against a server that runs.
    Run {
        /// A file, or the name of one in benches/cases.
        case: String,
        #[arg(long)]
        server: String,
        #[arg(long)]
        token: String,
        /// The server's process id, to measure its CPU time and memory.
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Run a case and the bare loop alternately, with a server started for each round.
    Bench {
        /// A file, or the name of one in benches/cases.
        case: String,
        /// The program `fanfare`.
        #[arg(long)]
        fanfare: PathBuf,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Where the server's data directories go; on a disk.
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        scratch: PathBuf,
        /// Brokers, HOST:PORT, comma separated: the case is run on Kafka too.
        #[arg(long)]
        kafka: Option<String>,
        /// Their data directories, to tell what they store; repeat it for several.
        #[arg(long, requires = "kafka")]
        kafka_data: Vec<PathBuf>,
        /// Run the case by a server that keeps no history as well, and compare.
        #[arg(long)]
        without_history: bool,
        /// Further arguments of `fanfare serve`.
        #[arg(last = true)]
        serve_arguments: Vec<String>,
    },
    /// Put to the test what a backlog, idle endpoints and large payloads cost in memory.
    Memory {
        #[command(flatten)]
        together: Together,
        #[command(flatten)]
        options: memory::Options,
    },
    /// Put to the test what far too many publishers do.
    Overload {
        #[command(flatten)]
        together: Together,
        #[command(flatten)]
        options: overload::Options,
    },
    /// Put to the test what good endpoints notice of bad ones.
    Isolation {
        #[command(flatten)]
        together: Together,
        #[command(flatten)]
        options: isolation::Options,
    },
    /// Put to the test what jobs send again, and what live messages notice of them.
    Jobs {
        #[command(flatten)]
        together: Together,
        #[command(flatten)]
        options: jobs::Options,
    },
}

#[derive(Args)]
struct Together {
    /// The program `fanfare`.
    #[arg(long)]
    fanfare: PathBuf,
    /// Where the server's data directories go; on a disk.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
}

#[derive(Args)]
struct Publish {
    #[arg(long)]
    server: String,
    #[arg(long)]
    token: String,
    /// Id or uid; repeat it for several.
    #[arg(long = "app", required = true)]
    applications: Vec<String>,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = payload::DEFAULT_BYTES)]
    payload_bytes: usize,
    /// Ordering keys per application.
    #[arg(long, default_value_t = 0)]
    keys: u32,
    /// One message in flight per application and key.
    #[arg(long)]
    sequential: bool,
    /// Messages per second; as fast as they are answered if not given.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long)]
    messages: Option<u64>,
    #[arg(long)]
    duration_secs: Option<f64>,
    /// Send idempotency keys and repeat each message until it is acknowledged.
    #[arg(long)]
    repeat: bool,
    /// Number of the run, as the receiver expects it.
    #[arg(long)]
    run: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let command = Command::parse();
    raise_file_limit();
    let mut runtime = match command.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(command.threads.max(1)).enable_all().build()?;
    runtime.block_on(perform(command))
}

async fn perform(command: Command) -> anyhow::Result<ExitCode> {
    let Command { threads, json, job } = command;
    match job {
        Job::Receive { listen, endpoints } => receive(listen, endpoints.as_deref()).await,
        Job::Publish(options) => publish(options, json).await,
        Job::Roof { receiver, connections, payload_bytes, duration_secs, rate } => {
            let receiver = Server::resolve(&receiver, None).await?.address;
            let duration = Duration::from_secs_f64(duration_secs);
            let options =
                roof::Options { receiver, connections, payload_bytes, rate, requests: None, duration };
            let roof = roof::run(options).await?;
            print(&if json { serde_json::to_string(&roof)? } else { report::roof(&roof) })?;
            Ok(ExitCode::SUCCESS)
        }
        Job::Run { case, server, token, pid } => {
            let case = Case::read(&find_case(&case)?)?;
            let arguments = ["receive", "--listen", "127.0.0.1:0", "--threads", "1"].map(str::to_owned);
            let receiver = process::Server::start(&std::env::current_exe()?, &arguments).await?;
            let parties = Parties {
                server: Server::resolve(&server, Some(token)).await?,
                server_pid: pid,
                receiver: Server::resolve(&receiver.url, None).await?.address,
            };
            let outcome = run::run(&case, &parties).await;
            receiver.stop().await?;
            let outcome = outcome?;
            print(&if json { serde_json::to_string(&outcome)? } else { report::outcome(&outcome) })?;
            Ok(success(outcome.drained && outcome.verdict.is_clean()))
        }
        Job::Bench {
            case,
            fanfare,
            rounds,
            scratch,
            kafka,
            kafka_data,
            without_history,
            serve_arguments,
        } => {
            let case = Case::read(&find_case(&case)?)?;
            let loader = std::env::current_exe()?;
            let kafka = kafka.map(|brokers| bench::Kafka { brokers, data: kafka_data });
            let options = bench::Options {
                case,
                fanfare,
                serve_arguments,
                loader,
                rounds,
                threads,
                scratch,
                kafka,
                without_history,
            };
            let bench = bench::run(&options, |line| eprintln!("{line}")).await?;
            let text =
                if json { serde_json::to_string(&bench)? } else { report::bench(&options.case, &bench) };
            print(&text)?;
            Ok(success(bench.missed.is_empty()))
        }
        Job::Memory { together, options } => {
            conclude(&memory::run(&together.programs()?, &options, |line| eprintln!("{line}")).await?)
        }
        Job::Overload { together, options } => {
            conclude(&overload::run(&together.programs()?, &options, |line| eprintln!("{line}")).await?)
        }
        Job::Isolation { together, options } => {
            conclude(&isolation::run(&together.programs()?, &options, |line| eprintln!("{line}")).await?)
        }
        Job::Jobs { together, options } => {
            conclude(&jobs::run(&together.programs()?, &options, |line| eprintln!("{line}")).await?)
        }
    }
}

impl Together {
    fn programs(self) -> anyhow::Result<Programs> {
        let Self { fanfare, scratch } = self;
        if process::is_in_memory(&scratch) {
            eprintln!("warning: {} is in memory, syncing costs nothing there", scratch.display());
        }
        Ok(Programs { fanfare, loader: std::env::current_exe()?, scratch })
    }
}

fn conclude(checks: &Checks) -> anyhow::Result<ExitCode> {
    print(&checks.text())?;
    Ok(success(checks.hold()))
}

async fn receive(listen: SocketAddr, endpoints: Option<&Path>) -> anyhow::Result<ExitCode> {
    let receiver = Receiver::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    if let Some(path) = endpoints {
        let spec = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        receiver.configure(&serde_json::from_slice(&spec)?)?;
    }
    print(&format!("listening on http://{}", receiver.address()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(wanted: Publish, as_json: bool) -> anyhow::Result<ExitCode> {
    if wanted.messages.is_none() && wanted.duration_secs.is_none() {
        bail!("give --messages or --duration-secs");
    }
    let run = wanted.run.unwrap_or_else(|| <dyn Entropy>::u64(&SystemEntropy));
    let server = Server::resolve(&wanted.server, Some(wanted.token)).await?;
    let options = publisher::Options {
        connections: wanted.connections,
        payload_bytes: wanted.payload_bytes,
        keys: wanted.keys,
        sequential: wanted.sequential,
        rate: wanted.rate,
        messages: wanted.messages,
        duration: wanted.duration_secs.map(Duration::from_secs_f64),
        repeat: wanted.repeat,
        keep_ids: as_json,
        ..publisher::Options::new(server, run, wanted.applications)
    };
    let published = Publisher::start(options).finish().await;
    let text = if as_json {
        json!({
            "run": run,
            "counts": published.counts,
            "accepted": published.accepted,
            "acknowledged": published.acknowledged,
            "latency": published.latency,
            "shedLatency": published.shed_latency,
            "complaint": published.complaint,
        })
        .to_string()
    } else {
        let complaint = published.complaint.map(|complaint| format!("\n{complaint}")).unwrap_or_default();
        format!("{:?}\n{}{complaint}", published.counts, published.latency.text())
    };
    print(&text)?;
    Ok(success(published.counts.accepted > 0))
}

/// A file as named, or the case of that name.
fn find_case(name: &str) -> anyhow::Result<PathBuf> {
    let named = PathBuf::from(name);
    let known = PathBuf::from(format!("benches/cases/{name}.toml"));
    [named, known].into_iter().find(|path| path.is_file()).with_context(|| format!("no case `{name}`"))
}

/// To standard output, at once: whoever started us reads it from a pipe.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", text.trim_end())?;
    Ok(output.flush()?)
}

fn success(is_success: bool) -> ExitCode {
    if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As many open connections as the machine allows.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it we do with what there is.
    setrlimit(Resource::Nofile, limit).ok();
}
