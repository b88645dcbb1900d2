//! Reads a Dockerfile: the instructions that ours is made of, and no others.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    From {
        image: String,
        name: Option<String>,
    },
    Workdir(String),
    Copy {
        from: Option<String>,
        source: String,
        to: String,
    },
    /// Commands that follow one another as long as each succeeds, in words.
    Run(Vec<Vec<String>>),
    User {
        user: u32,
        group: u32,
    },
    Env(Vec<(String, String)>),
    Volume(String),
    Expose(u16),
    Healthcheck(Vec<String>),
    Entrypoint(Vec<String>),
    Cmd(Vec<String>),
}

pub(crate) fn parse(text: &str) -> Result<Vec<Instruction>, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| instruction(line).ok_or_else(|| format!("cannot read: {line}"))).collect()
}

fn instruction(line: &str) -> Option<Instruction> {
    let (name, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim();
    let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    Some(match name {
        "FROM" => match words.as_slice() {
            [image] => Instruction::From { image: image.clone(), name: None },
            [image, r#as, name] if r#as == "AS" => {
                Instruction::From { image: image.clone(), name: Some(name.clone()) }
            }
            _ => return None,
        },
        "WORKDIR" => Instruction::Workdir(absolute(rest)?),
        "COPY" => match words.as_slice() {
            [source, to] => Instruction::Copy { from: None, source: source.clone(), to: to.clone() },
            [from, source, to] => Instruction::Copy {
                from: Some(from.strip_prefix("--from=")?.to_owned()),
                source: absolute(source)?,
                to: absolute(to)?,
            },
            _ => return None,
        },
        "RUN" => {
            let commands = rest.split("&&");
            let words = |command: &str| command.split_whitespace().map(str::to_owned).collect();
            Instruction::Run(commands.map(words).collect())
        }
        "USER" => {
            let (user, group) = rest.split_once(':')?;
            Instruction::User { user: user.parse().ok()?, group: group.parse().ok()? }
        }
        "ENV" => {
            let pairs = words.iter().map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            });
            Instruction::Env(pairs.collect::<Option<_>>()?)
        }
        "VOLUME" => Instruction::Volume(absolute(rest)?),
        "EXPOSE" => Instruction::Expose(rest.parse().ok()?),
        "HEALTHCHECK" => {
            let (options, command) = rest.split_once("CMD ")?;
            let known = ["--interval=", "--timeout=", "--start-period=", "--retries="];
            let is_known = |option: &str| known.iter().any(|known| option.starts_with(known));
            if !options.split_whitespace().all(is_known) {
                return None;
            }
            Instruction::Healthcheck(list(command)?)
        }
        "ENTRYPOINT" => Instruction::Entrypoint(list(rest)?),
        "CMD" => Instruction::Cmd(list(rest)?),
        _ => return None,
    })
}

fn absolute(path: &str) -> Option<String> {
    path.starts_with('/').then(|| path.to_owned())
}

/// The form that no shell takes part in.
fn list(text: &str) -> Option<Vec<String>> {
    let Value::Array(words) = serde_json::from_str(text).ok()? else { return None };
    words.into_iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

#[test]
fn what_is_not_known_is_not_skipped() {
    assert!(parse("FROM scratch\nADD a /a").is_err());
    assert!(parse("HEALTHCHECK --forever=1s CMD [\"true\"]").is_err());
    assert!(parse("CMD fanfare serve").is_err(), "a shell would take part");
    let run = parse("# a comment\nRUN one \\\n && two 2\n").unwrap();
    assert_eq!(run, [Instruction::Run(vec![vec!["one".into()], vec!["two".into(), "2".into()]])]);
}
