//! What a log on Kafka is opened with, and why it may not open.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use fanfare_core::limits;
use rdkafka::{ClientConfig, error::KafkaError};

use super::{client, topics};

/// How records are made smaller on their way and on the brokers' disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
}

impl Compression {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::None, Self::Lz4, Self::Zstd];
        let found = all.into_iter().find(|compression| compression.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not one of none, lz4, zstd"))
    }
}

/// Settings of librdkafka on which order, durability and claims rest, or that another option stands for.
const OWN_SETTINGS: [&str; 19] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "request.required.acks",
];

#[derive(Clone)]
pub struct Options {
    /// Where brokers listen: `HOST:PORT`, several with commas between them.
    pub brokers: String,
    /// Begins the names of all topics and groups, so that installations share a cluster.
    pub prefix: String,
    /// Partitions of `messages` and `dedup`.
    pub message_partitions: u32,
    /// Partitions of `deliveries`, `attempts`, `lanes` and `load`.
    pub delivery_partitions: u32,
    /// Brokers that keep each record of a topic that is made.
    pub replication: u32,
    /// How long `deliveries` are kept at least; `messages`, `attempts` and `dedup` are kept for
    /// [`Options::retention_extra`] longer.
    pub retention: Duration,
    pub retention_extra: Duration,
    /// The largest body of a message that is to be taken: `messages` must not be set to take less.
    pub body_bytes: usize,
    pub compression: Compression,
    /// A member that was not heard of for so long loses its partitions.
    pub session_timeout: Duration,
    /// How often a member is heard of, and hears of changes.
    pub heartbeat: Duration,
    /// How long a member may drain a partition.
    pub drain: Duration,
    /// An append to `messages` or `control` that is not durable after this has failed.
    pub append_timeout: Duration,
    /// A read that got no answer after this has failed.
    pub read_timeout: Duration,
    /// Only looks: makes no topics, takes no appends, and has as many partitions as there are, whatever is said above.
    /// Not for claims.
    pub read_only: bool,
    /// Settings of librdkafka by its names: TLS, authentication, whatever a cluster needs. They come before our
    /// choices, except for sizes of fetches; those on which the contract rests are refused.
    pub properties: BTreeMap<String, String>,
    /// What the installation was made with, where it is there already ([`topics::first_of_control`]).
    pub recorded: Option<topics::Recorded>,
}

impl Options {
    /// The defaults of production.
    pub fn new(brokers: impl Into<String>, message_partitions: u32, delivery_partitions: u32) -> Self {
        Self {
            brokers: brokers.into(),
            prefix: "fanfare.".to_owned(),
            message_partitions,
            delivery_partitions,
            replication: 1,
            retention: limits::RETENTION,
            retention_extra: Duration::from_hours(24),
            body_bytes: limits::BODY_BYTES,
            compression: Compression::default(),
            session_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_millis(500),
            drain: limits::DRAIN,
            append_timeout: Duration::from_secs(8),
            read_timeout: Duration::from_secs(5),
            read_only: false,
            properties: BTreeMap::new(),
            recorded: None,
        }
    }

    /// A property that is for us to set.
    pub(super) fn own_setting(&self) -> Option<&'static str> {
        OWN_SETTINGS.into_iter().find(|setting| self.properties.contains_key(*setting))
    }

    /// What every client of the cluster is made with.
    pub(crate) fn client_config(&self) -> ClientConfig {
        client::config(self)
    }
}

impl fmt::Debug for Options {
    /// Without the properties: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("message_partitions", &self.message_partitions)
            .field("delivery_partitions", &self.delivery_partitions)
            .finish_non_exhaustive()
    }
}

/// Why a log did not open. Each prints as one line for an operator, and a line more for each of several topics that are
/// wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("Kafka setting {setting} is refused: {cause}")]
    Setting { setting: String, cause: String },
    #[error(transparent)]
    Topics(#[from] topics::Error),
    /// The topics are there, and are not what they have to be.
    #[error("topics on Kafka at {brokers} cannot be used:{}", shown(.causes))]
    Unusable { brokers: String, causes: Vec<String> },
    #[error("cannot make a client for Kafka at {brokers}: {cause}")]
    Client { brokers: String, cause: String },
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl OpenError {
    /// Whether a later try may do better.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Topics(error) => matches!(error, topics::Error::Ask { .. } | topics::Error::NotSeen { .. }),
            Self::Setting { .. } | Self::Unusable { .. } | Self::Client { .. } | Self::Thread(_) => false,
        }
    }

    pub(super) fn client(options: &Options, error: KafkaError) -> Self {
        match error {
            // Its value may be a secret.
            KafkaError::ClientConfig(_, cause, setting, _) => Self::Setting { setting, cause },
            error => Self::Client { brokers: options.brokers.clone(), cause: error.to_string() },
        }
    }
}

/// One stands on the line that tells of it; several have a line each, as `fanfare topics check` prints them.
fn shown(causes: &[String]) -> String {
    if let [cause] = causes {
        return format!(" {cause}");
    }
    let mut lines = String::new();
    for cause in causes {
        lines.push_str("\n  error  ");
        lines.push_str(cause);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_that_is_wrong_has_a_line() {
        let told = |causes: &[&str]| {
            let causes = causes.iter().map(|cause| (*cause).to_owned()).collect();
            OpenError::Unusable { brokers: "here".to_owned(), causes }.to_string()
        };
        assert_eq!(told(&["one; so it is"]), "topics on Kafka at here cannot be used: one; so it is");
        assert_eq!(
            told(&["one", "another"]),
            "topics on Kafka at here cannot be used:\n  error  one\n  error  another"
        );
    }
}
