//! One process of an installation, and what can be done to it.

use std::{
    fmt,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use fanfare_testkit::process::Identity;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    client::{Address, Client},
    log::Log,
    wait::{self, PATIENCE},
};

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

/// Killed when it is dropped.
pub(crate) struct Process {
    pub(crate) name: Name,
    pub(crate) frozen_at: Option<Instant>,
    child: Child,
    identity: Identity,
    log: Log,
    followers: Vec<JoinHandle<()>>,
    /// Told where it listens while it runs.
    address: Address,
    _directory: TempDir,
}

impl Process {
    pub(crate) fn spawn(name: Name, directory: TempDir, mut command: Command, address: Address) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let log = Log::default();
        let followers = vec![
            log.follow(child.stdout.take().expect("stdout was piped")),
            log.follow(child.stderr.take().expect("stderr was piped")),
        ];
        let identity = Identity::of(child.id()).expect("it is not buried yet");
        Self { name, frozen_at: None, child, identity, log, followers, address, _directory: directory }
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Waits until `/readyz` answers 200; only then others are told where it listens.
    pub(crate) async fn ready(&mut self) {
        let what = format!("{} listens", self.name);
        let line = wait::until(&what, START, async || {
            self.must_run();
            self.log.after("listening on http://")
        });
        let address = line.await.trim().parse().expect("the line ends with the address");
        let own = Address::default();
        own.set(address);
        let client = Client::new(own, None);
        wait::until(&format!("{} is ready", self.name), START, async || {
            self.must_run();
            let answer = client.try_send("GET", "/readyz", &[], "").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        self.address.set(address);
    }

    fn must_run(&mut self) {
        let status = self.child.try_wait().expect("the process is ours");
        assert!(status.is_none(), "{} ended with {status:?}:\n{}", self.name, self.log.tail(20));
    }

    pub(crate) fn freeze(&mut self) {
        self.signal(Signal::STOP);
        self.frozen_at = Some(Instant::now());
    }

    pub(crate) fn thaw(&mut self) {
        self.signal(Signal::CONT);
        self.frozen_at = None;
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.address.clear();
        self.child.wait().expect("the process is ours");
    }

    /// SIGTERM; gives how it ended.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let (child, what) = (&mut self.child, format!("{} ends", self.name));
        let status =
            wait::until(&what, PATIENCE, async || child.try_wait().expect("the process is ours")).await;
        self.address.clear();
        status
    }

    fn signal(&self, signal: Signal) {
        let was_sent = self.identity.signal(signal).expect("a signal can be sent");
        assert!(was_sent, "{} ended by itself:\n{}", self.name, self.log.tail(20));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for follower in self.followers.drain(..) {
            follower.join().expect("following a log does not panic");
        }
        if std::thread::panicking() {
            eprintln!("the log of {} ends with:\n{}", self.name, self.log.tail(20));
        }
    }
}
