//! One process of an installation, and what can be done to it.

use std::{
    fmt,
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{client::Address, log::Log, process, wait::PATIENCE};

/// A process that joins a loaded cluster on a loaded machine.
const START: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Front,
    Router,
    Worker,
}

impl Role {
    pub(crate) const fn options(self) -> &'static str {
        match self {
            Self::Front => "ingest,api",
            Self::Router => "router",
            Self::Worker => "delivery",
        }
    }
}

/// Which one: role, and the how manieth of its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) Role, pub(crate) u32);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.0 {
            Role::Front => "front",
            Role::Router => "router",
            Role::Worker => "worker",
        };
        write!(f, "{role} {}", self.1)
    }
}

pub(crate) struct Process {
    inner: process::Process,
    pub(crate) frozen_at: Option<Instant>,
    _directory: TempDir,
}

impl Process {
    pub(crate) fn spawn(name: Name, directory: TempDir, mut command: Command, address: Address) -> Self {
        let inner = process::Process::spawn(name.to_string(), &mut command, address, START);
        Self { inner, frozen_at: None, _directory: directory }
    }

    pub(crate) fn log(&self) -> Log {
        self.inner.log().clone()
    }

    /// Waits until `/readyz` answers 200; only then others are told where it listens.
    pub(crate) async fn ready(&mut self) {
        let address = self.inner.listening().await;
        self.inner.ready(address).await;
        self.inner.address.set(address);
    }

    pub(crate) fn freeze(&mut self) {
        self.inner.signal(Signal::STOP);
        self.frozen_at = Some(Instant::now());
    }

    pub(crate) fn thaw(&mut self) {
        self.inner.signal(Signal::CONT);
        self.frozen_at = None;
    }

    pub(crate) fn kill(mut self) {
        self.inner.kill();
    }

    /// SIGTERM; gives how it ended. Until then it is found where it was.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.inner.signal(Signal::TERM);
        let status = self.inner.exited(PATIENCE).await;
        self.inner.address.clear();
        status
    }
}
