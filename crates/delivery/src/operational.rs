//! Operational webhooks: an organization is told what becomes of its endpoints and messages, by messages of an application
//! that Fanfare keeps for it ([`fanfare_control::OperationalEvent`]).
//!
//! ```text
//! attempts, deliveries (one partition), control (the first partition's task) ──▶ facts ──▶ messages
//! ```
//!
//! Beside each worker a task follows the log of its partition. It derives what is told from records, never from a moment
//! in memory, and writes down how far it came only behind what it told; so a crash loses nothing. What it then tells again
//! has the same idempotency key, a function of the fact, and the router drops it. That is also why two tasks of one
//! partition, of which one does not know yet that it was replaced, do no harm.
//!
//! While nobody is told anything nothing is read. Endpoints that are told belong to an organization of their own, and
//! what happens to those is told to nobody: there is no loop.

mod facts;
mod notice;
mod position;
mod record;

use std::{sync::Arc, time::Duration};

use fanfare_control::{Control, Unavailable, operational_organization};
use fanfare_core::{Clock, Entropy, Message, MessageId, Offset, Partition, codec::Malformed};
use fanfare_log::{AppendError, Log, NewRecord, ReadError, Sync, Topic};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use self::{facts::Failures, notice::Notice, position::Position, record::run_of};
use crate::{meters::Meters, service::Shared};

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where nobody is told anything, what happens is passed over this often.
const PASS_EVERY: Duration = Duration::from_secs(5);
/// After something failed it is begun again from what was written down.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon it is written down how far it came: behind what was told, and where nothing was.
const SAVE_TOLD: Duration = Duration::from_secs(1);
const SAVE_QUIET: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Control(#[from] Unavailable),
    #[error("{what} cannot be understood: {source}")]
    Malformed { what: &'static str, source: Malformed },
}

impl Error {
    /// Whether the log was closed, or holds what this program does not understand: trying again is of no use.
    fn is_final(&self) -> bool {
        match self {
            Self::Read(error) => !error.is_retryable() && !matches!(error, ReadError::Truncated { .. }),
            Self::Append(error) => matches!(error, AppendError::Closed(_)),
            Self::Control(error) => !error.is_retryable(),
            Self::Malformed { .. } => true,
        }
    }
}

/// Tells what happens in a partition. Ends only when it cannot go on.
pub(crate) async fn run<T: Send + std::marker::Sync + 'static>(shared: Arc<Shared<T>>, partition: Partition) {
    let options = &shared.options;
    let mut said = None;
    loop {
        let begun = Teller::begin(
            (&*options.log, &options.control),
            (&*options.clock, &*options.entropy),
            &shared.meters,
            partition,
        );
        let error = match begun.await {
            Ok(teller) => teller.tell().await,
            Err(error) => error,
        };
        if error.is_final() {
            if matches!(error, Error::Malformed { .. } | Error::Read(ReadError::Corrupt(_))) {
                // Whoever delivers there says it as an error.
                tracing::warn!(%partition, %error, "operational webhooks stand still in this partition");
            }
            return;
        }
        // The same is said once.
        let text = Some(error.to_string());
        if said != text {
            tracing::warn!(%partition, %error, "operational webhooks wait; trying again");
            said = text;
        }
        sleep(AGAIN).await;
    }
}

struct Teller<'a> {
    log: &'a dyn Log,
    control: &'a Control,
    clock: &'a dyn Clock,
    entropy: &'a dyn Entropy,
    meters: &'a Meters,
    partition: Partition,
    at: Position,
    /// As it was written down.
    saved: Option<Position>,
    save_due: Instant,
    failures: Failures,
}

impl<'a> Teller<'a> {
    /// Goes on where the last one was.
    async fn begin(
        (log, control): (&'a dyn Log, &'a Control),
        (clock, entropy): (&'a dyn Clock, &'a dyn Entropy),
        meters: &'a Meters,
        partition: Partition,
    ) -> Result<Self, Error> {
        let saved = Position::load(log, partition).await?;
        let at = saved.clone().unwrap_or_default();
        let failures = Failures::before(log, partition, at.attempts).await?;
        let save_due = Instant::now();
        Ok(Self { log, control, clock, entropy, meters, partition, at, saved, save_due, failures })
    }

    async fn tell(mut self) -> Error {
        let mut pass_due = Instant::now();
        loop {
            let step = if self.anyone_is_told() {
                self.step().await
            } else if Instant::now() >= pass_due {
                pass_due = Instant::now() + PASS_EVERY;
                self.pass().await
            } else {
                Ok(())
            };
            if let Err(error) = step {
                return error;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn anyone_is_told(&self) -> bool {
        self.control.view().anyone_is_told()
    }

    /// Passes over what happened while nobody was told. The ends come first: whatever stands below them was there before
    /// an endpoint that the view does not have by then.
    async fn pass(&mut self) -> Result<(), Error> {
        let attempts = self.end(Topic::Attempts).await?;
        let deliveries = self.end(Topic::Deliveries).await?;
        let control = self.control.apply_to_end().await?;
        if !self.anyone_is_told() {
            self.at = Position { attempts, deliveries, control, ..self.at };
            self.failures.clear();
            self.saved = None;
        }
        Ok(())
    }

    /// Tells what happened up to now.
    async fn step(&mut self) -> Result<(), Error> {
        if self.saved.is_none() {
            // From here on nothing may be missed, whatever happens to this process.
            self.save().await?;
        }
        let attempts = self.end_above(Topic::Attempts, self.at.attempts).await?;
        let deliveries = self.end_above(Topic::Deliveries, self.at.deliveries).await?;
        // Endpoints that were answered before any of this happened are in the view.
        self.control.apply_to_end().await?;
        let mut told = 0;
        // One task for all endpoints: that of the first partition.
        if self.partition == Partition(0) {
            told += self.changes().await?;
        }
        told += self.deliveries(deliveries).await?;
        told += self.attempts(attempts).await?;
        if told > 0 {
            self.save_due = self.save_due.min(Instant::now() + SAVE_TOLD);
        }
        if Instant::now() >= self.save_due && self.saved.as_ref() != Some(&self.at) {
            self.save().await?;
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), Error> {
        self.at.save(self.log, self.partition).await?;
        self.saved = Some(self.at.clone());
        self.save_due = Instant::now() + SAVE_QUIET;
        Ok(())
    }

    /// What is durable.
    async fn end(&self, topic: Topic) -> Result<Offset, Error> {
        Ok(self.log.bounds(topic, self.partition).await?.high_watermark)
    }

    /// The same; `at` as long as nothing came: where a log is that of others, an end is a question to them.
    async fn end_above(&self, topic: Topic, at: Offset) -> Result<Offset, Error> {
        match self.log.wait(topic, self.partition, at).now_or_never() {
            None => Ok(at),
            Some(came) => {
                came?;
                self.end(topic).await
            }
        }
    }

    /// What happened to endpoints.
    async fn changes(&mut self) -> Result<usize, Error> {
        let mut told = 0;
        loop {
            let (changes, next) = self.control.endpoint_changes(self.at.control).await?;
            let notices: Vec<Notice> =
                changes.iter().filter_map(|change| notice::of_change(self.control, change)).collect();
            told += notices.len();
            self.send(notices).await?;
            let moved = next > self.at.control;
            self.at.control = next.max(self.at.control);
            if !moved || changes.is_empty() {
                return Ok(told);
            }
        }
    }

    /// Messages that were dropped as conflicts.
    async fn deliveries(&mut self, until: Offset) -> Result<usize, Error> {
        let mut told = 0;
        while self.at.deliveries < until {
            let run =
                run_of(self.log, (Topic::Deliveries, self.partition), self.at.deliveries, until).await?;
            let mut notices = Vec::new();
            for record in &run.records {
                notices.extend(notice::of_conflict(self.log, self.control, record).await?);
            }
            told += notices.len();
            self.send(notices).await?;
            self.at.deliveries = run.next;
        }
        Ok(told)
    }

    /// What became of attempts.
    async fn attempts(&mut self, until: Offset) -> Result<usize, Error> {
        let mut told = 0;
        while self.at.attempts < until {
            let run = run_of(self.log, (Topic::Attempts, self.partition), self.at.attempts, until).await?;
            let mut notices = Vec::new();
            for record in &run.records {
                let found = self.failures.read(record, &mut self.at.newest_claim)?;
                for telling in found {
                    let read = (self.log, self.control);
                    notices.extend(notice::of_telling(read, self.partition, telling).await?);
                }
            }
            told += notices.len();
            self.send(notices).await?;
            self.at.attempts = run.next;
        }
        Ok(told)
    }

    /// Publishes, in order, and waits until it is durable.
    async fn send(&self, notices: Vec<Notice>) -> Result<(), Error> {
        let mut runs: Vec<(Partition, Vec<NewRecord>)> = Vec::new();
        for notice in notices {
            let record = self.record(&notice);
            self.meters.told(notice.event);
            match runs.last_mut() {
                Some((partition, records)) if *partition == notice.application.partition => {
                    records.push(record);
                }
                _ => runs.push((notice.application.partition, vec![record])),
            }
        }
        for (partition, records) in runs {
            self.log.append(Topic::Messages, partition, records, Sync::Now).await?.await?;
        }
        Ok(())
    }

    fn record(&self, notice: &Notice) -> NewRecord {
        let now = self.clock.now();
        let head = Message {
            id: MessageId::mint(now, self.entropy.bytes()),
            organization: operational_organization(),
            application: notice.application.id,
            event_type: notice.event.as_str().to_owned(),
            event_id: None,
            channels: Vec::new(),
            ordering_key: notice.ordering_key(),
            tags: Vec::new(),
            accepted_at: now,
            deliver_at: None,
            payload_expires_at: None,
            traceparent: None,
            identity: notice.identity(),
            due_of: None,
            only_for: None,
        };
        NewRecord { head: head.encode(), payload: notice.payload() }
    }
}
