//! Reads of what is not at the tail: a few readers on threads of their own, each with a place that it keeps for a
//! moment, so that a sequence of reads goes on where it stopped.

mod reader;

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::Offset;
use parking_lot::Mutex;
use rdkafka::consumer::BaseConsumer;
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use self::reader::Reader;
pub(super) use self::reader::raw;
use super::{
    bounds::Ends,
    client::{self, Events, Link},
    limits,
    options::{OpenError, Options},
    place::{Layout, Place, Source},
    record,
    stats::Counters,
};
use crate::contract::{Batch, Bounds, LogRecord, ReadError};

/// A record as it stands on Kafka.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) offset: Offset,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
}

impl Raw {
    fn size_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len) + self.key.as_ref().map_or(0, Bytes::len)
    }

    pub(super) fn decode(&self, place: Place, layout: &Layout) -> Result<LogRecord, ReadError> {
        let value = self.value.clone().unwrap_or_default();
        let (head, payload) = record::decode(&value).map_err(|error| {
            ReadError::Corrupt(format!("record {} of {} {error}", self.offset, layout.show(place)))
        })?;
        Ok(LogRecord { offset: self.offset, head, payload: Some(payload) })
    }
}

/// Records in order, and where the next read goes on.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) records: Vec<Raw>,
    pub(super) next: Offset,
}

/// What a reader is asked for.
#[derive(Debug)]
struct Job {
    place: Place,
    from: Offset,
    /// Above `from`; everything below can be read.
    end: Offset,
    max_bytes: usize,
    /// Compaction may have left nothing between here and the end.
    may_be_gap: bool,
    /// Then the answer is that there is none.
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Run(Run),
    /// The broker has nothing at `from`, neither a record nor the end.
    OutOfRange,
    Failed(ReadError),
}

/// The readers and what they are doing.
pub(super) struct Readers {
    desks: Arc<Mutex<Vec<Desk>>>,
    turns: Semaphore,
    timeout: Duration,
    ends: Arc<Ends>,
    layout: Arc<Layout>,
    counters: Arc<Counters>,
}

struct Desk {
    /// `None` once the log is closed.
    jobs: Option<SyncSender<Job>>,
    queued: usize,
    /// Where the reader can go on at once, when what is queued is done.
    place: Option<(Place, Offset)>,
    is_point: bool,
    used: u64,
}

impl Readers {
    pub(super) fn open(
        options: &Options,
        layout: &Arc<Layout>,
        link: &Arc<Link>,
        ends: &Arc<Ends>,
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let desks = Arc::new(Mutex::new(Vec::new()));
        let kinds =
            [false].repeat(limits::RUN_READERS).into_iter().chain([true].repeat(limits::POINT_READERS));
        for (number, is_point) in kinds.enumerate() {
            let consumer: BaseConsumer<Events> = config(options, is_point)
                .create_with_context(Events { link: Arc::clone(link) })
                .map_err(|error| OpenError::client(options, error))?;
            let (jobs, queue) = sync_channel(limits::READS);
            desks.lock().push(Desk { jobs: Some(jobs), queued: 0, place: None, is_point, used: 0 });
            let reader = Reader::new(consumer, Arc::clone(layout), Arc::clone(link));
            let desks = Arc::clone(&desks);
            std::thread::Builder::new()
                .name(format!("fanfare-kafka-read-{number}"))
                .spawn(move || reader.run(&queue, |place| desks.lock()[number].finished(place)))?;
        }
        Ok(Self {
            desks,
            turns: Semaphore::new(limits::READS),
            timeout: options.read_timeout,
            ends: Arc::clone(ends),
            layout: Arc::clone(layout),
            counters: Arc::clone(counters),
        })
    }

    /// What stands at and above `from`; nothing if that is the end.
    pub(super) async fn read(
        &self,
        place: Place,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Batch, ReadError> {
        let run = self.read_raw(place, from, max_bytes).await?;
        // Brokers give what is below the high watermark, and nothing else.
        let records = Vec::with_capacity(run.records.len());
        let mut batch = Batch { records, next: run.next, durable: run.next };
        for raw in &run.records {
            match raw.decode(place, &self.layout) {
                Ok(record) => batch.records.push(record),
                Err(error) if batch.records.is_empty() => return Err(error),
                // Those before it are good; the next read says what is wrong.
                Err(_) => {
                    batch.next = raw.offset;
                    break;
                }
            }
        }
        Ok(batch)
    }

    pub(super) async fn read_raw(
        &self,
        place: Place,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Run, ReadError> {
        let mut end = self.ends.known_end(place);
        if from >= end {
            end = self.end_above(place, from).await?;
            if from == end {
                return Ok(Run { records: Vec::new(), next: from });
            }
        }
        let _turn = self.turns.acquire().await.expect("never closed");
        let (answer, answered) = oneshot::channel();
        let may_be_gap = matches!(place.source, Source::Table(_));
        let deadline = Instant::now() + self.timeout;
        self.submit(Job { place, from, end, max_bytes, may_be_gap, deadline, answer })?;
        match answered.await {
            Ok(Answer::Run(run)) => Ok(run),
            Ok(Answer::Failed(error)) => Err(error),
            Ok(Answer::OutOfRange) => {
                self.end_above(place, from).await?;
                let place = self.layout.show(place);
                Err(ReadError::Unavailable(format!("{place} did not know its offset {from} a moment ago")))
            }
            Err(_) => Err(closed()),
        }
    }

    /// The end, which is at or above `from`, or why there is nothing to read.
    async fn end_above(&self, place: Place, from: Offset) -> Result<Offset, ReadError> {
        for _ in 0..limits::ABOVE_END_LOOKS {
            let Bounds { start, end, .. } = self.ends.ask(place).await?;
            if from < start {
                return Err(ReadError::Truncated { from, start });
            }
            if from <= end {
                return Ok(end);
            }
            tokio::time::sleep(limits::ABOVE_END_PAUSE).await;
        }
        let (place, end) = (self.layout.show(place), self.ends.known_end(place));
        Err(ReadError::Corrupt(format!(
            "{place} ends at {end}, and once had offset {from}: its topic was deleted and made anew, or lost records"
        )))
    }

    fn submit(&self, job: Job) -> Result<(), ReadError> {
        let mut desks = self.desks.lock();
        let is_point = job.max_bytes <= limits::POINT_BYTES;
        let goes_on = desks.iter().position(|desk| desk.place == Some((job.place, job.from)));
        self.counters.asked_broker(goes_on.is_some());
        let used = desks.iter().map(|desk| desk.used).max().unwrap_or(0) + 1;
        let idlest = || {
            let own_kind = desks.iter().enumerate().filter(|(_, desk)| desk.is_point == is_point);
            own_kind.min_by_key(|(_, desk)| (desk.queued, desk.used)).map(|(number, _)| number)
        };
        let number = goes_on.or_else(idlest).expect("there are readers of both kinds");
        let desk = &mut desks[number];
        desk.used = used;
        // Known again when it is done.
        desk.place = None;
        let jobs = desk.jobs.as_ref().ok_or_else(closed)?;
        jobs.try_send(job).map_err(|_| ReadError::Closed("a reader has ended".to_owned()))?;
        desk.queued += 1;
        Ok(())
    }

    pub(super) fn close(&self) {
        for desk in &mut *self.desks.lock() {
            desk.jobs = None;
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Desk {
    fn finished(&mut self, finished: reader::Finished) {
        match finished {
            reader::Finished::Job(place) => {
                self.queued -= 1;
                self.place = place.filter(|_| self.queued == 0);
            }
            reader::Finished::Rest => self.place = None,
        }
    }
}

fn closed() -> ReadError {
    ReadError::Closed("the log is shut down".to_owned())
}

fn config(options: &Options, is_point: bool) -> rdkafka::ClientConfig {
    let fetch_bytes = if is_point { limits::POINT_FETCH_BYTES } else { limits::RUN_FETCH_BYTES };
    let mut config = client::reader_config(options);
    config
        .set("fetch.wait.max.ms", millis(limits::READER_WAIT))
        .set("fetch.message.max.bytes", fetch_bytes.to_string())
        .set("queued.max.messages.kbytes", limits::READ_AHEAD_KIB.to_string())
        .set("enable.partition.eof", "true");
    config
}

pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
