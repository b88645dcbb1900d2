//! Reads `docker-compose.yml`: the fields that ours is made of, and no others.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compose {
    #[allow(dead_code, reason = "it only names things for the engine")]
    name: String,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) volumes: BTreeMap<String, Option<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "some fields concern the engine alone")]
pub(crate) struct Service {
    pub(crate) image: String,
    pub(crate) build: Option<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    #[serde(default)]
    pub(crate) depends_on: BTreeMap<String, Condition>,
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    pub(crate) healthcheck: Option<Healthcheck>,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) cap_drop: Vec<String>,
    #[serde(default)]
    pub(crate) security_opt: Vec<String>,
    restart: Option<String>,
    stop_grace_period: Option<String>,
    network_mode: Option<String>,
}

impl Service {
    /// How long the engine waits for the end of a process that was asked to stop, before it kills it.
    pub(crate) fn stop_grace(&self) -> Option<Duration> {
        let text = self.stop_grace_period.as_ref()?;
        let secs = text.strip_suffix('s').and_then(|secs| secs.parse::<u64>().ok());
        Some(Duration::from_secs(secs.unwrap_or_else(|| panic!("{text}: no way to understand it"))))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Text(String),
    Number(i64),
    Truth(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) condition: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "how often is for the engine to know")]
pub(crate) struct Healthcheck {
    pub(crate) test: Vec<String>,
    interval: String,
    timeout: String,
    start_period: String,
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
        }
    }
}

/// `variables`: those of the person who calls the engine.
pub(crate) fn parse(text: &str, variables: &BTreeMap<&str, &str>) -> Compose {
    let text = interpolated(text, variables);
    let mut all: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("docker-compose.yml: {error}"));
    all.retain(|key, _| !key.starts_with("x-"));
    serde_json::from_value(serde_json::to_value(all).unwrap())
        .unwrap_or_else(|error| panic!("docker-compose.yml: {error}"))
}

/// Puts values for `${NAME:-default}`.
fn interpolated(text: &str, variables: &BTreeMap<&str, &str>) -> String {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a variable ends");
        let (name, default) = variable.split_once(":-").expect("a variable has a default");
        whole.push_str(variables.get(name).unwrap_or(&default));
        whole.push_str(rest);
    }
    whole
}
