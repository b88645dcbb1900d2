//! What a partition has to tell the log: facts are gathered for a moment, appended together, and followed until
//! they are durable.

use std::{collections::VecDeque, pin::Pin, sync::Arc, task::Poll};

use fanfare_core::{AttemptRecord, Fact, Offset, Partition, limits};
use fanfare_log::{AppendError, Log, NewRecord, Pending, Sync, Topic};
use tokio::{sync::watch, time::Instant};

/// Appends facts of one partition under one epoch.
pub(crate) struct FactLog {
    log: Arc<dyn Log>,
    partition: Partition,
    epoch: Offset,
    gathered: Vec<Fact>,
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
const RETRY: std::time::Duration = std::time::Duration::from_millis(250);

impl FactLog {
    pub(crate) fn new(log: Arc<dyn Log>, partition: Partition, epoch: Offset) -> Self {
        Self {
            log,
            partition,
            epoch,
            gathered: Vec::new(),
            due: None,
            pending: VecDeque::new(),
            appended: 0,
            durable: watch::Sender::new((0, epoch)),
            full: false,
        }
    }

    pub(crate) fn push(&mut self, fact: Fact) {
        self.due.get_or_insert_with(|| Instant::now() + limits::FACT_FLUSH);
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
        if self.gathered.is_empty() {
            return Ok(());
        }
        let facts = std::mem::take(&mut self.gathered);
        let record = AttemptRecord::Facts { epoch: self.epoch, facts };
        let append =
            self.log.append(Topic::Attempts, self.partition, vec![NewRecord::head(record.encode())], sync);
        match append.await {
            Ok(pending) => {
                self.full = false;
                self.pending.push_back(pending);
                self.appended += 1;
                if self.pending.len() > PENDING {
                    self.durable().await?;
                }
                Ok(())
            }
            Err(AppendError::Full { .. }) => {
                let AttemptRecord::Facts { facts, .. } = record else { unreachable!("made above") };
                self.gathered = facts;
                self.full = true;
                self.due = Some(Instant::now() + RETRY);
                Ok(())
            }
            Err(error) => Err(error),
        }
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
