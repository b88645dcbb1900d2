//! Other processes: what they cost, and starting and stopping them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

const START_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of a child's output that are kept to explain its death.
const LINES_KEPT: usize = 20;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads, in steps of 10 ms.
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

/// Reads /proc of `pid`; `None` once it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks. After it the 12th and 13th fields are user and system time.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let cpu = Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second());

    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Usage {
        cpu,
        resident_bytes: kibibytes("VmRSS:").unwrap_or(0) * 1_024,
        resident_peak_bytes: kibibytes("VmHWM:").unwrap_or(0) * 1_024,
    })
}

/// CPU time of this process.
pub fn own_cpu() -> Duration {
    usage(std::process::id()).map_or(Duration::ZERO, |usage| usage.cpu)
}

/// A child process that prints `listening on http://…` when it is ready. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    /// As printed: `http://host:port`.
    pub url: String,
}

impl Server {
    /// Starts `program` and waits for its line, on either output.
    pub async fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let name = program.display();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("the process ended at once")?;
        let (found, mut urls) = mpsc::channel(1);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Option<Box<dyn AsyncRead + Send + Unpin>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        for output in outputs.into_iter().flatten() {
            tokio::spawn(follow(output, found.clone(), Arc::clone(&kept)));
        }
        drop(found);
        if let Ok(Some(url)) = timeout(START_TIMEOUT, urls.recv()).await {
            return Ok(Self { child, pid, url });
        }
        let lines = kept.lock().expect("no holder panics").join("\n");
        bail!("{name} did not say where it listens; its output:\n{lines}")
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn usage(&self) -> Usage {
        usage(self.pid).unwrap_or_default()
    }

    /// Asks it to stop, and kills it if it does not.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Reads a child's output to its end, so that it never waits for us; hands on the URL it names.
async fn follow(output: impl AsyncRead + Unpin, found: mpsc::Sender<String>, kept: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(at) = line.find("listening on http://") {
            let url = &line[at + "listening on ".len()..];
            let end = url.find([' ', '"', '\\', ',']).unwrap_or(url.len());
            // Only the first line counts; a full or closed channel means that there was one.
            found.try_send(url[..end].trim_end_matches('/').to_owned()).ok();
        }
        let mut kept = kept.lock().expect("no holder panics");
        if kept.len() == LINES_KEPT {
            kept.remove(0);
        }
        kept.push(line);
    }
}

/// Runs `program` to its end and gives what it printed.
pub async fn output(program: &Path, arguments: &[String]) -> anyhow::Result<String> {
    let name = program.display();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} {arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Whether files at `path` live in memory only, where a sync costs nothing.
pub fn is_in_memory(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    let of_path = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let nearest = of_path.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len());
    nearest.is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}
