//! A journal as appenders and readers use it: one order for the records of all its partitions.
//!
//! Everything that both they and the writer touch is behind one lock that is held for moments: an append gives out
//! offsets, puts its records into the tails and the queue, and lets go.

use std::{collections::VecDeque, sync::Arc};

use fanfare_core::{
    Offset, limits,
    planted::{Fault, planted},
};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::{
    index::EntryCache,
    layout::{Layout, Slot},
    overwrite::Overwrite,
    queue::{Due, Ending, Group, PartitionState, Queued, State, Writer},
    read::{Span, Wanted, find_payload, read},
    recovery::{CHARGE_BYTES_MIN, Recovered},
    segment::Segment,
    space::Space,
    stats::Counters,
    tail::Tails,
    wiped::Wiped,
};
use crate::contract::{AppendError, Batch, Bounds, NewRecord, Pending, ReadError, Sync, Topic};

/// Appends above this size go one after the other, so that small ones find room between them.
const LARGE_BYTES: usize = 1 << 20;

pub(super) struct Journal {
    pub(super) layout: Layout,
    pub(super) counters: Arc<Counters>,
    pub(super) space: Arc<Space>,
    pub(super) wiped: Wiped,
    /// In the segment that is written to: its writer overwrites too.
    overwrites: Mutex<Vec<Overwrite>>,
    state: Mutex<State>,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    entry_cache: EntryCache,
    /// Un-synced bytes that may still be appended.
    room: Semaphore,
    large: Arc<Semaphore>,
    /// Per slot: more became readable.
    readable: Vec<Notify>,
    /// Wakes the writer: one of the two, as the driver goes.
    pub(super) work: Condvar,
    pub(super) work_async: Notify,
}

impl Journal {
    pub(super) fn new(
        layout: Layout,
        recovered: &Recovered,
        position: u64,
        tail_bytes: usize,
        (wiped, space): (Wiped, Arc<Space>),
        counters: Arc<Counters>,
    ) -> Self {
        let oldest = &recovered.segments[0].header.next;
        let partitions = recovered.next.iter().zip(oldest).map(|(next, start)| PartitionState {
            start: *start,
            next: *next,
            durable: *next,
        });
        let state = State {
            partitions: partitions.collect(),
            tails: Tails::new(&recovered.next, tail_bytes),
            queue: VecDeque::new(),
            queued_charge: 0,
            urgent: 0,
            sequence: 0,
            synced_sequence: 0,
            synced_position: position,
            writer: Writer::Busy,
            ending: None,
            closed: None,
        };
        let readable = (0..layout.slots()).map(|_| Notify::new()).collect();
        Self {
            layout,
            counters,
            space,
            wiped,
            overwrites: Mutex::default(),
            state: Mutex::new(state),
            segments: RwLock::new(Arc::new(recovered.segments.clone())),
            entry_cache: EntryCache::default(),
            room: Semaphore::new(limits::UNSYNCED_BYTES),
            large: Arc::new(Semaphore::new(1)),
            readable,
            work: Condvar::new(),
            work_async: Notify::new(),
        }
    }

    pub(super) async fn append(
        &self,
        topic: Topic,
        slot: Slot,
        records: Vec<NewRecord>,
        sync: Sync,
    ) -> Result<Pending, AppendError> {
        let mut size_bytes = 0;
        let mut charge = 0;
        for record in &records {
            size_bytes += record.size_bytes();
            charge += record.size_bytes().max(CHARGE_BYTES_MIN);
        }
        if charge > limits::UNSYNCED_BYTES {
            return Err(AppendError::TooLarge { size_bytes, limit_bytes: limits::UNSYNCED_BYTES });
        }
        if self.space.refuses(topic) {
            return Err(AppendError::Full { topic: topic.as_str() });
        }
        let turn = if charge > LARGE_BYTES {
            Some(self.large.clone().acquire_owned().await.map_err(|_| self.closed())?)
        } else {
            None
        };
        let permits = u32::try_from(charge).expect("un-synced bytes are counted in 32 bits");
        self.room.acquire_many(permits).await.map_err(|_| self.closed())?.forget();
        self.counters.appended(records.len(), size_bytes);
        let urgent = sync == Sync::Now;
        self.enqueue(Some(slot), records, urgent, charge, turn)
    }

    /// Resolves when everything appended before the call is durable.
    pub(super) fn barrier(&self) -> Result<Pending, AppendError> {
        self.enqueue(None, Vec::new(), true, 0, None)
    }

    fn enqueue(
        &self,
        slot: Option<Slot>,
        records: Vec<NewRecord>,
        urgent: bool,
        charge: usize,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Pending, AppendError> {
        let (done, pending) = oneshot::channel();
        let since = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(reason) = &state.closed {
            return Err(AppendError::Closed(reason.clone()));
        }
        let sequence = state.sequence;
        state.sequence += 1;
        let first = match slot {
            Some(slot) => {
                let partition = &mut state.partitions[slot.index()];
                let first = partition.next;
                partition.next = Offset(first.0 + records.len() as u64);
                if !records.is_empty() {
                    state.tails.push(slot, first, &records, sequence);
                }
                first
            }
            None => Offset::ZERO,
        };
        state.queue.push_back(Queued {
            sequence,
            since,
            urgent,
            charge,
            slot,
            first,
            records,
            done,
            _turn: turn,
        });
        state.queued_charge += charge;
        state.urgent += usize::from(urgent);
        let wake = match state.writer {
            Writer::Busy => false,
            Writer::Idle => true,
            Writer::Waiting => urgent || state.queued_charge >= limits::COMMIT_GROUP_BYTES,
        };
        if wake {
            state.writer = Writer::Busy;
        }
        drop(guard);
        if wake {
            self.wake_writer();
        }
        if let Some(slot) = slot.filter(|slot| !self.layout.name(*slot).0.shows_only_synced()) {
            self.readable[slot.index()].notify_waiters();
        }
        Ok(Box::pin(async move {
            pending.await.unwrap_or_else(|_| Err(AppendError::Closed("the writer ended".to_owned())))
        }))
    }

    fn wake_writer(&self) {
        self.work.notify_one();
        self.work_async.notify_one();
    }

    fn closed(&self) -> AppendError {
        let reason = self.state.lock().closed.clone();
        AppendError::Closed(reason.unwrap_or_else(|| "the log is shut down".to_owned()))
    }

    pub(super) fn bounds(&self, slot: Slot) -> Bounds {
        let state = self.state.lock();
        let partition = state.partitions[slot.index()];
        let end = self.end(slot, &partition);
        Bounds { start: partition.start.min(partition.durable), high_watermark: partition.durable, end }
    }

    fn end(&self, slot: Slot, partition: &PartitionState) -> Offset {
        let synced = self.layout.name(slot).0.shows_only_synced() && !planted(Fault::UnsyncedShown);
        if synced { partition.durable } else { partition.next }
    }

    /// Reads what is in memory; gives the rest as what is to be read from the disk.
    pub(super) fn fetch_from_memory(
        &self,
        slot: Slot,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Fetched, ReadError> {
        let state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(ReadError::Closed(reason.clone()));
        }
        let partition = state.partitions[slot.index()];
        if from < partition.start {
            return Err(ReadError::Truncated { from, start: partition.start });
        }
        let end = self.end(slot, &partition);
        if from >= end {
            return Ok(Fetched::Here(Batch { records: Vec::new(), next: from, durable: partition.durable }));
        }
        let floor = state.tails.floor(slot);
        if from < floor {
            return Ok(Fetched::Disk(Wanted { slot, from, below: floor, max_bytes, at_once: false }));
        }
        let records = state.tails.read(slot, from, end, max_bytes);
        let next = records.last().map_or(end, |record| record.offset.next());
        Ok(Fetched::Here(Batch { records, next, durable: partition.durable }))
    }

    /// Blocks on the disk.
    pub(super) fn fetch_from_disk(&self, wanted: Wanted) -> Result<Batch, ReadError> {
        let segments = self.segments();
        let records = read(&self.layout, &segments, (&self.entry_cache, &self.wiped), wanted)?;
        let PartitionState { start, durable, .. } = self.state.lock().partitions[wanted.slot.index()];
        if wanted.from < start {
            return Err(ReadError::Truncated { from: wanted.from, start });
        }
        let next = records.last().map_or(wanted.below, |record| record.offset.next());
        Ok(Batch { records, next, durable })
    }

    /// The segment that a record stands in, and where its payload is in it. `None`: it is not kept. Blocks on the disk.
    pub(super) fn find_payload(
        &self,
        slot: Slot,
        offset: Offset,
    ) -> Result<Option<(Arc<Segment>, Span)>, ReadError> {
        let segments = self.segments();
        let begun = segments.partition_point(|segment| segment.header.next[slot.index()] <= offset);
        let Some(segment) = segments[..begun].last() else { return Ok(None) };
        let found = find_payload(&self.layout, segment, (&self.entry_cache, &self.wiped), (slot, offset))?;
        Ok(found.map(|span| (segment.clone(), span)))
    }

    /// From now on nobody reads these payloads.
    pub(super) fn hide(&self, slot: Slot, offsets: &[Offset]) {
        self.wiped.hide(slot, offsets);
        let mut state = self.state.lock();
        for offset in offsets {
            state.tails.wipe(slot, *offset);
        }
    }

    /// Number of the segment that is written to.
    pub(super) fn active(&self) -> u64 {
        self.segments.read().last().map_or(0, |last| last.header.number)
    }

    /// Hands to the writer what is to be overwritten where it writes. One that has ended drops it, which its owner hears.
    pub(super) fn hand_over(&self, overwrite: Overwrite) {
        self.overwrites.lock().push(overwrite);
        if self.state.lock().closed.is_some() {
            drop(self.take_overwrites());
        }
    }

    pub(super) fn take_overwrites(&self) -> Vec<Overwrite> {
        std::mem::take(&mut self.overwrites.lock())
    }

    pub(super) async fn wait(&self, slot: Slot, from: Offset) -> Result<(), ReadError> {
        let readable = &self.readable[slot.index()];
        loop {
            let mut more = std::pin::pin!(readable.notified());
            more.as_mut().enable();
            {
                let state = self.state.lock();
                let partition = state.partitions[slot.index()];
                if self.end(slot, &partition) > from || partition.start > from {
                    return Ok(());
                }
                if let Some(reason) = &state.closed {
                    return Err(ReadError::Closed(reason.clone()));
                }
            }
            more.await;
        }
    }

    pub(super) fn synced_position(&self) -> u64 {
        self.state.lock().synced_position
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        (limits::UNSYNCED_BYTES - self.room.available_permits().min(limits::UNSYNCED_BYTES)) as u64
    }

    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().clone()
    }

    /// Replaces the list of segments: one was added at its end, or some were removed from its beginning.
    pub(super) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        *self.segments.write() = Arc::new(segments);
    }

    /// Hides what stands below `start`.
    pub(super) fn raise_start(&self, slot: Slot, start: Offset) {
        let mut state = self.state.lock();
        let partition = &mut state.partitions[slot.index()];
        partition.start = partition.start.max(start);
    }

    pub(super) fn begin_ending(&self, ending: Ending) {
        {
            let mut state = self.state.lock();
            if state.ending != Some(Ending::Kill) {
                state.ending = Some(ending);
            }
            if state.closed.is_none() && ending == Ending::Kill {
                state.closed = Some("the log was killed".to_owned());
            }
            state.writer = Writer::Busy;
        }
        self.wake_writer();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state.lock().ending.is_some()
    }

    /// Blocks until something is due or `tick` has come.
    pub(super) fn next_due_blocking(&self, tick: Instant) -> Option<Due> {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let until = match state.due(now) {
                Due::At(at) => at.map_or(tick, |at| at.min(tick)),
                due => return Some(due),
            };
            if now >= tick {
                return None;
            }
            self.work.wait_until(&mut state, until.into_std());
        }
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        self.state.lock().due(now)
    }

    /// The group is durable: everyone who waits for it hears so.
    pub(super) fn complete(&self, group: Group, position: u64) {
        let mut touched: Vec<Slot> = Vec::new();
        let mut charge = 0;
        {
            let mut state = self.state.lock();
            state.synced_position = position;
            for append in &group.appends {
                charge += append.charge;
                state.synced_sequence = append.sequence + 1;
                let Some(slot) = append.slot else { continue };
                state.partitions[slot.index()].durable = append.end();
                if !touched.contains(&slot) {
                    touched.push(slot);
                }
            }
            let synced = state.synced_sequence;
            state.tails.shrink(synced);
        }
        self.room.add_permits(charge);
        for slot in touched {
            if self.layout.name(slot).0.shows_only_synced() {
                self.readable[slot.index()].notify_waiters();
            }
        }
        for append in group.appends {
            let range = append.first..append.end();
            // Nobody has to wait for it.
            let _ = append.done.send(Ok(range));
        }
    }

    /// Nothing more is taken, and nothing of what waits will be durable.
    pub(super) fn close(&self, group: Group, reason: &str) {
        let queue = {
            let mut state = self.state.lock();
            state.closed.get_or_insert_with(|| reason.to_owned());
            state.urgent = 0;
            state.queued_charge = 0;
            std::mem::take(&mut state.queue)
        };
        drop(self.take_overwrites());
        self.room.close();
        self.large.close();
        for append in group.appends.into_iter().chain(queue) {
            let _ = append.done.send(Err(AppendError::Closed(reason.to_owned())));
        }
        for readable in &self.readable {
            readable.notify_waiters();
        }
    }
}

/// What a read found without the disk.
pub(super) enum Fetched {
    Here(Batch),
    Disk(Wanted),
}
