//! A data directory, perhaps with topics on Kafka, and the commands that work on it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

use super::{
    client::{Address, Client},
    engine::Engine,
    server::Server,
    wait::{self, PATIENCE},
};

/// A data directory that outlives the servers started on it.
pub(crate) struct Installation {
    directory: TempDir,
    engine: Engine,
    address: Address,
}

/// Subcommands that work on the log, and so have to be told where it is.
const ON_LOG: [&str; 3] = ["serve", "inspect", "history"];

/// Subcommands that an installation on Kafka gives its main secret.
const NEED_SECRET: [&str; 2] = ["serve", "token"];
/// Who was killed is missed sooner than in production.
const SESSION: &str = "session.timeout.ms=6000,heartbeat.interval.ms=500";

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Installation {
    /// On the embedded engine.
    pub(crate) fn new() -> Self {
        Self::on(&Engine::Embedded)
    }

    pub(crate) fn on(engine: &Engine) -> Self {
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        Self { directory, engine: engine.clone(), address: Address::default() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where its server listens now.
    #[allow(dead_code, reason = "of the tours with SDKs")]
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address.get().expect("a server listens")
    }

    #[allow(dead_code, reason = "of the tours with SDKs")]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Starts a development server and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        let mut server = self.spawn(&["--dev"]);
        server.ready().await;
        server
    }

    /// Starts a server without waiting for anything.
    pub(crate) fn spawn(&self, options: &[&str]) -> Server {
        self.spawn_at("127.0.0.1:0", options)
    }

    /// The same on a port that is known before it listens there.
    pub(crate) fn spawn_at(&self, listen: &str, options: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--listen", listen]);
        command.args(options);
        if let Ok(address) = listen.parse::<std::net::SocketAddr>()
            && address.port() != 0
        {
            self.address.set(address);
        }
        Server::spawn(&mut command, self.address.clone())
    }

    /// A client with a token for everything. It follows the server over restarts.
    pub(crate) async fn client(&self) -> Client {
        Client::new(self.address.clone(), Some(self.token(&[]).await))
    }

    /// A client with this token, or with none.
    pub(crate) fn client_with(&self, token: Option<&str>) -> Client {
        Client::new(self.address.clone(), token.map(str::to_owned))
    }

    /// As `spawn`, on a file system of its own with so much room, which goes when the server ends. Its files can be
    /// reached as [`Server::file`] meanwhile.
    pub(crate) fn spawn_on_small_disk(&self, size_bytes: u64) -> Server {
        std::fs::create_dir(self.data()).expect("there is none yet");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#);
        command.arg("sh").arg(size_bytes.to_string()).arg(self.data());
        let serve = self.command(&["serve", "--listen", "127.0.0.1:0", "--dev"]);
        command.arg(serve.get_program()).args(serve.get_args());
        for (name, value) in serve.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Server::spawn(&mut command, self.address.clone())
    }

    pub(crate) async fn token(&self, options: &[&str]) -> String {
        let mut arguments = vec!["token"];
        arguments.extend(options);
        let finished = self.run(&arguments).await;
        assert!(finished.status.success(), "{finished:?}");
        finished.stdout.trim().to_owned()
    }

    /// `fanfare inspect --json`, server running or not.
    pub(crate) async fn inspect(&self) -> serde_json::Value {
        let finished = self.run(&["inspect", "--json"]).await;
        assert!(finished.status.success(), "{finished:?}");
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}", finished.stdout))
    }

    /// Runs `fanfare ARGUMENTS --data-dir …` to its end, on the installation's engine.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments)).await
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = fanfare(self.directory.path());
        command.args(arguments).arg("--data-dir").arg(self.data());
        if let (Engine::Kafka(topics), Some(subcommand)) = (&self.engine, arguments.first())
            && ON_LOG.contains(subcommand)
        {
            command.args(["--kafka", &topics.brokers, "--kafka-prefix", &topics.prefix]);
            if *subcommand == "serve" {
                command.args(["--message-partitions", "2", "--delivery-partitions", "4"]);
                command.args(["--kafka-properties", SESSION]);
            }
        }
        let secret = "--main-secret-file";
        if self.engine.is_kafka() && NEED_SECRET.contains(&arguments[0]) && !arguments.contains(&secret) {
            self.make_main_secret();
            command.arg(secret).arg(self.main_secret());
        }
        command
    }

    /// On the embedded engine the first start makes it; on Kafka all processes are given it.
    pub(crate) fn main_secret(&self) -> PathBuf {
        match self.engine {
            Engine::Embedded => self.data().join("main-secret"),
            Engine::Kafka(_) => self.directory.path().join("main-secret"),
        }
    }

    /// As an operator does for an installation on Kafka.
    fn make_main_secret(&self) {
        if !self.main_secret().exists() {
            make_main_secret(self.directory.path());
        }
    }
}

/// Makes a new main secret, in the file `main-secret` of the directory.
pub(crate) fn make_main_secret(directory: &Path) {
    // It fails only if there was none.
    let _ = std::fs::remove_file(directory.join("main-secret"));
    let mut token = fanfare(directory);
    token.args(["token", "--data-dir"]).arg(directory).stdout(Stdio::null());
    assert!(token.status().expect("the binary was built").success());
}

/// The binary under test, without options of the environment.
pub(crate) fn fanfare(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.current_dir(directory);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command that ends by itself; its output must fit a pipe.
pub(crate) async fn finish(command: &mut Command) -> Finished {
    let log = |stream: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || std::io::read_to_string(stream).unwrap_or_default())
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let stdout = log(Box::new(child.stdout.take().expect("stdout was piped")));
    let stderr = log(Box::new(child.stderr.take().expect("stderr was piped")));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let status = wait::until("the command ends", PATIENCE * 2, async || {
        if tokio::time::Instant::now() > deadline {
            // It fails only when it has ended already.
            let _ = child.kill();
        }
        child.try_wait().expect("the process is ours")
    })
    .await;
    let read = |thread: std::thread::JoinHandle<String>| thread.join().expect("reading does not panic");
    Finished { status, stdout: read(stdout), stderr: read(stderr) }
}
