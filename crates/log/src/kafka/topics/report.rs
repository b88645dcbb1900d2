//! What is told of topics, in plain sentences.

use std::fmt;

use serde::Serialize;

/// How much a [`Line`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Fine,
    /// Made or changed, or would be.
    Change,
    /// Works, but not as well or as safely as it should.
    Warning,
    /// Cannot be worked with.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub lines: Vec<Line>,
}

impl Report {
    pub(super) fn say(&mut self, level: Level, text: impl Into<String>) {
        self.lines.push(Line { level, text: text.into() });
    }

    /// Whether the topics can be worked with.
    pub fn is_usable(&self) -> bool {
        self.lines.iter().all(|line| line.level < Level::Error)
    }

    pub fn of(&self, level: Level) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(move |line| line.level == level).map(|line| line.text.as_str())
    }

    /// The same once it has been done.
    pub(super) fn done(mut self) -> Self {
        for line in &mut self.lines {
            line.text = line.text.replacen(" will be ", " was ", 1);
        }
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let mark = match line.level {
                Level::Fine => "ok",
                Level::Change => "change",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            writeln!(f, "{mark:>7}  {}", line.text)?;
        }
        Ok(())
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// `1 partition`, `2 partitions`.
pub(super) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
