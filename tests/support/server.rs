//! `fanfare serve` as a process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::Instant;

use super::{client::Address, process::Process, wait::PATIENCE};

/// A running server. Dropping it kills it; an ERROR in its log fails the test: ERROR means
/// that somebody must act.
pub(crate) struct Server {
    process: Process,
    /// What an operator is meant to be told in this test.
    expected: &'static str,
}

/// When a server was killed, by the test's clock: surely alive before, surely dead after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) before: Instant,
    pub(crate) after: Instant,
}

impl Server {
    pub(crate) fn spawn(command: &mut Command, address: Address) -> Self {
        Self { process: Process::spawn("the server".to_owned(), command, address, PATIENCE), expected: "" }
    }

    /// Waits until the server says where it listens, and tells the clients.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        let address = self.process.listening().await;
        self.process.address.set(address);
        address
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) {
        let address = self.listening().await;
        self.process.ready(address).await;
    }

    /// Kills it as a power button would, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Kill {
        let before = Instant::now();
        self.process.kill();
        Kill { before, after: Instant::now() }
    }

    /// The log must tell an operator this, and nothing else may be an ERROR.
    pub(crate) fn expect_error(&mut self, text: &'static str) {
        self.expected = text;
    }

    /// How many lines of its log say this.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.process.log().lines().iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.process.log().lines()
    }

    /// The numbers that its log gives as `field`, in order.
    pub(crate) fn numbers(&self, field: &str) -> Vec<u64> {
        let lines = self.lines();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        parsed.filter_map(|line| line[field].as_u64()).collect()
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// A file as the server sees it, also on a file system of its own.
    pub(crate) fn file(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("temporary directories are named from the root");
        PathBuf::from(format!("/proc/{}/root", self.process())).join(path)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        fanfare_loadtest::process::usage(self.process()).expect("the process runs").resident_bytes
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to stop, and waits until it has, as it should.
    pub(crate) async fn terminate(mut self) {
        self.process.signal(Signal::TERM);
        self.process.address.clear();
        let status = self.process.exited(PATIENCE).await;
        assert!(status.success(), "asked to stop, the server ended with {status}");
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exited(&mut self, patience: Duration) -> ExitStatus {
        self.process.exited(patience).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.end();
        if std::thread::panicking() {
            return;
        }
        let errors = self.process.log().errors().into_iter();
        let (expected, errors): (Vec<_>, Vec<_>) =
            errors.partition(|line| !self.expected.is_empty() && line.contains(self.expected));
        assert!(errors.is_empty(), "the server logged errors:\n{}", errors.join("\n"));
        assert_eq!(expected.is_empty(), self.expected.is_empty(), "nothing was said of: {}", self.expected);
    }
}
