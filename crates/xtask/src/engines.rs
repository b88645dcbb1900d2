//! Which tests ran on which engine. A test that every engine has to pass stands, under one name, in a module for each:
//! `kill::embedded::nothing_is_lost` and `kill::kafka::nothing_is_lost`.

use std::collections::{BTreeMap, BTreeSet};

/// Modules of tests are called as these, perhaps with more behind: `embedded_on_faulty_disk`.
const ENGINES: [&str; 3] = ["embedded", "kafka", "sim"];
/// Every list has these at least.
const NEEDED: [&str; 2] = ["embedded", "kafka"];

/// By test binary and module, the names of the tests that ran.
#[derive(Debug, Default)]
pub(crate) struct Engines(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Engines {
    /// From now on it is a difference if this test binary ran on no engine.
    pub(crate) fn expect(&mut self, binary: &str) {
        self.0.entry(binary.to_owned()).or_default();
    }

    pub(crate) fn add(&mut self, binary: &str, ran: &[String]) {
        for test in ran {
            let path: Vec<&str> = test.split("::").collect();
            let Some(at) = path.iter().position(|part| engine(part).is_some()) else { continue };
            let name = [&path[..at], &path[at + 1..]].concat().join("::");
            let modules = self.0.entry(binary.to_owned()).or_default();
            modules.entry(path[at].to_owned()).or_default().insert(name);
        }
    }

    /// What ran on one engine and not on another, a line each.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (binary, modules) in &self.0 {
            for needed in NEEDED {
                if !modules.keys().any(|module| engine(module) == Some(needed)) {
                    found.push(format!("{binary}: nothing ran on {needed}"));
                }
            }
            let all: BTreeSet<&String> = modules.values().flatten().collect();
            for (module, ran) in modules {
                let missing = all.iter().filter(|test| !ran.contains(**test));
                found.extend(missing.map(|test| format!("{binary}: {test} did not run on {module}")));
            }
        }
        found
    }

    pub(crate) fn print(&self) {
        for (binary, modules) in &self.0 {
            println!();
            for (module, ran) in modules {
                println!("{:>5} on {module}: {binary}", ran.len());
            }
            let all: BTreeSet<&String> = modules.values().flatten().collect();
            for test in all {
                let on: Vec<&str> = modules
                    .iter()
                    .filter(|(_, ran)| ran.contains(test))
                    .map(|(module, _)| &**module)
                    .collect();
                let on = if on.len() == modules.len() { "each".to_owned() } else { on.join(" and ") };
                println!("      {test}: on {on}");
            }
        }
    }
}

/// The engine that a module is called as.
fn engine(module: &str) -> Option<&'static str> {
    ENGINES.into_iter().find(|engine| {
        module.strip_prefix(engine).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(tests: &[&str]) -> Engines {
        let mut engines = Engines::default();
        engines.add("e2e", &tests.iter().map(|test| (*test).to_owned()).collect::<Vec<_>>());
        engines
    }

    #[test]
    fn equal_lists_differ_in_nothing() {
        let engines = ran(&["kill::embedded::a", "kill::kafka::a", "on_kafka::c", "kafkaesque::d"]);
        assert_eq!(engines.differences(), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_one_engine_lacks_is_named() {
        let engines = ran(&["kill::embedded::a", "kill::embedded::b", "kill::kafka::a"]);
        assert_eq!(engines.differences(), ["e2e: kill::b did not run on kafka"]);
        let engines = ran(&["embedded::a", "embedded_small::b", "kafka::a", "kafka::b"]);
        let each = ["e2e: b did not run on embedded", "e2e: a did not run on embedded_small"];
        assert_eq!(engines.differences(), each);
        assert_eq!(ran(&["embedded::a"]).differences(), ["e2e: nothing ran on kafka"]);
        assert_eq!(ran(&["a::b"]).differences(), Vec::<String>::new());
    }

    #[test]
    fn a_binary_that_is_expected_on_engines_and_ran_on_none_is_named() {
        let mut engines = ran(&["a::b"]);
        engines.expect("e2e");
        assert_eq!(engines.differences(), ["e2e: nothing ran on embedded", "e2e: nothing ran on kafka"]);
        let mut engines = ran(&["embedded::a", "kafka::a"]);
        engines.expect("e2e");
        assert_eq!(engines.differences(), Vec::<String>::new());
    }
}
