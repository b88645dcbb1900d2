//! Options and variables that files for people name are those that the program has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::support::installation::{fanfare, finish};

/// Where options and variables are told of.
const FILES: [&str; 7] = [
    "README.md",
    "docs/configuration.md",
    "docs/operations.md",
    "docs/moving-in.md",
    "Dockerfile",
    "docker-compose.yml",
    "docs/internals/kafka.md",
];
const COMMANDS: [&[&str]; 14] = [
    &["serve"],
    &["health"],
    &["token"],
    &["routes"],
    &["verify"],
    &["inspect"],
    &["history", "rebuild"],
    &["history", "digest"],
    &["topics", "plan"],
    &["topics", "apply"],
    &["topics", "check"],
    &["topics", "delete"],
    &["move-in", "svix"],
    &["demo"],
];

#[derive(Debug, Default)]
struct Known {
    options: BTreeSet<String>,
    variables: BTreeSet<String>,
}

async fn help(command: &[&str]) -> Known {
    let directory = tempfile::tempdir().unwrap();
    let finished = finish(fanfare(directory.path()).args(command).arg("--help")).await;
    assert!(finished.status.success(), "{finished:?}");
    let mut known = Known::default();
    for word in finished.stdout.split_whitespace() {
        known.options.extend(option(word));
        known.variables.extend(variables(word));
    }
    known
}

async fn all() -> BTreeMap<&'static str, Known> {
    let mut all: BTreeMap<&str, Known> = BTreeMap::new();
    for command in COMMANDS {
        let Known { options, variables } = help(command).await;
        let known = all.entry(command[0]).or_default();
        known.options.extend(options);
        known.variables.extend(variables);
    }
    all
}

/// `--name` at the beginning of a word.
fn option(word: &str) -> Option<String> {
    let name = word.trim_start_matches(['`', '(', '[']).strip_prefix("--")?;
    let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(name.len());
    (end > 0).then(|| name[..end].to_owned())
}

fn variables(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    words.filter(|word| word.starts_with("FANFARE_") && word.len() > 8).map(str::to_owned).collect()
}

/// Each `fanfare COMMAND` of a line, with what follows it.
fn called(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let calls = line.match_indices("fanfare ");
    calls.filter_map(|(at, name)| line[at + name.len()..].split_once(' '))
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[tokio::test]
async fn what_is_told_of_is_there() {
    let all = all().await;
    let known: BTreeSet<&String> = all.values().flat_map(|known| &known.variables).collect();
    let mut told = 0;
    for file in FILES {
        let text = read(file);
        for variable in variables(&text) {
            assert!(known.contains(&variable), "{file} tells of {variable}, which nothing reads");
            told += 1;
        }
        // As a shell has it: `fanfare serve --dev`.
        for (command, rest) in text.lines().flat_map(called) {
            let Some(known) = all.get(command) else { continue };
            let rest = rest.split(['`', '#', '&', '|', ';']).next().unwrap_or_default();
            for option in rest.split(' ').filter_map(option) {
                assert!(known.options.contains(&option), "{file}: fanfare {command} has no --{option}");
                told += 1;
            }
        }
    }
    assert!(told >= 40, "only {told} were found");
}

#[tokio::test]
async fn the_table_of_options_is_complete() {
    let serve = help(&["serve"]).await;
    let text = read("docs/configuration.md");
    let (mut options, mut named) = (BTreeSet::from(["help".to_owned()]), BTreeSet::new());
    for line in text.lines().filter(|line| line.starts_with("| `--")) {
        let cell = line.split('|').nth(1).unwrap();
        let option = option(cell.trim()).unwrap();
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).skip(1).collect();
        let variable = format!("FANFARE_{}", option.to_uppercase().replace('-', "_"));
        let key = option.replace('-', "_");
        let expected = if option == "config" { vec![&*variable] } else { vec![&*variable, &*key] };
        assert_eq!(names, expected, "--{option}");
        named.insert(variable);
        options.insert(option);
    }
    assert_eq!(options, serve.options);
    assert_eq!(named, serve.variables);
}

/// A password is not shown to whoever asks for help.
#[tokio::test]
async fn help_does_not_show_what_is_in_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = 0;
    for words in COMMANDS {
        let mut command = fanfare(directory.path());
        command.args(words).arg("--help").env("FANFARE_KAFKA_PROPERTIES", "sasl.password=hunter2");
        let finished = finish(&mut command).await;
        told += usize::from(finished.stdout.contains("FANFARE_KAFKA_PROPERTIES"));
        assert!(!finished.stdout.contains("hunter2"), "{words:?}: {}", finished.stdout);
    }
    assert!(told >= 5, "{told}");
}
