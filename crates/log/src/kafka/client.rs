//! What all clients of the cluster have in common: their settings, and what is known of the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use tokio::time::Instant;

use super::{limits, options::Options};

/// Before the options' properties: anybody may choose otherwise.
const DEFAULTS: [(&str, &str); 10] = [
    ("client.id", "fanfare"),
    // A broker that does not answer is given up, and looked for again, within seconds.
    ("socket.timeout.ms", "10000"),
    ("socket.connection.setup.timeout.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    // After a broker's absence, or a right that was taken and given back, a client may know a topic without its partitions
    // until it asks again: by itself after five minutes. A member gives itself nothing for as long.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("retry.backoff.ms", "50"),
    ("retry.backoff.max.ms", "1000"),
];

/// The base of every client.
pub(super) fn config(options: &Options) -> ClientConfig {
    // Before librdkafka does it: so OpenSSL registers nothing that tears it down when the process exits, under the
    // hands of connections that still live.
    openssl_sys::init();
    let mut config = ClientConfig::new();
    for (setting, value) in DEFAULTS {
        config.set(setting, value);
    }
    for (setting, value) in &options.properties {
        config.set(setting, value);
    }
    config.set("bootstrap.servers", &options.brokers);
    let is_traced = tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG);
    config.set_log_level(if is_traced { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
    config
}

/// Sets what the options' properties do not.
pub(super) fn set_default(config: &mut ClientConfig, setting: &str, value: &str) {
    if config.get(setting).is_none() {
        config.set(setting, value);
    }
}

/// The base of every client that reads. It keeps no offsets on the brokers, and a place that is not there is an error.
pub(super) fn reader_config(options: &Options) -> ClientConfig {
    let mut config = config(options);
    config
        .set("group.id", format!("{}readers", options.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false");
    set_default(&mut config, "fetch.error.backoff.ms", "50");
    set_default(&mut config, "fetch.queue.backoff.ms", "5");
    config
}

/// Lets a client know the leaders of a topic's partitions, once it knows that there is such a topic. By itself it would
/// ask a second later; and after a broker's absence it may know a topic without its partitions for minutes.
pub(super) fn look_up<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) {
    // If nobody answers now, it finds out by itself.
    drop(consumer.fetch_metadata(Some(topic), limits::LOOK_UP));
}

/// Hears what a client has to say that reads nothing now.
pub(super) fn hear<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    while consumer.poll(Duration::ZERO).is_some() {}
}

/// An error's own words, without librdkafka's name for it.
pub(super) fn words(code: Code) -> String {
    let text = code.to_string();
    let words = text.split_once('(').and_then(|(_, words)| words.strip_suffix(')')).unwrap_or(&text);
    let words = words.trim_start_matches("Local: ").trim_start_matches("Broker: ");
    words.to_lowercase()
}

/// What is known of the connection to the cluster, by all clients together.
#[derive(Debug)]
pub(super) struct Link {
    brokers: String,
    is_down: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// What went wrong.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<String>,
    /// What the operator was told last, and when.
    told: Option<(Code, Instant)>,
}

impl Link {
    pub(super) fn new(brokers: &str) -> Arc<Self> {
        let (is_down, trouble) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { brokers: brokers.to_owned(), is_down, trouble })
    }

    pub(super) fn is_reachable(&self) -> bool {
        !self.is_down.load(Ordering::Relaxed)
    }

    /// A broker answered.
    pub(super) fn is_up(&self) {
        if self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(brokers = %self.brokers, "Kafka answers again");
        }
    }

    /// Why something got no answer, in a line.
    pub(super) fn unavailable(&self, cause: &str) -> String {
        let is_down = self.is_down.load(Ordering::Relaxed);
        let trouble = self.trouble.lock().last.clone().filter(|_| is_down);
        format!("Kafka at {}: {}", self.brokers, trouble.as_deref().unwrap_or(cause))
    }

    pub(super) fn note(&self, code: Code, reason: &str) {
        match code {
            // Places in a partition, not trouble: the reader acts on them.
            Code::PartitionEOF | Code::AutoOffsetReset | Code::OffsetOutOfRange => {}
            Code::AllBrokersDown => {
                if !self.is_down.swap(true, Ordering::Relaxed) {
                    let trouble = self.trouble.lock().last.clone();
                    let cause = trouble.as_deref().unwrap_or(reason);
                    tracing::warn!(brokers = %self.brokers, cause, "Kafka cannot be reached");
                }
            }
            // One connection of many, perhaps to one broker of many.
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                tracing::debug!(brokers = %self.brokers, reason, "connection to Kafka");
                self.trouble.lock().last = Some(reason.to_owned());
            }
            code => {
                let now = Instant::now();
                let is_news = {
                    let mut trouble = self.trouble.lock();
                    trouble.last = Some(reason.to_owned());
                    let was_told =
                        |(told, at): (Code, Instant)| told == code && now < at + limits::TROUBLE_AGAIN;
                    let is_news = !trouble.told.is_some_and(was_told);
                    if is_news {
                        trouble.told = Some((code, now));
                    }
                    is_news
                };
                if is_news {
                    tracing::warn!(brokers = %self.brokers, ?code, reason, "trouble with Kafka");
                }
            }
        }
    }
}

/// Hears what a client has to say.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) link: Arc<Link>,
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match (level, facility) {
            // Told as errors too, once for all clients.
            (_, "FAIL" | "ERROR") => tracing::debug!(target: "librdkafka", facility, line),
            (RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical, _) => {
                tracing::error!(target: "librdkafka", facility, line);
            }
            (RDKafkaLogLevel::Error, _) => tracing::warn!(target: "librdkafka", facility, line),
            // Among them: that a property is of use to producers, or consumers, alone.
            (_, _) => tracing::debug!(target: "librdkafka", facility, line),
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.link.note(code, reason);
        }
    }
}

impl ConsumerContext for Events {}
