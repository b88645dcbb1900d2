//! The thread that reads: it is the member of the group, commits, and begins partitions where they are to begin.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers as _},
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaRespErr,
};

use super::{
    super::client::{Events, Link},
    UserRecord,
    shared::Shared,
};

/// Whoever closes it, and what is done, is looked after this often at least.
const TICK: Duration = Duration::from_millis(100);
/// For a partition's place and bounds, when it is gained.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Reader {
    pub(super) config: ClientConfig,
    pub(super) topic: String,
    pub(super) link: Arc<Link>,
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn run(&self) {
        let why = match self.read() {
            Ok(()) => "reading was stopped".to_owned(),
            Err(error) => error.to_string(),
        };
        self.shared.end(why);
    }

    fn read(&self) -> KafkaResult<()> {
        let member = Member {
            events: Events { link: Arc::clone(&self.link) },
            topic: self.topic.clone(),
            shared: Arc::clone(&self.shared),
        };
        let consumer: BaseConsumer<Member> = self.config.create_with_context(member)?;
        consumer.subscribe(&[&self.topic])?;
        while !self.shared.is_closed() {
            consumer.context().store_done(&consumer);
            if !self.shared.has_room(TICK) {
                continue;
            }
            match consumer.poll(TICK) {
                Some(Ok(message)) => self.shared.push(record(&message)),
                Some(Err(error)) if ends_reading(&error) => return Err(error),
                // Nothing new; or mended by librdkafka, and told already.
                None | Some(Err(_)) => {}
            }
        }
        // Dropping it commits what is stored and leaves the group.
        consumer.context().store_done(&consumer);
        Ok(())
    }
}

/// A place that is not there any more: a new beginning finds out why, and where to go on.
fn ends_reading(error: &KafkaError) -> bool {
    let is_out_of_place = matches!(
        error.rdkafka_error_code(),
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::UnknownTopicOrPartition)
    );
    is_out_of_place || matches!(error, KafkaError::MessageConsumptionFatal(_))
}

fn record(message: &BorrowedMessage<'_>) -> UserRecord {
    let copy = Bytes::copy_from_slice;
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(copy))).collect()
    });
    let (key, value) = (message.key().map(copy), message.payload().map(copy));
    let record =
        UserRecord::new(message.partition(), message.offset(), key, value, headers.unwrap_or_default());
    UserRecord { timestamp_ms: message.timestamp().to_millis(), ..record }
}

/// Answers the group. Called on the reader's thread, within `poll` or `drop`.
struct Member {
    events: Events,
    topic: String,
    shared: Arc<Shared>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let elements = list.elements_for_topic(&self.topic);
        let partitions: Vec<i32> = elements.iter().map(TopicPartitionListElem::partition).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(topic = self.topic, ?partitions, "partitions of a user's topic gained");
            self.shared.gained(partitions);
            let list = self.beginnings(consumer, list);
            consumer.incremental_assign(&list)
        } else {
            tracing::info!(topic = self.topic, ?partitions, "partitions of a user's topic given up");
            self.store_done(consumer);
            self.shared.lost(partitions);
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::error!(topic = self.topic, %error, "partitions of a user's topic cannot be taken or given up");
        }
    }
}

impl Member {
    /// What is done goes on to be committed.
    fn store_done(&self, consumer: &BaseConsumer<Self>) {
        let done = self.shared.take_done();
        if done.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(done.len());
        for (partition, next) in done {
            // It fails for numbers that are no offsets; these came from Kafka.
            let _ = list.add_partition_offset(&self.topic, partition, Offset::Offset(next));
        }
        if let Err(error) = consumer.store_offsets(&list) {
            tracing::debug!(topic = self.topic, %error, "a partition went before its offset was stored");
        }
    }

    /// Each partition where the group has come to, if that is still there. What could not be asked stays open: then
    /// the committed offset counts, and if there is none, reading ends with an error and begins anew.
    fn beginnings(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> TopicPartitionList {
        let committed = match consumer.committed_offsets(list.clone(), PATIENCE) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(topic = self.topic, %error, "the group's offsets cannot be asked for");
                return list.clone();
            }
        };
        let mut beginnings = TopicPartitionList::with_capacity(committed.count());
        for element in committed.elements() {
            let partition = element.partition();
            let begin = match consumer.fetch_watermarks(&self.topic, partition, PATIENCE) {
                Ok((start, end)) => self.begin(partition, element.offset(), start..end),
                Err(error) => {
                    tracing::warn!(topic = self.topic, partition, %error, "a partition's bounds cannot be asked for");
                    element.offset()
                }
            };
            // As above.
            let _ = beginnings.add_partition_offset(&self.topic, partition, begin);
        }
        beginnings
    }

    fn begin(&self, partition: i32, committed: Offset, kept: std::ops::Range<i64>) -> Offset {
        let Offset::Offset(committed) = committed else { return Offset::Offset(kept.start) };
        if committed < kept.start {
            tracing::error!(
                topic = self.topic,
                partition,
                records = kept.start - committed,
                "records of a user's topic were removed before they were read: its retention is too short"
            );
            return Offset::Offset(kept.start);
        }
        if committed > kept.end {
            tracing::error!(
                topic = self.topic,
                partition,
                committed,
                end = kept.end,
                "a user's topic is shorter than what was read of it, so it was made anew: it is read from its beginning"
            );
            return Offset::Offset(kept.start);
        }
        Offset::Offset(committed)
    }
}
