//! Arrows point down only: a crate depends on crates of lower layers, and on none beside it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::{
    command,
    report::Report,
    workspace::{Crate, Workspace},
};

/// From top to bottom. Role crates share a layer: they meet through records in the log.
const LAYERS: [&[&str]; 7] = [
    &["fanfare"],
    &["fanfare-api", "fanfare-ingest", "fanfare-router", "fanfare-delivery"],
    &["fanfare-history"],
    &["fanfare-http"],
    &["fanfare-control"],
    &["fanfare-log"],
    &["fanfare-core"],
];
/// Beside the product: these know `fanfare-core` only, and only the binary (for what stands beside `serve`) and tests may
/// depend on them.
const TOOLS: [&str; 3] = ["fanfare-loadtest", "fanfare-move-in", "xtask"];
/// What tests stand on: knows nothing of ours, and only tests and `xtask` may depend on it.
const TESTKIT: &str = "fanfare-testkit";
/// A part of the log that is a crate of its own because of its `unsafe`.
const KAFKA_TOPICS: &str = "fanfare-kafka-topics";
const LOG: &str = "fanfare-log";
const BINARY: &str = "fanfare";
const CORE: &str = "fanfare-core";
/// What a pure crate cannot need.
const NOT_IN_CORE: [&str; 4] = ["hyper", "mio", "tokio", "tracing"];

pub(crate) fn check(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("layers", || {
        let mut found = violations(&workspace.crates);
        let mut tree = command::cargo(&workspace.root);
        tree.args(["tree", "--package", CORE, "--edges", "normal,build", "--prefix", "none"]);
        let tree = String::from_utf8(command::output(&mut tree)?)?;
        found.extend(impure(&tree));
        for violation in &found {
            eprintln!("{violation}");
        }
        ensure!(found.is_empty(), "{} dependencies point the wrong way", found.len());
        Ok(())
    })
}

fn violations(crates: &[Crate]) -> Vec<String> {
    let names: BTreeSet<&str> = crates.iter().map(|member| member.name.as_str()).collect();
    let mut found = Vec::new();
    for member in crates {
        if !is_known(&member.name) {
            found.push(format!("{} has no layer: give it one in crates/xtask/src/layers.rs", member.name));
            continue;
        }
        let ours = member.dependencies.iter().filter(|dependency| names.contains(dependency.name.as_str()));
        for dependency in ours {
            if !may_depend(&member.name, &dependency.name, dependency.dev) {
                found.push(format!("{} must not depend on {}", member.name, dependency.name));
            }
        }
    }
    found
}

fn is_known(name: &str) -> bool {
    layer(name).is_some() || TOOLS.contains(&name) || [TESTKIT, KAFKA_TOPICS].contains(&name)
}

fn may_depend(from: &str, to: &str, dev: bool) -> bool {
    if from == TESTKIT || from == KAFKA_TOPICS {
        return false;
    }
    if to == TESTKIT {
        return from == "xtask" || dev;
    }
    if to == KAFKA_TOPICS {
        return from == LOG;
    }
    if TOOLS.contains(&to) {
        return from == BINARY || (dev && from != CORE);
    }
    if TOOLS.contains(&from) {
        return to == CORE;
    }
    // An unknown crate was reported under its own name.
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => from < to,
        _ => true,
    }
}

/// 0 is the top.
fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// What `cargo tree` lists below core and a pure crate cannot need.
fn impure(tree: &str) -> Vec<String> {
    let listed: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let found = NOT_IN_CORE.iter().filter(|name| listed.contains(**name));
    found.map(|name| format!("{CORE} is pure and must not depend on {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn member(name: &str, dependencies: &[&str]) -> Crate {
        let dependencies =
            dependencies.iter().map(|name| Dependency { name: (*name).to_owned(), dev: false }).collect();
        Crate { name: name.to_owned(), dependencies }
    }

    #[test]
    fn downwards_is_allowed() {
        let crates = [
            member("fanfare", &["fanfare-router", "fanfare-core", "tokio"]),
            member("fanfare-router", &["fanfare-control", "fanfare-log"]),
            member("fanfare-control", &["fanfare-log"]),
            member("fanfare-log", &["fanfare-core"]),
            member("fanfare-core", &[]),
            member("xtask", &["fanfare-core"]),
        ];
        assert_eq!(violations(&crates), Vec::<String>::new());
    }

    #[test]
    fn sideways_upwards_and_unknown_are_refused() {
        let crates = [
            member("fanfare-router", &["fanfare-delivery"]),
            member("fanfare-delivery", &[]),
            member("fanfare-log", &["fanfare-control"]),
            member("fanfare-control", &["fanfare-loadtest"]),
            member("fanfare-loadtest", &["fanfare-log"]),
            member("fanfare-more", &[]),
        ];
        assert_eq!(
            violations(&crates),
            [
                "fanfare-router must not depend on fanfare-delivery",
                "fanfare-log must not depend on fanfare-control",
                "fanfare-control must not depend on fanfare-loadtest",
                "fanfare-loadtest must not depend on fanfare-log",
                "fanfare-more has no layer: give it one in crates/xtask/src/layers.rs",
            ]
        );
    }

    #[test]
    fn tests_may_use_the_tools() {
        let mut router = member("fanfare-router", &["fanfare-loadtest"]);
        router.dependencies[0].dev = true;
        assert_eq!(violations(&[router, member("fanfare-loadtest", &[])]), Vec::<String>::new());
    }

    #[test]
    fn the_testkit_is_for_tests_and_for_xtask() {
        let testkit = member("fanfare-testkit", &[]);
        let mut log = member("fanfare-log", &["fanfare-testkit"]);
        let xtask = member("xtask", &["fanfare-testkit"]);
        assert_eq!(
            violations(&[log.clone(), xtask.clone(), testkit.clone()]),
            ["fanfare-log must not depend on fanfare-testkit"]
        );
        log.dependencies[0].dev = true;
        assert_eq!(violations(&[log, xtask, testkit]), Vec::<String>::new());
    }

    #[test]
    fn the_unsafe_part_of_the_log_is_for_the_log() {
        let crates = [
            member("fanfare-router", &["fanfare-kafka-topics"]),
            member("fanfare-log", &["fanfare-kafka-topics"]),
            member("fanfare-kafka-topics", &["fanfare-core", "rdkafka"]),
            member("fanfare-core", &[]),
        ];
        assert_eq!(
            violations(&crates),
            [
                "fanfare-router must not depend on fanfare-kafka-topics",
                "fanfare-kafka-topics must not depend on fanfare-core",
            ]
        );
    }

    #[test]
    fn a_runtime_below_core_is_found() {
        assert_eq!(impure("fanfare-core v0.1.0 (/x)\nbytes v1.12.0\n"), Vec::<String>::new());
        assert_eq!(impure("bytes v1\ntokio v1.54.0\n").len(), 1);
    }
}
