//! The thread of one member: it polls, so that the group knows it is alive, and answers the group.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fanfare_core::Partition;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    types::RDKafkaRespErr,
};

use super::{
    super::{
        client::{Events, Link},
        limits,
    },
    Shared,
};

/// While nobody has to be answered soon.
const QUIET: Duration = Duration::from_millis(100);

pub(super) struct Membership {
    pub(super) config: ClientConfig,
    pub(super) topic: String,
    pub(super) link: Arc<Link>,
    pub(super) shared: Arc<Shared>,
}

impl Membership {
    /// Until the member leaves. A membership that ended in an error is begun anew: everything is lost before.
    pub(super) fn run(&self) {
        loop {
            let ended = self.take_part();
            self.shared.begin_anew();
            if self.shared.has_left() {
                return;
            }
            if let Err(error) = ended {
                tracing::warn!(topic = self.topic, %error, "a membership ended; joining again");
            }
            for _ in 0..limits::MEMBER_RETRY.as_millis() / QUIET.as_millis() {
                if self.shared.has_left() {
                    return;
                }
                std::thread::park_timeout(QUIET);
            }
        }
    }

    fn take_part(&self) -> Result<(), KafkaError> {
        let answers = Answers {
            events: Events { link: Arc::clone(&self.link) },
            topic: self.topic.clone(),
            shared: Arc::clone(&self.shared),
            ended: AtomicBool::new(false),
        };
        let consumer: BaseConsumer<Answers> = self.config.create_with_context(answers)?;
        consumer.subscribe(&[&self.topic])?;
        while !self.shared.has_left() {
            let patience = if self.shared.is_giving_up() { limits::MEMBER_TICK } else { QUIET };
            // Other errors are mended by librdkafka, and were logged; a record has slipped in before a pause.
            if let Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) = consumer.poll(patience) {
                // Before it is dropped, which may take a while.
                self.shared.begin_anew();
                consumer.context().ended.store(true, Ordering::Release);
                end(consumer, &self.topic, limits::CLOSE);
                return Err(error);
            }
            if consumer.assignment_lost() {
                self.shared.lost_all();
            }
            if let Some(given_up) = self.shared.take_given_up() {
                hand_back(&consumer, &self.topic, &given_up);
            }
        }
        // Dropping it leaves the group; where no broker answers that takes a while, on this thread alone.
        Ok(())
    }
}

/// Drops a consumer on a thread of its own: librdkafka waits there for its threads, and nobody else need for longer than
/// that.
fn end<C: Send + 'static>(consumer: C, topic: &str, patience: Duration) {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let dropping = std::thread::Builder::new().name("fanfare-kafka-end".to_owned()).spawn(move || {
        drop(consumer);
        let _ = gone.send(());
    });
    if dropping.is_ok() && is_gone.recv_timeout(patience).is_err() {
        tracing::warn!(topic, "a member that broke does not end; another one takes its place");
    }
}

/// Whether librdkafka's statistics say that the group has counted the member in.
fn is_steady(statistics: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Statistics {
        cgrp: Option<Standing>,
    }
    #[derive(serde::Deserialize)]
    struct Standing {
        join_state: String,
    }
    let told = serde_json::from_slice::<Statistics>(statistics).ok().and_then(|told| told.cgrp);
    told.is_some_and(|standing| standing.join_state == "steady")
}

/// Answers the group. Called on the member's thread, within `poll` or `drop`.
struct Answers {
    events: Events,
    topic: String,
    shared: Arc<Shared>,
    /// Nobody drains any more.
    ended: AtomicBool,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn stats_raw(&self, told: &[u8]) {
        if is_steady(told) {
            self.shared.counted_in();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Expected now and then; what it means is told by the events.
        if error.rdkafka_error_code() != Some(Code::PollExceeded) {
            self.events.error(error, reason);
        }
    }
}

impl ConsumerContext for Answers {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions(list, &self.topic);
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if !self.ended.load(Ordering::Acquire) {
                self.gain(consumer, &partitions);
            }
        } else if self.ended.load(Ordering::Acquire) {
            // What it held was lost before; another member may hold it by now.
            hand_back(consumer, &self.topic, &partitions);
        } else if consumer.assignment_lost() || self.shared.has_left() {
            self.shared.lost(partitions.clone());
            hand_back(consumer, &self.topic, &partitions);
        } else {
            tracing::info!(topic = self.topic, ?partitions, "partitions to be given up");
            self.shared.give_up(partitions);
        }
    }
}

impl Answers {
    fn gain(&self, consumer: &BaseConsumer<Self>, partitions: &BTreeSet<Partition>) {
        let mut list = list_of(&self.topic, partitions);
        // Any will do: nothing is read from there.
        let offset = list.set_all_offsets(rdkafka::Offset::Offset(0));
        let assigned = offset.and_then(|()| {
            // Before, where the partition is known already; after it is known for sure.
            consumer.pause(&list_of(&self.topic, partitions))?;
            consumer.incremental_assign(&list)?;
            consumer.pause(&list_of(&self.topic, partitions))
        });
        match assigned {
            Ok(()) => {
                tracing::info!(topic = self.topic, ?partitions, "partitions gained");
                self.shared.gained(partitions.iter().copied());
            }
            Err(error) => tracing::error!(topic = self.topic, %error, "partitions cannot be taken"),
        }
    }
}

/// Somebody else may gain them now.
fn hand_back<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partitions: &BTreeSet<Partition>) {
    if let Err(error) = consumer.incremental_unassign(&list_of(topic, partitions)) {
        tracing::warn!(topic, %error, "partitions cannot be handed back");
    }
}

fn list_of(topic: &str, partitions: &BTreeSet<Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, i32::try_from(partition.0).expect("it came from Kafka, which counts so"));
    }
    list
}

fn partitions(list: &TopicPartitionList, topic: &str) -> BTreeSet<Partition> {
    let elements = list.elements_for_topic(topic);
    elements.iter().filter_map(|element| u32::try_from(element.partition()).ok()).map(Partition).collect()
}
