//! Follows one partition of the log: reads ahead of the fold, a little.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fanfare_core::{AttemptRecord, Delivery, Message, Offset, Partition, codec::Malformed};
use fanfare_log::{Batch, Log, ReadError};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::sleep,
};

use crate::{changes::Source, hurry::Hurry, shared::Shared};

/// One read of a partition.
const CHUNK_BYTES: usize = 256 << 10;
/// Reads that wait to be taken over, per partition.
const CHUNKS: usize = 2;
/// Records taken over, after which no more are.
const QUEUE: usize = 4_096;
/// At the end of the log records come one by one. So many together are worth a read, and the question what is durable;
/// with fewer, more are let come for so long.
const FEW: usize = 256;
const LINGER: Duration = Duration::from_millis(100);
/// What is readable and not durable yet is looked at again after this.
const UNSYNCED: Duration = Duration::from_millis(10);
/// After a read that failed.
const RETRY: Duration = Duration::from_millis(500);

/// A record, understood.
#[derive(Debug)]
pub(crate) enum Record {
    Message(Box<Message>),
    Delivery(Box<Delivery>),
    Attempts(AttemptRecord),
    /// It says nothing that anybody understands.
    Unreadable,
    /// None: everything below left the log before it was read.
    Lost,
    /// None: everything below was read.
    Passed,
}

/// What one read gave, in order.
pub(crate) type Chunk = Vec<(Offset, Record)>;

/// The receiving end of a partition's reader. Dropping it ends the reader.
pub(crate) struct Feed {
    chunks: mpsc::Receiver<Chunk>,
    /// Read, and not folded yet.
    pub(crate) queue: VecDeque<(Offset, Record)>,
    stands: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Feed {
    /// Begins to read at `position`. `arrived` is told of each chunk.
    pub(crate) fn start(
        shared: &Shared,
        source: Source,
        partition: Partition,
        position: Offset,
        arrived: Arc<Notify>,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let stands = Arc::new(AtomicBool::new(false));
        let (log, hurry) = (Arc::clone(&shared.log), Arc::clone(&shared.hurry));
        let reader = Reader { log, hurry, source, partition, position, arrived, sender };
        let standing = Arc::clone(&stands);
        let reader = tokio::spawn(async move {
            if let Err(cause) = reader.run().await {
                standing.store(true, Ordering::Release);
                tracing::error!(topic = source.topic().as_str(), %partition, %cause,
                    "history stands still in this partition");
            }
        });
        Self { chunks, queue: VecDeque::new(), stands, reader }
    }

    /// Takes over what was read, as far as there is room.
    pub(crate) fn pull(&mut self) {
        while self.queue.len() < QUEUE {
            let Ok(chunk) = self.chunks.try_recv() else { break };
            self.queue.extend(chunk);
        }
    }

    /// Puts back what was taken last.
    pub(crate) fn give_back(&mut self, records: Vec<(Offset, Record)>) {
        records.into_iter().rev().for_each(|record| self.queue.push_front(record));
    }

    /// Whether nothing more will come, though there is more.
    pub(crate) fn stands(&self) -> bool {
        self.stands.load(Ordering::Acquire)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Reader {
    log: Arc<dyn Log>,
    hurry: Arc<Hurry>,
    source: Source,
    partition: Partition,
    position: Offset,
    arrived: Arc<Notify>,
    sender: mpsc::Sender<Chunk>,
}

impl Reader {
    /// Until nobody listens, the log is closed, or it holds what cannot be read.
    async fn run(mut self) -> Result<(), String> {
        let mut few = false;
        loop {
            let chunk = match self.read(few).await {
                Ok(Some(chunk)) => chunk,
                // Durable a moment later.
                Ok(None) => {
                    sleep(UNSYNCED).await;
                    continue;
                }
                Err(Stop::Read(ReadError::Truncated { start, .. })) => {
                    tracing::warn!(topic = self.source.topic().as_str(), partition = %self.partition,
                        from = %self.position, to = %start,
                        "records left the log before history had read them");
                    vec![(start, Record::Lost)]
                }
                Err(Stop::Read(ReadError::Unavailable(_))) => {
                    sleep(RETRY).await;
                    continue;
                }
                Err(Stop::Read(ReadError::Closed(_))) => return Ok(()),
                Err(Stop::Read(error @ ReadError::Corrupt(_))) => return Err(error.to_string()),
                Err(Stop::Newer { at, before, cause }) => {
                    // What stands before it can be read.
                    drop(self.sender.send(before).await);
                    self.arrived.notify_one();
                    return Err(format!("record {at}: {cause}"));
                }
            };
            self.position = chunk.last().map_or(self.position, |(next, _)| *next);
            few = chunk.len() < FEW;
            if self.sender.send(chunk).await.is_err() {
                return Ok(());
            }
            self.arrived.notify_one();
        }
    }

    /// What is durable at the position; nothing where something is readable and not durable yet.
    async fn read(&self, few: bool) -> Result<Option<Chunk>, Stop> {
        let topic = self.source.topic();
        self.log.wait(topic, self.partition, self.position).await?;
        if few {
            self.hurry.linger(LINGER).await;
        }
        let batch = self.log.fetch(topic, self.partition, self.position, CHUNK_BYTES).await?;
        if batch.durable <= self.position {
            return Ok(None);
        }
        let chunk = understand(self.source, batch)?;
        Ok(chunk.last().is_some_and(|(next, _)| *next > self.position).then_some(chunk))
    }
}

enum Stop {
    Read(ReadError),
    Newer { at: Offset, before: Chunk, cause: Malformed },
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What is durable of a batch; at its end where the next one begins.
fn understand(source: Source, batch: Batch) -> Result<Chunk, Stop> {
    let mut chunk = Vec::with_capacity(batch.records.len() + 1);
    for record in batch.records {
        if record.offset >= batch.durable {
            break;
        }
        let understood = match source {
            Source::Messages => {
                Message::decode(&record.head).map(|message| Record::Message(Box::new(message)))
            }
            Source::Deliveries => {
                Delivery::decode(&record.head).map(|delivery| Record::Delivery(Box::new(delivery)))
            }
            Source::Attempts => AttemptRecord::decode(&record.head).map(Record::Attempts),
        };
        let understood = match understood {
            Ok(record) => record,
            Err(cause @ Malformed::NewerVersion { .. }) => {
                return Err(Stop::Newer { at: record.offset, before: chunk, cause });
            }
            Err(_) => Record::Unreadable,
        };
        chunk.push((record.offset, understood));
    }
    chunk.push((batch.next.min(batch.durable), Record::Passed));
    Ok(chunk)
}
