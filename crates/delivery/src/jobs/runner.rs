//! One job, from where it stands to its end.

use std::{sync::Arc, time::Duration};

use fanfare_control::{Command, CommandError, Control, Endpoint, Job, JobState, Progress, job_number};
use fanfare_core::{AttemptRecord, Clock, Delivery, JobId, Message, Offset, Partition, limits};
use fanfare_log::{AppendError, Log, LogRecord, NewRecord, ReadError, Sync, Topic, first_after};
use tokio::time::{Instant, sleep};

use super::{
    outcomes::{APART, Outcomes, Own, Place},
    select::Selector,
};
use crate::{recover::RecoverError, service::Shared};

/// Between two looks at what was settled meanwhile, and two batches.
const TICK: Duration = Duration::from_millis(50);
/// After something failed it is begun again from what the log has.
const AGAIN: Duration = Duration::from_secs(1);
/// Progress is written down after this, and the less often the longer a job goes on: `control` is kept for ever.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTE_SHARE: u32 = 20;

/// Why a job cannot go on now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Error {
    /// Whether the log holds what this program does not understand.
    fn is_unknown(&self) -> bool {
        match self {
            Self::Read(error) => matches!(error, ReadError::Corrupt(_)),
            Self::Recover(error) => error.is_unknown(),
            Self::Append(_) | Self::Command(_) => false,
        }
    }
}

/// What a job needs of its process.
struct Run<'a> {
    log: &'a dyn Log,
    control: &'a Control,
    clock: &'a dyn Clock,
    /// Of `deliveries`.
    partition: Partition,
    job: Arc<Job>,
    endpoint: Arc<Endpoint>,
    /// Of `messages`.
    source: Partition,
    selector: Selector,
    /// The next message to look at, and where the job's messages end.
    position: Offset,
    end: Offset,
    own: Own,
    /// Deliveries and facts below were looked at.
    deliveries: Offset,
    attempts: Offset,
    newest_claim: Offset,
    total: Option<u64>,
    noted: Progress,
    note_due: Instant,
    /// When the rate allows the next message.
    next_at: Instant,
}

/// Carries a job on until it ends, is paused, or cannot be carried on here.
pub(super) async fn carry_on<T>(shared: &Shared<T>, partition: Partition, id: JobId) {
    let options = &shared.options;
    let Some(created) = options.control.view().job(id).map(|job| job.created_at) else { return };
    // What the worker knew when the job was asked for stands in the log a moment later.
    let age = options.clock.now().since(created);
    sleep(limits::JOB_SETTLE.saturating_sub(age)).await;
    loop {
        let Some(job) = options.control.view().job(id).map(Arc::clone) else { return };
        if job.state != JobState::Running {
            return;
        }
        let result = match Run::begin(&*options.log, &options.control, &*options.clock, partition, job).await
        {
            Ok(Some(run)) => run.go_through().await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return,
            Err(error) if error.is_unknown() => {
                tracing::error!(job = %id, %error, "a job reads what is not understood, and ends");
                let failure = Some(error.to_string());
                let progress = job_progress(&options.control, id);
                let failed = Box::new(Progress { failure, ..progress });
                if note(&options.control, id, failed, Some(JobState::Failed)).await.is_ok() {
                    return;
                }
            }
            Err(error) => tracing::warn!(job = %id, %error, "a job cannot go on now; trying again"),
        }
        sleep(AGAIN).await;
    }
}

impl<'a> Run<'a> {
    /// `None`: there is nothing to do any more.
    async fn begin(
        log: &'a dyn Log,
        control: &'a Control,
        clock: &'a dyn Clock,
        partition: Partition,
        job: Arc<Job>,
    ) -> Result<Option<Self>, Error> {
        let found = {
            let view = control.view();
            let endpoint = job.endpoint.and_then(|id| view.endpoint(job.application, &id.to_string()));
            endpoint.zip(view.application_by_id(job.application))
        };
        let Some((endpoint, application)) = found else {
            let failure = Some("the endpoint was deleted".to_owned());
            let progress = Box::new(Progress { failure, ..job.progress.clone() });
            note(control, job.id, progress, Some(JobState::Failed)).await?;
            return Ok(None);
        };
        let source = application.partition;
        let selection = &job.selection;
        let place = Place {
            log,
            partition,
            endpoint: &endpoint,
            policy: control.policy(&endpoint),
            now: clock.now(),
        };
        let outcomes = place.outcomes(job.id, selection.since).await?;
        let bounds = log.bounds(Topic::Messages, source).await?;
        let accepted_at =
            |record: &LogRecord| Message::decode(&record.head).ok().map(|message| message.accepted_at);
        let (within, of) = ((bounds.start, bounds.end), (Topic::Messages, source));
        let from = first_after(log, of, within, selection.since - APART, accepted_at).await?;
        let end = first_after(log, of, within, selection.until + APART, accepted_at).await?;
        let selector =
            Selector::new(log, control, &job, &endpoint, source, &outcomes, (from, clock.now())).await?;
        let Outcomes { own, deliveries, attempts, .. } = outcomes;
        let position = own.highest.map_or(from, |highest| Offset(highest).next().max(from));
        let left = selector.total(position, end);
        let total = left.map(|left| own.injected + left).or(job.progress.total);
        tracing::info!(job = %job.id, endpoint = %endpoint.id, injected = own.injected, ?total, "a job is carried on");
        Ok(Some(Self {
            log,
            control,
            clock,
            partition,
            noted: job.progress.clone(),
            job,
            endpoint,
            source,
            selector,
            position,
            end,
            own,
            deliveries,
            attempts,
            newest_claim: Offset::ZERO,
            total,
            note_due: Instant::now(),
            next_at: Instant::now(),
        }))
    }

    async fn go_through(mut self) -> Result<(), Error> {
        loop {
            let Some(job) = self.control.view().job(self.job.id).map(Arc::clone) else { return Ok(()) };
            let endpoint = self.control.view().endpoint_by_number(self.endpoint.number);
            // Whoever looks for jobs ends it.
            let Some(endpoint) = endpoint else { return Ok(()) };
            self.job = job;
            self.follow().await?;
            let is_done = self.position >= self.end && self.own.open.is_empty();
            match self.job.state {
                JobState::Running if is_done => return self.note(Some(JobState::Finished)).await,
                // What a disabled endpoint is sent is cancelled: it waits for the endpoint to be enabled.
                JobState::Running if !endpoint.settings.disabled => self.inject().await?,
                JobState::Running => {}
                // What it had injected goes on.
                JobState::Paused if !self.own.open.is_empty() => {}
                // Said once more, for the last time: how far it came.
                _ => return self.note(None).await,
            }
            if self.note_due <= Instant::now() {
                self.note(None).await?;
            }
            sleep(TICK).await;
        }
    }

    /// The next messages, as many as the rate and the room allow.
    async fn inject(&mut self) -> Result<(), Error> {
        let per_second = self.job.selection.per_second.unwrap_or(limits::JOB_PER_SECOND).max(1);
        let interval = Duration::from_secs(1) / per_second;
        let now = Instant::now();
        // Of time in which nothing could be injected little is made up for.
        self.next_at = self.next_at.max(now.checked_sub(TICK * 2).unwrap_or(now));
        if self.next_at > now {
            return Ok(());
        }
        let due = (now - self.next_at).as_nanos() / interval.as_nanos() + 1;
        let room = limits::JOB_OUTSTANDING.saturating_sub(usize::try_from(self.own.open.len()).unwrap_or(0));
        let most = usize::try_from(due).unwrap_or(usize::MAX).min(room);
        let mut records = Vec::new();
        let deadline = Instant::now() + TICK;
        while records.len() < most && self.position < self.end && Instant::now() < deadline {
            match self.selector.next(self.position) {
                Some(next) => self.position = next.min(self.end),
                None => self.position = self.end,
            }
            if self.position >= self.end {
                break;
            }
            let read =
                self.log.fetch(Topic::Messages, self.source, self.position, limits::CATCH_UP_RUN_BYTES);
            let batch = match read.await {
                Ok(batch) => batch,
                Err(ReadError::Truncated { start, .. }) => {
                    self.position = start;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut next = batch.next;
            for LogRecord { offset, head, payload } in batch.records {
                if offset >= self.end || records.len() >= most {
                    next = offset;
                    break;
                }
                let Ok(message) = Message::decode(&head) else { continue };
                // What is wiped cannot be sent, what is erased must not be.
                let is_there = payload.is_some() && !self.is_hidden(offset, &message);
                if is_there && self.selector.means(offset, &message) {
                    records.push(NewRecord::head(self.injected(offset, &message).encode()));
                } else if self.selector.counts(offset) {
                    self.total = self.total.map(|total| total.saturating_sub(1));
                }
            }
            if next <= self.position {
                self.position = self.end;
            } else {
                self.position = next;
            }
        }
        self.next_at += interval * u32::try_from(records.len()).unwrap_or(u32::MAX);
        if !records.is_empty() {
            let pending = self.log.append(Topic::Deliveries, self.partition, records, Sync::Now).await?;
            pending.await?;
        }
        Ok(())
    }

    fn is_hidden(&self, offset: Offset, message: &Message) -> bool {
        let expired = message.payload_expires_at.is_some_and(|at| at <= self.clock.now());
        expired || self.control.view().is_erased(message.application, self.source, offset)
    }

    fn injected(&self, offset: Offset, message: &Message) -> Delivery {
        Delivery::Injected {
            job: job_number(self.job.id),
            sequence: offset.0,
            id: message.id,
            partition: self.source,
            offset,
            ordering_key: message.ordering_key_hash(),
            endpoints: vec![self.endpoint.number],
            at: self.clock.now(),
            control: self.control.position(),
        }
    }

    /// Reads what was injected, by whoever carries the job on, and then what became of it: a fact below the end of `attempts`
    /// speaks of a record that can be read after that.
    async fn follow(&mut self) -> Result<(), Error> {
        let attempts_end = self.log.bounds(Topic::Attempts, self.partition).await?.end;
        let end = self.log.bounds(Topic::Deliveries, self.partition).await?.end;
        let number = job_number(self.job.id);
        while self.deliveries < end {
            let batch = self
                .log
                .fetch(Topic::Deliveries, self.partition, self.deliveries, limits::CATCH_UP_RUN_BYTES)
                .await?;
            for record in &batch.records {
                let delivery = Delivery::decode(&record.head)
                    .map_err(|source| RecoverError::Malformed { what: "a delivery record", source })?;
                if let Delivery::Injected { job, sequence, .. } = delivery
                    && job == number
                {
                    self.own.found(record.offset, sequence);
                }
            }
            if batch.next <= self.deliveries {
                break;
            }
            self.deliveries = batch.next;
        }
        while self.attempts < attempts_end {
            let batch = self
                .log
                .fetch(Topic::Attempts, self.partition, self.attempts, limits::CATCH_UP_RUN_BYTES)
                .await?;
            for record in &batch.records {
                let decoded = AttemptRecord::decode(&record.head)
                    .map_err(|source| RecoverError::Malformed { what: "a record of attempts", source })?;
                match decoded {
                    AttemptRecord::Claim { .. } => self.newest_claim = self.newest_claim.max(record.offset),
                    AttemptRecord::Facts { epoch, facts } => {
                        // Whoever writes under an epoch has claimed it.
                        self.newest_claim = self.newest_claim.max(epoch);
                        let stale = epoch < self.newest_claim;
                        let of_endpoint = facts.iter().filter(|fact| fact.endpoint() == self.endpoint.number);
                        of_endpoint
                            .filter(|fact| !stale || fact.survives_its_epoch())
                            .for_each(|fact| self.own.apply(fact));
                    }
                }
            }
            if batch.next <= self.attempts {
                break;
            }
            self.attempts = batch.next;
        }
        Ok(())
    }

    async fn note(&mut self, ended: Option<JobState>) -> Result<(), Error> {
        let progress = Progress {
            total: match ended {
                Some(JobState::Finished) => Some(self.own.injected),
                Some(_) => self.total.or(Some(self.own.injected)),
                None => self.total,
            },
            injected: self.own.injected,
            delivered: self.own.delivered,
            dead_letters: self.own.dead,
            cancelled: self.own.cancelled,
            ..Progress::default()
        };
        if progress != self.noted || ended.is_some() {
            note(self.control, self.job.id, Box::new(progress.clone()), ended).await?;
            self.noted = progress;
        }
        let age = self.clock.now().since(self.job.created_at);
        self.note_due = Instant::now() + NOTE_EVERY.max(age / NOTE_SHARE);
        Ok(())
    }
}

fn job_progress(control: &Control, id: JobId) -> Progress {
    control.view().job(id).map(|job| job.progress.clone()).unwrap_or_default()
}

async fn note(
    control: &Control,
    id: JobId,
    progress: Box<Progress>,
    ended: Option<JobState>,
) -> Result<(), CommandError> {
    match control.submit(Command::NoteJobProgress { id, progress, ended }, None).await {
        // It is forgotten.
        Ok(_) | Err(CommandError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
