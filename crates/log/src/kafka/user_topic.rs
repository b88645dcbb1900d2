//! A topic of the user's, read as a member of a group: its records are to become messages.
//!
//! Each partition is read from where the group has come to; the first time from its beginning. What is done with
//! records is told with [`UserTopic::done`], and only that is committed: a record comes again if the process ended
//! before. Whatever cannot be read as it should (records that retention removed, a topic that is shorter than what
//! was read of it) is told, never skipped in silence.

mod dead_letters;
mod reader;
mod shared;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rdkafka::ClientConfig;
use tokio::sync::watch;

use self::{dead_letters::DeadLetters, reader::Reader, shared::Shared};
use super::{
    KafkaLog, client,
    fetch::millis,
    options::Options,
    topics::{self, Error},
};

/// Of one call of [`UserTopic::next`]. More bytes only where one record has them.
const TAKE_RECORDS: usize = 500;
const TAKE_BYTES: usize = 4 << 20;
/// What a group is told to wait for a member that has no room for records: the log may be away.
const POLL: Duration = Duration::from_mins(5);

/// A record as it stands in the topic.
#[derive(Clone, Debug)]
pub struct UserRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    pub timestamp_ms: Option<i64>,
    /// Since when this process has held the partition.
    held: u64,
}

impl UserRecord {
    /// One that was read from nowhere.
    pub fn new(
        partition: i32,
        offset: i64,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Vec<(String, Option<Bytes>)>,
    ) -> Self {
        Self { partition, offset, key, value, headers, timestamp_ms: None, held: 0 }
    }

    /// The value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        value.as_deref()
    }

    fn size_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers + size_of::<Self>()
    }
}

/// Reading ended; a new one may begin. Says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Ended(String);

/// Takes part in reading a topic until it is dropped or [`Self::close`]d.
pub struct UserTopic {
    id: String,
    shared: Arc<Shared>,
    has_ended: watch::Receiver<bool>,
    dead_letters: DeadLetters,
}

impl KafkaLog {
    /// Begins to read `topic`. Records that are none of a message go to `dead_letters`, a topic that is made if it is
    /// not there.
    pub async fn read_user_topic(&self, topic: &str, dead_letters: &str) -> Result<UserTopic, Error> {
        let options = &self.options;
        let id = topics::user_topic(options, topic, dead_letters).await?;
        let failed = |error: rdkafka::error::KafkaError| Error::Ask {
            brokers: options.brokers.clone(),
            cause: error.to_string(),
        };
        let dead_letters = DeadLetters::open(options, topic, dead_letters, &self.link).map_err(failed)?;
        let shared = Arc::<Shared>::default();
        let (ended, has_ended) = watch::channel(false);
        let reader = Reader {
            config: config(options, topic),
            topic: topic.to_owned(),
            link: Arc::clone(&self.link),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name("fanfare-kafka-user".to_owned()).spawn(move || {
            reader.run();
            // Whoever waits for it may be gone.
            let _ = ended.send(true);
        });
        let no_thread =
            |error: std::io::Error| Error::Ask { brokers: options.brokers.clone(), cause: error.to_string() };
        thread.map_err(no_thread)?;
        Ok(UserTopic { id, shared, has_ended, dead_letters })
    }
}

impl UserTopic {
    /// Another one if the topic was deleted and made again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for records; those of one partition are in its order.
    pub async fn next(&mut self) -> Result<Vec<UserRecord>, Ended> {
        loop {
            let mut arrived = std::pin::pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            let taken = self.shared.take(TAKE_RECORDS, TAKE_BYTES).map_err(Ended)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            arrived.await;
        }
    }

    /// These need not come again: all that came before them in their partitions is done too.
    pub fn done(&self, records: &[UserRecord]) {
        self.shared.done(records);
    }

    /// Puts a record aside, with the reason in its headers. Resolves when it is durable there.
    pub async fn put_aside(&self, record: &UserRecord, reason: &str) -> Result<(), String> {
        self.dead_letters.put(record, reason).await
    }

    /// Commits what is done and leaves the group; waits at most `patience` for it.
    pub async fn close(mut self, patience: Duration) {
        self.shared.close();
        let ended = self.has_ended.wait_for(|ended| *ended);
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("the group of a user's topic was not left in time; some records may come again");
        }
    }
}

impl Drop for UserTopic {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn config(options: &Options, topic: &str) -> ClientConfig {
    let mut config = client::config(options);
    config.remove("group.instance.id");
    client::set_default(&mut config, "session.timeout.ms", &millis(options.session_timeout));
    client::set_default(&mut config, "heartbeat.interval.ms", &millis(options.heartbeat));
    client::set_default(&mut config, "max.poll.interval.ms", &millis(options.session_timeout.max(POLL)));
    client::set_default(&mut config, "queued.max.messages.kbytes", "8192");
    config
        .set("group.id", format!("{}from-topic.{topic}", options.prefix))
        .set("partition.assignment.strategy", "cooperative-sticky")
        // What is told to be done, and nothing else, is committed once a second, and when a partition goes.
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false");
    config
}
