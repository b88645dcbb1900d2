//! Configuration: command line, then `FANFARE_…` variables, then a TOML file, then defaults; typed and checked
//! before anything is opened.

mod options;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use fanfare_core::{Ordering, Policy, limits, scaling};

pub(crate) use self::options::Options;

pub(crate) const DATA_DIR: &str = "./fanfare-data";
const LISTEN: &str = "127.0.0.1:8071";
const MESSAGE_PARTITIONS: u32 = 4;
const DELIVERY_PARTITIONS: u32 = 4;
const KAFKA_MESSAGE_PARTITIONS: u32 = 16;
const KAFKA_DELIVERY_PARTITIONS: u32 = 32;
const KAFKA_PREFIX: &str = "fanfare.";
const HISTORY_FILE: &str = "history.sqlite";
const PARTITIONS_MAX: u32 = 1_024;

/// What an operator said, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) dev: bool,
    pub(crate) allow_http: bool,
    pub(crate) allow_networks: Vec<ipnet::IpNet>,
    pub(crate) main_secret_file: Option<PathBuf>,
    pub(crate) kafka: Option<Kafka>,
    #[cfg_attr(
        not(feature = "kafka"),
        allow(dead_code, reason = "a program without the engine only says so")
    )]
    pub(crate) from_topic: Option<FromTopic>,
    pub(crate) roles: Roles,
    pub(crate) message_partitions: u32,
    pub(crate) delivery_partitions: u32,
    pub(crate) retention: Duration,
    pub(crate) disable_after: Option<Duration>,
    pub(crate) body_bytes: usize,
    pub(crate) token_publish_rate: Option<u32>,
    pub(crate) application_publish_rate: Option<u32>,
    pub(crate) policy: Policy,
    pub(crate) in_flight: usize,
    pub(crate) scaling: scaling::Settings,
    pub(crate) prefixes: Vec<fanfare_delivery::send::HeaderPrefix>,
    /// `None`: nobody looks anything up.
    pub(crate) history: Option<fanfare_history::Place>,
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

/// Which topic's records become messages, and how.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "a program without the engine only says so"))]
pub(crate) struct FromTopic {
    pub(crate) topic: String,
    /// As given; checked by whoever knows records.
    pub(crate) map: Vec<String>,
    pub(crate) dead_letters: String,
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
    #[allow(clippy::too_many_lines, reason = "one setting after the other")]
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
        let failing_hours = self.disable_after_hours.map_or(limits::DISABLE_AFTER, hours_of);
        ensure!(
            failing_hours <= hours_of(24 * 365),
            "disable_after_hours: it is not between 0 (never) and 8760"
        );
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
        let from_topic = from_topic(
            self.from_topic,
            self.from_topic_map,
            self.from_topic_dead_letters,
            kafka.as_ref(),
            roles,
        )?;
        let shared = kafka.is_some();
        let data_dir = self.data_dir.unwrap_or_else(|| DATA_DIR.into());
        Ok(Settings {
            history: history(self.history.as_deref(), &data_dir)?,
            kafka,
            from_topic,
            roles,
            data_dir,
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
            retention: hours_of(hours),
            disable_after: Some(failing_hours).filter(|after| !after.is_zero()),
            body_bytes,
            token_publish_rate: rate("token_publish_rate", self.token_publish_rate)?,
            application_publish_rate: rate("application_publish_rate", self.application_publish_rate)?,
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

fn history(text: Option<&str>, data_dir: &Path) -> anyhow::Result<Option<fanfare_history::Place>> {
    match text {
        None | Some("sqlite") => Ok(Some(fanfare_history::Place::Sqlite(data_dir.join(HISTORY_FILE)))),
        Some("off") => Ok(None),
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(Some(fanfare_history::Place::Postgres(url.to_owned())))
        }
        // A password may stand in it.
        Some(_) => bail!("history: it is none of sqlite, postgres://USER:PASSWORD@HOST/DATABASE, off"),
    }
}

pub(crate) fn listen(text: Option<&str>) -> anyhow::Result<SocketAddr> {
    let text = text.unwrap_or(LISTEN);
    text.parse().with_context(|| format!("listen: `{text}` is not an address and port such as {LISTEN}"))
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

fn from_topic(
    topic: Option<String>,
    map: Option<Vec<String>>,
    dead_letters: Option<String>,
    kafka: Option<&Kafka>,
    roles: Roles,
) -> anyhow::Result<Option<FromTopic>> {
    let Some(topic) = topic else {
        ensure!(map.is_none(), "from_topic_map: say which topic, with `from_topic`");
        ensure!(dead_letters.is_none(), "from_topic_dead_letters: say which topic, with `from_topic`");
        return Ok(None);
    };
    let kafka = kafka.context("from_topic: needs `kafka`, where the topic is")?;
    ensure!(roles.ingest, "from_topic: needs the role ingest");
    let dead_letters = dead_letters.unwrap_or_else(|| format!("{}from-topic.dead-letters", kafka.prefix));
    ensure!(dead_letters != topic, "from_topic_dead_letters: `{topic}` is the topic that is read");
    let map = map.unwrap_or_default();
    #[cfg(feature = "kafka")]
    fanfare_ingest::from_topic::Mapping::parse(&map)
        .map_err(|error| anyhow::anyhow!("from_topic_map: {error}"))?;
    Ok(Some(FromTopic { topic, map, dead_letters }))
}

fn hours_of(hours: u32) -> Duration {
    Duration::from_hours(hours.into())
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

/// Messages per second, if there is a limit.
fn rate(name: &str, given: Option<u32>) -> anyhow::Result<Option<u32>> {
    let most = limits::RATE_MAX;
    ensure!(given.is_none_or(|rate| rate <= most), "{name}: it is not between 0 (no limit) and {most}");
    Ok(given.filter(|&rate| rate > 0))
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
