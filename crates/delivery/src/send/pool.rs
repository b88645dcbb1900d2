//! Which connections are open. Idle ones lie with their target, so that taking and keeping one touches nothing
//! that other endpoints use; the pool only counts them and finds the oldest when room is needed.
//!
//! An endpoint never has more connections than requests may be under way: a new one is opened only by a request
//! that has its turn and found none idle.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare_core::EndpointNumber;
use opentelemetry::metrics::BoundUpDownCounter;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{connection::Connection, target::Target};

/// When there is no room, one in so many of the idle connections is closed at once: looking for them costs a
/// walk over all targets.
const EVICT_ONE_IN: usize = 32;
/// How soon somebody who waits for room looks again whether a connection has become idle.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A target's part: its turns and its idle connections, the most recently used last.
pub(super) struct Kept {
    turns: Semaphore,
    idle: Mutex<Vec<Idle>>,
    is_known: AtomicBool,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Idle {
    fn has_lapsed(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.connection.keep_for()
    }
}

impl Kept {
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            turns: Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::new(Vec::new()),
            is_known: AtomicBool::new(false),
        }
    }

    /// Waits until fewer requests than allowed are under way.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        match self.turns.try_acquire() {
            Ok(turn) => turn,
            Err(_) => self.turns.acquire().await.expect("never closed"),
        }
    }

    /// The idle connection used last.
    pub(super) fn take(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.lock();
        let last = idle.pop()?;
        if !last.has_lapsed(now) {
            return Some(last.connection);
        }
        // Those below have been idle for longer still.
        let lapsed = std::mem::take(&mut *idle);
        drop(idle);
        drop((last, lapsed));
        None
    }

    fn close_idle(&self) {
        let closed = std::mem::take(&mut *self.idle.lock());
        drop(closed);
    }
}

/// Room for one connection; given back when the connection is dropped.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    open: BoundUpDownCounter<i64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.add(-1);
    }
}

pub(super) struct Pool {
    capacity: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Every target that has ever opened a connection and still exists.
    targets: Mutex<HashMap<EndpointNumber, Weak<Target>>>,
    open: BoundUpDownCounter<i64>,
}

impl Pool {
    pub(super) fn new(connections: usize, open: BoundUpDownCounter<i64>) -> Self {
        Self {
            capacity: Arc::new(Semaphore::new(connections)),
            waiting: AtomicUsize::new(0),
            targets: Mutex::default(),
            open,
        }
    }

    /// Lays a connection aside for the target's next request.
    pub(super) fn keep(&self, target: &Target, connection: Box<Connection>, now: Instant) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            target.kept.idle.lock().push(Idle { connection, since: now });
        }
    }

    /// Room for a new connection of `target`; the least recently used idle ones make way.
    pub(super) async fn slot(&self, target: &Arc<Target>) -> Slot {
        self.get_to_know(target);
        let permit = match Arc::clone(&self.capacity).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_room().await,
        };
        self.open.add(1);
        Slot { _permit: permit, open: self.open.clone() }
    }

    pub(super) fn forget(&self, endpoint: EndpointNumber) {
        let target = self.targets.lock().get(&endpoint).and_then(Weak::upgrade);
        if let Some(target) = target {
            target.kept.close_idle();
        }
    }

    /// Closes what has been idle for too long, and forgets targets that are gone.
    pub(super) fn sweep(&self, now: Instant) {
        let mut closed = Vec::new();
        self.targets.lock().retain(|_, target| {
            let Some(target) = target.upgrade() else { return false };
            closed.extend(target.kept.idle.lock().extract_if(.., |idle| idle.has_lapsed(now)));
            true
        });
    }

    fn get_to_know(&self, target: &Arc<Target>) {
        if target.kept.is_known.swap(true, Ordering::Relaxed) {
            return;
        }
        let former = self.targets.lock().insert(target.number, Arc::downgrade(target));
        if let Some(former) = former.and_then(|former| former.upgrade()) {
            former.kept.close_idle();
        }
    }

    async fn wait_for_room(&self) -> OwnedSemaphorePermit {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            self.evict();
            let acquiring = Arc::clone(&self.capacity).acquire_owned();
            if let Ok(permit) = timeout(LOOK_AGAIN, acquiring).await {
                return permit.expect("never closed");
            }
        }
    }

    /// Closes the part of the idle connections that was not used for longest.
    fn evict(&self) {
        let targets: Vec<_> = self.targets.lock().values().filter_map(Weak::upgrade).collect();
        let mut ages = Vec::new();
        for target in &targets {
            ages.extend(target.kept.idle.lock().iter().map(|idle| idle.since));
        }
        if ages.is_empty() {
            return;
        }
        let last = ages.len() / EVICT_ONE_IN;
        let (_, until, _) = ages.select_nth_unstable(last);
        for target in &targets {
            let closed: Vec<_> =
                target.kept.idle.lock().extract_if(.., |idle| idle.since <= *until).collect();
            drop(closed);
        }
    }
}

/// While there is one, connections are closed after use instead of being kept.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
