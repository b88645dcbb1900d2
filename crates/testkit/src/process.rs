//! Processes beside ours: such that die with us, and such that outlive us and are found again.

use std::{
    ffi::OsStr,
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command},
    str::FromStr,
    sync::{
        OnceLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait;

/// Which process it is: ids are given out again, but not with the same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// In ticks since the machine started, as the kernel says.
    started: u64,
}

impl Identity {
    /// Of a process that runs now.
    pub fn of(pid: u32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { pid, started })
    }

    /// Of this process.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id())
    }

    pub fn is_alive(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Whether it stands still after SIGSTOP.
    pub(crate) fn is_stopped(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && stat.state == "T")
    }

    /// The processes that the one of this id has started and that did not end.
    pub(crate) fn children_of(parent: u32) -> Result<Vec<Self>> {
        let processes = fs::read_dir("/proc").context("cannot list processes")?;
        let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let child = |pid| {
            let stat = Stat::of(pid).filter(|stat| stat.is_alive() && stat.parent == parent)?;
            Some(Self { pid, started: stat.started })
        };
        Ok(ids.filter_map(child).collect())
    }

    /// Whether there was such a process to be sent the signal.
    pub fn signal(self, signal: Signal) -> Result<bool> {
        let Some(handle) = self.handle() else {
            return Ok(false);
        };
        match pidfd_send_signal(handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Ends it: kindly, and after `patience` by force.
    pub fn end(self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.wait_until_gone(patience).is_err() {
            self.signal(Signal::KILL)?;
            self.wait_until_gone(patience)?;
        }
        Ok(())
    }

    pub(crate) fn wait_until_gone(self, limit: Duration) -> Result<()> {
        let what = format!("process {} ends", self.pid);
        wait::until(&what, limit, || Ok((!self.is_alive()).then_some(())))
    }

    /// A handle stays with its process, so a look after it was opened tells whose it is.
    fn handle(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(handle)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.pid, self.started)
    }
}

impl FromStr for Identity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts =
            text.split_once('@').and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)));
        let (pid, started) = parts.ok_or_else(|| anyhow!("`{text}` is not PID@START"))?;
        Ok(Self { pid, started })
    }
}

/// What the kernel says of a process, as in proc(5).
struct Stat {
    state: String,
    parent: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold any character.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.to_owned();
        let parent = fields.next()?.parse().ok()?;
        // What is left begins with field 5; the start time is field 22.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, started })
    }

    /// Dead ones that are not yet buried are listed too.
    fn is_alive(&self) -> bool {
        !matches!(&*self.state, "Z" | "X")
    }
}

/// When the process started; `None` if it is gone, or dead and only not yet buried.
fn started(pid: u32) -> Option<u64> {
    Stat::of(pid).filter(Stat::is_alive).map(|stat| stat.started)
}

/// How long a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Killed by the kernel when this process ends, however it ends.
    WithParent,
    /// Goes on after this process, deaf to what its terminal says.
    Detached,
}

impl Lifetime {
    /// A command for such a process; to be started by [`Lifetime::spawn`].
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::WithParent => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
                command
            }
            Self::Detached => Command::new(program),
        }
    }

    pub fn spawn(self, mut command: Command) -> Result<Child> {
        // A group of its own: Ctrl-C in the terminal is not meant for it.
        command.process_group(0);
        let program = command.get_program().to_os_string();
        let child = match self {
            Self::WithParent => spawn_on_keeper(command),
            Self::Detached => command.spawn(),
        };
        child.with_context(|| format!("cannot start {}", program.display()))
    }
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// The kernel ties a child to the *thread* that forked it, so a thread that never ends does that.
fn spawn_on_keeper(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, waiting) = sync_channel::<Job>(1);
        thread::spawn(move || {
            for (mut command, answer) in waiting {
                // Who asked waits for the answer, or has panicked; then the child ends with it.
                answer.send(command.spawn()).ok();
            }
        });
        jobs
    });
    let (answer, answered) = sync_channel(1);
    keeper
        .send((command, answer))
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    answered.recv().map_err(|_| io::Error::other("the thread that starts processes is gone"))?
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_id() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive());
        assert_eq!(own.to_string().parse::<Identity>().unwrap(), own);
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.is_alive());
        assert!(!other.signal(Signal::KILL).unwrap(), "not sent to us");
        assert!("12".parse::<Identity>().is_err());
    }

    #[test]
    fn ending_is_seen_before_the_parent_has_buried_it() {
        let mut sleep = Lifetime::Detached.command("sleep");
        sleep.arg("600");
        let mut child = Lifetime::Detached.spawn(sleep).unwrap();
        let identity = Identity::of(child.id()).unwrap();
        identity.end(Duration::from_secs(5)).unwrap();
        assert!(!identity.is_alive());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_tied_process_outlives_the_thread_that_asked_for_it() {
        let started = thread::spawn(|| {
            let mut cat = Lifetime::WithParent.command("cat");
            cat.stdin(Stdio::piped()).stdout(Stdio::null());
            Lifetime::WithParent.spawn(cat).unwrap()
        });
        let mut child = started.join().unwrap();
        // It would be dead by now: its end is read from stdin, and it is still there to read it.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_tied_process_dies_with_its_parent() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        parent.args([
            "--exact",
            "process::tests::starts_a_tied_process_and_ends",
            "--ignored",
            "--nocapture",
        ]);
        let output = parent.output().unwrap();
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).unwrap();
        let (_, identity) = output.split_once("started ").unwrap();
        let identity: Identity = identity.lines().next().unwrap().parse().unwrap();
        identity.wait_until_gone(Duration::from_secs(5)).unwrap();
    }

    #[test]
    #[ignore = "the parent in the test above"]
    #[allow(clippy::zombie_processes, reason = "it ends after us")]
    fn starts_a_tied_process_and_ends() {
        let mut sleep = Lifetime::WithParent.command("sleep");
        sleep.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
        let child = Lifetime::WithParent.spawn(sleep).unwrap();
        // Until setpriv has become what it starts, nothing ties it.
        let name = format!("/proc/{}/comm", child.id());
        let is_asleep = || Ok(fs::read_to_string(&name)?.starts_with("sleep").then_some(()));
        wait::until("setpriv starts it", Duration::from_secs(5), is_asleep).unwrap();
        println!("started {}", Identity::of(child.id()).unwrap());
    }
}
