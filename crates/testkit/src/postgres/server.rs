//! One server: a process with its children that can be stopped, killed, frozen and started again on its port and data.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::installation::Installation;
use crate::{
    directory::Directory,
    ports,
    process::{Identity, Lifetime},
    wait,
};

/// Recovery after a kill included.
const START_LIMIT: Duration = Duration::from_mins(1);
/// It writes down what it has in memory before it stops.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const DEATH_LIMIT: Duration = Duration::from_secs(10);
/// Another program may take a port between our look and the server's start.
const TRIES: u32 = 3;
/// Lines of the log that an error shows.
const SHOWN_LINES: usize = 15;
const USER: &str = "fanfare";
const PASSWORD: &str = "only-for-tests";
/// Where statements go that belong to no test's database.
pub(super) const MAINTENANCE: &str = "postgres";

/// What a server is started with, beside what tests always want.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// As in `postgresql.conf`; of two with one name the later counts, and these come last.
    pub parameters: BTreeMap<String, String>,
}

/// A server with an empty data directory of its own. It is killed when this is dropped. All methods block.
pub struct Server {
    installation: Installation,
    directory: Directory,
    port: u16,
    parameters: BTreeMap<String, String>,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// Ready when this returns.
    pub fn start(settings: &Settings) -> Result<Self> {
        let installation = Installation::find()?;
        let mut tried = Self::try_start(settings, &installation);
        for _ in 1..TRIES {
            let is_taken = |error: &anyhow::Error| format!("{error:#}").contains("Address already in use");
            if !tried.as_ref().err().is_some_and(is_taken) {
                break;
            }
            tried = Self::try_start(settings, &installation);
        }
        tried
    }

    fn try_start(settings: &Settings, installation: &Installation) -> Result<Self> {
        let directory = Directory::temporary("postgres")?;
        installation.hand_over(directory.path())?;
        let reserved = ports::reserve(1)?;
        let port = reserved.first().context("one was asked for")?.local_addr()?.port();
        let mut server = Self {
            installation: installation.clone(),
            directory,
            port,
            parameters: settings.parameters.clone(),
            process: Mutex::default(),
        };
        if let Err(error) = server.bring_up(reserved) {
            // The error names its log.
            server.directory.keep();
            return Err(error);
        }
        Ok(server)
    }

    fn bring_up(&self, reserved: Vec<TcpListener>) -> Result<()> {
        self.make_data()?;
        drop(reserved);
        self.restart()
    }

    /// Where a client finds a database of it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// On the loopback address; the same for as long as the server lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that it printed since its directory was made.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// Runs one statement as superuser and gives what it answers, a row a line.
    pub fn run(&self, database: &str, statement: &str) -> Result<String> {
        run(&self.installation, &self.url(database), statement)
    }

    pub(super) fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Starts it where it stood after [`Server::stop`] or [`Server::kill`], and waits until it takes connections.
    pub fn restart(&self) -> Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    /// Ends all connections, writes down what is in memory and is gone on return.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::INT, STOP_LIMIT)
    }

    /// SIGKILL to it and all that it started: gone on return, with whatever they had in memory.
    pub fn kill(&self) -> Result<()> {
        let mut process = self.process();
        let Some(mut child) = process.take() else {
            return Ok(());
        };
        let family = halted(child.id())?;
        for member in &family {
            member.signal(Signal::KILL)?;
        }
        child.wait().context("cannot wait for a server that was killed")?;
        // The next one refuses to start while any is left.
        family.iter().try_for_each(|member| member.wait_until_gone(DEATH_LIMIT))
    }

    /// SIGSTOP to it and all that it started: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        let process = self.process();
        let child = process.as_ref().context("the server does not run")?;
        halted(child.id())?.iter().try_for_each(|member| member.signal(Signal::STOP).map(drop))
    }

    /// SIGCONT after [`Server::freeze`].
    pub fn thaw(&self) -> Result<()> {
        let process = self.process();
        let child = process.as_ref().context("the server does not run")?;
        family(child.id())?.iter().try_for_each(|member| member.signal(Signal::CONT).map(drop))
    }

    fn end(&self, signal: Signal, limit: Duration) -> Result<()> {
        let mut process = self.process();
        let Some(mut child) = process.take() else {
            return Ok(());
        };
        Identity::of(child.id())?.signal(signal)?;
        let stopped = wait::until("PostgreSQL stops", limit, || Ok(child.try_wait()?));
        if stopped.is_err() {
            // It must not go on beside the one that is started next.
            child.kill().context("cannot kill PostgreSQL")?;
            child.wait().context("cannot wait for a server that was killed")?;
        }
        stopped.map(drop)
    }

    fn make_data(&self) -> Result<()> {
        let password = self.directory.path().join("password");
        fs::write(&password, PASSWORD).with_context(|| format!("cannot write {}", password.display()))?;
        let mut initdb = self.program("initdb")?;
        initdb.args(["--username", USER, "--auth", "scram-sha-256"]).arg("--pwfile").arg(&password);
        initdb.args(["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions", "--pgdata"]);
        initdb.arg(self.data());
        let made = Lifetime::WithParent.spawn(initdb)?.wait().context("cannot wait for initdb")?;
        ensure!(made.success(), "PostgreSQL cannot make its data directory: {}", self.last_lines());
        Ok(())
    }

    fn launch(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "the server runs already");
        let mut postgres = self.program("postgres")?;
        postgres.arg("-D").arg(self.data());
        let mut set = |name: &str, value: &str| {
            postgres.args(["-c", &format!("{name}={value}")]);
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &self.port.to_string());
        set("unix_socket_directories", "");
        // Only a power cut would tell. What was committed survives any end of the process all the same, and pages are
        // still written in full after a checkpoint, because a killed process may leave half of one.
        set("fsync", "off");
        // In the data directory, where a killed server leaves nothing behind that others see.
        set("dynamic_shared_memory_type", "mmap");
        set("shared_buffers", "32MB");
        for (name, value) in &self.parameters {
            set(name, value);
        }
        *process = Some(Lifetime::WithParent.spawn(postgres)?);
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = wait::until("PostgreSQL takes connections", START_LIMIT, || {
            let mut process = self.process();
            let child = process.as_mut().context("it was stopped")?;
            if let Some(status) = child.try_wait()? {
                *process = None;
                bail!("it ended with {status}");
            }
            Ok(self.says_ready(child.id()).then_some(()))
        });
        ready.with_context(|| format!("PostgreSQL does not start: {}", self.last_lines()))
    }

    /// It keeps a file that says its process in the first line and its state in the eighth.
    fn says_ready(&self, pid: u32) -> bool {
        let said = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = said.lines();
        let is_its_own = lines.next().is_some_and(|line| line.trim() == pid.to_string());
        is_its_own && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    /// What it prints goes to the log.
    fn program(&self, name: &str) -> Result<Command> {
        let path = self.log();
        let open = || -> std::io::Result<(File, File)> {
            let log = File::options().create(true).append(true).open(&path)?;
            Ok((log.try_clone()?, log))
        };
        let (stdout, stderr) = open().with_context(|| format!("cannot open {}", path.display()))?;
        let mut command = self.installation.server_program(name);
        // Its user may not even look at where we are.
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        command.env("LC_ALL", "C");
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
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

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            self.directory.keep();
            eprintln!("what PostgreSQL said is in {}", self.log().display());
        }
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Runs one statement where `url` says.
pub(super) fn run(installation: &Installation, url: &str, statement: &str) -> Result<String> {
    let mut psql = installation.client_program("psql");
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
    psql.args(["--dbname", url, "--command", statement]);
    psql.env("PGCONNECT_TIMEOUT", "5").current_dir(Path::new("/")).stdin(Stdio::null());
    let output = psql.output().context("cannot start psql")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{statement}`: {}", said.trim());
    Ok(String::from_utf8(output.stdout).context("psql answers in UTF-8")?.trim_end().to_owned())
}

/// The process and its children, with the process stopped, so that it starts no more of them.
fn halted(pid: u32) -> Result<Vec<Identity>> {
    let postmaster = Identity::of(pid)?;
    postmaster.signal(Signal::STOP)?;
    wait::until("PostgreSQL stands still", DEATH_LIMIT, || Ok(postmaster.is_stopped().then_some(())))?;
    family(pid)
}

/// The process and its children.
fn family(pid: u32) -> Result<Vec<Identity>> {
    let mut family = vec![Identity::of(pid)?];
    family.extend(Identity::children_of(pid)?);
    Ok(family)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PARENT: &str = "postgres::server::tests::starts_a_server_and_is_killed";

    #[test]
    fn what_was_committed_survives_a_kill_and_a_stop() {
        let server = Server::start(&Settings::default()).unwrap();
        server.run(MAINTENANCE, "CREATE TABLE t AS SELECT 1 AS n").unwrap();
        server.kill().unwrap();
        assert!(server.run(MAINTENANCE, "SELECT 1").is_err(), "it is gone");
        server.restart().unwrap();
        server.run(MAINTENANCE, "INSERT INTO t VALUES (2)").unwrap();
        server.stop().unwrap();
        server.restart().unwrap();
        assert_eq!(server.run(MAINTENANCE, "SELECT n FROM t ORDER BY n").unwrap(), "1\n2");
    }

    #[test]
    fn a_frozen_server_keeps_its_connections_and_answers_later() {
        let server = Server::start(&Settings::default()).unwrap();
        let url = server.url(MAINTENANCE);
        let mut psql = server.installation.client_program("psql");
        psql.args(["--no-psqlrc", "--dbname", &url, "--command", "SELECT pg_sleep(0.5)"]);
        let mut asking = psql.stdout(Stdio::null()).spawn().unwrap();
        let busy = || Ok((server.run(MAINTENANCE, BUSY)? == "1").then_some(()));
        wait::until("the statement runs", DEATH_LIMIT, busy).unwrap();
        server.freeze().unwrap();
        let frozen = family(server.process().as_ref().unwrap().id()).unwrap();
        assert!(frozen.len() > 2, "{frozen:?}");
        for member in frozen {
            wait::until("all stand still", DEATH_LIMIT, || Ok(member.is_stopped().then_some(()))).unwrap();
        }
        assert!(asking.try_wait().unwrap().is_none(), "no answer, and no end");
        server.thaw().unwrap();
        assert!(asking.wait().unwrap().success());
    }

    const BUSY: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";

    #[test]
    fn a_server_ends_with_the_process_that_started_it() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        let output = parent.args(["--exact", PARENT, "--ignored", "--nocapture"]).output().unwrap();
        assert!(!output.status.success(), "it was killed");
        let output = String::from_utf8(output.stdout).unwrap();
        let family = output.lines().find_map(|line| line.strip_prefix("started ")).unwrap();
        let family: Vec<Identity> = family.split(' ').map(|member| member.parse().unwrap()).collect();
        assert!(family.len() > 2, "{output}");
        for member in family {
            member.wait_until_gone(DEATH_LIMIT).unwrap();
        }
    }

    #[test]
    #[ignore = "the parent in the test above"]
    fn starts_a_server_and_is_killed() {
        let server = Server::start(&Settings::default()).unwrap();
        let family = family(server.process().as_ref().unwrap().id()).unwrap();
        let family: Vec<String> = family.iter().map(ToString::to_string).collect();
        println!("\nstarted {}", family.join(" "));
        Identity::own().unwrap().signal(Signal::KILL).unwrap();
    }
}
