//! A cluster that goes on after the program that started it: `cargo xtask kafka up`, and later `down`.
//!
//! ```text
//! DIRECTORY/cluster    what runs: the address on the first line, then `ID PID@START LOG` for each broker
//! DIRECTORY/broker-1/  see the module above
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{Cluster, Settings};
use crate::process::{Identity, Lifetime};

const FILE: &str = "cluster";
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster as its directory tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub bootstrap: String,
    pub brokers: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: u32,
    pub process: Identity,
    pub log: PathBuf,
}

/// Starts a cluster in `directory`, with empty brokers. Refused while one of an earlier cluster runs there.
pub fn up(directory: &Path, settings: Settings) -> Result<Running> {
    if let Some(running) = find(directory)?
        && running.brokers.iter().any(|broker| broker.process.is_alive())
    {
        bail!("brokers run already at {}", running.bootstrap);
    }
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    let settings = Settings {
        directory: Some(directory.to_path_buf()),
        lifetime: Lifetime::Detached,
        ..settings.long_lived()
    };
    let cluster = Cluster::start(&settings)?;
    let members = cluster.brokers().iter().map(|broker| {
        let process = broker.identity().with_context(|| format!("broker {} is gone", broker.id()))?;
        Ok(Member { id: broker.id(), process, log: broker.log() })
    });
    let running = Running { bootstrap: cluster.bootstrap(), brokers: members.collect::<Result<_>>()? };
    let file = directory.join(FILE);
    fs::write(&file, running.to_text()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(running)
}

/// What was started in `directory` and not stopped; its brokers may have ended by themselves.
pub fn find(directory: &Path) -> Result<Option<Running>> {
    let file = directory.join(FILE);
    match fs::read_to_string(&file) {
        Ok(text) => {
            Running::from_text(&text).map(Some).with_context(|| format!("{} is damaged", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Stops exactly what was started in `directory` and removes its records; the logs stay until the next start.
pub fn down(directory: &Path) -> Result<Option<Running>> {
    let Some(running) = find(directory)? else {
        return Ok(None);
    };
    // The last one waits for no other to take over, so all are told at once.
    for broker in &running.brokers {
        broker.process.signal(rustix::process::Signal::TERM)?;
    }
    for broker in &running.brokers {
        broker.process.end(PATIENCE)?;
        let data = directory.join(format!("broker-{}/data", broker.id));
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
    }
    fs::remove_file(directory.join(FILE)).context("cannot remove the record of the cluster")?;
    Ok(Some(running))
}

impl Running {
    fn to_text(&self) -> String {
        let brokers = self.brokers.iter().map(|broker| {
            let Member { id, process, log } = broker;
            format!("{id} {process} {}\n", log.display())
        });
        format!("{}\n{}", self.bootstrap, brokers.collect::<String>())
    }

    fn from_text(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let bootstrap = lines.next().context("no address")?.to_owned();
        let brokers = lines.map(|line| {
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().with_context(|| format!("`{line}` is too short"));
            Ok(Member { id: part()?.parse()?, process: part()?.parse()?, log: part()?.into() })
        });
        Ok(Self { bootstrap, brokers: brokers.collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_found_again() {
        let member = |id| Member { id, process: Identity::own().unwrap(), log: "/a b/server.log".into() };
        let running =
            Running { bootstrap: "127.0.0.1:1,127.0.0.1:2".to_owned(), brokers: vec![member(1), member(2)] };
        assert_eq!(Running::from_text(&running.to_text()).unwrap(), running);
        assert!(Running::from_text("").is_err());
        assert!(Running::from_text("x\n1 2").is_err());
    }

    #[test]
    fn a_cluster_that_was_not_started_is_not_stopped() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find(directory.path()).unwrap(), None);
        assert_eq!(down(directory.path()).unwrap(), None);
    }
}
