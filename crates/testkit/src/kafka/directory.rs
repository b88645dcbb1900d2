//! The directory of a cluster: a temporary one that goes with the cluster, or one that was named.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Identity;

const PREFIX: &str = "fanfare-kafka-";
/// Holds the [`Identity`] of the process that uses the directory.
const OWNER: &str = "owner";

pub(super) enum Directory {
    /// Removed when dropped.
    Temporary(TempDir),
    /// Stays, also with what is in it already.
    Named(PathBuf),
}

impl Directory {
    pub(super) fn named(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::Named(path.to_path_buf()))
    }

    pub(super) fn temporary() -> Result<Self> {
        sweep();
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let directory = directory.context("cannot create a temporary directory for Kafka")?;
        fs::write(directory.path().join(OWNER), Identity::own()?.to_string())
            .context("cannot write its owner")?;
        Ok(Self::Temporary(directory))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Named(path) => path,
        }
    }

    /// Keeps a temporary directory for somebody to look into.
    pub(super) fn keep(&mut self) {
        if let Self::Temporary(directory) = self {
            directory.disable_cleanup(true);
            // Without an owner nobody sweeps it away.
            fs::remove_file(directory.path().join(OWNER)).ok();
        }
    }
}

/// Removes what processes left behind that were killed, or whose broker lived as long as they did.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
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
