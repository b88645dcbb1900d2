//! What Cargo says about the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever the user keeps it.
    pub(crate) target: PathBuf,
    pub(crate) crates: Vec<Crate>,
}

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Used by tests only.
    pub(crate) dev: bool,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let mut metadata = command::cargo(Path::new("."));
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_slice(&command::output(&mut metadata)?)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        Ok(Self {
            root: path(&metadata, "workspace_root")?,
            target: path(&metadata, "target_directory")?,
            crates: packages.iter().map(Crate::read).collect(),
        })
    }

    /// Where tools that the tests need are kept between runs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}

impl Crate {
    fn read(package: &Value) -> Self {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies
            .map(|dependency| Dependency {
                name: text(&dependency["name"]),
                dev: dependency["kind"].as_str() == Some("dev"),
            })
            .collect();
        Self { name: text(&package["name"]), dependencies }
    }
}

fn path(metadata: &Value, field: &str) -> Result<PathBuf> {
    let value = metadata[field].as_str().with_context(|| format!("cargo metadata has no {field}"))?;
    Ok(PathBuf::from(value))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
