//! The embedded engine: one journal in one data directory, for one process.

mod backend;
mod block;
mod commit;
mod directory;
mod driver;
mod encode;
mod format;
mod index;
mod journal;
mod layout;
mod options;
mod overwrite;
mod queue;
mod read;
mod recovery;
mod retention;
mod room;
mod scan;
mod segment;
mod space;
mod stats;
mod tables;
mod tail;
#[cfg(test)]
mod tests;
mod wipe;
mod wiped;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use fanfare_core::{
    Offset, Partition, limits,
    planted::{Fault, planted},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::{
    commit::{Committer, Site},
    directory::{DirectoryLock, Partitions},
    driver::Driven,
    journal::{Fetched, Journal},
    layout::{Layout, Slot},
    queue::Ending,
    read::{MUST_WAIT, Wanted},
    retention::{Ages, Retention},
    tables::{Put, TableWriter, Tables},
    wiped::Wiped,
};
pub use self::{
    options::{Driver, OpenError, Options},
    stats::Stats,
};
use crate::{
    claims::{Coordinator, Spread},
    contract::{
        AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, NewRecord, Pending, ReadError, Sync,
        Table, Topic,
    },
};

/// Newest records of `control` kept in memory: its only reader is close behind.
const CONTROL_TAIL_BYTES: usize = 1 << 20;
/// Reads from the disk at the same time: each holds a thread and some buffers.
const DISK_READS: usize = 16;
/// Longer reads are handed to a thread even where they need no disk.
const READ_AT_ONCE_BYTES: usize = 64 << 10;
/// Puts that wait for the table writer; more wait outside.
const PUTS_QUEUED: usize = 64;

/// The log of one data directory. See [`Options`] for how it is opened; [`Self::close`] ends it in good order.
pub struct EmbeddedLog {
    partitions: Partitions,
    driver: Driver,
    read_only: bool,
    main: Arc<Journal>,
    control: Arc<Journal>,
    tables: Arc<Tables>,
    puts: Mutex<Option<mpsc::Sender<Put>>>,
    disk_reads: Semaphore,
    routers: Arc<Coordinator>,
    workers: Arc<Coordinator>,
    /// One per writer: turns true when it has ended.
    ended: Vec<watch::Receiver<bool>>,
    lock: Mutex<Option<DirectoryLock>>,
}

impl EmbeddedLog {
    /// Opens the log and recovers what a former process left. Blocks on the disk. With [`Driver::Task`] it has to
    /// be called within a runtime.
    #[allow(clippy::needless_pass_by_value, reason = "an opened log keeps what it was given")]
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let lock = directory::lock(&options)?;
        let partitions = directory::check_format(&options)?;
        let Partitions { messages, deliveries } = partitions;
        let main_layout = Layout::new(vec![
            (Topic::Messages, messages),
            (Topic::Deliveries, deliveries),
            (Topic::Attempts, deliveries),
            (Topic::Dedup, messages),
        ]);
        let space = Arc::default();
        let counters = Arc::default();
        let tables = Arc::new(Tables::open(options.disk.clone(), &options.data_dir, options.read_only)?);
        let wiping = tables.wiping()?;
        let open = |name: &str, layout: Layout, tail_bytes| {
            let wiped = Wiped::of(&layout, &wiping);
            OpenJournal { options: &options, directory: options.data_dir.join(name), layout, tail_bytes }
                .open(wiped, &space, &counters)
        };
        let (main, main_end, main_site) = open("journal", main_layout, options.tail_bytes)?;
        let control_layout = Layout::new(vec![(Topic::Control, 1)]);
        let (control, control_end, control_site) = open("control", control_layout, CONTROL_TAIL_BYTES)?;
        if !options.read_only {
            let covered = tables.covered()?;
            for (covered, end) in [(covered.main, main_end), (covered.control, control_end)] {
                if covered > end {
                    return Err(OpenError::TablesAhead { covered, end });
                }
            }
            wipe::finish(&main, &tables)?;
            wipe::finish(&control, &tables)?;
        }
        let mut log = Self {
            partitions,
            driver: options.driver,
            read_only: options.read_only,
            main,
            control,
            tables,
            puts: Mutex::new(None),
            disk_reads: Semaphore::new(DISK_READS),
            routers: Coordinator::new(messages, Spread::First, limits::DRAIN),
            workers: Coordinator::new(deliveries, Spread::First, limits::DRAIN),
            ended: Vec::new(),
            lock: Mutex::new(lock.clone()),
        };
        if let Some(lock) = lock {
            log.spawn(&options, &lock, main_site, control_site)?;
        }
        Ok(Arc::new(log))
    }

    /// Starts the writers of both journals and of the tables.
    fn spawn(
        &mut self,
        options: &Options,
        lock: &DirectoryLock,
        main: Committer,
        control: Committer,
    ) -> Result<(), OpenError> {
        let ages = Ages {
            short: options.retention,
            extra: options.retention_extra,
            settle: options.retention_settle,
        };
        let (sender, puts) = mpsc::channel(PUTS_QUEUED);
        self.puts = Mutex::new(Some(sender));
        let (ended, tables_ended) = watch::channel(false);
        let tables = TableWriter {
            tables: self.tables.clone(),
            main: self.main.clone(),
            control: self.control.clone(),
            puts,
            ended,
            lock: lock.clone(),
        };
        self.ended.push(tables_ended);
        let failed = |error| OpenError::io(&options.data_dir, error);
        match options.driver {
            Driver::Thread => tables.spawn_thread().map_err(failed)?,
            Driver::Task => tables.spawn_task(),
        }
        let writers = [("fanfare-journal", main, Some(ages)), ("fanfare-control", control, None)];
        for (name, committer, ages) in writers {
            let (ended, writer_ended) = watch::channel(false);
            self.ended.push(writer_ended);
            let driven = Driven { committer, retention: Retention::new(ages), ended, lock: lock.clone() };
            match options.driver {
                Driver::Thread => driven.spawn_thread(name).map_err(failed)?,
                Driver::Task => {
                    let disk = options.disk.clone();
                    driven.spawn_task(move || disk.sync_delay());
                }
            }
        }
        Ok(())
    }

    /// Makes everything durable, then stops. What comes later gets [`AppendError::Closed`]. The directory is free
    /// when this resolves.
    pub async fn close(&self) {
        self.end(Ending::Close).await;
    }

    /// Stops at once, as a killed process does: what was not written is lost. For tests.
    pub async fn kill(&self) {
        self.end(Ending::Kill).await;
    }

    async fn end(&self, ending: Ending) {
        *self.puts.lock() = None;
        self.main.begin_ending(ending);
        self.control.begin_ending(ending);
        for ended in &self.ended {
            // An error: the writer is gone, which is as good.
            let _ = ended.clone().wait_for(|ended| *ended).await;
        }
        self.lock.lock().take();
    }

    pub fn stats(&self) -> Stats {
        let unsynced = self.main.unsynced_bytes() + self.control.unsynced_bytes();
        let segments = self.main.segments().len() + self.control.segments().len();
        self.main.counters.read(unsynced, segments as u64)
    }

    fn place(&self, topic: Topic, partition: Partition) -> (&Arc<Journal>, Slot) {
        let journal = if topic == Topic::Control { &self.control } else { &self.main };
        let slot = journal.layout.slot(topic, partition);
        (journal, slot.unwrap_or_else(|| panic!("{} has no partition {partition}", topic.as_str())))
    }

    /// Runs what blocks on the disk where it holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        match self.driver {
            Driver::Task => Ok(run()),
            Driver::Thread => {
                let _turn = self.disk_reads.acquire().await.expect("never closed");
                let run = tokio::task::spawn_blocking(run).await;
                run.map_err(|error| ReadError::Closed(format!("the runtime is shut down: {error}")))
            }
        }
    }
}

impl Drop for EmbeddedLog {
    /// Without [`Self::close`] the writers still sync what they have, in their own time.
    fn drop(&mut self) {
        self.main.begin_ending(Ending::Close);
        self.control.begin_ending(Ending::Close);
    }
}

struct OpenJournal<'a> {
    options: &'a Options,
    directory: PathBuf,
    layout: Layout,
    tail_bytes: usize,
}

impl OpenJournal<'_> {
    /// Gives the journal, the position where a former life ended, and who writes to it.
    fn open(
        self,
        wiped: Wiped,
        space: &Arc<space::Space>,
        counters: &Arc<stats::Counters>,
    ) -> Result<(Arc<Journal>, u64, Committer), OpenError> {
        let Self { options, directory, layout, tail_bytes } = self;
        if !options.read_only {
            options.disk.create_dir(&directory).map_err(|error| OpenError::io(&directory, error))?;
            let data_dir = &options.data_dir;
            options.disk.sync_dir(data_dir).map_err(|error| OpenError::io(data_dir, error))?;
        }
        let site = recovery::Site {
            disk: &*options.disk,
            directory: &directory,
            layout: &layout,
            wiped: &wiped,
            now_ms: options.clock.now().as_millis(),
            segment_bytes: options.segment_bytes,
        };
        let recovered = recovery::recover(&site, options.read_only)?;
        let end = recovered.end;
        let last = recovered.segments.last().expect("a journal has a segment");
        let position = last.position_of(last.end_at());
        let journal =
            Journal::new(layout, &recovered, position, tail_bytes, (wiped, space.clone()), counters.clone());
        let journal = Arc::new(journal);
        let site = Site {
            disk: options.disk.clone(),
            clock: options.clock.clone(),
            directory,
            segment_bytes: options.segment_bytes,
            zero_ahead: options.driver == Driver::Thread,
        };
        let committer = Committer::new(journal.clone(), recovered, site);
        if !options.read_only {
            committer.measure_space();
        }
        Ok((journal, end, committer))
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Messages | Topic::Dedup => self.partitions.messages,
            Topic::Deliveries | Topic::Attempts => self.partitions.deliveries,
            Topic::Control => 1,
        }
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        let (journal, slot) = self.place(topic, partition);
        Box::pin(async move {
            if self.read_only {
                return Err(AppendError::Closed("opened for reading only".to_owned()));
            }
            let other = if topic == Topic::Control { &self.main } else { &self.control };
            // What resolves covers every topic. The other journal is seldom behind when somebody waits here: control
            // is synced at once, and few append to it.
            let before = if topic == Topic::Control || other.unsynced_bytes() > 0 {
                Some(other.barrier()?)
            } else {
                None
            };
            let pending = journal.append(topic, slot, records, sync).await?;
            Ok(match before {
                None => pending,
                Some(before) => Box::pin(async move {
                    before.await?;
                    pending.await
                }) as Pending,
            })
        })
    }

    fn has_room(&self, topic: Topic) -> bool {
        self.main.space.has_room(topic)
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        let (journal, slot) = self.place(topic, partition);
        let bounds = journal.bounds(slot);
        Box::pin(std::future::ready(Ok(bounds)))
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        let (journal, slot) = self.place(topic, partition);
        Box::pin(async move {
            let mut from = from;
            loop {
                let wanted = match journal.fetch_from_memory(slot, from, max_bytes)? {
                    Fetched::Here(batch) => return Ok(batch),
                    Fetched::Disk(wanted) => wanted,
                };
                // What is in the system's memory is read here and now: handing it to another thread takes longer.
                let at_once = wanted.max_bytes <= READ_AT_ONCE_BYTES && self.driver == Driver::Thread;
                let found = at_once.then(|| journal.fetch_from_disk(Wanted { at_once, ..wanted }));
                let batch = match found {
                    Some(Err(ReadError::Unavailable(reason))) if reason == MUST_WAIT => None,
                    found => found.transpose()?,
                };
                let batch = if let Some(batch) = batch {
                    batch
                } else {
                    let reader = journal.clone();
                    self.blocking(move || reader.fetch_from_disk(wanted)).await??
                };
                if !batch.records.is_empty() {
                    return Ok(batch);
                }
                // Only a gap up to what is in memory.
                from = batch.next;
            }
        })
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        let (journal, slot) = self.place(topic, partition);
        Box::pin(journal.wait(slot, from))
    }

    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        // Taken at the call: what it covers was appended before.
        let barriers = self.main.barrier().and_then(|main| Ok((main, self.control.barrier()?)));
        let puts = self.puts.lock().clone();
        Box::pin(async move {
            let closed = || AppendError::Closed("the log is shut down".to_owned());
            let (main, control) = barriers?;
            let puts = puts.ok_or_else(closed)?;
            if !planted(Fault::TablesAheadOfJournal) {
                main.await?;
                control.await?;
            }
            let (done, pending) = oneshot::channel();
            puts.send(Put { table, partition, entries, done }).await.map_err(|_| closed())?;
            pending.await.map_err(|_| closed())?
        })
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        let tables = self.tables.clone();
        Box::pin(async move { self.blocking(move || tables.scan(table, partition)).await? })
    }

    fn wipe(
        &self,
        topic: Topic,
        partition: Partition,
        offsets: Vec<Offset>,
    ) -> BoxFuture<'_, Result<bool, AppendError>> {
        let (journal, slot) = self.place(topic, partition);
        Box::pin(async move {
            if self.read_only {
                return Err(AppendError::Closed("opened for reading only".to_owned()));
            }
            self.wipe_payloads(journal, slot, offsets).await.map(|()| true)
        })
    }

    fn claim(&self, group: Group) -> Box<dyn Claims> {
        Box::new(match group {
            Group::Router => self.routers.join(),
            Group::Delivery => self.workers.join(),
        })
    }
}
