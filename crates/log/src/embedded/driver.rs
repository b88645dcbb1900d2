//! The writer of a journal: one loop, once as a thread and once as a task.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{
    commit::{CommitError, Committer},
    directory::DirectoryLock,
    queue::{Due, Ending, Group},
    retention::Retention,
};

/// How often room and age are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Between two tries to write to a full disk.
const FULL_RETRY: Duration = Duration::from_millis(100);

pub(super) struct Driven {
    pub(super) committer: Committer,
    pub(super) retention: Option<Retention>,
    /// Turns true when the writer has ended and let go of its files.
    pub(super) ended: watch::Sender<bool>,
    /// Held until the writer ends.
    pub(super) lock: DirectoryLock,
}

impl Driven {
    pub(super) fn spawn_thread(mut self, name: &str) -> std::io::Result<()> {
        let run = move || {
            self.run_blocking();
            self.end();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    pub(super) fn spawn_task(mut self, sync_delay: impl Fn() -> Duration + Send + 'static) {
        tokio::spawn(async move {
            self.run(sync_delay).await;
            self.end();
        });
    }

    fn run_blocking(&mut self) {
        let journal = self.committer.journal.clone();
        let mut tick = Instant::now() + TICK;
        loop {
            match journal.next_due_blocking(tick) {
                Some(Due::Commit(group)) => {
                    self.committer.encode(&group, false);
                    while !self.committer.is_empty() {
                        match self.committer.write().and_then(|()| self.committer.sync()) {
                            Ok(()) => break,
                            Err(error) => {
                                if let Some(reason) = self.fatal(error) {
                                    return journal.close(group, &reason);
                                }
                                std::thread::park_timeout(FULL_RETRY);
                            }
                        }
                    }
                    self.committer.complete(group);
                }
                Some(Due::End(ending)) => return self.finish(ending),
                Some(Due::At(_)) | None => {}
            }
            self.tick_if_due(&mut tick);
        }
    }

    async fn run(&mut self, sync_delay: impl Fn() -> Duration) {
        let journal = self.committer.journal.clone();
        let mut tick = Instant::now() + TICK;
        loop {
            match journal.due(Instant::now()) {
                Due::Commit(group) => {
                    self.committer.encode(&group, false);
                    while !self.committer.is_empty() {
                        let mut result = self.committer.write();
                        if result.is_ok() {
                            tokio::time::sleep(sync_delay()).await;
                            result = self.committer.sync();
                        }
                        match result {
                            Ok(()) => break,
                            Err(error) => {
                                if let Some(reason) = self.fatal(error) {
                                    return journal.close(group, &reason);
                                }
                                tokio::time::sleep(FULL_RETRY).await;
                            }
                        }
                    }
                    self.committer.complete(group);
                }
                Due::End(ending) => return self.finish(ending),
                Due::At(at) => {
                    let until = at.map_or(tick, |at| at.min(tick));
                    // Woken or not, the queue is looked at again.
                    let _ = tokio::time::timeout_at(until, journal.work_async.notified()).await;
                }
            }
            self.tick_if_due(&mut tick);
        }
    }

    /// Why the log has to close; `None` if it only has to wait for room, and is not being ended meanwhile.
    fn fatal(&self, error: CommitError) -> Option<String> {
        match error {
            CommitError::Broken(reason) => {
                tracing::error!(reason, "the log is closed: restart the process");
                Some(reason)
            }
            CommitError::NoRoom => {
                self.committer.journal.is_ending().then(|| "shut down while the disk was full".to_owned())
            }
        }
    }

    /// Also where commits follow each other without a pause.
    fn tick_if_due(&mut self, tick: &mut Instant) {
        if Instant::now() >= *tick {
            self.tick();
            *tick = Instant::now() + TICK;
        }
    }

    fn tick(&mut self) {
        self.committer.overwrite();
        self.committer.measure_space();
        if let Some(retention) = &mut self.retention {
            retention.run(&mut self.committer);
        }
    }

    fn finish(&mut self, ending: Ending) {
        if ending == Ending::Close
            && let Err(error) = self.committer.finish()
        {
            tracing::warn!(?error, "the log's last record is not durable; the next start recovers");
        }
        self.committer.journal.close(Group::default(), "the log is shut down");
    }

    fn end(self) {
        let Self { committer, lock, ended, .. } = self;
        drop(committer);
        drop(lock);
        ended.send_replace(true);
    }
}
