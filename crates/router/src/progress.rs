//! What was routed, on its way to a checkpoint: batches wait for their appends, checkpoints for theirs.
//!
//! A checkpoint says "everything below was routed, and the appends are durable". So a batch enters it only
//! once all appends of it and of the batches before it are durable. Position and claims stand in one record.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use fanfare_core::{
    ClaimEntry, Offset, Partition, RouterCheckpoint, Timestamp, limits,
    planted::{Fault, planted},
};
use fanfare_log::{AppendError, Log, NewRecord, Pending, Sync, Topic};
use futures_util::future::TryJoinAll;
use tokio::time::Instant;

use crate::{
    dedup::DedupTable,
    error::{SessionError, checkpoint_error, delivery_error},
    held::{self, Change, Recorded},
    maintenance::Maintenance,
};

/// A partition where nothing happens writes its checkpoint anew this often, so that the topic's retention does
/// not take the last one.
const REWRITE_AFTER: std::time::Duration = limits::DEDUP_WINDOW.checked_div(4).expect("four is not zero");

/// A batch that was routed.
pub(crate) struct Routed {
    pub(crate) position: Offset,
    /// In order: delivery partition and source offset of each record sent.
    pub(crate) last_sent: Vec<(Partition, Offset)>,
    pub(crate) claims: Vec<ClaimEntry>,
    pub(crate) held: Vec<Change>,
    /// Record time of its newest message.
    pub(crate) newest: Option<Timestamp>,
    /// It holds the session's first record to some delivery partition. Nothing is sent after it until it is
    /// durable: a worker takes the first record it sees of a session even after a gap, so that must be the first.
    pub(crate) opens: bool,
    pub(crate) durable: TryJoinAll<Pending>,
}

/// Something that [`Progress::settle`] has to act on.
pub(crate) enum Event {
    /// The oldest batch is durable.
    Durable,
    CheckpointDue,
    /// The checkpoint that was being written is durable at this offset.
    Checkpointed(Offset),
    Maintained,
}

pub(crate) struct Progress {
    log: Arc<dyn Log>,
    partition: Partition,
    table: Arc<DedupTable>,
    maintenance: Maintenance,
    /// Oldest first.
    batches: VecDeque<Routed>,
    /// Of the batches in `batches` and everything after them up to the newest durable checkpoint.
    open_claims: usize,
    /// What the next checkpoint will say; nothing new if `changed` is false.
    next: RouterCheckpoint,
    last_sent: BTreeMap<Partition, Offset>,
    held: Recorded,
    routed_at: Timestamp,
    changed: bool,
    written_at: Instant,
    writing: Option<Writing>,
    draining: bool,
    checkpoints: u64,
}

struct Writing {
    pending: Pending,
    claims: Vec<ClaimEntry>,
    routed_at: Timestamp,
}

impl Progress {
    /// Goes on from `checkpoint`, whose claims are in `table` already.
    pub(crate) fn new(
        log: Arc<dyn Log>,
        partition: Partition,
        table: Arc<DedupTable>,
        checkpoint: &RouterCheckpoint,
    ) -> Self {
        Self {
            log,
            partition,
            maintenance: Maintenance::new(Arc::clone(&table)),
            table,
            batches: VecDeque::new(),
            open_claims: 0,
            next: RouterCheckpoint { position: checkpoint.position, ..RouterCheckpoint::default() },
            last_sent: checkpoint.last_sent.iter().copied().collect(),
            held: checkpoint.held.iter().map(|&(due, offset)| (offset, due)).collect(),
            routed_at: Timestamp::from_micros(i64::MIN),
            changed: false,
            written_at: Instant::now(),
            writing: None,
            draining: false,
            checkpoints: 0,
        }
    }

    /// Whether another batch may be routed before something becomes durable.
    pub(crate) fn has_room(&self) -> bool {
        self.batches.len() < limits::ROUTER_BATCHES
            && !self.batches.back().is_some_and(|batch| batch.opens)
            && self.open_claims < limits::ROUTER_CLAIMS_OPEN
            && !self.table.overdue()
    }

    pub(crate) fn push(&mut self, batch: Routed) {
        self.open_claims += batch.claims.len();
        self.batches.push_back(batch);
    }

    /// Whether this session wrote a checkpoint: it does not fail at once, time after time.
    pub(crate) fn has_checkpointed(&self) -> bool {
        self.checkpoints > 0
    }

    /// The next thing to act on. Cancel-safe; pends while there is none.
    pub(crate) async fn next(&mut self) -> Result<Event, SessionError> {
        let due = self.due();
        if planted(Fault::CheckpointBeforeAppends) && !self.batches.is_empty() {
            return Ok(Event::Durable);
        }
        tokio::select! {
            biased;
            durable = oldest_durable(&mut self.batches) => {
                durable.map_err(delivery_error)?;
                Ok(Event::Durable)
            }
            written = written(&mut self.writing) => {
                Ok(Event::Checkpointed(written.map_err(checkpoint_error)?))
            }
            () = tokio::time::sleep_until(due), if self.writing.is_none() => Ok(Event::CheckpointDue),
            () = self.maintenance.next() => Ok(Event::Maintained),
        }
    }

    /// Acts on an event.
    pub(crate) async fn settle(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Durable => {
                let batch = self.batches.pop_front().expect("it was the oldest batch");
                self.next.position = batch.position;
                self.next.claims.extend(batch.claims);
                self.last_sent.extend(batch.last_sent);
                for change in batch.held {
                    held::record(&mut self.held, change);
                }
                self.routed_at = batch.newest.map_or(self.routed_at, |at| at.max(self.routed_at));
                self.changed = true;
            }
            Event::CheckpointDue => self.write().await?,
            Event::Checkpointed(offset) => {
                let Writing { claims, routed_at, .. } = self.writing.take().expect("it was being written");
                self.open_claims -= claims.len();
                self.checkpoints += 1;
                self.table.insert(&claims, offset, routed_at);
                self.maintenance.begin_due();
            }
            Event::Maintained => self.maintenance.begin_due(),
        }
        Ok(())
    }

    /// The next checkpoint does not speak of these any more.
    pub(crate) fn forget(&mut self, gone: Vec<Change>) {
        for change in gone {
            held::record(&mut self.held, change);
        }
        self.changed = true;
    }

    /// Returns when everything routed is durable and in a durable checkpoint.
    pub(crate) async fn finish(&mut self) -> Result<(), SessionError> {
        self.draining = true;
        while self.changed || self.writing.is_some() || !self.batches.is_empty() {
            let event = self.next().await?;
            self.settle(event).await?;
        }
        Ok(())
    }

    /// What [`Fault::ClaimsAheadOfPosition`] does, and what one record of position and claims is there to prevent.
    pub(crate) async fn write_ahead(&mut self, claims: &[ClaimEntry]) -> Result<(), SessionError> {
        let last_sent = self.last_sent.iter().map(|(&to, &offset)| (to, offset)).collect();
        let claims = claims.to_vec();
        let position = self.next.position;
        let checkpoint = RouterCheckpoint { position, last_sent, claims, ..RouterCheckpoint::default() };
        let record = NewRecord::head(checkpoint.encode());
        let appended = self.log.append(Topic::Dedup, self.partition, vec![record], Sync::Now).await;
        appended.map_err(checkpoint_error)?.await.map_err(checkpoint_error)?;
        Ok(())
    }

    fn due(&self) -> Instant {
        let full = self.next.claims.len() >= limits::ROUTER_CHECKPOINT_CLAIMS;
        match self.changed {
            // While draining one checkpoint at the end is enough.
            true if full || (self.draining && self.batches.is_empty()) => self.written_at,
            // All that wait stand in each checkpoint: many of them make it rarer.
            true => {
                let waiting = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
                self.written_at
                    + limits::ROUTER_CHECKPOINT_EVERY
                    + limits::ROUTER_CHECKPOINT_PER_HELD * waiting
            }
            false => self.written_at + REWRITE_AFTER,
        }
    }

    async fn write(&mut self) -> Result<(), SessionError> {
        let position = self.next.position;
        let fresh = RouterCheckpoint { position, ..RouterCheckpoint::default() };
        let mut checkpoint = std::mem::replace(&mut self.next, fresh);
        checkpoint.last_sent = self.last_sent.iter().map(|(&to, &offset)| (to, offset)).collect();
        checkpoint.held = self.held.iter().map(|(&offset, &due)| (due, offset)).collect();
        self.changed = false;
        self.written_at = Instant::now();
        let records = checkpoint.encode_parts().into_iter().map(NewRecord::head).collect();
        let appended = self.log.append(Topic::Dedup, self.partition, records, Sync::Lazy).await;
        let pending = appended.map_err(checkpoint_error)?;
        self.writing = Some(Writing { pending, claims: checkpoint.claims, routed_at: self.routed_at });
        Ok(())
    }
}

async fn oldest_durable(batches: &mut VecDeque<Routed>) -> Result<(), AppendError> {
    match batches.front_mut() {
        Some(batch) => (&mut batch.durable).await.map(drop),
        None => std::future::pending().await,
    }
}

async fn written(writing: &mut Option<Writing>) -> Result<Offset, AppendError> {
    match writing {
        Some(writing) => (&mut writing.pending).await.map(|offsets| offsets.start),
        None => std::future::pending().await,
    }
}
