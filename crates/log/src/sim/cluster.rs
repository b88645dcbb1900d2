//! What outlives every simulated process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{Offset, Partition, limits};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{SimLog, partition::SimPartition};
use crate::{
    claims::{Coordinator, Spread},
    contract::{AppendError, Group, NewRecord, Table, Topic},
    random::SplitMix,
};

/// Offsets that a gap skips at most.
const GAP: u64 = 5;

#[derive(Clone, Debug)]
pub struct SimOptions {
    pub seed: u64,
    pub message_partitions: u32,
    pub delivery_partitions: u32,
    /// How long after its append a record becomes durable and readable.
    pub durable_after: Range<Duration>,
    /// Chance that an append is preceded by offsets never used, and that it is followed by one without a record.
    pub gaps_per_mille: u32,
    /// Chance that an append fails with [`AppendError::Unavailable`]; whether it was written is a coin.
    pub failures_per_mille: u32,
    /// How long a member may drain a partition.
    pub drain: Duration,
}

impl SimOptions {
    pub fn new(seed: u64, message_partitions: u32, delivery_partitions: u32) -> Self {
        Self {
            seed,
            message_partitions,
            delivery_partitions,
            durable_after: Duration::from_micros(200)..Duration::from_millis(20),
            gaps_per_mille: 50,
            failures_per_mille: 0,
            drain: limits::DRAIN,
        }
    }

    pub(super) const fn partitions(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Messages | Topic::Dedup => self.message_partitions,
            Topic::Deliveries | Topic::Attempts => self.delivery_partitions,
            Topic::Control => 1,
        }
    }
}

/// The simulated cluster.
#[derive(Clone)]
pub struct SimCluster {
    shared: Arc<Shared>,
}

impl SimCluster {
    pub fn new(options: SimOptions) -> Self {
        let mut partitions = HashMap::new();
        for topic in Topic::ALL {
            for partition in 0..options.partitions(topic) {
                partitions.insert((topic, Partition(partition)), SimPartition::default());
            }
        }
        let state = State {
            random: SplitMix::new(options.seed),
            durable_after: options.durable_after.clone(),
            gaps_per_mille: options.gaps_per_mille,
            failures_per_mille: options.failures_per_mille,
            partitions,
            tables: BTreeMap::new(),
            processes: BTreeMap::new(),
            next_process: 0,
        };
        let group = |partitions| Coordinator::new(partitions, Spread::Even, options.drain);
        let routers = group(options.message_partitions);
        let workers = group(options.delivery_partitions);
        let changed = Notify::new();
        Self { shared: Arc::new(Shared { options, state: Mutex::new(state), changed, routers, workers }) }
    }

    /// The log as a new process sees it.
    pub fn join(&self) -> Arc<SimLog> {
        let mut state = self.shared.state.lock();
        let process = state.next_process;
        state.next_process += 1;
        state.processes.insert(process, Process::default());
        Arc::new(SimLog { shared: self.shared.clone(), process, memberships: Arc::default() })
    }

    /// Retention passes: nothing below `start` is kept.
    pub fn truncate(&self, topic: Topic, partition: Partition, start: Offset) {
        self.shared.state.lock().partition_mut(topic, partition).truncate(start);
        self.shared.changed.notify_waiters();
    }

    pub fn set_failures(&self, per_mille: u32) {
        self.shared.state.lock().failures_per_mille = per_mille;
    }

    pub fn set_durable_after(&self, durable_after: Range<Duration>) {
        self.shared.state.lock().durable_after = durable_after;
    }

    /// A rebalance: partitions move to other members.
    pub fn shake_claims(&self, group: Group) {
        self.shared.coordinator(group).shake();
    }
}

pub(super) struct Shared {
    pub(super) options: SimOptions,
    pub(super) state: Mutex<State>,
    /// Something was appended, lost or truncated.
    pub(super) changed: Notify,
    routers: Arc<Coordinator>,
    workers: Arc<Coordinator>,
}

impl Shared {
    pub(super) fn coordinator(&self, group: Group) -> &Arc<Coordinator> {
        match group {
            Group::Router => &self.routers,
            Group::Delivery => &self.workers,
        }
    }
}

pub(super) struct State {
    random: SplitMix,
    durable_after: Range<Duration>,
    gaps_per_mille: u32,
    failures_per_mille: u32,
    partitions: HashMap<(Topic, Partition), SimPartition>,
    tables: BTreeMap<(Table, Partition), BTreeMap<Bytes, Bytes>>,
    processes: BTreeMap<u64, Process>,
    next_process: u64,
}

/// What one process has under way.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// When everything that it appended to other topics than `messages` and `control` is durable.
    frontier: Option<Instant>,
    in_flight: VecDeque<(Instant, usize)>,
    in_flight_bytes: usize,
    /// Partitions where an append failed: until then all later ones fail as well, so that none is written behind a
    /// lost one.
    failing: HashMap<(Topic, Partition), Instant>,
}

/// When an append finds room.
pub(super) enum Room {
    Now,
    At(Instant),
    /// The process is dead.
    Never,
}

/// What will become of an append.
pub(super) struct Outcome {
    pub(super) at: Instant,
    pub(super) result: Result<Range<Offset>, AppendError>,
}

impl State {
    pub(super) fn is_alive(&self, process: u64) -> bool {
        self.processes.contains_key(&process)
    }

    pub(super) fn partition(&self, topic: Topic, partition: Partition) -> &SimPartition {
        let found = self.partitions.get(&(topic, partition));
        found.unwrap_or_else(|| panic!("{} has no partition {partition}", topic.as_str()))
    }

    fn partition_mut(&mut self, topic: Topic, partition: Partition) -> &mut SimPartition {
        let found = self.partitions.get_mut(&(topic, partition));
        found.unwrap_or_else(|| panic!("{} has no partition {partition}", topic.as_str()))
    }

    /// When there is room for an append.
    pub(super) fn room_at(&mut self, process: u64, size_bytes: usize, now: Instant) -> Room {
        let Some(process) = self.processes.get_mut(&process) else { return Room::Never };
        while let Some((_, bytes)) = process.in_flight.pop_front_if(|(at, _)| *at <= now) {
            process.in_flight_bytes -= bytes;
        }
        if process.in_flight_bytes + size_bytes <= limits::UNSYNCED_BYTES {
            return Room::Now;
        }
        process.in_flight.front().map_or(Room::Now, |(at, _)| Room::At(*at))
    }

    pub(super) fn append(
        &mut self,
        process: u64,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        now: Instant,
    ) -> Outcome {
        let place = (topic, partition);
        let unavailable = || Err(AppendError::Unavailable("injected: request timed out".to_owned()));
        let failing = self.processes.get(&process).and_then(|process| process.failing.get(&place).copied());
        if let Some(until) = failing.filter(|until| *until > now) {
            return Outcome { at: until, result: unavailable() };
        }
        // A checkpoint is handed over when what it speaks of is durable.
        let handed_at = match (topic, self.processes.get(&process).and_then(|process| process.frontier)) {
            (Topic::Dedup, Some(frontier)) => frontier.max(now),
            _ => now,
        };
        let drawn = self.draw_durable_at(handed_at);
        let fails = self.random.per_mille(self.failures_per_mille);
        if fails && self.random.coin() {
            self.note_failure(process, place, drawn);
            return Outcome { at: drawn, result: unavailable() };
        }
        let size_bytes = records.iter().map(NewRecord::size_bytes).sum();
        let range = self.write(process, place, records, handed_at, drawn);
        let at = self.partition(topic, partition).latest().map_or(drawn, |latest| latest.max(drawn));
        self.note_in_flight(process, topic, size_bytes, at);
        if fails {
            self.note_failure(process, place, at);
            return Outcome { at, result: unavailable() };
        }
        Outcome { at, result: Ok(range) }
    }

    fn write(
        &mut self,
        process: u64,
        (topic, partition): (Topic, Partition),
        records: Vec<NewRecord>,
        handed_at: Instant,
        durable_at: Instant,
    ) -> Range<Offset> {
        let gap_before = self.draw_gap();
        let marker_behind = self.draw_gap() > 0 && !records.is_empty();
        let partition = self.partition_mut(topic, partition);
        partition.skip(gap_before);
        let first = partition.next();
        for record in records {
            partition.push(process, Some(record), handed_at, durable_at);
        }
        let range = first..partition.next();
        if marker_behind {
            partition.push(process, None, handed_at, durable_at);
        }
        range
    }

    fn note_in_flight(&mut self, process: u64, topic: Topic, size_bytes: usize, at: Instant) {
        let Some(process) = self.processes.get_mut(&process) else { return };
        if !matches!(topic, Topic::Messages | Topic::Control) {
            process.frontier = Some(process.frontier.map_or(at, |frontier| frontier.max(at)));
        }
        process.in_flight.push_back((at, size_bytes));
        process.in_flight_bytes += size_bytes;
    }

    fn note_failure(&mut self, process: u64, place: (Topic, Partition), until: Instant) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.failing.insert(place, until);
        }
    }

    fn draw_durable_at(&mut self, now: Instant) -> Instant {
        let Range { start, end } = self.durable_after;
        let spread = u64::try_from(end.saturating_sub(start).as_micros()).unwrap_or(u64::MAX);
        now + start + Duration::from_micros(self.random.below(spread))
    }

    fn draw_gap(&mut self) -> u64 {
        if self.random.per_mille(self.gaps_per_mille) { 1 + self.random.below(GAP) } else { 0 }
    }

    pub(super) fn crash(&mut self, process: u64, now: Instant) {
        if self.processes.remove(&process).is_none() {
            return;
        }
        let mut places: Vec<(Topic, Partition)> = self.partitions.keys().copied().collect();
        places.sort_unstable();
        for (topic, partition) in places {
            let undurable = self.partition(topic, partition).undurable(process, now) as u64;
            let kept = self.random.below(undurable + 1);
            let kept = usize::try_from(kept).expect("at most a length");
            self.partition_mut(topic, partition).lose(process, kept, now);
        }
    }

    /// When a put made now is durable; `None` if the process is dead.
    pub(super) fn put_at(&mut self, process: u64, now: Instant) -> Option<Instant> {
        let frontier = self.processes.get(&process)?.frontier;
        Some(self.draw_durable_at(frontier.map_or(now, |frontier| frontier.max(now))))
    }

    /// How many entries of a put are durable first, and when the others are.
    pub(super) fn cut_put(&mut self, entries: usize, at: Instant) -> (usize, Instant) {
        let first = self.random.below(entries as u64 + 1);
        (usize::try_from(first).expect("at most a length"), self.draw_durable_at(at))
    }

    /// Gives whether the process was still there to write it.
    pub(super) fn put(
        &mut self,
        process: u64,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> bool {
        if !self.is_alive(process) {
            return false;
        }
        let values = self.tables.entry((table, partition)).or_default();
        for (key, value) in entries {
            match value {
                Some(value) => drop(values.insert(key, value)),
                None => drop(values.remove(&key)),
            }
        }
        true
    }

    pub(super) fn scan(&self, table: Table, partition: Partition) -> Vec<(Bytes, Bytes)> {
        let values = self.tables.get(&(table, partition));
        values.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
