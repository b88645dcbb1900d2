//! One broker: a process that can be stopped, killed, frozen and started again on its port and data.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{
    Distribution, Security, Settings, probe,
    properties::{self, Node},
};
use crate::{
    process::{Identity, Lifetime},
    wait,
};

/// Two cores start three brokers in ten seconds; a machine at work may need longer.
const START_LIMIT: Duration = Duration::from_mins(2);
/// A broker moves its leaderships away before it stops.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Lines of the log that an error shows.
const SHOWN_LINES: usize = 15;

/// A broker of a [`Cluster`](super::Cluster). All methods block.
pub struct Broker {
    node: Node,
    directory: PathBuf,
    distribution: Distribution,
    heap_mib: u32,
    long_lived: bool,
    lifetime: Lifetime,
    process: Mutex<Option<Child>>,
}

impl Broker {
    pub(super) fn new(
        node: Node,
        directory: PathBuf,
        distribution: Distribution,
        settings: &Settings,
    ) -> Self {
        let Settings { heap_mib, long_lived, lifetime, .. } = *settings;
        Self { node, directory, distribution, heap_mib, long_lived, lifetime, process: Mutex::default() }
    }

    /// Its number in the cluster, from 1.
    pub fn id(&self) -> u32 {
        self.node.id
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.node.port)
    }

    /// Where it asks for a name and a password, within TLS; with [`Security`](super::Security) alone.
    pub fn sasl_address(&self) -> Option<String> {
        self.node.secure.map(|ports| format!("127.0.0.1:{}", ports.sasl))
    }

    /// Where it asks for a certificate; with [`Security`](super::Security) alone.
    pub fn certificate_address(&self) -> Option<String> {
        self.node.secure.map(|ports| format!("127.0.0.1:{}", ports.certificate))
    }

    /// Where it asks for nothing, within TLS; with [`Security`](super::Security) alone.
    pub fn tls_address(&self) -> Option<String> {
        self.node.secure.map(|ports| format!("127.0.0.1:{}", ports.tls))
    }

    /// All that it printed since its directory was made.
    pub fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Its records.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// `None` while it does not run.
    pub fn identity(&self) -> Option<Identity> {
        let process = self.process();
        process.as_ref().and_then(|child| Identity::of(child.id()).ok())
    }

    /// Starts it where it stood, and waits until it answers and knows `alive` brokers.
    pub fn start(&self, alive: u32) -> Result<()> {
        self.launch()?;
        self.wait_until_ready(alive)
    }

    /// SIGTERM: it hands over what it leads, closes its files and is gone on return.
    pub fn stop(&self) -> Result<()> {
        let mut process = self.process();
        let Some(mut child) = process.take() else {
            return Ok(());
        };
        Identity::of(child.id())?.signal(Signal::TERM)?;
        let what = format!("broker {} stops", self.node.id);
        let stopped = wait::until(&what, STOP_LIMIT, || Ok(child.try_wait()?));
        if stopped.is_err() {
            // It must not go on beside the one that is started next.
            end(&mut child)?;
        }
        stopped.map(drop)
    }

    /// SIGKILL: gone on return, with whatever it had in memory.
    pub fn kill(&self) -> Result<()> {
        match self.process().take() {
            Some(mut child) => end(&mut child),
            None => Ok(()),
        }
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT after [`Broker::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// One of its settings, from its next start on.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = self.settings();
        // Of lines with the same name the last counts.
        let mut settings =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        settings.push_str(&properties::line(name, value));
        write(&path, &settings)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let identity = self.identity().with_context(|| format!("broker {} does not run", self.node.id))?;
        ensure!(
            identity.signal(signal)?,
            "broker {} ended by itself: see {}",
            self.node.id,
            self.log().display()
        );
        Ok(())
    }

    /// Writes its settings and makes its data directory one of the cluster.
    pub(super) fn format(&self, cluster: &str, nodes: &[Node], given: &Settings) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot create {}", self.directory.display()))?;
        let data = self.directory.join("data");
        let security = given.security.as_ref();
        let settings = properties::server(&self.node, nodes, &data, security, &given.properties);
        write(&self.settings(), &settings)?;
        write(&self.log_settings(), properties::LOG)?;
        let mut format = self.java(Lifetime::WithParent);
        format.args(self.distribution.class_options());
        format.args(["kafka.tools.StorageTool", "format", "--ignore-formatted"]);
        format.args(["--cluster-id", cluster, "--config"]).arg(self.settings());
        format.args(security.map(Security::format_options).unwrap_or_default());
        self.print_to_log(&mut format)?;
        let status =
            Lifetime::WithParent.spawn(format)?.wait().context("cannot wait for the format of a broker")?;
        ensure!(status.success(), "the data directory cannot be formatted: {}", self.last_lines());
        Ok(())
    }

    pub(super) fn launch(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "broker {} runs already", self.node.id);
        let mut java = self.java(self.lifetime);
        java.args(self.distribution.class_options_of_a_broker());
        java.arg("kafka.Kafka").arg(self.settings());
        self.print_to_log(&mut java)?;
        *process = Some(self.lifetime.spawn(java)?);
        Ok(())
    }

    pub(super) fn wait_until_ready(&self, alive: u32) -> Result<()> {
        let what = format!("broker {} knows {alive} brokers to be alive", self.node.id);
        let ready = wait::until(&what, START_LIMIT, || {
            let mut process = self.process();
            let child = process.as_mut().context("it was stopped")?;
            if let Some(status) = child.try_wait()? {
                *process = None;
                bail!("broker {} ended with {status}", self.node.id);
            }
            let is_ready = probe::brokers(self.node.port).is_ok_and(|brokers| brokers >= alive);
            // Listeners open one after the other.
            let is_open = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            let all_open = self.node.secure.is_none_or(|ports| ports.all().into_iter().all(is_open));
            Ok((is_ready && all_open).then_some(()))
        });
        ready.with_context(|| format!("Apache Kafka does not start: {}", self.last_lines()))
    }

    fn java(&self, lifetime: Lifetime) -> Command {
        let mut java = lifetime.command("java");
        let heap = self.heap_mib;
        java.arg(format!("-Xms{heap}m")).arg(format!("-Xmx{heap}m"));
        // As few threads as may be: tests share two cores with it.
        java.args([
            // While it collects, every request waits: by two threads the pause is a third as long as by one.
            "-XX:+UseParallelGC",
            "-XX:ParallelGCThreads=2",
            "-XX:+ExitOnOutOfMemoryError",
            "-Xshare:auto",
        ]);
        if !self.long_lived {
            java.arg("-XX:TieredStopAtLevel=1");
        }
        java.arg("-Djava.awt.headless=true");
        java.arg(format!("-Dlog4j2.configurationFile={}", self.log_settings().display()));
        java
    }

    fn print_to_log(&self, command: &mut Command) -> Result<()> {
        let path = self.log();
        let open = || -> std::io::Result<(File, File)> {
            let log = File::options().create(true).append(true).open(&path)?;
            Ok((log.try_clone()?, log))
        };
        let (stdout, stderr) = open().with_context(|| format!("cannot open {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Ok(())
    }

    fn settings(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    fn log_settings(&self) -> PathBuf {
        self.directory.join("log4j2.properties")
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(SHOWN_LINES);
        format!("{} ends with\n{}", self.log().display(), lines[last..].join("\n"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        // Whoever panicked left it as it was.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(child: &mut Child) -> Result<()> {
    child.kill().context("cannot kill a broker")?;
    child.wait().context("cannot wait for a broker that was killed")?;
    Ok(())
}

fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
