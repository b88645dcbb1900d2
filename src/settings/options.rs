//! What an operator may say, and where: the command line and the environment, completed from a file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Deserializer, de::Error as _};

/// All of it is optional.
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
    /// A topic on the same Kafka whose records become messages. Needs `kafka` and the role ingest.
    #[arg(long, env = "FANFARE_FROM_TOPIC")]
    pub(crate) from_topic: Option<String>,
    /// Where a message's fields stand in a record, as FIELD=PLACE, comma separated: docs/configuration.md [default: two
    /// headers, the record's key and its place].
    #[arg(long, env = "FANFARE_FROM_TOPIC_MAP", value_delimiter = ',')]
    pub(crate) from_topic_map: Option<Vec<String>>,
    /// Topic for records that cannot become messages [default: the prefix and from-topic.dead-letters].
    #[arg(long, env = "FANFARE_FROM_TOPIC_DEAD_LETTERS")]
    pub(crate) from_topic_dead_letters: Option<String>,
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
    /// Hours after which an endpoint that never succeeds is disabled; 0: never [default: 120].
    #[arg(long, env = "FANFARE_DISABLE_AFTER_HOURS")]
    pub(crate) disable_after_hours: Option<u32>,
    /// Largest request body in bytes [default: 1048576; at most 10485760].
    #[arg(long, env = "FANFARE_BODY_BYTES")]
    pub(crate) body_bytes: Option<usize>,
    /// Messages per second that one token or API key may publish; 0: as many as come [default: 0].
    #[arg(long, env = "FANFARE_TOKEN_PUBLISH_RATE")]
    pub(crate) token_publish_rate: Option<u32>,
    /// Messages per second that may be published for an application that does not say; 0: as many as come [default: 0].
    #[arg(long, env = "FANFARE_APPLICATION_PUBLISH_RATE")]
    pub(crate) application_publish_rate: Option<u32>,
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
    /// Where messages, deliveries and attempts can be looked up: `sqlite` (a file in the data directory), `postgres://…`, or
    /// `off` [default: sqlite]. Kept by processes with the role api.
    #[arg(long, env = "FANFARE_HISTORY", hide_env_values = true)]
    pub(crate) history: Option<String>,
    /// Log lines as `json` or `text` [default: json, text on a terminal].
    #[arg(long, env = "FANFARE_LOG_FORMAT")]
    pub(crate) log_format: Option<String>,
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
            from_topic: self.from_topic.or(file.from_topic),
            from_topic_map: self.from_topic_map.or(file.from_topic_map),
            from_topic_dead_letters: self.from_topic_dead_letters.or(file.from_topic_dead_letters),
            role: self.role.or(file.role),
            message_partitions: self.message_partitions.or(file.message_partitions),
            delivery_partitions: self.delivery_partitions.or(file.delivery_partitions),
            retention_hours: self.retention_hours.or(file.retention_hours),
            disable_after_hours: self.disable_after_hours.or(file.disable_after_hours),
            body_bytes: self.body_bytes.or(file.body_bytes),
            token_publish_rate: self.token_publish_rate.or(file.token_publish_rate),
            application_publish_rate: self.application_publish_rate.or(file.application_publish_rate),
            ordering: self.ordering.or(file.ordering),
            in_flight: self.in_flight.or(file.in_flight),
            drain_target_secs: self.drain_target_secs.or(file.drain_target_secs),
            min_workers: self.min_workers.or(file.min_workers),
            header_prefix: self.header_prefix.or(file.header_prefix),
            history: self.history.or(file.history),
            log_format: self.log_format.or(file.log_format),
        })
    }
}

/// What is no list would be shown by the parser's error, and a password may stand in it.
fn unshown_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(deserializer)
        .map(Some)
        .map_err(|_| D::Error::custom("kafka_properties is a list such as [\"security.protocol=ssl\"]"))
}

/// A parser's message without its picture of the place.
fn one_line(error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', "; ");
    match error.span() {
        Some(span) => format!("{message} (at byte {})", span.start),
        None => message,
    }
}
