//! `fanfare serve` as a process.

use std::{
    net::SocketAddr,
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
        Self { child, log, followers, address }
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
        let errors = self.log.errors();
        assert!(errors.is_empty(), "the server logged errors:\n{}", errors.join("\n"));
    }
}

fn signal(name: &str, process: u32) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(kill.expect("there is a shell").success(), "cannot send SIG{name} to {process}");
}
