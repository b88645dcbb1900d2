//! One reader: a consumer of one place at a time.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::Offset;
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};
use tokio::time::Instant;

use super::{
    super::{
        client::{self, Events, Link},
        limits,
        place::{Layout, Place, Source},
    },
    Answer, Job, Raw, Run,
};
use crate::contract::ReadError;

/// A broker's answer is waited for in such steps.
const STEP: Duration = Duration::from_millis(100);

pub(super) struct Reader {
    consumer: BaseConsumer<Events>,
    layout: Arc<Layout>,
    link: Arc<Link>,
    /// What librdkafka reads now, and the offset of the next record that it will give.
    at: Option<(Place, Offset)>,
    /// Read, and too large for the job that came to it.
    held: Option<Raw>,
    looked_up: Vec<Source>,
}

/// What a reader says when it has time for more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finished {
    /// A job is done; a job that begins here goes on at once.
    Job(Option<(Place, Offset)>),
    /// It gave up its place.
    Rest,
}

impl Reader {
    pub(super) fn new(consumer: BaseConsumer<Events>, layout: Arc<Layout>, link: Arc<Link>) -> Self {
        Self { consumer, layout, link, at: None, held: None, looked_up: Vec::new() }
    }

    /// Until there will be no more jobs.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, finished: impl Fn(Finished)) {
        loop {
            let patience = if self.at.is_some() { limits::READER_IDLE } else { Duration::from_secs(1) };
            match jobs.recv_timeout(patience) {
                Ok(job) if job.answer.is_closed() => finished(Finished::Job(self.place())),
                Ok(job) => {
                    let answer = self.read(&job);
                    if !matches!(answer, Answer::Run(_)) {
                        self.leave();
                    }
                    finished(Finished::Job(self.place()));
                    // Who asked may have gone away.
                    let _ = job.answer.send(answer);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.at.is_some() {
                        self.leave();
                        finished(Finished::Rest);
                    }
                    client::hear(&self.consumer);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn place(&self) -> Option<(Place, Offset)> {
        let (place, next) = self.at?;
        Some((place, self.held.as_ref().map_or(next, |held| held.offset)))
    }

    fn read(&mut self, job: &Job) -> Answer {
        if self.place() != Some((job.place, job.from))
            && let Err(error) = self.go(job.place, job.from)
        {
            return Answer::Failed(self.unavailable(&error.to_string()));
        }
        // However long it has waited for its turn, it is tried.
        let deadline = job.deadline.max(Instant::now() + STEP);
        let mut gap_at = None;
        let mut unknown = None;
        let mut run = Run { records: Vec::new(), next: job.from };
        let mut size_bytes = 0;
        while run.next < job.end {
            let raw = match self.held.take() {
                Some(held) => held,
                None => match self.poll(!run.records.is_empty()) {
                    Polled::Record(raw) => raw,
                    // Nothing more is in memory.
                    Polled::Nothing if !run.records.is_empty() => break,
                    Polled::Nothing if gap_at.is_some_and(|at| Instant::now() > at) => {
                        run.next = job.end;
                        break;
                    }
                    Polled::Nothing if Instant::now() < deadline => continue,
                    Polled::Nothing => {
                        let cause = unknown.as_deref().unwrap_or("no answer in time");
                        return Answer::Failed(self.unavailable(cause));
                    }
                    Polled::Unknown(cause) if Instant::now() < deadline => {
                        unknown = Some(cause);
                        client::look_up(&self.consumer, self.layout.name(job.place.source));
                        continue;
                    }
                    // Below an end that is known: a new leader has not heard of it yet, or there is a gap.
                    Polled::End => {
                        if job.may_be_gap {
                            gap_at = Some(Instant::now() + limits::GAP_AFTER);
                        }
                        continue;
                    }
                    Polled::OutOfRange if run.records.is_empty() => return Answer::OutOfRange,
                    Polled::OutOfRange => break,
                    Polled::Unknown(cause) | Polled::Failed(cause) => {
                        return Answer::Failed(self.unavailable(&cause));
                    }
                },
            };
            size_bytes += raw.size_bytes();
            if !run.records.is_empty() && size_bytes > job.max_bytes {
                self.held = Some(raw);
                break;
            }
            run.next = raw.offset.next();
            run.records.push(raw);
        }
        if run.next >= job.end {
            // Otherwise the broker would be asked for more, again and again.
            self.leave();
        }
        Answer::Run(run)
    }

    fn poll(&mut self, has_some: bool) -> Polled {
        let patience = if has_some { Duration::ZERO } else { STEP };
        match self.consumer.poll(patience) {
            None => Polled::Nothing,
            Some(Ok(message)) => {
                let raw = raw(&message);
                self.link.is_up();
                if let Some((_, next)) = &mut self.at {
                    *next = raw.offset.next();
                }
                Polled::Record(raw)
            }
            Some(Err(KafkaError::PartitionEOF(_))) => Polled::End,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Polled::OutOfRange,
                Some(
                    code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition),
                ) => Polled::Unknown(client::words(code)),
                Some(code @ (Code::TopicAuthorizationFailed | Code::BadMessage | Code::BadCompression)) => {
                    Polled::Failed(client::words(code))
                }
                // librdkafka tries again by itself.
                _ => Polled::Nothing,
            },
        }
    }

    /// Begins to read elsewhere. What librdkafka has read ahead is thrown away.
    fn go(&mut self, place: Place, from: Offset) -> Result<(), KafkaError> {
        self.held = None;
        let offset = i64::try_from(from.0).map_or(rdkafka::Offset::End, rdkafka::Offset::Offset);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(self.layout.name(place.source), place.number(), offset)?;
        self.consumer.assign(&list)?;
        self.at = Some((place, from));
        if !self.looked_up.contains(&place.source) {
            client::look_up(&self.consumer, self.layout.name(place.source));
            self.looked_up.push(place.source);
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.held = None;
        if self.at.take().is_some()
            && let Err(error) = self.consumer.unassign()
        {
            tracing::warn!(%error, "a reader of Kafka cannot leave its place");
        }
    }

    fn unavailable(&self, cause: &str) -> ReadError {
        ReadError::Unavailable(self.link.unavailable(cause))
    }
}

enum Polled {
    Record(Raw),
    Nothing,
    /// Of the partition, as the broker sees it now.
    End,
    OutOfRange,
    /// The client knows no such partition, for this reason.
    Unknown(String),
    Failed(String),
}

/// Copies a record out of librdkafka's memory.
pub(crate) fn raw(message: &BorrowedMessage<'_>) -> Raw {
    Raw {
        offset: Offset(u64::try_from(message.offset()).expect("a record that was read has an offset")),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}
