//! Overwrites what is erased, where the log can: what is hidden already leaves the disk.
//!
//! It goes by the view alone, and remembers nothing over a restart: it looks at what was erased and is kept, and overwrites
//! what still has its bytes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fanfare_core::{Message, Offset, Partition, limits};
use fanfare_log::{AppendError, Log, LogRecord, ReadError, Topic, WipeError};
use roaring::RoaringTreemap;
use tokio::time::{Instant, sleep};

use crate::{
    command::Command,
    error::CommandError,
    handle::Control,
    jobs::{Job, JobKind, JobState, Place, Progress},
};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// Progress of a job is written down this often at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Overwrites contents in the background.
pub struct Eraser {
    log: Arc<dyn Log>,
    control: Control,
    /// Messages that were erased by themselves and have no bytes any more.
    done: BTreeMap<Partition, RoaringTreemap>,
}

/// Why it has to come again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Wipe(#[from] WipeError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Eraser {
    pub fn new(log: Arc<dyn Log>, control: Control) -> Self {
        Self { log, control, done: BTreeMap::new() }
    }

    /// Never ends.
    pub async fn run(mut self) {
        let mut position = self.control.subscribe();
        let mut done = None;
        loop {
            position.mark_unchanged();
            let erased = self.control.view().erasures_revision();
            if done != Some(erased) {
                match self.look().await {
                    Ok(()) => done = Some(erased),
                    Err(error) => {
                        tracing::warn!(%error, "erased contents are not overwritten yet; trying again");
                        sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            if position.changed().await.is_err() {
                // Of a control plane that has stopped nothing more is heard.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let can = fanfare_log::can_wipe(&*self.log).await?;
        if can {
            for partition in (0..self.log.partitions(Topic::Messages)).map(Partition) {
                self.wipe_single(partition).await?;
            }
        }
        let jobs: Vec<Arc<Job>> = {
            let view = self.control.view();
            view.open_jobs().filter(|job| job.kind == JobKind::EraseContents).cloned().collect()
        };
        for job in jobs {
            self.carry_on(&job, can).await?;
        }
        Ok(())
    }

    /// Messages that were erased by themselves.
    async fn wipe_single(&mut self, partition: Partition) -> Result<(), Error> {
        let done = self.done.entry(partition).or_default();
        let left = self.control.view().erasures().single_but(partition, done);
        if left.is_empty() {
            return Ok(());
        }
        let offsets: Vec<Offset> = left.iter().map(Offset).collect();
        let messages = fanfare_log::wipe_left(&*self.log, Topic::Messages, partition, &offsets).await?;
        tracing::debug!(%partition, messages, "erased contents are overwritten");
        *done |= left;
        Ok(())
    }

    /// All contents of an application below an offset. Begun again it passes quickly over what is done.
    async fn carry_on(&self, job: &Job, can: bool) -> Result<(), Error> {
        let mut erased = 0;
        if let Some(below) = job.selection.below.filter(|_| can) {
            let Place { partition, offset: below } = below;
            let mut position = self.log.bounds(Topic::Messages, partition).await?.start;
            let mut note_due = Instant::now() + NOTE_EVERY;
            while position < below {
                let read =
                    self.log.fetch(Topic::Messages, partition, position, limits::CATCH_UP_RUN_BYTES).await;
                let batch = match read {
                    Ok(batch) => batch,
                    Err(ReadError::Truncated { start, .. }) => {
                        position = start;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                let of_job = |record: &&LogRecord| record.offset < below && is_of(record, job);
                let of_job: Vec<&LogRecord> = batch.records.iter().filter(of_job).collect();
                erased += of_job.len() as u64;
                let left = of_job.iter().filter(|record| record.payload.is_some());
                let left: Vec<_> = left.map(|record| record.offset).collect();
                if !left.is_empty() {
                    self.log.wipe(Topic::Messages, partition, left).await?;
                }
                if note_due <= Instant::now() {
                    self.note(job, erased, None).await?;
                    note_due = Instant::now() + NOTE_EVERY;
                }
                if batch.next <= position {
                    break;
                }
                position = batch.next;
            }
        }
        self.note(job, erased, Some(JobState::Finished)).await
    }

    async fn note(&self, job: &Job, erased: u64, ended: Option<JobState>) -> Result<(), Error> {
        let total = ended.is_some().then_some(erased);
        let progress = Box::new(Progress { total, erased, ..Progress::default() });
        let command = Command::NoteJobProgress { id: job.id, progress, ended };
        match self.control.submit(command, None).await {
            // It is forgotten.
            Ok(_) | Err(CommandError::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_of(record: &LogRecord, job: &Job) -> bool {
    Message::decode(&record.head).is_ok_and(|message| message.application == job.application)
}
