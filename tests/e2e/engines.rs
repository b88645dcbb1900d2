//! Which tests run on which engine: on every one, under the same name, unless it is said here why not.

use std::{collections::BTreeSet, process::Command};

/// Modules of tests that are called as an engine.
const ENGINES: [&str; 2] = ["embedded", "kafka"];

/// Tests, or modules of tests, that are not instantiated for every engine.
const ONE_ENGINE: &[(&str, &str)] = &[
    // The embedded engine's own files.
    ("full_disk", "the disk of a data directory is full; Kafka's disks are its operator's"),
    (
        "operator::the_data_directory_is_locked",
        "one process per data directory; on Kafka any number may work",
    ),
    ("operator::the_data_directory_is_of_another_version", "the format of files; Kafka's is in every record"),
    ("command_line::inspect_refuses_what_is_no_data_directory", "on Kafka: on_kafka::inspect_needs_topics"),
    (
        "keys::a_full_window_is_small",
        "claims put into a data directory, and exact answers, which only one process for all can give",
    ),
    // What needs several processes, or brokers that are treated badly.
    ("on_kafka", "roles as processes, topics, brokers that cannot be reached"),
    ("kill::broker", "kills the broker"),
    ("from_topic", "records of a topic on Kafka"),
    ("topics_on_kafka", "topics on Kafka, made, checked and damaged"),
    ("secure_kafka", "TLS and authentication between processes and brokers"),
    ("scaling", "how many processes share the load; the embedded engine has one"),
    ("image", "the image and the compose file, whose processes are on Kafka"),
    // No engine makes a difference.
    ("command_line::the_demo", "the demo is on the embedded engine"),
    ("move_in::what_is_mistyped", "URLs and tokens, before anything is read or written"),
    ("official", "what a signature covers does not depend on the log"),
    ("options", "options against the configuration, before a log is opened"),
    ("told::pages", "pages against sources"),
    ("engines", "this list"),
    ("support", "what the tests stand on"),
    ("kill::judge", "what the tests stand on"),
];

/// Of all tests of this program, those on every engine and those with a reason are all there are.
#[test]
fn every_test_is_on_every_engine_or_says_why_not() {
    let listed =
        Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    assert!(tests.len() > ONE_ENGINE.len(), "{listed}");

    let mut used = BTreeSet::new();
    let mut on = ENGINES.map(|_| BTreeSet::new());
    for test in tests {
        let path: Vec<&str> = test.split("::").collect();
        let place = ENGINES.iter().enumerate().find_map(|(engine, name)| {
            let at = path.iter().position(|part| part == name)?;
            Some((engine, [&path[..at], &path[at + 1..]].concat().join("::")))
        });
        if let Some((engine, name)) = place {
            on[engine].insert(name);
            continue;
        }
        let reason = ONE_ENGINE.iter().find(|(of, _)| test.starts_with(of));
        let (of, _) = reason.unwrap_or_else(|| panic!("{test} runs on one engine: why?"));
        used.insert(*of);
    }
    assert!(!on[0].is_empty(), "{listed}");
    assert_eq!(on[0], on[1]);
    let unused: Vec<_> = ONE_ENGINE.iter().filter(|(of, _)| !used.contains(of)).collect();
    assert!(unused.is_empty(), "there are no such tests: {unused:?}");
}
