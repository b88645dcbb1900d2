//! Producers on Kafka: records of a topic of theirs become messages.
//!
//! [`mapping`] says where in a record a message's fields stand. Records are taken in by [`Ingest::accept_in_order`],
//! and what is done is told to the topic's group afterwards: a process that ends in between reads them again, and they
//! are known by their keys, which by default are their places in the topic. A record that cannot become a message goes
//! to a topic for dead letters, with the reason, before the ones after it are told to be done.
//! See docs/internals/from-topic.md.

mod mapping;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_control::{Application, Control, default_organization};
use fanfare_http::ApiError;
use fanfare_log::kafka::{KafkaLog, UserRecord, UserTopic, topics};
use opentelemetry::{KeyValue, global, metrics::Counter};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::mapping::Mapped;
pub use self::mapping::{Mapping, MappingError};
use crate::{AcceptError, Ingest, MessageIn, Publish, trace};

/// Pause after a try that may do better later, doubled up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// When the process stops, what is under way has so long to become durable. What is not comes again.
const GRACE: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(3);

/// What is read, and what becomes of it.
pub struct Options {
    pub ingest: Ingest,
    pub control: Control,
    pub log: Arc<KafkaLog>,
    pub topic: String,
    /// Another topic, for records that cannot become messages.
    pub dead_letters: String,
    pub mapping: Mapping,
    /// The largest value taken.
    pub body_bytes: usize,
}

/// Turns the records of one topic into messages.
pub struct FromTopic {
    options: Options,
    topic: UserTopic,
    records: Counter<u64>,
}

/// A record on its way to become a message.
struct Underway<'a> {
    record: &'a UserRecord,
    publish: Publish,
}

/// Why a record cannot become a message; no other try would change it.
struct Refused(String);

impl FromTopic {
    /// Fails if there is no such topic, or this user may not read it.
    pub async fn open(options: Options) -> Result<Self, topics::Error> {
        let topic = options.log.read_user_topic(&options.topic, &options.dead_letters).await?;
        let records = global::meter("fanfare")
            .u64_counter("fanfare_from_topic_records_total")
            .with_description("Records of the producers' topic, by what became of them")
            .build();
        Ok(Self { options, topic, records })
    }

    /// Until it is asked to stop. Reading that ended is begun anew.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Err(ended) = self.take_all(&stop).await {
            tracing::warn!(topic = self.options.topic, %ended, "reading of a user's topic ended; beginning anew");
            let mut pause = PAUSE;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                let Options { log, topic, dead_letters, .. } = &self.options;
                match log.read_user_topic(topic, dead_letters).await {
                    Ok(topic) => break drop(std::mem::replace(&mut self.topic, topic)),
                    Err(error) => tracing::error!(%error, "a user's topic cannot be read; trying again"),
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        self.topic.close(CLOSE).await;
    }

    async fn take_all(&mut self, stop: &CancellationToken) -> Result<(), fanfare_log::kafka::Ended> {
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                records = self.topic.next() => records?,
            };
            let given_up = async {
                stop.cancelled().await;
                sleep(GRACE).await;
            };
            tokio::select! {
                () = self.take(&records) => self.topic.done(&records),
                () = given_up => return Ok(()),
            }
        }
    }

    /// Each record becomes a message, or is put aside; returns when all of that is durable.
    async fn take(&self, records: &[UserRecord]) {
        let mut underway = Vec::with_capacity(records.len());
        let mut aside = Vec::new();
        let mut known = Applications { control: &self.options.control, up_to_date: false };
        for record in records {
            match self.publish(record, &mut known).await {
                Ok(publish) => underway.push(Underway { record, publish }),
                Err(refused) => aside.push((record, refused)),
            }
        }
        self.accept(underway, &mut aside).await;
        for (record, Refused(reason)) in aside {
            self.put_aside(record, &reason).await;
        }
    }

    /// Gives messages in until none is left.
    async fn accept<'a>(&self, mut underway: Vec<Underway<'a>>, aside: &mut Vec<(&'a UserRecord, Refused)>) {
        let mut pause = PAUSE;
        while !underway.is_empty() {
            let publishes: Vec<Publish> = underway.iter().map(|each| each.publish.clone()).collect();
            let append = |partition, records| self.options.log.append_patiently(partition, records);
            let outcomes = self.options.ingest.accept_in_order(&publishes, &append).await;
            let mut again = None;
            let mut left = Vec::new();
            for (each, outcome) in underway.into_iter().zip(outcomes) {
                match outcome {
                    Ok(accepted) => {
                        self.count(if accepted.repeated { "repeated" } else { "accepted" });
                        // Whatever held up those before it is over.
                        pause = PAUSE;
                    }
                    Err(error @ (AcceptError::Conflict(_) | AcceptError::TooLarge(_))) => {
                        aside.push((each.record, Refused(error.to_string())));
                    }
                    Err(error) => {
                        again = Some(error);
                        left.push(each);
                    }
                }
            }
            underway = left;
            if let Some(error) = again {
                tracing::warn!(topic = self.options.topic, %error, records = underway.len(), "trying again");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    async fn publish(&self, record: &UserRecord, known: &mut Applications<'_>) -> Result<Publish, Refused> {
        let value = record.value.as_ref().filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Refused("the record has no value".to_owned()))?;
        let limit_bytes = self.options.body_bytes;
        if value.len() > limit_bytes {
            return Err(Refused(format!(
                "the value of {} bytes exceeds the limit of {limit_bytes} (body_bytes)",
                value.len()
            )));
        }
        let mapped = self.options.mapping.read(record).map_err(Refused)?;
        let Mapped { application, event_type, ordering_key, idempotency_key } = mapped;
        let message = message(event_type, ordering_key, value)?;
        let application = known.find(&application).await.ok_or_else(|| {
            Refused(format!("there is no application `{application}`: create it before its records come"))
        })?;
        let key = idempotency_key.unwrap_or_else(|| self.place(record));
        let traceparent = record.header("traceparent").and_then(|text| std::str::from_utf8(text).ok());
        Ok(Publish {
            application,
            message,
            idempotency_key: Some(key),
            traceparent: traceparent.filter(|text| trace::is_valid(text)).map(str::to_owned),
            memory: None,
        })
    }

    /// The record's own key: no other record ever has it.
    fn place(&self, record: &UserRecord) -> String {
        format!("from-topic/{}/{}/{}", self.topic.id(), record.partition, record.offset)
    }

    async fn put_aside(&self, record: &UserRecord, reason: &str) {
        let mut pause = PAUSE;
        while let Err(error) = self.topic.put_aside(record, reason).await {
            tracing::warn!(
                topic = self.options.dead_letters,
                error,
                "a dead letter cannot be written; trying again"
            );
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.count("dead_letter");
        let (partition, offset) = (record.partition, record.offset);
        tracing::warn!(
            topic = self.options.topic,
            partition,
            offset,
            reason,
            "a record became a dead letter"
        );
    }

    fn count(&self, outcome: &'static str) {
        self.records.add(1, &[KeyValue::new("outcome", outcome)]);
    }
}

/// Applications by id or uid, of the organization that tokens of `fanfare token` are for.
struct Applications<'a> {
    control: &'a Control,
    /// What was created before these records were read is applied.
    up_to_date: bool,
}

impl Applications<'_> {
    async fn find(&mut self, id_or_uid: &str) -> Option<Arc<Application>> {
        let look = || self.control.view().application(default_organization(), id_or_uid);
        if let Some(found) = look() {
            return Some(found);
        }
        let mut pause = PAUSE;
        while !self.up_to_date {
            match self.control.apply_to_end().await {
                Ok(_) => self.up_to_date = true,
                Err(error) => {
                    tracing::warn!(%error, "the control plane cannot be read; trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        look()
    }
}

fn message(event_type: String, ordering_key: Option<String>, value: &Bytes) -> Result<MessageIn, Refused> {
    MessageIn::from_parts(event_type, ordering_key, value).map_err(|error: ApiError| {
        let fields = error.fields().iter().map(|field| {
            let name = field.loc.last().map_or(Cow::Borrowed(""), Cow::from);
            format!("`{name}` {}", field.msg)
        });
        Refused(fields.collect::<Vec<_>>().join("; "))
    })
}
