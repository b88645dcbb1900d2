//! Snapshots: lanes that changed, then the checkpoint that covers them, then what that makes superfluous, in one write
//! of which a crash leaves a beginning.

use std::{collections::BTreeSet, ops::Range, pin::Pin, sync::Arc, task::Poll};

use bytes::Bytes;
use fanfare_core::{
    AttemptRecord, Offset, Partition, WorkerCheckpoint, limits,
    planted::{Fault, planted},
};
use fanfare_log::{AppendError, BoxFuture, Log, Sync, Table, Topic};
use tokio::time::Instant;

use super::{Worker, cadence::Cadence};
use crate::{
    recover::{self, LaneKey},
    send::Transport,
};

/// An idle lane's slot, with its connection, is kept for this long.
const IDLE: std::time::Duration = std::time::Duration::from_secs(20);
/// Between two writes while the log finds one too large.
const TOO_LARGE: std::time::Duration = std::time::Duration::from_mins(1);

/// The write under way and what the next one has to do.
pub(super) struct State {
    cadence: Cadence,
    writing: Option<BoxFuture<'static, Result<(), AppendError>>>,
    /// Of older epochs, or not removed when they should have been; removed behind the next checkpoint.
    stale_keys: Vec<Bytes>,
    /// What the write under way removes.
    removing: Vec<Bytes>,
    /// All lanes are to be written, changed or not.
    all: bool,
    last: Option<WorkerCheckpoint>,
}

impl State {
    pub(super) fn new(partition: Partition, stale_keys: Vec<Bytes>) -> Self {
        // The first one is written at once: the next start is to fold as little as possible.
        let cadence = Cadence::new(limits::CHECKPOINT_EVERY, partition);
        Self { cadence, writing: None, stale_keys, removing: Vec::new(), all: true, last: None }
    }

    pub(super) fn due(&self) -> Instant {
        self.cadence.due()
    }

    /// Waits for the write under way; pends where there is none. Cancel-safe.
    pub(super) async fn written(&mut self) -> Result<(), AppendError> {
        let result = std::future::poll_fn(|context| match &mut self.writing {
            Some(writing) => Pin::new(writing).poll(context),
            None => Poll::Pending,
        })
        .await;
        self.writing = None;
        match result {
            Err(AppendError::Full { .. }) => {}
            Err(error @ AppendError::TooLarge { .. }) => {
                tracing::error!(%error, "snapshots of lanes are not written: raise max.message.bytes of `lanes`");
                self.cadence.not_before(Instant::now() + TOO_LARGE);
            }
            other => return other,
        }
        // The fold is longer then, that is all. The next checkpoint speaks of what this one should have written, too.
        self.all = true;
        self.stale_keys.append(&mut self.removing);
        Ok(())
    }

    /// What is still to be removed, but for what is written now.
    fn take_stale(&mut self, entries: &[(Bytes, Option<Bytes>)]) -> Vec<(Bytes, Option<Bytes>)> {
        let mut stale: BTreeSet<Bytes> = std::mem::take(&mut self.stale_keys).into_iter().collect();
        for (key, _) in entries {
            stale.remove(key);
        }
        stale.into_iter().map(|key| (key, None)).collect()
    }

    pub(super) async fn finish(&mut self) -> Result<(), AppendError> {
        if self.writing.is_some() { self.written().await } else { Ok(()) }
    }
}

impl<T: Transport> Worker<T> {
    /// Writes changed lanes and the checkpoint in the background. The facts that the snapshots contain are appended
    /// first: a table is never ahead of the log.
    pub(super) async fn write_checkpoint(&mut self) -> Result<(), AppendError> {
        self.checkpoint.cadence.done();
        if self.checkpoint.writing.is_some() || !self.facts.has_room() {
            return Ok(());
        }
        if !planted(Fault::SnapshotAheadOfFacts) {
            self.facts.flush(Sync::Lazy).await?;
            if !self.facts.has_room() {
                return Ok(());
            }
        }
        let now = self.steady.now();
        let (mut entries, mut removals) = (Vec::new(), Vec::new());
        let all = std::mem::take(&mut self.checkpoint.all);
        if planted(Fault::OldLanesRemovedFirst) {
            entries.append(&mut self.checkpoint.take_stale(&[]));
        }
        let mut gone = Vec::new();
        let wall = self.shared.options.clock.now();
        for (&number, slot) in &mut self.slots {
            if !slot.behind {
                slot.lane.pass(self.tail);
            }
            // A lane whose snapshot was newer than its checkpoint is ahead of the tail: without it the records between
            // them would be new to the next owner.
            let idle = slot.lane.is_idle() && !slot.behind && slot.lane.next() <= self.tail;
            if slot.dirty || all {
                let key = recover::key(self.epoch, LaneKey::Lane(number));
                if idle {
                    removals.push((key.clone(), None));
                }
                // An idle lane too: until the checkpoint is written the one before counts, and facts that this lane
                // knows are not folded again.
                entries.push((key, Some(recover::encode_lane(slot, now, wall))));
            }
            slot.dirty = false;
            if idle && now.since(slot.touched) > IDLE {
                gone.push(number);
            }
        }
        for number in gone {
            self.set_timer(number, None);
            self.slots.remove(&number);
            self.shared.transport.forget(number);
        }
        let mut checkpoint = WorkerCheckpoint {
            epoch: self.epoch,
            attempts: self.followed,
            deliveries: self.tail,
            ..WorkerCheckpoint::default()
        };
        self.rule.save(&mut checkpoint);
        if entries.is_empty() && !all && self.checkpoint.last.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        let covering = (recover::key(self.epoch, LaneKey::Checkpoint), Some(checkpoint.encode()));
        self.checkpoint.last = Some(checkpoint);
        let log = Arc::clone(&self.shared.options.log);
        let partition = self.partition;
        if planted(Fault::CheckpointBeforeLanes) {
            self.checkpoint.writing = Some(Box::pin(async move {
                log.put(Table::Lanes, partition, vec![covering]).await?;
                log.put(Table::Lanes, partition, entries).await
            }));
            return Ok(());
        }
        // Behind what replaces them: a crash in between must not leave the old checkpoint without its lanes.
        removals.append(&mut self.checkpoint.take_stale(&entries));
        entries.push(covering);
        entries.append(&mut removals);
        let removed = entries.iter().filter(|(_, value)| value.is_none());
        self.checkpoint.removing = removed.map(|(key, _)| key.clone()).collect();
        let (epoch, followed, written) = (self.epoch, self.followed, self.facts.written());
        self.checkpoint.writing = Some(Box::pin(async move {
            let facts = followed..written.await;
            if superseded(&*log, partition, epoch, facts).await? && !planted(Fault::EpochIgnored) {
                return Ok(());
            }
            log.put(Table::Lanes, partition, entries).await
        }));
        Ok(())
    }
}

/// Whether a newer claim stands before the last of these facts: then the snapshots may contain what does not count,
/// and the next owner would take them for the newest. This worker ends when it follows `attempts` up to there.
async fn superseded(
    log: &dyn Log,
    partition: Partition,
    epoch: Offset,
    facts: Range<Offset>,
) -> Result<bool, AppendError> {
    let mut from = facts.start;
    while from < facts.end {
        let batch = log
            .fetch(Topic::Attempts, partition, from, limits::CATCH_UP_RUN_BYTES)
            .await
            .map_err(|error| AppendError::Unavailable(error.to_string()))?;
        for record in &batch.records {
            let newer = record.offset > epoch && record.offset < facts.end;
            if newer && matches!(AttemptRecord::decode(&record.head), Ok(AttemptRecord::Claim { .. })) {
                return Ok(true);
            }
        }
        if batch.next <= from {
            return Ok(false);
        }
        from = batch.next;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Its lanes are no longer marked as changed, and what it should have removed may be gone from memory.
    #[tokio::test]
    async fn what_the_log_did_not_take_is_written_with_the_next_checkpoint() {
        let key = |name| Bytes::from_static(name);
        let too_large = AppendError::TooLarge { size_bytes: 2, limit_bytes: 1 };
        for refused in [AppendError::Full { topic: "lanes" }, too_large] {
            let mut state = State { all: false, ..State::new(Partition(0), Vec::new()) };
            state.removing = vec![key(b"idle"), key(b"idle again")];
            state.writing = Some(Box::pin(std::future::ready(Err(refused))));
            assert_eq!(state.written().await, Ok(()));
            assert!(state.all);
            let written = [(key(b"idle again"), Some(key(b"it is not idle now")))];
            assert_eq!(state.take_stale(&written), [(key(b"idle"), None)]);
            assert!(state.take_stale(&[]).is_empty());
        }
    }

    #[tokio::test]
    async fn what_the_log_took_is_not_written_again() {
        let mut state =
            State { all: false, removing: vec![Bytes::new()], ..State::new(Partition(0), Vec::new()) };
        state.writing = Some(Box::pin(std::future::ready(Ok(()))));
        assert_eq!(state.written().await, Ok(()));
        assert!(!state.all && state.take_stale(&[]).is_empty());
        state.writing = Some(Box::pin(std::future::ready(Err(AppendError::Closed(String::new())))));
        assert!(state.written().await.is_err(), "the worker ends");
    }
}
