//! The topic for records that cannot become messages: key, value and headers as they were, and why.

use std::sync::Arc;

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use tokio::sync::oneshot;

use super::{
    super::{
        client::{self, Events, Link},
        options::Options,
    },
    UserRecord,
};

/// Headers that are added.
const REASON: &str = "fanfare-reason";
const TOPIC: &str = "fanfare-topic";
const PARTITION: &str = "fanfare-partition";
const OFFSET: &str = "fanfare-offset";

pub(super) struct DeadLetters {
    producer: ThreadedProducer<Told>,
    /// Where the records come from.
    source: String,
    topic: String,
}

impl DeadLetters {
    pub(super) fn open(
        options: &Options,
        source: &str,
        topic: &str,
        link: &Arc<Link>,
    ) -> Result<Self, KafkaError> {
        let mut config = client::config(options);
        client::set_default(&mut config, "linger.ms", "5");
        config.remove("delivery.timeout.ms").remove("request.required.acks");
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", (12 << 20).to_string())
            .set("message.timeout.ms", options.append_timeout.as_millis().to_string());
        let told = Told(Events { link: Arc::clone(link) });
        let producer = config.create_with_context(told)?;
        Ok(Self { producer, source: source.to_owned(), topic: topic.to_owned() })
    }

    pub(super) async fn put(&self, record: &UserRecord, reason: &str) -> Result<(), String> {
        match self.send(record, reason, true).await {
            Err(error) if error.rdkafka_error_code() == Some(Code::MessageSizeTooLarge) => {
                let reason = format!("{reason} (its value is too large to stand here)");
                self.send(record, &reason, false).await.map_err(|error| error.to_string())
            }
            sent => sent.map_err(|error| error.to_string()),
        }
    }

    async fn send(&self, record: &UserRecord, reason: &str, whole: bool) -> Result<(), KafkaError> {
        let (tell, told) = oneshot::channel();
        {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 4);
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
            let ours = [
                (REASON, reason),
                (TOPIC, &self.source),
                (PARTITION, partition.as_str()),
                (OFFSET, offset.as_str()),
            ];
            for (key, value) in ours {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut outgoing =
                BaseRecord::<[u8], [u8], Tell>::with_opaque_to(&self.topic, Box::new(tell)).headers(headers);
            outgoing.key = record.key.as_deref();
            outgoing.payload = record.value.as_deref().filter(|_| whole);
            outgoing.timestamp = record.timestamp_ms;
            self.producer.send(outgoing).map_err(|(error, _)| error)?;
        }
        // Not told: the producer is gone.
        told.await.unwrap_or(Err(KafkaError::MessageProduction(Code::PurgeQueue)))
    }
}

type Tell = Box<oneshot::Sender<Result<(), KafkaError>>>;

struct Told(Events);

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Told {
    type DeliveryOpaque = Tell;

    fn delivery(&self, result: &DeliveryResult<'_>, tell: Tell) {
        // Whoever waited may have gone away.
        let _ = tell.send(result.as_ref().map(drop).map_err(|(error, _)| error.clone()));
    }
}
