//! `fanfare serve` as a process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    client::{Address, Client},
    log::Log,
    wait::{self, PATIENCE},
};

/// A running server. Dropping it kills it; an ERROR in its log fails the test: ERROR means
/// that somebody must act.
pub(crate) struct Server {
    child: Child,
    log: Log,
    followers: Vec<JoinHandle<()>>,
    /// Told to all clients of the installation once it is known.
    address: Address,
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
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let log = Log::default();
        let followers = vec![
            log.follow(child.stdout.take().expect("stdout was piped")),
            log.follow(child.stderr.take().expect("stderr was piped")),
        ];
        Self { child, log, followers, address, expected: "" }
    }

    /// Waits until the server says where it listens, and tells the clients.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        let log = self.log.clone();
        let address = wait::until("listening", PATIENCE, async || {
            let line = log.after("listening on http://");
            if line.is_none() {
                self.must_run();
            }
            line
        });
        let address = address.await.trim().parse().expect("the line ends with the address");
        self.address.set(address);
        address
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) {
        self.listening().await;
        let client = Client::new(self.address.clone(), None);
        wait::until("ready", PATIENCE, async || {
            self.must_run();
            let answer = client.try_send("GET", "/readyz", &[], "").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Kills it as a power button would, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Kill {
        let before = Instant::now();
        self.child.kill().expect("the process is ours");
        self.address.clear();
        self.child.wait().expect("the process is ours");
        Kill { before, after: Instant::now() }
    }

    /// The log must tell an operator this, and nothing else may be an ERROR.
    pub(crate) fn expect_error(&mut self, text: &'static str) {
        self.expected = text;
    }

    /// How many lines of its log say this.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.log.tail(usize::MAX).lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// A file as the server sees it, also on a file system of its own.
    pub(crate) fn file(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("temporary directories are named from the root");
        PathBuf::from(format!("/proc/{}/root", self.process())).join(path)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        fanfare_loadtest::process::usage(self.process()).expect("the process runs").resident_bytes
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        signal("TERM", self.child.id());
        self.address.clear();
        self.exited(PATIENCE).await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exited(&mut self, patience: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait::until("the process ends", patience, async || child.try_wait().expect("the process is ours"))
            .await
    }

    fn must_run(&mut self) {
        let status = self.child.try_wait().expect("the process is ours");
        assert!(status.is_none(), "the server ended with {status:?}:\n{}", self.log.tail(20));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for follower in self.followers.drain(..) {
            follower.join().expect("following a log does not panic");
        }
        if std::thread::panicking() {
            eprintln!("the server's log ends with:\n{}", self.log.tail(40));
            return;
        }
        let (expected, errors): (Vec<_>, Vec<_>) = self
            .log
            .errors()
            .into_iter()
            .partition(|line| !self.expected.is_empty() && line.contains(self.expected));
        assert!(errors.is_empty(), "the server logged errors:\n{}", errors.join("\n"));
        assert_eq!(expected.is_empty(), self.expected.is_empty(), "nothing was said of: {}", self.expected);
    }
}

fn signal(name: &str, process: u32) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(kill.expect("there is a shell").success(), "cannot send SIG{name} to {process}");
}
