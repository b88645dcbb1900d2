//! The directory of a server: a temporary one that goes with the server, or one that was named.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Identity;

const PREFIX: &str = "fanfare-";
/// Holds the [`Identity`] of the process that uses the directory.
const OWNER: &str = "owner";

pub(crate) enum Directory {
    /// Removed when dropped.
    Temporary(TempDir),
    /// Stays, also with what is in it already.
    Named(PathBuf),
}

impl Directory {
    pub(crate) fn named(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::Named(path.to_path_buf()))
    }

    /// `server` says in its name whose it is.
    pub(crate) fn temporary(server: &str) -> Result<Self> {
        let prefix = format!("{PREFIX}{server}-");
        sweep(&prefix);
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir();
        let directory =
            directory.with_context(|| format!("cannot create a temporary directory for {server}"))?;
        fs::write(directory.path().join(OWNER), Identity::own()?.to_string())
            .context("cannot write its owner")?;
        Ok(Self::Temporary(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Named(path) => path,
        }
    }

    /// Keeps a temporary directory for somebody to look into.
    pub(crate) fn keep(&mut self) {
        if let Self::Temporary(directory) = self {
            directory.disable_cleanup(true);
            // Without an owner nobody sweeps it away.
            fs::remove_file(directory.path().join(OWNER)).ok();
        }
    }
}

/// Removes what processes left behind that were killed, or whose server lived as long as they did.
fn sweep(prefix: &str) {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if !is_ours {
            continue;
        }
        let owner = fs::read_to_string(entry.path().join(OWNER)).ok().and_then(|owner| owner.parse().ok());
        if owner.is_some_and(|owner: Identity| !owner.is_alive()) {
            // Somebody else may be sweeping too.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
