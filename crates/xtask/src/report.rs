//! What was done: seconds per step, tests per binary.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::engines::Engines;

#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(String, Duration, bool)>,
    tests: Vec<(String, Tally)>,
    pub(crate) engines: Engines,
}

/// How the tests of one binary ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Report {
    /// Does one step and remembers how long it took.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n== {name}");
        #[allow(clippy::disallowed_methods, reason = "seconds on the wall are what is reported")]
        let start = Instant::now();
        let result = work();
        self.steps.push((name.to_owned(), start.elapsed(), result.is_ok()));
        result
    }

    pub(crate) fn tests(&mut self, binary: String, tally: Tally) {
        self.tests.push((binary, tally));
    }

    /// Seconds per step, tests per engine, tests per binary; the last line is the sum.
    pub(crate) fn print(&self) {
        println!();
        for (name, took, done) in &self.steps {
            let failed = if *done { "" } else { "  failed" };
            println!("{:>8.1} s  {name}{failed}", took.as_secs_f64());
        }
        if self.tests.is_empty() {
            return;
        }
        self.engines.print();
        println!();
        for (binary, tally) in self.tests.iter().filter(|(_, tally)| tally.passed + tally.failed > 0) {
            println!("{:>5} passed, {} failed: {binary}", tally.passed, tally.failed);
        }
        let passed: u64 = self.tests.iter().map(|(_, tally)| tally.passed).sum();
        let failed: u64 = self.tests.iter().map(|(_, tally)| tally.failed).sum();
        println!("{passed} passed, {failed} failed");
    }
}
