//! A run as data: `benches/cases/*.toml`.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use fanfare_core::Ordering;
use serde::{Deserialize, Serialize};

use crate::{payload, receiver::Behaviour};

/// A run: what is published, to whom, and how the receivers behave.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    /// What the case is for, in one line.
    pub summary: String,
    #[serde(default = "one")]
    pub applications: usize,
    #[serde(default = "one")]
    pub endpoints_per_application: usize,
    #[serde(default)]
    pub ordering: Ordering,
    #[serde(default = "default_payload_bytes")]
    pub payload_bytes: usize,
    /// Before measuring.
    #[serde(default = "default_warm_up_secs")]
    pub warm_up_secs: f64,
    /// Measured time of publishing.
    #[serde(default = "default_duration_secs")]
    pub duration_secs: f64,
    /// After publishing, everything is delivered within this.
    #[serde(default = "default_drain_secs")]
    pub drain_secs: f64,
    /// Further fields of every endpoint, as the API names them.
    #[serde(default)]
    pub endpoint: toml::Table,
    #[serde(default)]
    pub publisher: Publisher,
    /// Endpoints that misbehave.
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub roof: Roof,
    /// What it has to show, compared with the roof of the same run.
    #[serde(default)]
    pub target: Target,
    /// The same on Kafka.
    #[serde(default)]
    pub target_on_kafka: Target,
}

/// How messages come in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Publisher {
    pub connections: usize,
    /// Messages per second; none: as fast as they are answered.
    pub rate: Option<f64>,
    /// Ordering keys per application; 0: none.
    pub keys: u32,
    /// One in flight per application and key.
    pub sequential: bool,
    /// Repeat each message until it is acknowledged.
    pub repeat: bool,
    /// Stop after so many messages, even before the time is over.
    pub messages: Option<u64>,
}

/// Endpoints that misbehave from the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// Numbers among all endpoints: those of application 0 first.
    pub endpoints: Vec<usize>,
    pub behaviour: Behaviour,
}

/// The bare loop that the case is compared with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Roof {
    /// As many as endpoints by default: a `strict` endpoint has one request in flight.
    pub connections: Option<usize>,
    /// As long as the case by default.
    pub duration_secs: Option<f64>,
    /// Requests per second; by default what the publisher's rate makes of deliveries.
    pub rate: Option<f64>,
}

/// What the case must reach; what is not given is not judged.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    /// Deliveries per second as a share of the roof's.
    pub share_of_roof: Option<f64>,
    /// Median latency above the roof's at the same pace, milliseconds.
    pub p50_above_roof_ms: Option<f64>,
    pub p99_above_roof_ms: Option<f64>,
    /// How far history may be behind the log at any moment (`fanfare_history_lag_seconds`).
    pub history_lag_secs: Option<f64>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self { connections: 32, rate: None, keys: 0, sequential: false, repeat: false, messages: None }
    }
}

impl Case {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let case: Self = toml::from_str(text)?;
        ensure!(case.endpoints() > 0, "a case needs an application and an endpoint");
        ensure!(
            case.payload_bytes >= payload::MINIMUM_BYTES,
            "payload-bytes: at least {}",
            payload::MINIMUM_BYTES
        );
        let numbers = case.faults.iter().flat_map(|fault| &fault.endpoints);
        ensure!(numbers.into_iter().all(|&number| number < case.endpoints()), "faults: no such endpoint");
        let times = [case.warm_up_secs, case.duration_secs, case.drain_secs];
        ensure!(times.iter().all(|&secs| (0.0..1e6).contains(&secs)), "times are seconds");
        Ok(case)
    }

    /// Endpoints of all applications.
    pub fn endpoints(&self) -> usize {
        self.applications * self.endpoints_per_application
    }

    pub fn roof_connections(&self) -> usize {
        self.roof.connections.unwrap_or_else(|| self.endpoints())
    }

    pub fn roof_duration(&self) -> Duration {
        Duration::from_secs_f64(self.roof.duration_secs.unwrap_or(self.duration_secs))
    }

    /// Requests per second of the bare loop.
    #[allow(clippy::cast_precision_loss, reason = "a number of endpoints")]
    pub fn roof_rate(&self) -> Option<f64> {
        let deliveries = self.publisher.rate.map(|rate| rate * self.endpoints_per_application as f64);
        self.roof.rate.or(deliveries)
    }
}

fn one() -> usize {
    1
}

fn default_payload_bytes() -> usize {
    payload::DEFAULT_BYTES
}

fn default_warm_up_secs() -> f64 {
    3.0
}

fn default_duration_secs() -> f64 {
    20.0
}

fn default_drain_secs() -> f64 {
    120.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_case_of_the_repository_is_read() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/cases");
        let mut read = 0;
        for entry in fs::read_dir(directory).unwrap() {
            Case::read(&entry.unwrap().path()).unwrap();
            read += 1;
        }
        assert!(read >= 4);
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |text: &str| format!("{:#}", Case::parse(text).unwrap_err());
        assert!(mistake("summary = 'x'\nduration = 3").contains("duration"));
        assert!(mistake("summary = 'x'\npayload-bytes = 10").contains("payload-bytes"));
        let fault = "summary = 'x'\n[[faults]]\nendpoints = [3]\nbehaviour = { latencyMs = 5 }";
        assert!(mistake(fault).contains("no such endpoint"));
    }
}
