//! Builds every test once, in one profile, then runs the binaries one after the other and counts.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use fanfare_testkit::kafka::{ADDRESS_VARIABLE, Cluster, TOOLS_VARIABLE};
use serde_json::Value;

use crate::{
    command, kafka,
    report::{Report, Tally},
    sdk, system, tools,
    workspace::Workspace,
};

/// The binary that holds the end-to-end tests, and the module in it that needs the official libraries.
const END_TO_END: &str = "e2e";
const OFFICIAL: &str = "official::";
/// The binary with the tours that are made with the official SDKs.
const SDK: &str = "sdk";
/// The binary that holds the suite for all engines of the log.
const CONFORMANCE: &str = "conformance";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Unit,
    EndToEnd,
    Official,
    Sdk,
}

impl Suite {
    pub(crate) const ALL: [Self; 4] = [Self::Unit, Self::EndToEnd, Self::Official, Self::Sdk];

    /// The test binary of this suite whose tests run on every engine, by its target.
    fn on_every_engine(self) -> Option<&'static str> {
        match self {
            Self::Unit => Some(CONFORMANCE),
            Self::EndToEnd => Some(END_TO_END),
            Self::Official | Self::Sdk => None,
        }
    }
}

/// What the tests of one run are given.
struct Setup<'a> {
    workspace: &'a Workspace,
    /// One broker for all; it ends with this value, or with this process.
    kafka: Option<Cluster>,
}

/// What a test binary said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    tally: Tally,
    /// The names of the tests that it ran, well or not.
    ran: Vec<String>,
}

/// A built test binary.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    /// As people call it: `fanfare-core`, or `fanfare e2e` for a test target.
    name: String,
    target: String,
    program: PathBuf,
    /// Where Cargo would run it.
    directory: PathBuf,
}

/// Runs the suites. Tests that fail do not keep the others from running.
pub(crate) fn run(workspace: &Workspace, report: &mut Report, suites: &[Suite]) -> Result<()> {
    if suites.contains(&Suite::Official) {
        tools::official(workspace, report)?;
    }
    if suites.contains(&Suite::Sdk) {
        sdk::install(workspace, report)?;
    }
    system::for_build(report)?;
    let binaries = report.step("build", || build(workspace))?;
    if suites.iter().any(|suite| *suite != Suite::Official) {
        system::for_postgres(report)?;
    }
    let needs_kafka = suites.iter().any(|suite| matches!(suite, Suite::Unit | Suite::EndToEnd));
    let kafka = needs_kafka.then(|| kafka::for_tests(workspace, report)).transpose()?;
    let setup = Setup { workspace, kafka };
    let mut failed = Vec::new();
    for suite in suites {
        if let Some(binary) = suite.on_every_engine() {
            report.engines.expect(binary);
        }
        let mut outcome = match suite {
            Suite::Unit => unit(&setup, report, &binaries)?,
            Suite::EndToEnd => {
                named(&setup, report, &binaries, (END_TO_END, "end to end"), &["--skip", OFFICIAL])?
            }
            Suite::Official => {
                named(&setup, report, &binaries, (END_TO_END, "official libraries"), &[OFFICIAL])?
            }
            Suite::Sdk => named(&setup, report, &binaries, (SDK, "official SDKs"), &[])?,
        };
        failed.append(&mut outcome);
    }
    if !failed.is_empty() {
        bail!("tests failed in: {}", failed.join(", "));
    }
    let differences = report.engines.differences();
    ensure!(differences.is_empty(), "not the same tests on every engine:\n{}", differences.join("\n"));
    Ok(())
}

fn build(workspace: &Workspace) -> Result<Vec<Binary>> {
    let mut build = command::cargo(&workspace.root);
    build.args([
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let messages = String::from_utf8(command::output(&mut build)?)?;
    let mut binaries: Vec<Binary> = messages.lines().filter_map(built).collect();
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!binaries.is_empty(), "cargo built no test");
    Ok(binaries)
}

/// The test binary of which one line of Cargo's JSON tells, if it does.
fn built(line: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(line).ok()?;
    if !message["profile"]["test"].as_bool()? {
        return None;
    }
    let program = PathBuf::from(message["executable"].as_str()?);
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let target = message["target"]["name"].as_str()?.to_owned();
    let kind = message["target"]["kind"][0].as_str()?;
    let package = directory.file_name()?.to_str()?;
    let name = match kind {
        "lib" => target.replace('_', "-"),
        "bin" => format!("{target} (binary)"),
        _ => format!("{package} {target}"),
    };
    Some(Binary { name, target, program, directory })
}

fn unit(setup: &Setup<'_>, report: &mut Report, binaries: &[Binary]) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    let others = [END_TO_END, SDK];
    for binary in binaries.iter().filter(|binary| !others.contains(&binary.target.as_str())) {
        let said = report.step(&binary.name, || execute(setup, binary, &[]))?;
        if said.tally.failed > 0 {
            failed.push(binary.name.clone());
        }
        if binary.target == CONFORMANCE {
            report.engines.add(&binary.target, &said.ran);
        }
        report.tests(binary.name.clone(), said.tally);
    }
    let mut doc = command::cargo(&setup.workspace.root);
    doc.args(["test", "--workspace", "--locked", "--doc"]);
    let Said { tally, .. } = report.step("documentation", || count(&mut doc))?;
    if tally.failed > 0 {
        failed.push("documentation".to_owned());
    }
    report.tests("documentation".to_owned(), tally);
    Ok(failed)
}

/// Tests of one binary, under a name of their own.
fn named(
    setup: &Setup<'_>,
    report: &mut Report,
    binaries: &[Binary],
    (target, name): (&str, &str),
    arguments: &[&str],
) -> Result<Vec<String>> {
    let binary = binaries.iter().find(|binary| binary.target == target);
    let binary = binary.with_context(|| format!("cargo built no test binary {target}"))?;
    let Said { tally, ran } = report.step(name, || execute(setup, binary, arguments))?;
    report.engines.add(&binary.target, &ran);
    report.tests(name.to_owned(), tally);
    Ok(if tally.failed > 0 { vec![name.to_owned()] } else { Vec::new() })
}

fn execute(setup: &Setup<'_>, binary: &Binary, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(&binary.program);
    command.current_dir(&binary.directory).args(arguments);
    command.env("CARGO_MANIFEST_DIR", &binary.directory).env(TOOLS_VARIABLE, setup.workspace.tools());
    if let Some(kafka) = &setup.kafka {
        command.env(ADDRESS_VARIABLE, kafka.bootstrap());
    }
    count(&mut command)
}

/// Runs tests, shows their output, and counts what it says.
fn count(command: &mut Command) -> Result<Said> {
    let shown = command::shown(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let output = child.stdout.take().context("the output was piped")?;
    let mut said = Said::default();
    for line in BufReader::new(output).split(b'\n') {
        let mut line = line.context("cannot read the output of tests")?;
        if let Ok(text) = std::str::from_utf8(&line) {
            let counted = tallied(text).unwrap_or_default();
            said.tally.passed += counted.passed;
            said.tally.failed += counted.failed;
            said.ran.extend(ran(text).map(str::to_owned));
        }
        line.push(b'\n');
        std::io::stdout().write_all(&line).context("cannot write to stdout")?;
    }
    let status = child.wait()?;
    if !status.success() && said.tally.failed == 0 {
        eprintln!("{shown}: {status}");
        said.tally.failed = 1;
    }
    Ok(said)
}

/// Reads `test lane::tests::order ... ok`: the name of a test that ran.
fn ran(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    matches!(result, "ok" | "FAILED").then_some(name)
}

/// Reads `test result: ok. 12 passed; 0 failed; …`.
fn tallied(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |unit: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(unit))?;
        part.trim().parse::<u64>().ok()
    };
    Some(Tally { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(tallied(line), Some(Tally { passed: 12, failed: 0 }));
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(tallied(line), Some(Tally { passed: 3, failed: 2 }));
        assert_eq!(tallied("test lane::tests::order ... ok"), None);
    }

    #[test]
    fn tests_that_ran_are_named() {
        assert_eq!(ran("test lane::tests::order ... ok"), Some("lane::tests::order"));
        assert_eq!(ran("test lane::tests::order ... FAILED"), Some("lane::tests::order"));
        assert_eq!(ran("test lane::tests::order ... ignored, takes long"), None);
        assert_eq!(ran("test result: ok. 12 passed; 0 failed"), None);
    }

    #[test]
    fn a_binary_that_dies_without_a_result_counts_as_failed() {
        let mut dies = Command::new("sh");
        dies.args(["-c", "exit 3"]);
        assert_eq!(count(&mut dies).unwrap().tally, Tally { passed: 0, failed: 1 });
    }

    #[test]
    fn only_test_binaries_are_taken_from_the_build() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/core/Cargo.toml","target":{"kind":["lib"],
            "name":"fanfare_core"},"profile":{"test":true},"executable":"/t/fanfare_core-1"}"#;
        let binary = built(line).unwrap();
        assert_eq!(binary.name, "fanfare-core");
        assert_eq!(binary.directory, Path::new("/w/crates/core"));
        assert_eq!(built(&line.replace("true", "false")), None);
        assert_eq!(built("not json"), None);
    }
}
