//! A thread that follows partitions.
//!
//! Each partition has a queue of its own in librdkafka, which says when it is no longer empty. A queue that is not
//! emptied, because nobody reads what is in memory already, fills up to its bound, and then librdkafka asks for no more:
//! a slow reader holds up its partition alone, and nothing is fetched twice. A queue is split off before its partition
//! is assigned, each time anew: where a topic is not there for a while, or may not be read, librdkafka forgets its
//! partitions, and what it makes of them later has other queues.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::time::Instant;

use super::{
    super::{
        client::{self, Events, Link},
        fetch, limits,
        place::{Place, Source},
    },
    Mode, Shared,
};
use crate::contract::LogRecord;

/// However quiet it is, everything is looked at so often.
const TICK: Duration = Duration::from_millis(500);
/// Times that one partition is served before the others have their turn.
const ROUNDS: usize = 4;

pub(super) struct Follower {
    number: usize,
    consumer: Arc<BaseConsumer<Events>>,
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// By the index of a place.
    queues: HashMap<usize, PartitionQueue<Events>>,
    /// Indexes of places that are assigned.
    assigned: Vec<usize>,
    /// Topics whose partitions librdkafka was made to ask for.
    looked_up: Vec<Source>,
    looked_at: Instant,
}

/// What is to be done for a partition.
enum Step {
    Nothing,
    Drain,
    Begin,
    End,
}

impl Follower {
    pub(super) fn new(
        number: usize,
        consumer: Arc<BaseConsumer<Events>>,
        shared: Arc<Shared>,
        link: Arc<Link>,
    ) -> Self {
        Self {
            number,
            consumer,
            shared,
            link,
            queues: HashMap::new(),
            assigned: Vec::new(),
            looked_up: Vec::new(),
            looked_at: Instant::now(),
        }
    }

    /// Until the log is closed. What librdkafka needs to end, it takes on this thread.
    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        while !self.shared.closed.load(Ordering::Acquire) {
            self.wait(&mut ready);
            self.hear();
            for index in ready.drain(..) {
                self.serve(index);
            }
            if self.looked_at.elapsed() >= TICK {
                self.looked_at = Instant::now();
                for index in self.assigned.clone() {
                    self.end_if_idle(index);
                    self.serve(index);
                }
            }
        }
    }

    /// Errors and log lines. Records come by the queues: one that does not is missing there.
    fn hear(&mut self) {
        let mut astray = Vec::new();
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            if let Ok(message) = event {
                let is_its = |&index: &usize| {
                    let place = self.shared.layout.at(index);
                    self.shared.layout.name(place.source) == message.topic()
                        && place.number() == message.partition()
                };
                astray.extend(self.assigned.iter().copied().find(is_its));
            }
        }
        for index in astray {
            if self.assigned.contains(&index) {
                self.fail(index, "a record came by another queue than its partition's");
            }
        }
    }

    fn wait(&self, ready: &mut Vec<usize>) {
        let own = &self.shared.signals[self.number];
        let mut signals = own.state.lock();
        if signals.ready.is_empty() && !signals.client {
            own.raised.wait_for(&mut signals, TICK);
        }
        signals.client = false;
        ready.append(&mut signals.ready);
        for &index in &*ready {
            signals.is_ready[index] = false;
        }
    }

    fn serve(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let step = self.next_step(index);
            let done = match step {
                Step::Nothing => return,
                Step::Drain => match self.drain(index) {
                    Ok(drained) => drained,
                    Err(cause) => {
                        self.fail(index, &cause);
                        return;
                    }
                },
                Step::Begin => {
                    if let Err(error) = self.begin(index) {
                        self.fail(index, &error.to_string());
                        return;
                    }
                    false
                }
                Step::End => {
                    self.unassign(index);
                    return;
                }
            };
            if done {
                return;
            }
        }
        // The others first.
        self.shared.raise(index);
    }

    fn next_step(&self, index: usize) -> Step {
        let limit_bytes = self.limit_bytes();
        let mut state = self.shared.tails[index].state.lock();
        let mode = state.mode;
        match mode {
            Mode::Idle if self.assigned.contains(&index) => Step::End,
            Mode::Idle => Step::Nothing,
            Mode::Wanted => Step::Begin,
            Mode::Following if state.ring.make_room(limit_bytes) => Step::Drain,
            Mode::Following => {
                state.stalled = true;
                Step::Nothing
            }
        }
    }

    fn limit_bytes(&self) -> usize {
        let share = limits::TAIL_BYTES / self.shared.followed.load(Ordering::Relaxed).max(1);
        share.clamp(limits::TAIL_BYTES_LEAST, limits::TAIL_BYTES_PER_PARTITION)
    }

    /// Takes what librdkafka has; gives whether that was all.
    fn drain(&self, index: usize) -> Result<bool, String> {
        let Some(queue) = self.queues.get(&index) else { return Ok(true) };
        let place = self.shared.layout.at(index);
        let mut records: Vec<LogRecord> = Vec::new();
        let mut size_bytes = 0;
        let mut is_empty = false;
        let mut trouble = None;
        while records.len() < limits::TAIL_TAKE && size_bytes < limits::TAIL_BYTES_LEAST {
            match queue.poll(Duration::ZERO) {
                None => {
                    is_empty = true;
                    break;
                }
                Some(Ok(message)) => match fetch::raw(&message).decode(place, &self.shared.layout) {
                    Ok(record) => {
                        size_bytes +=
                            record.head.len() + record.payload.as_ref().map_or(0, bytes::Bytes::len);
                        records.push(record);
                    }
                    Err(error) => {
                        trouble = Some(error.to_string());
                        break;
                    }
                },
                Some(Err(error)) => {
                    if let Some(cause) = ending(&error) {
                        trouble = Some(cause);
                        break;
                    }
                }
            }
        }
        if !records.is_empty() {
            self.link.is_up();
            self.take(index, records);
        }
        trouble.map_or(Ok(is_empty), Err)
    }

    fn take(&self, index: usize, records: Vec<LogRecord>) {
        let tail = &self.shared.tails[index];
        {
            let mut state = tail.state.lock();
            if state.mode != Mode::Following {
                // A reader wants to go on elsewhere: these are not next.
                return;
            }
            for record in records {
                state.ring.push(record);
            }
        }
        tail.changed.notify_waiters();
    }

    /// Follows a partition from the end of its ring on.
    fn begin(&mut self, index: usize) -> Result<(), KafkaError> {
        self.unassign(index);
        let place = self.shared.layout.at(index);
        self.split(index, place)?;
        if !self.looked_up.contains(&place.source) {
            client::look_up(&self.consumer, self.shared.layout.name(place.source));
            self.looked_up.push(place.source);
        }
        let from = {
            let mut state = self.shared.tails[index].state.lock();
            state.mode = Mode::Following;
            state.ring.next()
        };
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = i64::try_from(from.0).map_or(rdkafka::Offset::End, rdkafka::Offset::Offset);
        list.add_partition_offset(self.shared.layout.name(place.source), place.number(), offset)?;
        self.consumer.incremental_assign(&list)?;
        self.assigned.push(index);
        self.shared.followed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn split(&mut self, index: usize, place: Place) -> Result<(), KafkaError> {
        // Dropped later, it would silence the new one, if both are the same to librdkafka.
        self.queues.remove(&index);
        let name = self.shared.layout.name(place.source);
        let queue = self.consumer.split_partition_queue(name, place.number());
        let mut queue = queue.ok_or_else(|| KafkaError::Subscription(format!("no queue for {name}")))?;
        let shared = Arc::clone(&self.shared);
        queue.set_nonempty_callback(move || shared.raise(index));
        self.queues.insert(index, queue);
        Ok(())
    }

    /// Whoever waits reads, and hears what is wrong.
    fn fail(&mut self, index: usize, cause: &str) {
        let place = self.shared.layout.at(index);
        tracing::debug!(place = self.shared.layout.show(place), cause, "following ended");
        let tail = &self.shared.tails[index];
        {
            let mut state = tail.state.lock();
            state.mode = Mode::Idle;
            state.ring = super::Ring::default();
            state.failures += 1;
        }
        tail.changed.notify_waiters();
        self.unassign(index);
        self.looked_up.retain(|source| *source != place.source);
    }

    fn end_if_idle(&self, index: usize) {
        let mut state = self.shared.tails[index].state.lock();
        if state.waiting == 0 && state.touched.elapsed() > limits::TAIL_IDLE {
            state.mode = Mode::Idle;
            state.ring = super::Ring::default();
        }
    }

    fn unassign(&mut self, index: usize) {
        let Some(position) = self.assigned.iter().position(|assigned| *assigned == index) else { return };
        self.assigned.swap_remove(position);
        self.shared.followed.fetch_sub(1, Ordering::Relaxed);
        let place = self.shared.layout.at(index);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(self.shared.layout.name(place.source), place.number());
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(%error, "a partition of Kafka cannot be left");
        }
        self.queues.remove(&index);
    }
}

/// Why a partition cannot be followed from here; `None` for what librdkafka mends by itself.
fn ending(error: &KafkaError) -> Option<String> {
    match error.rdkafka_error_code()? {
        code @ (Code::AutoOffsetReset
        | Code::OffsetOutOfRange
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::TopicAuthorizationFailed
        | Code::BadMessage
        | Code::BadCompression) => Some(client::words(code)),
        _ => None,
    }
}
