//! From the log to the tables: reads all partitions, lets records gather for a moment, folds them, writes rows and
//! positions in one transaction.
//!
//! Between topics there is an order: a delivery is not folded before its message, a fact not before its delivery. The
//! gate is a position of the other topic. It never closes for good: where the other partition was read to its end and
//! the record is not there, it left the log, and nobody waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fanfare_core::{AttemptRecord, Delivery, Offset, Partition, WorkerCheckpoint};
use fanfare_log::{ReadError, Table, Topic};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    changes::Source,
    error::QueryError,
    feed::{Feed, Record},
    fold::{Fold, Folded, Range, highest_delivery, named_deliveries},
    keys::MessageKey,
    load, retention,
    shared::Shared,
    store::Store,
};

/// Records gather for so long, unless somebody waits for them or there are many.
const LINGER: Duration = Duration::from_millis(200);
/// Records that need not wait for more; one batch takes about so many at most.
const BATCH_RECORDS: usize = 8_192;
/// Where records wait for those of another topic, that is looked at again after this.
const BLOCKED: Duration = Duration::from_millis(20);
/// While the disk is full, room is looked for so often.
const NO_ROOM: Duration = Duration::from_secs(1);
const LAG_EVERY: Duration = Duration::from_secs(2);

type Place = (Source, Partition);
/// What has to be folded before a record of a partition.
type Gate = fn(Partition, &Record) -> Option<(Place, Offset)>;

/// A record before which another has to be folded.
struct Blocked {
    record: (Place, Offset),
    by: (Place, Offset),
}

/// One run over all partitions, from where the tables are.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    store: &'a dyn Store,
    fold: Fold,
    feeds: BTreeMap<Place, Feed>,
    arrived: Arc<Notify>,
    /// Facts that wait for their rows.
    ranges: BTreeMap<Partition, Range>,
    /// Records that wait for nothing more: what they speak of is not in the log.
    waived: BTreeSet<(Place, Offset)>,
    /// Records that wait, and for what.
    blocked: Vec<Blocked>,
    room: usize,
    /// The last batch had nothing that could be folded.
    stuck: bool,
    lag_due: Instant,
    retention_due: Instant,
}

/// Projects until `stop`; an error says that the tables could not be read or written. What was not written is done
/// again by the next session.
pub(crate) async fn run(
    shared: &Shared,
    store: &dyn Store,
    stop: &CancellationToken,
) -> Result<(), QueryError> {
    let mut fold = Fold::default();
    load::restore(store, &mut fold).await?;
    for partition in (0..shared.log.partitions(Topic::Deliveries)).map(Partition) {
        begin(shared, &mut fold, partition).await?;
    }
    let arrived = Arc::new(Notify::new());
    let mut feeds = BTreeMap::new();
    for (source, partition) in shared.places() {
        let position = fold.position(source, partition);
        let feed = Feed::start(shared, source, partition, position, Arc::clone(&arrived));
        feeds.insert((source, partition), feed);
    }
    shared.publish(&fold);
    let now = Instant::now();
    let mut session = Session {
        shared,
        store,
        fold,
        feeds,
        arrived,
        ranges: BTreeMap::new(),
        waived: BTreeSet::new(),
        blocked: Vec::new(),
        room: 0,
        stuck: false,
        lag_due: now,
        retention_due: now + retention::EVERY,
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = session.project() => ended,
    }
}

/// Where nothing of a partition was folded and its beginning left the log, its worker knows what it refused.
async fn begin(shared: &Shared, fold: &mut Fold, partition: Partition) -> Result<(), QueryError> {
    if fold.position(Source::Deliveries, partition) > Offset::ZERO
        || shared.log.bounds(Topic::Deliveries, partition).await?.start == Offset::ZERO
    {
        return Ok(());
    }
    let entries = shared.log.scan(Table::Lanes, partition).await?;
    // `epoch (8 bytes) · endpoint (4 bytes)`, the highest endpoint for the checkpoint of the epoch.
    let checkpoints =
        entries.iter().filter(|(key, _)| key.len() == 12 && key.ends_with(&u32::MAX.to_be_bytes()));
    let newest = checkpoints.max_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(checkpoint) = newest.and_then(|(_, value)| WorkerCheckpoint::decode(value).ok()) {
        fold.begin_behind(partition, checkpoint);
    }
    Ok(())
}

impl Session<'_> {
    async fn project(&mut self) -> Result<(), QueryError> {
        loop {
            self.gather().await;
            self.stuck = !self.batch().await?;
            if self.stuck {
                self.open_gates().await?;
            }
            if Instant::now() >= self.lag_due {
                self.shared.measure_lag(&self.fold).await;
                self.lag_due = Instant::now() + LAG_EVERY;
            }
            if Instant::now() >= self.retention_due {
                let more = retention::run(self.shared, self.store, &mut self.fold).await?;
                self.retention_due = Instant::now() + if more { retention::AGAIN } else { retention::EVERY };
            }
        }
    }

    /// Waits for records, and then a moment for more.
    async fn gather(&mut self) {
        if self.stuck && self.buffered() > 0 {
            drop(timeout(BLOCKED, self.arrived.notified()).await);
        }
        let mut until = None;
        loop {
            self.feeds.values_mut().for_each(Feed::pull);
            let buffered = self.buffered();
            if buffered == 0 && self.ranges.is_empty() {
                tokio::select! {
                    () = self.arrived.notified() => continue,
                    () = sleep_until(self.lag_due.min(self.retention_due)) => return,
                }
            }
            if buffered >= BATCH_RECORDS || self.shared.hurry.is_on() || !self.ranges.is_empty() {
                return;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + LINGER);
            tokio::select! {
                () = self.arrived.notified() => {}
                () = self.shared.hurry.begun() => return,
                () = sleep_until(until) => return,
            }
        }
    }

    fn buffered(&self) -> usize {
        self.feeds.values().map(|feed| feed.queue.len()).sum()
    }

    /// Folds what may be folded and writes it; whether there was anything.
    async fn batch(&mut self) -> Result<bool, QueryError> {
        self.blocked.clear();
        self.room = BATCH_RECORDS;
        for (partition, range) in std::mem::take(&mut self.ranges) {
            self.range_step(partition, &range).await?;
        }
        self.fold_messages();
        self.fold_deliveries().await?;
        self.fold_attempts().await?;
        if !self.fold.is_changed() {
            return Ok(false);
        }
        self.wait_for_room().await;
        let begun = Instant::now();
        let statements = self.fold.take().into_statements();
        self.store.write(statements).await?;
        self.shared.meters.written(BATCH_RECORDS - self.room, begun.elapsed());
        self.shared.publish(&self.fold);
        Ok(true)
    }

    /// A disk that takes no messages is for what happens to those that it took.
    async fn wait_for_room(&self) {
        let mut told = false;
        while self.shared.is_beside_log && !self.shared.log.has_room(Topic::Messages) {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("history waits: there is no room left on the device");
            }
            sleep(NO_ROOM).await;
        }
    }

    /// What every topic may have.
    fn fold_other(&mut self, source: Source, partition: Partition, offset: Offset, record: &Record) {
        match record {
            Record::Passed => self.fold.pass(source, partition, offset),
            Record::Lost => self.fold.lose(source, partition, offset),
            _ => self.fold.unreadable(source, partition, offset),
        }
    }

    fn fold_messages(&mut self) {
        for partition in self.partitions(Source::Messages) {
            while let Some((offset, record)) = self.next((Source::Messages, partition), |_, _| None) {
                match record {
                    Record::Message(message) => self.fold.message(partition, offset, message),
                    other => self.fold_other(Source::Messages, partition, offset, &other),
                }
            }
        }
    }

    async fn fold_deliveries(&mut self) -> Result<(), QueryError> {
        let mut taken = Vec::new();
        for partition in self.partitions(Source::Deliveries) {
            while let Some((offset, record)) = self.next((Source::Deliveries, partition), needed_message) {
                taken.push((partition, offset, record));
            }
        }
        let injected: BTreeSet<MessageKey> =
            taken.iter().filter_map(|(.., record)| injected(record)).collect();
        if !injected.is_empty() {
            load::groups(self.store, &mut self.fold, &injected).await?;
        }
        for (partition, offset, record) in taken {
            match record {
                Record::Delivery(delivery) => self.fold.delivery(partition, offset, &delivery),
                other => self.fold_other(Source::Deliveries, partition, offset, &other),
            }
        }
        Ok(())
    }

    async fn fold_attempts(&mut self) -> Result<(), QueryError> {
        let mut taken = Vec::new();
        for partition in self.partitions(Source::Attempts) {
            while let Some((offset, record)) = self.next((Source::Attempts, partition), needed_delivery) {
                taken.push((partition, offset, record));
            }
        }
        let facts = || taken.iter().filter_map(|(.., record)| facts_of(record));
        let unknown: BTreeSet<_> =
            facts().flat_map(named_deliveries).filter(|key| !self.fold.is_tracked(key)).collect();
        for (key, state) in load::deliveries(self.store, unknown).await? {
            self.fold.track(key, state);
        }
        let groups = self.fold.in_groups(facts().flat_map(named_deliveries));
        load::groups(self.store, &mut self.fold, &groups).await?;

        let mut stopped = BTreeSet::new();
        // Behind a range facts wait for the next batch.
        let mut back: BTreeMap<Partition, Vec<(Offset, Record)>> = BTreeMap::new();
        for (partition, offset, record) in taken {
            if stopped.contains(&partition) {
                back.entry(partition).or_default().push((offset, record));
                continue;
            }
            let Some(facts) = facts_of(&record) else {
                self.fold_other(Source::Attempts, partition, offset, &record);
                continue;
            };
            if let Folded::AtRange(range) = self.fold.record(partition, offset, facts) {
                self.ranges.insert(partition, range);
                stopped.insert(partition);
                back.entry(partition).or_default().push((offset, record));
            }
        }
        for (partition, records) in back {
            if let Some(feed) = self.feeds.get_mut(&(Source::Attempts, partition)) {
                feed.give_back(records);
            }
        }
        Ok(())
    }

    /// Settles some of a range's deliveries. All rows of earlier batches are written.
    async fn range_step(&mut self, partition: Partition, range: &Range) -> Result<(), QueryError> {
        let (rows, until) = load::range_step(self.store, range).await?;
        let keys: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
        for (key, state) in rows {
            self.fold.track(key, state);
        }
        let groups = self.fold.in_groups(keys.iter().copied());
        load::groups(self.store, &mut self.fold, &groups).await?;
        self.fold.range_step(partition, range, &keys, until);
        Ok(())
    }

    fn partitions(&self, source: Source) -> Vec<Partition> {
        self.feeds.keys().filter(|(of, _)| *of == source).map(|(_, partition)| *partition).collect()
    }

    /// The next record of a partition, unless the batch is full or the gate that it needs is closed.
    fn next(&mut self, place: Place, needed: Gate) -> Option<(Offset, Record)> {
        let (offset, record) = self.feeds.get(&place)?.queue.front()?;
        let at = (place, *offset);
        if self.room == 0 {
            return None;
        }
        if let Some(by) = needed(place.1, record)
            && !self.is_folded(by)
            && !self.waived.remove(&at)
        {
            self.blocked.push(Blocked { record: at, by });
            return None;
        }
        self.room -= 1;
        self.feeds.get_mut(&place)?.queue.pop_front()
    }

    /// Whether the record there was folded, or its partition stands.
    fn is_folded(&self, (place, offset): (Place, Offset)) -> bool {
        offset < self.fold.position(place.0, place.1) || self.feeds.get(&place).is_none_or(Feed::stands)
    }

    /// What was read to its end without the record that is waited for does not have it.
    async fn open_gates(&mut self) -> Result<(), QueryError> {
        for Blocked { record, by: (place, offset) } in std::mem::take(&mut self.blocked) {
            let bounds = match self.shared.log.bounds(place.0.topic(), place.1).await {
                Ok(bounds) => bounds,
                Err(ReadError::Unavailable(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if self.fold.position(place.0, place.1) >= bounds.high_watermark {
                tracing::warn!(topic = place.0.topic().as_str(), partition = %place.1, %offset,
                    "a record that others speak of is not in the log; history goes on without it");
                self.waived.insert(record);
            }
        }
        Ok(())
    }
}

/// The message that a delivery record is about.
fn needed_message(_: Partition, record: &Record) -> Option<(Place, Offset)> {
    let Record::Delivery(delivery) = record else { return None };
    match &**delivery {
        Delivery::Injected { partition, offset, .. } => Some(((Source::Messages, *partition), *offset)),
        routed => routed.source().map(|source| ((Source::Messages, source.partition), source.offset)),
    }
}

/// The last delivery that facts are about.
fn needed_delivery(partition: Partition, record: &Record) -> Option<(Place, Offset)> {
    facts_of(record).and_then(highest_delivery).map(|offset| ((Source::Deliveries, partition), offset))
}

fn facts_of(record: &Record) -> Option<&AttemptRecord> {
    match record {
        Record::Attempts(facts) => Some(facts),
        _ => None,
    }
}

fn injected(record: &Record) -> Option<MessageKey> {
    match record {
        Record::Delivery(delivery) => match &**delivery {
            Delivery::Injected { partition, offset, .. } => {
                Some(MessageKey { partition: *partition, offset: *offset })
            }
            _ => None,
        },
        _ => None,
    }
}
