//! Where PostgreSQL is installed, and as whom it runs.

use std::{
    env, fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// Debian and its kin keep the programs of each release in a directory of its own: `15/bin`.
const RELEASES: &str = "/usr/lib/postgresql";
/// Whom it runs as where we are root, the first that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];

#[derive(Clone, Debug)]
pub(super) struct Installation {
    programs: PathBuf,
    /// `None`: as whoever runs the tests.
    user: Option<User>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    user: u32,
    group: u32,
}

impl Installation {
    /// The newest one.
    pub(super) fn find() -> Result<Self> {
        let programs = directories().into_iter().find(|directory| {
            ["initdb", "postgres", "psql"].iter().all(|program| directory.join(program).is_file())
        });
        let programs = programs.context(
            "PostgreSQL is needed with its server: on Debian and its kin `apt-get install postgresql`, and `cargo xtask \
             tools` does that where it may",
        )?;
        let user = rustix::process::geteuid().is_root().then(unprivileged).transpose()?;
        Ok(Self { programs, user })
    }

    /// A program of the server, as its user. Told to end at once, but in order, when this process ends: a server that
    /// is just killed leaves the memory behind that its processes shared.
    pub(super) fn server_program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(User { user, group }) = self.user {
            command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
        }
        command.arg("--").arg(self.programs.join(name));
        command
    }

    /// A program that asks the server, as whoever we are.
    pub(super) fn client_program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// Lets the server have a directory that we made.
    pub(super) fn hand_over(&self, directory: &Path) -> Result<()> {
        let Some(User { user, group }) = self.user else {
            return Ok(());
        };
        chown(directory, Some(user), Some(group))
            .with_context(|| format!("cannot give {} to the user of PostgreSQL", directory.display()))
    }
}

/// Where the programs may be, the best first.
fn directories() -> Vec<PathBuf> {
    let releases = fs::read_dir(RELEASES).into_iter().flatten().flatten();
    let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path.join("bin")));
    let mut releases: Vec<_> = releases.filter_map(|entry| numbered(entry.path())).collect();
    releases.sort();
    let path = env::var_os("PATH").unwrap_or_default();
    releases.into_iter().rev().map(|(_, programs)| programs).chain(env::split_paths(&path)).collect()
}

fn unprivileged() -> Result<User> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    USERS.iter().find_map(|name| find(&users, name)).with_context(|| {
        format!("PostgreSQL does not run as root, and there is no user {}", USERS.join(" nor "))
    })
}

/// Reads `name:password:user:group:…`.
fn find(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let _password = fields.next()?;
        Some(User { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:/\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        assert_eq!(find(users, "postgres"), Some(User { user: 101, group: 104 }));
        assert_eq!(find(users, "nobody"), None);
        assert_eq!(find("postgres:x", "postgres"), None);
    }
}
