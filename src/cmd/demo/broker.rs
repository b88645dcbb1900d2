//! The broker: this program, as a process of its own.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

const START: Duration = Duration::from_secs(30);
/// Of its output, to tell why it ended.
const LINES_KEPT: usize = 5;

type Lines = Arc<Mutex<VecDeque<String>>>;

pub(crate) struct Broker {
    child: Child,
    pub(crate) pid: u32,
    address: watch::Receiver<Option<SocketAddr>>,
    lines: Lines,
}

impl Broker {
    /// Starts it; it listens some time later.
    pub(crate) fn spawn(data_dir: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut command = Command::new(program);
        command.args(["serve", "--dev", "--listen", &listen.to_string(), "--data-dir"]).arg(data_dir);
        // Options that this shell has for another broker.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANFARE_"))
        {
            command.env_remove(name);
        }
        // A group of its own: an interrupt at the terminal is for us to handle.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the broker")?;
        let pid = child.id().context("the broker ended at once")?;
        let (found, address) = watch::channel(None);
        let lines = Lines::default();
        let stdout = child.stdout.take().expect("stdout was piped");
        let stderr = child.stderr.take().expect("stderr was piped");
        tokio::spawn(follow(stdout, Arc::clone(&lines), Some(found)));
        tokio::spawn(follow(stderr, Arc::clone(&lines), None));
        Ok(Self { child, pid, address, lines })
    }

    /// Waits until it says where it listens.
    pub(crate) async fn listening(&mut self) -> anyhow::Result<SocketAddr> {
        let found = timeout(START, self.address.wait_for(Option::is_some)).await;
        let address = found.ok().and_then(Result::ok).and_then(|address| *address);
        match address {
            Some(address) => Ok(address),
            None => bail!("the broker did not start: {}", self.last_line()),
        }
    }

    /// Fails if it has ended by itself.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => bail!("the broker ended by itself ({status}): {}", self.last_line()),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        // It fails only when it has ended already.
        let _ = self.child.kill().await;
    }

    fn last_line(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.back().cloned().unwrap_or_else(|| "it said nothing".to_owned())
    }
}

/// Reads an output to its end, so that the broker never waits for us.
async fn follow(
    output: impl AsyncRead + Unpin,
    lines: Lines,
    found: Option<watch::Sender<Option<SocketAddr>>>,
) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        if let Some(found) = &found
            && let Some(address) = line.strip_prefix("listening on http://")
        {
            found.send_replace(address.trim().parse().ok());
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        // The token it prints is nobody's business.
        if found.is_none() {
            lines.push_back(line);
        }
    }
}
