//! Configuration: command line, then `FANFARE_…` variables, then a TOML file, then defaults; typed and checked
//! before anything is opened.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use fanfare_core::{Ordering, Policy, limits, scaling};
use serde::{Deserialize, Deserializer, de::Error as _};

pub(crate) const DATA_DIR: &str = "./fanfare-data";
const LISTEN: &str = "127.0.0.1:8071";
const MESSAGE_PARTITIONS: u32 = 4;
const DELIVERY_PARTITIONS: u32 = 4;
const KAFKA_MESSAGE_PARTITIONS: u32 = 16;
const KAFKA_DELIVERY_PARTITIONS: u32 = 32;
const KAFKA_PREFIX: &str = "fanfare.";
const PARTITIONS_MAX: u32 = 1_024;

/// What an operator may say, on the command line, in the environment or in a file. All of it is optional.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Where the log, the tables and the main secret are kept [default: ./fanfare-data].
    #[arg(long, env = "FANFARE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the API; port 0 takes a free one [default: 127.0.0.1:8071].
    #[arg(long, env = "FANFARE_LISTEN")]
    pub(crate) listen: Option<String>,
    /// For trying things out: http and loopback endpoints are allowed; prints a token and a curl command.
    #[arg(long, env = "FANFARE_DEV", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) dev: Option<bool>,
    /// Endpoints may have http URLs.
    #[arg(long, env = "FANFARE_ALLOW_HTTP", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) allow_http: Option<bool>,
    /// Private networks that may be sent to all the same, such as 10.1.0.0/16 (comma separated).
    #[arg(long, env = "FANFARE_ALLOW_NETWORKS", value_delimiter = ',')]
    pub(crate) allow_networks: Option<Vec<String>>,
    /// File with the main secret (32 bytes in base64); made in the data directory if not given.
    #[arg(long, env = "FANFARE_MAIN_SECRET_FILE")]
    pub(crate) main_secret_file: Option<PathBuf>,
    /// Brokers of Apache Kafka as HOST:PORT, comma separated; without it the log is in the data directory.
    #[arg(long, env = "FANFARE_KAFKA")]
    pub(crate) kafka: Option<String>,
    /// Begins the names of all topics and groups on Kafka [default: fanfare.].
    #[arg(long, env = "FANFARE_KAFKA_PREFIX")]
    pub(crate) kafka_prefix: Option<String>,
    /// Brokers that keep each record, for topics that are made [default: 1].
    #[arg(long, env = "FANFARE_KAFKA_REPLICATION")]
    pub(crate) kafka_replication: Option<u32>,
    /// Settings of librdkafka as NAME=VALUE, comma separated: TLS, SASL and whatever else a cluster needs. Those with
    /// passwords belong into the file or the environment: a command line is seen by everybody on the machine.
    #[arg(long, env = "FANFARE_KAFKA_PROPERTIES", value_delimiter = ',', hide_env_values = true)]
    #[serde(deserialize_with = "unshown_list")]
    pub(crate) kafka_properties: Option<Vec<String>>,
    /// Seconds to wait for Kafka at the start before giving up [default: 60].
    #[arg(long, env = "FANFARE_KAFKA_WAIT_SECS")]
    pub(crate) kafka_wait_secs: Option<u32>,
    /// What this process does, comma separated: ingest, router, delivery, api [default: all]. Needs `kafka`.
    #[arg(long, env = "FANFARE_ROLE", value_delimiter = ',')]
    pub(crate) role: Option<Vec<String>>,
    /// Partitions of `messages`, fixed at the first start [default: 4; 16 on Kafka].
    #[arg(long, env = "FANFARE_MESSAGE_PARTITIONS")]
    pub(crate) message_partitions: Option<u32>,
    /// Partitions of `deliveries`, fixed at the first start [default: 4; 32 on Kafka].
    #[arg(long, env = "FANFARE_DELIVERY_PARTITIONS")]
    pub(crate) delivery_partitions: Option<u32>,
    /// Hours that messages are kept [default: 168].
    #[arg(long, env = "FANFARE_RETENTION_HOURS")]
    pub(crate) retention_hours: Option<u32>,
    /// Largest request body in bytes [default: 1048576; at most 10485760].
    #[arg(long, env = "FANFARE_BODY_BYTES")]
    pub(crate) body_bytes: Option<usize>,
    /// Ordering of endpoints that do not say: strict, keyed or unordered [default: strict].
    #[arg(long, env = "FANFARE_ORDERING")]
    pub(crate) ordering: Option<String>,
    /// Deliveries in flight at once in this process [default: 2048].
    #[arg(long, env = "FANFARE_IN_FLIGHT")]
    pub(crate) in_flight: Option<usize>,
    /// Seconds after which a backlog is to be gone: what the scaling hint reckons with [default: 60].
    #[arg(long, env = "FANFARE_DRAIN_TARGET_SECS")]
    pub(crate) drain_target_secs: Option<u32>,
    /// Delivery workers that the scaling hint names at least [default: 1].
    #[arg(long, env = "FANFARE_MIN_WORKERS")]
    pub(crate) min_workers: Option<u32>,
    /// Header names of signed requests: webhook, svix, both, or a prefix of your own [default: webhook].
    #[arg(long, env = "FANFARE_HEADER_PREFIX")]
    pub(crate) header_prefix: Option<String>,
    /// Log lines as `json` or `text` [default: json, text on a terminal].
    #[arg(long, env = "FANFARE_LOG_FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// The same, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) dev: bool,
    pub(crate) allow_http: bool,
    pub(crate) allow_networks: Vec<ipnet::IpNet>,
    pub(crate) main_secret_file: Option<PathBuf>,
    pub(crate) kafka: Option<Kafka>,
    pub(crate) roles: Roles,
    pub(crate) message_partitions: u32,
    pub(crate) delivery_partitions: u32,
    pub(crate) retention: Duration,
    pub(crate) body_bytes: usize,
    pub(crate) policy: Policy,
    pub(crate) in_flight: usize,
    pub(crate) scaling: scaling::Settings,
    pub(crate) prefixes: Vec<fanfare_delivery::send::HeaderPrefix>,
    pub(crate) log_json: Option<bool>,
}

/// Where Kafka is and how it is used.
#[derive(Clone)]
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "a program without the engine only says so"))]
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
    pub(crate) replication: u32,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) wait: Duration,
}

impl std::fmt::Debug for Kafka {
    /// Without the properties: passwords are among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "any subset is allowed")]
pub(crate) struct Roles {
    pub(crate) ingest: bool,
    pub(crate) router: bool,
    pub(crate) delivery: bool,
    pub(crate) api: bool,
}

impl Options {
    /// Fills what is missing from a TOML file.
    pub(crate) fn or_file(self, path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(self) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read configuration {}", path.display()))?;
        let file: Self = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("configuration {}: {}", path.display(), one_line(&error)))?;
        Ok(Self {
            data_dir: self.data_dir.or(file.data_dir),
            listen: self.listen.or(file.listen),
            dev: self.dev.or(file.dev),
            allow_http: self.allow_http.or(file.allow_http),
            allow_networks: self.allow_networks.or(file.allow_networks),
            main_secret_file: self.main_secret_file.or(file.main_secret_file),
            kafka: self.kafka.or(file.kafka),
            kafka_prefix: self.kafka_prefix.or(file.kafka_prefix),
            kafka_replication: self.kafka_replication.or(file.kafka_replication),
            kafka_properties: self.kafka_properties.or(file.kafka_properties),
            kafka_wait_secs: self.kafka_wait_secs.or(file.kafka_wait_secs),
            role: self.role.or(file.role),
            message_partitions: self.message_partitions.or(file.message_partitions),
            delivery_partitions: self.delivery_partitions.or(file.delivery_partitions),
            retention_hours: self.retention_hours.or(file.retention_hours),
            body_bytes: self.body_bytes.or(file.body_bytes),
            ordering: self.ordering.or(file.ordering),
            in_flight: self.in_flight.or(file.in_flight),
            drain_target_secs: self.drain_target_secs.or(file.drain_target_secs),
            min_workers: self.min_workers.or(file.min_workers),
            header_prefix: self.header_prefix.or(file.header_prefix),
            log_format: self.log_format.or(file.log_format),
        })
    }

    pub(crate) fn check(self) -> anyhow::Result<Settings> {
        let dev = self.dev.unwrap_or(false);
        let listen = listen(self.listen.as_deref())?;
        let networks = self.allow_networks.unwrap_or_default();
        let allow_networks = networks
            .iter()
            .map(|text| {
                text.parse()
                    .with_context(|| format!("allow_networks: `{text}` is not a network such as 10.1.0.0/16"))
            })
            .collect::<anyhow::Result<_>>()?;
        let body_bytes = self.body_bytes.unwrap_or(limits::BODY_BYTES);
        ensure!(
            (1_024..=limits::BODY_BYTES_MAX).contains(&body_bytes),
            "body_bytes: {body_bytes} is not between 1024 and {}",
            limits::BODY_BYTES_MAX
        );
        let hours = self.retention_hours.unwrap_or(168);
        ensure!((1..=24 * 365).contains(&hours), "retention_hours: {hours} is not between 1 and 8760");
        let in_flight = self.in_flight.unwrap_or(limits::IN_FLIGHT);
        ensure!(
            (1..=limits::IN_FLIGHT).contains(&in_flight),
            "in_flight: {in_flight} is not between 1 and {}",
            limits::IN_FLIGHT
        );
        let target = self.drain_target_secs.unwrap_or(60);
        ensure!(
            (1..=limits::DRAIN_TARGET_SECS_MAX).contains(&target),
            "drain_target_secs: {target} is not between 1 and {}",
            limits::DRAIN_TARGET_SECS_MAX
        );
        let log_json = match self.log_format.as_deref() {
            None => None,
            Some("json") => Some(true),
            Some("text") => Some(false),
            Some(other) => bail!("log_format: `{other}` is neither json nor text"),
        };
        let roles = roles(self.role.as_deref())?;
        let kafka = if let Some(brokers) = self.kafka {
            Some(Kafka {
                brokers,
                prefix: self.kafka_prefix.unwrap_or_else(|| KAFKA_PREFIX.to_owned()),
                replication: self.kafka_replication.unwrap_or(1),
                properties: properties(&self.kafka_properties.unwrap_or_default())?,
                wait: Duration::from_secs(self.kafka_wait_secs.unwrap_or(60).into()),
            })
        } else {
            ensure!(
                roles == Roles::ALL,
                "role: a process on the embedded log has all roles; several processes need `kafka`"
            );
            None
        };
        let shared = kafka.is_some();
        Ok(Settings {
            kafka,
            roles,
            data_dir: self.data_dir.unwrap_or_else(|| DATA_DIR.into()),
            listen,
            dev,
            allow_http: dev || self.allow_http.unwrap_or(false),
            allow_networks,
            main_secret_file: self.main_secret_file,
            message_partitions: partitions(
                "message_partitions",
                self.message_partitions,
                if shared { KAFKA_MESSAGE_PARTITIONS } else { MESSAGE_PARTITIONS },
            )?,
            delivery_partitions: partitions(
                "delivery_partitions",
                self.delivery_partitions,
                if shared { KAFKA_DELIVERY_PARTITIONS } else { DELIVERY_PARTITIONS },
            )?,
            retention: Duration::from_secs(u64::from(hours) * 3_600),
            body_bytes,
            policy: Policy { ordering: ordering(self.ordering.as_deref())?, ..Policy::default() },
            in_flight,
            scaling: scaling::Settings {
                drain_target: Duration::from_secs(target.into()),
                min_workers: self.min_workers.unwrap_or(1),
            },
            prefixes: prefixes(self.header_prefix.as_deref())?,
            log_json,
        })
    }
}

impl Settings {
    /// What only `serve` needs.
    pub(crate) fn for_serving(self) -> anyhow::Result<Self> {
        ensure!(
            self.kafka.is_none() || self.main_secret_file.is_some(),
            "main_secret_file: all processes on Kafka share the main secret; give them the same file"
        );
        Ok(self)
    }
}

pub(crate) fn main_secret_path(data_dir: &Path) -> PathBuf {
    data_dir.join("main-secret")
}

impl Roles {
    const ALL: Self = Self { ingest: true, router: true, delivery: true, api: true };
}

pub(crate) fn listen(text: Option<&str>) -> anyhow::Result<SocketAddr> {
    let text = text.unwrap_or(LISTEN);
    text.parse().with_context(|| format!("listen: `{text}` is not an address and port such as {LISTEN}"))
}

/// What is no list would be shown by the parser's error, and a password may stand in it.
fn unshown_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(deserializer)
        .map(Some)
        .map_err(|_| D::Error::custom("kafka_properties is a list such as [\"security.protocol=ssl\"]"))
}

fn roles(names: Option<&[String]>) -> anyhow::Result<Roles> {
    let Some(names) = names else { return Ok(Roles::ALL) };
    let mut roles = Roles { ingest: false, router: false, delivery: false, api: false };
    for name in names {
        match name.trim() {
            "ingest" => roles.ingest = true,
            "router" => roles.router = true,
            "delivery" => roles.delivery = true,
            "api" => roles.api = true,
            other => bail!("role: `{other}` is none of ingest, router, delivery, api"),
        }
    }
    Ok(roles)
}

fn properties(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.to_owned())),
            // Its value may be a secret, so nothing of it is shown.
            None => bail!("kafka_properties: each is NAME=VALUE, such as security.protocol=ssl"),
        })
        .collect()
}

fn partitions(name: &str, given: Option<u32>, default: u32) -> anyhow::Result<u32> {
    let count = given.unwrap_or(default);
    ensure!((1..=PARTITIONS_MAX).contains(&count), "{name}: {count} is not between 1 and {PARTITIONS_MAX}");
    Ok(count)
}

fn ordering(text: Option<&str>) -> anyhow::Result<Ordering> {
    Ok(match text {
        None | Some("strict") => Ordering::Strict,
        Some("keyed") => Ordering::Keyed,
        Some("unordered") => Ordering::Unordered,
        Some(other) => bail!("ordering: `{other}` is none of strict, keyed, unordered"),
    })
}

fn prefixes(text: Option<&str>) -> anyhow::Result<Vec<fanfare_delivery::send::HeaderPrefix>> {
    use fanfare_delivery::send::HeaderPrefix;
    Ok(match text {
        None | Some("webhook") => vec![HeaderPrefix::WEBHOOK],
        Some("svix") => vec![HeaderPrefix::SVIX],
        Some("both") => vec![HeaderPrefix::WEBHOOK, HeaderPrefix::SVIX],
        Some(own) => match HeaderPrefix::custom(own) {
            Some(prefix) => vec![prefix],
            None => bail!("header_prefix: `{own}` cannot begin a header's name"),
        },
    })
}

/// A parser's message without its picture of the place.
fn one_line(error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', "; ");
    match error.span() {
        Some(span) => format!("{message} (at byte {})", span.start),
        None => message,
    }
}
