//! What a partition has to tell the log: facts are gathered for a moment, appended together, and followed until
//! they are durable.

use std::{collections::VecDeque, pin::Pin, sync::Arc, task::Poll, time::Duration};

use fanfare_core::{AttemptRecord, Fact, Offset, Partition, limits};
use fanfare_log::{AppendError, Log, NewRecord, Pending, Sync, Topic};
use tokio::{sync::watch, time::Instant};

/// Appends facts of one partition under one epoch.
pub(crate) struct FactLog {
    log: Arc<dyn Log>,
    partition: Partition,
    epoch: Offset,
    gathered: Vec<Fact>,
    /// So long: what the log needs then comes on top.
    gather: Duration,
    /// So many go into one record; fewer once the log found one too large.
    per_record: usize,
    /// When the oldest gathered fact has to be appended.
    due: Option<Instant>,
    pending: VecDeque<Pending>,
    /// How many appends were made, and how many of them are durable, up to which offset.
    appended: u64,
    durable: watch::Sender<(u64, Offset)>,
    full: bool,
}

/// Facts in one record.
const FACTS_PER_RECORD: usize = 1_024;
/// Appends not yet durable, after which a flush waits for the oldest.
const PENDING: usize = 256;
/// When the disk is full, a flush is tried again after this.
const RETRY: Duration = Duration::from_millis(250);

impl FactLog {
    pub(crate) fn new(log: Arc<dyn Log>, partition: Partition, epoch: Offset) -> Self {
        let gather = limits::FACT_DURABLE.saturating_sub(log.lazy_delay());
        Self {
            log,
            partition,
            epoch,
            gathered: Vec::new(),
            gather,
            per_record: FACTS_PER_RECORD,
            due: None,
            pending: VecDeque::new(),
            appended: 0,
            durable: watch::Sender::new((0, epoch)),
            full: false,
        }
    }

    pub(crate) fn push(&mut self, fact: Fact) {
        self.due.get_or_insert_with(|| Instant::now() + self.gather);
        self.gathered.push(fact);
    }

    /// When [`FactLog::flush`] wants to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.gathered.len() >= FACTS_PER_RECORD && !self.full { Some(Instant::now()) } else { self.due }
    }

    /// Whether an outcome could be recorded; if not, nothing may be sent.
    pub(crate) fn has_room(&self) -> bool {
        !self.full && self.log.has_room(Topic::Attempts)
    }

    /// Appends what was gathered. On a full disk it is kept and tried again later.
    pub(crate) async fn flush(&mut self, sync: Sync) -> Result<(), AppendError> {
        self.due = None;
        while !self.gathered.is_empty() {
            let count = self.gathered.len().min(self.per_record);
            let later = self.gathered.split_off(count);
            let facts = std::mem::replace(&mut self.gathered, later);
            let record = AttemptRecord::Facts { epoch: self.epoch, facts };
            let records = vec![NewRecord::head(record.encode())];
            let error = match self.log.append(Topic::Attempts, self.partition, records, sync).await {
                Ok(pending) => {
                    self.sent(pending).await?;
                    continue;
                }
                Err(error) => error,
            };
            let AttemptRecord::Facts { mut facts, .. } = record else { unreachable!("made above") };
            facts.append(&mut self.gathered);
            self.gathered = facts;
            match error {
                AppendError::Full { .. } => {
                    self.full = true;
                    self.due = Some(Instant::now() + RETRY);
                    return Ok(());
                }
                AppendError::TooLarge { .. } if count > 1 => self.per_record = count / 2,
                error => return Err(error),
            }
        }
        Ok(())
    }

    async fn sent(&mut self, pending: Pending) -> Result<(), AppendError> {
        self.full = false;
        self.pending.push_back(pending);
        self.appended += 1;
        if self.pending.len() > PENDING {
            self.durable().await?;
        }
        Ok(())
    }

    /// Waits until the oldest append is durable; pends where there is none. Cancel-safe.
    pub(crate) async fn durable(&mut self) -> Result<(), AppendError> {
        let result = std::future::poll_fn(|context| match self.pending.front_mut() {
            Some(pending) => Pin::new(pending).poll(context),
            None => Poll::Pending,
        })
        .await;
        self.pending.pop_front();
        let end = result?.end;
        self.durable.send_modify(|durable| *durable = (durable.0 + 1, end));
        Ok(())
    }

    /// Resolves when all that was appended so far is durable, with the end of it; never if that fails. Somebody has
    /// to drive [`FactLog::durable`] meanwhile.
    pub(crate) fn written(&self) -> impl Future<Output = Offset> + use<> {
        let (appended, mut durable) = (self.appended, self.durable.subscribe());
        async move {
            let end = durable.wait_for(|(count, _)| *count >= appended).await.map(|durable| durable.1);
            match end {
                Ok(end) => end,
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Everything so far, durable.
    pub(crate) async fn finish(&mut self) -> Result<(), AppendError> {
        self.flush(Sync::Now).await?;
        while !self.pending.is_empty() {
            self.durable().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;
    use fanfare_core::{Attempt, EndpointNumber, Outcome, Timestamp, Trigger};
    use fanfare_log::sim::{SimCluster, SimOptions};

    use super::*;

    fn fact(offset: u64, response: &Bytes) -> Fact {
        Fact::Attempted(Attempt {
            endpoint: EndpointNumber(1),
            offset: Offset(offset),
            number: 1,
            trigger: Trigger::Scheduled,
            at: Timestamp::ZERO,
            duration: Duration::ZERO,
            outcome: Outcome::Delivered,
            status: 204,
            error: None,
            response: response.clone(),
            due: None,
            deadline_used: Duration::ZERO,
        })
    }

    /// The simulated log takes 32 MiB at once.
    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_together_is_appended_one_by_one() {
        let log = SimCluster::new(SimOptions { gaps_per_mille: 0, ..SimOptions::new(1, 1, 1) }).join();
        let mut facts = FactLog::new(log.clone(), Partition(0), Offset::ZERO);
        let response = Bytes::from(vec![0; 12 << 20]);
        let pushed: Vec<Fact> = (0..3).map(|offset| fact(offset, &response)).collect();
        pushed.iter().cloned().for_each(|fact| facts.push(fact));
        facts.finish().await.unwrap();
        let mut found = Vec::new();
        for offset in 0..3 {
            let batch = log.fetch(Topic::Attempts, Partition(0), Offset(offset), 1).await.unwrap();
            match AttemptRecord::decode(&batch.records[0].head).unwrap() {
                AttemptRecord::Facts { facts, .. } => found.extend(facts),
                claim @ AttemptRecord::Claim { .. } => panic!("{claim:?}"),
            }
        }
        assert_eq!(found, pushed);

        facts.push(fact(3, &Bytes::from(vec![0; 40 << 20])));
        let refused = facts.flush(Sync::Lazy).await;
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    }
}
