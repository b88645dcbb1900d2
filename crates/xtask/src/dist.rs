//! What is handed out: the release without its symbols, and its checksum beside it.
//!
//! ```text
//! target/dist/fanfare          the program
//! target/dist/fanfare.sha256   as `sha256sum --check` reads it
//! ```

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::{command, report::Report, workspace::Workspace};

const PROGRAM: &str = "fanfare";

#[derive(Args)]
pub(crate) struct Options {
    /// A program that was built before, in place of a release.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where it goes [default: target/dist].
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => release(workspace, report)?,
    };
    let out = options.out.clone().unwrap_or_else(|| workspace.target.join("dist"));
    report.step("strip and sum", || hand_out(&program, &out))
}

fn release(workspace: &Workspace, report: &mut Report) -> Result<PathBuf> {
    let mut build = command::cargo(&workspace.root);
    build.args(["build", "--release", "--locked", "--package", PROGRAM, "--bin", PROGRAM]);
    report.step("build a release", || command::run(&mut build))?;
    Ok(workspace.target.join("release").join(PROGRAM))
}

fn hand_out(program: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let stripped = out.join(PROGRAM);
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg("-o").arg(&stripped).arg(program);
    command::run(&mut strip)?;
    // It still runs, and says what it is.
    command::run(Command::new(&stripped).arg("--version"))?;
    let content = fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))?;
    let line = format!("{}  {PROGRAM}\n", hexadecimal(&Sha256::digest(&content)));
    let sum = out.join(format!("{PROGRAM}.sha256"));
    fs::write(&sum, &line).with_context(|| format!("cannot write {}", sum.display()))?;
    println!("{} ({} bytes)\n{}: {line}", stripped.display(), content.len(), sum.display());
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}
