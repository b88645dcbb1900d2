//! Checks of the code that run nothing of it.

use anyhow::Result;

use crate::{command, report::Report, tools, workspace::Workspace};

pub(crate) fn fmt(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut fmt = command::cargo(&workspace.root);
    fmt.args(["fmt", "--all", "--check"]);
    report.step("fmt", || command::run(&mut fmt))
}

pub(crate) fn clippy(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut clippy = command::cargo(&workspace.root);
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    report.step("clippy", || command::run(&mut clippy))?;
    // As the README builds the demo: without Kafka.
    let mut small = command::cargo(&workspace.root);
    small.args([
        "clippy",
        "--no-default-features",
        "--features",
        "mimalloc",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    report.step("clippy without kafka", || command::run(&mut small))?;
    // What takes guards out to see that tests notice.
    let mut planted = command::cargo(&workspace.root);
    planted.args(["clippy", "--all-targets", "--features", "planted", "--locked", "--", "-D", "warnings"]);
    report.step("clippy planted", || command::run(&mut planted))
}

pub(crate) fn deny(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let cargo_deny = report.step("install cargo-deny", || tools::cargo_deny(workspace))?;
    let mut deny = std::process::Command::new(cargo_deny);
    deny.current_dir(&workspace.root).args([
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    report.step("deny", || command::run(&mut deny))
}
