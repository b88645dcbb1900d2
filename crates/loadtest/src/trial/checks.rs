//! What was measured, beside what is allowed.

use std::fmt::Write as _;

/// One thing that was promised.
#[derive(Clone, Debug)]
pub struct Check {
    pub what: String,
    pub measured: String,
    pub allowed: String,
    pub holds: bool,
}

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    list: Vec<Check>,
}

impl Checks {
    /// A figure with one digit behind the point, which may be as large as `most`.
    pub fn at_most(&mut self, what: impl Into<String>, figure: f64, most: f64, unit: &str) {
        let holds = figure <= most;
        self.add(what, format!("{figure:.1} {unit}"), format!("≤ {most:.1} {unit}"), holds);
    }

    pub fn at_least(&mut self, what: impl Into<String>, figure: f64, least: f64, unit: &str) {
        let holds = figure >= least;
        self.add(what, format!("{figure:.1} {unit}"), format!("≥ {least:.1} {unit}"), holds);
    }

    pub fn add(
        &mut self,
        what: impl Into<String>,
        measured: String,
        allowed: impl Into<String>,
        holds: bool,
    ) {
        self.list.push(Check { what: what.into(), measured, allowed: allowed.into(), holds });
    }

    /// For reading only: nothing was promised.
    pub fn note(&mut self, what: impl Into<String>, measured: String) {
        self.add(what, measured, "", true);
    }

    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    pub fn hold(&self) -> bool {
        self.list.iter().all(|check| check.holds)
    }

    /// A table for people.
    pub fn text(&self) -> String {
        let width = self.list.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for Check { what, measured, allowed, holds } in &self.list {
            let verdict = match (allowed.is_empty(), holds) {
                (true, _) => "",
                (false, true) => "ok",
                (false, false) => "MISSED",
            };
            let row = format!("{what:<width$}  {measured:>24}  {allowed:<18}  {verdict}");
            writeln!(text, "{}", row.trim_end()).expect("a String takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_promise_is_enough_and_is_named() {
        let mut checks = Checks::default();
        checks.at_most("memory", 49.96, 50.0, "MB");
        checks.at_least("throughput", 90.0, 90.0, "%");
        checks.note("rate", "12/s".to_owned());
        assert!(checks.hold() && !checks.text().contains("MISSED"));
        checks.at_most("latency", f64::INFINITY, 3.0, "s");
        assert!(!checks.hold());
        let text = checks.text();
        let missed: Vec<_> = text.lines().filter(|line| line.ends_with("MISSED")).collect();
        assert!(matches!(missed[..], [line] if line.starts_with("latency")), "{text}");
    }
}
