//! The task that keeps the view at the end of `control`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fanfare_core::{Offset, limits};
use fanfare_log::{Log, ReadError, Topic};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    error::Unavailable,
    install::{PARTITION, Run, RunError, read_run},
    reducer::{Applied, Refusal},
    view::View,
};

/// What the reducer says to a record.
pub(crate) type Answer = Result<Applied, Refusal>;

/// What the follower and the handles share.
pub(crate) struct State {
    pub(crate) view: RwLock<View>,
    /// The view's position, for those who only want to know whether they have to wait.
    position: AtomicU64,
    /// The view's, for those who remember that a credential was good.
    credentials_revision: AtomicU64,
    /// Asks the follower to look at the log's end: it may have moved over offsets that hold no record.
    pub(crate) nudge: Notify,
    /// The position rose, or will not rise any more. Wakes in the order of waiting, which a `watch` does not:
    /// simulation could not repeat it.
    pub(crate) rose: Notify,
    waiting: Mutex<Waiting>,
}

/// Commands of this process that are on their way, by nonce.
#[derive(Default)]
struct Waiting {
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// Why there will be no more answers.
    stopped: Option<String>,
}

impl State {
    pub(crate) fn new(view: View) -> Self {
        Self {
            position: AtomicU64::new(view.position().0),
            credentials_revision: AtomicU64::new(view.credentials_revision()),
            view: RwLock::new(view),
            nudge: Notify::new(),
            rose: Notify::new(),
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn position(&self) -> Offset {
        Offset(self.position.load(Ordering::Acquire))
    }

    pub(crate) fn credentials_revision(&self) -> u64 {
        self.credentials_revision.load(Ordering::Acquire)
    }

    /// Why the follower has stopped, once it has.
    pub(crate) fn stopped(&self) -> Unavailable {
        let stopped = self.waiting.lock().stopped.clone();
        Unavailable::Stopped(stopped.unwrap_or_else(|| "it was shut down".into()))
    }

    /// The answer to the record with `nonce` will come here; before the record is appended.
    pub(crate) fn expect_answer(self: &Arc<Self>, nonce: u64) -> Result<Expected, Unavailable> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if let Some(reason) = &waiting.stopped {
            return Err(Unavailable::Stopped(reason.clone()));
        }
        waiting.answers.insert(nonce, sender);
        Ok(Expected { state: Arc::clone(self), nonce, receiver })
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.waiting.lock().stopped.is_some()
    }

    fn stop(&self, reason: String) {
        {
            let mut waiting = self.waiting.lock();
            waiting.stopped = Some(reason);
            waiting.answers.clear();
        }
        self.rose.notify_waiters();
    }
}

/// An answer that is awaited; forgotten with it.
pub(crate) struct Expected {
    state: Arc<State>,
    nonce: u64,
    receiver: oneshot::Receiver<Answer>,
}

impl Expected {
    pub(crate) async fn answer(mut self) -> Result<Answer, Unavailable> {
        (&mut self.receiver).await.map_err(|_| self.state.stopped())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.state.waiting.lock().answers.remove(&self.nonce);
    }
}

/// Follows `control`. Runs until the log is closed or a record cannot be understood; its end closes `progress`.
pub(crate) struct Follower {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) state: Arc<State>,
    pub(crate) progress: watch::Sender<Offset>,
}

impl Drop for Follower {
    /// However it ends, nobody waits for it any more.
    fn drop(&mut self) {
        if !self.state.is_stopped() {
            self.state.stop("it was shut down".to_owned());
        }
    }
}

impl Follower {
    pub(crate) async fn run(self) {
        let error = loop {
            match self.follow().await {
                RunError::Read(error) if error.is_retryable() => {
                    tracing::warn!(%error, "reading control failed, trying again");
                    tokio::time::sleep(limits::CONTROL_RETRY).await;
                }
                error => break error,
            }
        };
        if matches!(error, RunError::Read(ReadError::Closed(_))) {
            tracing::debug!(%error, "the control plane stops");
        } else {
            tracing::error!(%error, "the control plane has stopped: restart when this is mended");
        }
        self.state.stop(error.to_string());
    }

    async fn follow(&self) -> RunError {
        loop {
            let run = match read_run(&*self.log, self.state.position()).await {
                Ok(run) => run,
                Err(error) => return error,
            };
            self.apply(&run);
            if !run.at_end {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                readable = self.log.wait(Topic::Control, PARTITION, self.state.position()) => {
                    if let Err(error) = readable {
                        return error.into();
                    }
                }
                () = self.state.nudge.notified() => {}
            }
        }
    }

    fn apply(&self, run: &Run) {
        if run.position == self.state.position() {
            return;
        }
        let mut answers = Vec::with_capacity(run.records.len());
        {
            let mut view = self.state.view.write();
            for (offset, envelope) in &run.records {
                answers.push((envelope.nonce, view.apply(*offset, envelope)));
            }
            view.pass(run.position);
            // Before anybody is told: who was answered finds that it counts.
            self.state.credentials_revision.store(view.credentials_revision(), Ordering::Release);
            self.state.position.store(view.position().0, Ordering::Release);
        }
        self.progress.send_replace(self.state.position());
        self.state.rose.notify_waiters();
        let mut waiting = self.state.waiting.lock();
        for (nonce, answer) in answers {
            if let Some(sender) = waiting.answers.remove(&nonce) {
                // Who asked may have gone away.
                let _ = sender.send(answer);
            }
        }
    }
}
