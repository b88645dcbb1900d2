//! The handle by which a process reads and changes the control plane.

mod audit;
mod credentials;

use std::{sync::Arc, time::Duration};

use fanfare_core::{
    Clock, EndpointId, Entropy, Id, Kind, Minter, Offset, OrganizationId, Policy, Timestamp, limits,
    signature::{Signer, SigningKey},
};
use fanfare_log::{Log, NewRecord, ReadError, Sync, Topic};
use parking_lot::{Mutex, RwLockReadGuard};
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::{Instant, timeout},
};

pub use audit::Looked;

use crate::{
    access::{Actor, Origin},
    api_keys::ApiKeys,
    changes::{EndpointChange, replay_changes},
    command::{Command, ControlKey, Envelope},
    error::{CommandError, OpenError, Unavailable},
    follower::{Follower, State},
    install::{PARTITION, RunError, install_or_check},
    jobs::{JobKind, Place, Selection},
    model::{Application, ApplicationSettings, Endpoint, EndpointSecret, EndpointSettings},
    reducer::Applied,
    reports::ReportKind,
    secrets::{MainSecret, SealError, Sealer},
    tokens::Tokens,
    url::{self, UrlError},
    view::View,
};

/// How a process takes part in the control plane.
#[derive(Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub main_secret: MainSecret,
    /// Endpoints may have `http` URLs.
    pub allow_http: bool,
    /// Of `messages`; has to be what the installation was made with.
    pub message_partitions: u32,
    /// Of `deliveries`; has to be what the installation was made with.
    pub delivery_partitions: u32,
    /// For endpoints, and applications, that do not say.
    pub policy: Policy,
}

/// The control plane as this process sees it. Cheap to clone; with the last clone its follower ends.
#[derive(Clone)]
pub struct Control {
    log: Arc<dyn Log>,
    options: Arc<Options>,
    state: Arc<State>,
    progress: watch::Receiver<Offset>,
    waiting: Arc<Semaphore>,
    sealer: Arc<Sealer>,
    tokens: Arc<Tokens>,
    api_keys: Arc<ApiKeys>,
    minter: Arc<Minter>,
    fresh: Arc<Fresh>,
    _follower: Arc<StopOnDrop>,
}

/// As of when the view holds everything that was answered anywhere.
#[derive(Default)]
struct Fresh {
    as_of: Mutex<Option<Instant>>,
    /// Until then nobody asks again: there was no answer.
    again_at: Mutex<Option<Instant>>,
    /// One asks; who comes meanwhile has the answer too.
    asking: tokio::sync::Mutex<()>,
}

impl Fresh {
    fn is_fresh(&self) -> bool {
        self.as_of.lock().is_some_and(|as_of| as_of.elapsed() < limits::CONTROL_LEASE)
    }
}

struct StopOnDrop(AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Control {
    /// Reads `control` to its end, or writes its first record, and follows it from then on. Fails if the
    /// installation is another one than `options` mean, or a record cannot be understood.
    pub async fn open(log: Arc<dyn Log>, options: Options) -> Result<Self, OpenError> {
        let view = install_or_check(&*log, &options).await?;
        let (sender, progress) = watch::channel(view.position());
        let state = Arc::new(State::new(view));
        let follower = Follower { log: Arc::clone(&log), state: Arc::clone(&state), progress: sender };
        let task = tokio::spawn(follower.run());
        Ok(Self {
            log,
            sealer: Arc::new(options.main_secret.sealer()),
            tokens: Arc::new(Tokens::new(&options.main_secret, Arc::clone(&options.entropy))),
            api_keys: Arc::new(ApiKeys::new(&options.main_secret)),
            minter: Arc::default(),
            options: Arc::new(options),
            fresh: Arc::default(),
            state,
            progress,
            waiting: Arc::new(Semaphore::new(limits::COMMANDS_WAITING)),
            _follower: Arc::new(StopOnDrop(task.abort_handle())),
        })
    }

    /// Why the view is kept up no longer, once that is so: whoever needs the newest change waits in vain.
    pub fn stopped(&self) -> Option<String> {
        self.state.is_stopped().then(|| self.state.stopped().to_string())
    }

    /// The view as it is now. Keep the guard for a few look-ups only: it stops the view from moving on. Never take
    /// a second one while holding it (`policy` may be called).
    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.state.view.read()
    }

    /// Everything below is applied.
    pub fn position(&self) -> Offset {
        self.state.position()
    }

    /// The position, as it rises. Closed when the follower has stopped.
    pub fn subscribe(&self) -> watch::Receiver<Offset> {
        self.progress.clone()
    }

    /// Waits until everything below the present end of `control` is applied, which includes whatever was
    /// answered anywhere before this was called. Gives that end.
    pub async fn apply_to_end(&self) -> Result<Offset, Unavailable> {
        let end = self.log.bounds(Topic::Control, PARTITION).await?.end;
        if self.state.position() < end {
            self.state.nudge.notify_one();
            self.applied(end).await?;
        }
        Ok(end)
    }

    /// Waits until the view is no older than [`limits::CONTROL_LEASE`]: it holds whatever was answered anywhere before
    /// that. Costs nothing while it is so. An error after one more lease without an answer, and for a while after that at
    /// once.
    pub async fn fresh(&self) -> Result<(), Unavailable> {
        if self.fresh.is_fresh() {
            return Ok(());
        }
        let _turn = self.fresh.asking.lock().await;
        if self.fresh.is_fresh() {
            return Ok(());
        }
        let asked = Instant::now();
        let silence = || Unavailable::Read(ReadError::Unavailable("no answer in time".to_owned()));
        if self.fresh.again_at.lock().is_some_and(|at| asked < at) {
            return Err(silence());
        }
        let applied = timeout(limits::CONTROL_LEASE, self.apply_to_end()).await;
        let applied = applied.unwrap_or_else(|_| Err(silence()));
        *self.fresh.again_at.lock() = applied.is_err().then(|| Instant::now() + limits::CONTROL_LEASE_AGAIN);
        applied?;
        *self.fresh.as_of.lock() = Some(asked);
        Ok(())
    }

    /// Waits until everything below `position` is applied.
    pub async fn applied(&self, position: Offset) -> Result<(), Unavailable> {
        loop {
            let mut rose = std::pin::pin!(self.state.rose.notified());
            rose.as_mut().enable();
            if self.state.position() >= position {
                return Ok(());
            }
            if self.state.is_stopped() {
                return Err(self.state.stopped());
            }
            rose.await;
        }
    }

    /// What records at or above `from` did to endpoints, in order, and the position up to which they were looked at.
    pub async fn endpoint_changes(&self, from: Offset) -> Result<(Vec<EndpointChange>, Offset), Unavailable> {
        {
            let view = self.view();
            if let Some(changes) = view.endpoint_changes_since(from) {
                return Ok((changes.cloned().collect(), view.position().max(from)));
            }
        }
        replay_changes(&*self.log, from).await.map_err(|error| match error {
            RunError::Read(error) => error.into(),
            RunError::Record { .. } => Unavailable::Stopped(error.to_string()),
        })
    }

    /// A command that Fanfare gives itself; else as [`Control::submit_from`].
    pub async fn submit(&self, command: Command, key: Option<ControlKey>) -> Result<Applied, CommandError> {
        let organization = command.organization().or_else(|| {
            let application = command.application()?;
            Some(self.view().application_by_id(application)?.organization)
        });
        self.submit_from(Origin { organization, by: Actor::Fanfare, from: None }, command, key).await
    }

    /// Appends a command, waits until it is durable and applied here, and gives what became of it. `key` makes
    /// a POST that is sent twice one command. Cancelled after the append was begun, the command may be carried
    /// out all the same.
    pub async fn submit_from(
        &self,
        origin: Origin,
        command: Command,
        key: Option<ControlKey>,
    ) -> Result<Applied, CommandError> {
        self.check_urls(&command)?;
        let _permit = self.waiting.acquire().await.expect("the semaphore is never closed");
        let nonce = self.options.entropy.u64();
        let expected = self.state.expect_answer(nonce)?;
        let origin = Some(origin);
        let record = Envelope { at: self.options.clock.now(), nonce, key, origin, command };
        let records = vec![NewRecord::head(record.encode())];
        let pending = self.log.append(Topic::Control, PARTITION, records, Sync::Now).await?;
        pending.await?;
        Ok(expected.answer().await??)
    }

    /// Whether an endpoint may have this URL; [`Control::submit`] asks too.
    pub fn check_url(&self, url: &str) -> Result<(), UrlError> {
        url::check(url, self.options.allow_http).map(drop)
    }

    /// An URL that stays as it is may stay, though it would not be allowed any more.
    fn check_urls(&self, command: &Command) -> Result<(), UrlError> {
        match command {
            Command::CreateEndpoint { settings, .. } => self.check_url(&settings.url),
            Command::UpdateEndpoint { application, id, settings, .. } => {
                let kept = self
                    .view()
                    .endpoint_by_id(*application, *id)
                    .is_some_and(|endpoint| endpoint.settings.url == settings.url);
                if kept { Ok(()) } else { self.check_url(&settings.url) }
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn new_id<K: Kind>(&self) -> Id<K> {
        self.minter.mint(self.now(), &*self.options.entropy)
    }

    /// A command that makes an application, with a new id, in the partition of `messages` with fewest.
    pub fn new_application(&self, organization: OrganizationId, settings: ApplicationSettings) -> Command {
        let id = self.new_id();
        let partition = self.view().emptiest_message_partition();
        Command::CreateApplication { id, organization, partition, settings }
    }

    /// A command that makes an endpoint, with a new id, in the partition of `deliveries` with fewest.
    pub fn new_endpoint(
        &self,
        application: &Application,
        settings: EndpointSettings,
        key: &SigningKey,
    ) -> Command {
        let id = self.new_id();
        let partition = self.view().emptiest_delivery_partition();
        let secret = self.seal(id, key);
        Command::CreateEndpoint {
            id,
            application: application.id,
            partition,
            settings: settings.into(),
            secret,
        }
    }

    /// A command that makes a job, with a new id.
    pub fn new_job(&self, endpoint: &Endpoint, kind: JobKind, selection: Selection) -> Command {
        Command::CreateJob {
            id: self.new_id(),
            application: endpoint.application,
            endpoint: Some(endpoint.id),
            kind,
            selection: Box::new(selection),
        }
    }

    /// A command that makes a job, with a new id, which erases what the application's partition has of it below `below`.
    pub fn new_erasure(&self, application: &Application, below: Offset) -> Command {
        let now = self.now();
        Command::CreateJob {
            id: self.new_id(),
            application: application.id,
            endpoint: None,
            kind: JobKind::EraseContents,
            selection: Box::new(Selection {
                until: now,
                below: Some(Place { partition: application.partition, offset: below }),
                ..Selection::default()
            }),
        }
    }

    /// A command that asks for a report, with a new id.
    pub fn new_report(&self, organization: OrganizationId, report: ReportKind) -> Command {
        let id = self.new_id();
        Command::CreateReport { id, organization, report: Box::new(report) }
    }

    /// A command that makes `key` the endpoint's newest; those before it sign beside it for `grace`.
    pub fn new_secret(&self, endpoint: &Endpoint, key: &SigningKey, grace: Duration) -> Command {
        Command::RotateSecret {
            application: endpoint.application,
            endpoint: endpoint.id,
            secret: self.seal(endpoint.id, key),
            previous_expires_at: self.now() + grace,
        }
    }

    pub fn seal(&self, endpoint: EndpointId, key: &SigningKey) -> EndpointSecret {
        let sealed = self.sealer.seal(endpoint, &key.to_string(), &*self.options.entropy);
        EndpointSecret { sealed, expires_at: None }
    }

    pub fn unseal(&self, endpoint: EndpointId, secret: &EndpointSecret) -> Result<SigningKey, SealError> {
        self.sealer.unseal(endpoint, &secret.sealed)?.parse().map_err(|_| SealError)
    }

    /// The endpoint's newest secret, as its owner may see it.
    pub fn newest_secret(&self, endpoint: &Endpoint) -> Result<SigningKey, SealError> {
        self.unseal(endpoint.id, endpoint.secrets.first().ok_or(SealError)?)
    }

    /// Signs with all secrets of the endpoint that have not lapsed. Costs a decryption each: keep it until
    /// [`Control::signer_lapses`] or the endpoint's next revision.
    pub fn signer(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Signer, SealError> {
        let live = endpoint.secrets.iter().filter(|secret| is_live(secret, now));
        let keys: Result<Vec<_>, _> = live.map(|secret| self.unseal(endpoint.id, secret)).collect();
        keys.map(Signer::new)
    }

    /// When the next of the secrets that sign at `now` lapses.
    pub fn signer_lapses(endpoint: &Endpoint, now: Timestamp) -> Timestamp {
        let live = endpoint.secrets.iter().filter(|secret| is_live(secret, now));
        live.filter_map(|secret| secret.expires_at).min().unwrap_or(Timestamp::MAX)
    }

    /// What the endpoint's lane obeys, with the defaults of its application and of the installation filled in.
    pub fn policy(&self, endpoint: &Endpoint) -> Policy {
        // Recursive: the caller may hold a guard, and a waiting writer would stop a second one for ever.
        self.state.view.read_recursive().policy(endpoint, &self.options.policy)
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn now(&self) -> Timestamp {
        self.options.clock.now()
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("position", &self.position()).finish_non_exhaustive()
    }
}

fn is_live(secret: &EndpointSecret, now: Timestamp) -> bool {
    secret.expires_at.is_none_or(|expires_at| expires_at > now)
}

#[cfg(test)]
mod tests;
