//! The binary as a process: what it prints is followed, and it is killed when it is dropped.

use std::{
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    client::{Address, Client},
    log::Log,
    wait,
};

pub(crate) struct Process {
    /// As messages call it.
    name: String,
    child: Child,
    log: Log,
    followers: Vec<JoinHandle<()>>,
    /// How long it may take to listen, and then to be ready.
    patience: Duration,
    /// Where clients look for it. Whoever knows that it listens there tells them.
    pub(crate) address: Address,
}

impl Process {
    pub(crate) fn spawn(name: String, command: &mut Command, address: Address, patience: Duration) -> Self {
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
        Self { name, child, log, followers, patience, address }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says where it listens.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        let (what, patience) = (format!("{} listens", self.name), self.patience);
        let address = wait::until(&what, patience, async || {
            let line = self.log.after("listening on http://");
            if line.is_none() {
                self.must_run();
            }
            line
        });
        address.await.trim().parse().expect("the line ends with the address")
    }

    /// Waits until `/readyz` answers 200 there.
    pub(crate) async fn ready(&mut self, address: SocketAddr) {
        let own = Address::default();
        own.set(address);
        let client = Client::new(own, None);
        let (what, patience) = (format!("{} is ready", self.name), self.patience);
        wait::until(&what, patience, async || {
            self.must_run();
            let answer = client.try_send("GET", "/readyz", &[], "").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.must_run();
        // Its id is nobody else's: it was not waited for.
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Kills it as a power button would, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.address.clear();
        self.child.wait().expect("the process is ours");
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exited(&mut self, patience: Duration) -> ExitStatus {
        let (child, what) = (&mut self.child, format!("{} ends", self.name));
        wait::until(&what, patience, async || child.try_wait().expect("the process is ours")).await
    }

    /// It is gone, and all that it printed is in the log.
    pub(crate) fn end(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for follower in self.followers.drain(..) {
            follower.join().expect("following a log does not panic");
        }
    }

    fn must_run(&mut self) {
        let status = self.child.try_wait().expect("the process is ours");
        assert!(status.is_none(), "{} ended with {status:?}:\n{}", self.name, self.log.tail(20));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("the log of {} ends with:\n{}", self.name, self.log.tail(40));
        }
    }
}
