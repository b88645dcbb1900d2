//! The tails of partitions: all that somebody waits for is followed, and the newest records are kept in memory. So however
//! many readers a partition has, a record comes over the network once, and who waits is woken when it is there.
//!
//! `deliveries` have a thread and a client of their own. A client has one question under way, about all partitions that it
//! follows, and each record that comes ends the question for all of them: a message would wait while the deliveries of the
//! one before it are told of, partition by partition. `attempts` have theirs, since nobody is in a hurry for
//! them: brokers let them gather, and are asked ten times in a second instead of hundreds.

mod follower;
mod ring;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use fanfare_core::Offset;
use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::BaseConsumer;
use tokio::{sync::Notify, time::Instant};

use self::{follower::Follower, ring::Ring};
use super::{
    client::{self, Events, Link},
    fetch::millis,
    limits,
    options::{OpenError, Options},
    place::{Layout, Place, Source},
};
use crate::contract::{Batch, ReadError, Topic};

/// Clients that follow: these two, and the first one everything else.
const FOLLOWERS: usize = 3;
const DELIVERIES: usize = 1;
const ATTEMPTS: usize = 2;

/// All tails of the process.
pub(super) struct Tails {
    shared: Arc<Shared>,
}

/// What readers and the thread share.
struct Shared {
    layout: Arc<Layout>,
    /// By the index of a place.
    tails: Box<[Tail]>,
    /// For each follower.
    signals: [Signals; FOLLOWERS],
    /// How many are followed.
    followed: AtomicUsize,
    closed: AtomicBool,
}

#[derive(Default)]
struct Tail {
    state: Mutex<State>,
    /// Records came, or following failed.
    changed: Notify,
}

struct State {
    mode: Mode,
    ring: Ring,
    /// The thread takes nothing more before somebody has read.
    stalled: bool,
    waiting: usize,
    touched: Instant,
    /// How often following ended in an error. A read says what it is.
    failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Idle,
    /// To be followed from the end of the ring on.
    Wanted,
    Following,
}

impl Default for State {
    fn default() -> Self {
        let (mode, ring, touched) = (Mode::Idle, Ring::default(), Instant::now());
        Self { mode, ring, stalled: false, waiting: 0, touched, failures: 0 }
    }
}

impl State {
    fn begin(&mut self, from: Offset) {
        self.ring = Ring::starting_at(from);
        self.mode = Mode::Wanted;
        self.stalled = false;
    }

    /// A reader has come as far as `offset`; gives whether the thread has to know.
    fn reached(&mut self, offset: Offset) -> bool {
        self.ring.reached(offset);
        std::mem::take(&mut self.stalled)
    }
}

/// What the thread has to look at.
#[derive(Default)]
struct Signals {
    state: Mutex<SignalState>,
    raised: Condvar,
}

#[derive(Default)]
struct SignalState {
    /// By the index of a place, whether it stands in `ready`.
    is_ready: Vec<bool>,
    ready: Vec<usize>,
    /// The client itself has something to say.
    client: bool,
}

impl Signals {
    /// May be called on librdkafka's threads, while they hold locks.
    fn raise(&self, index: usize) {
        let mut state = self.state.lock();
        if state.is_ready.len() <= index {
            state.is_ready.resize(index + 1, false);
        }
        if !std::mem::replace(&mut state.is_ready[index], true) {
            state.ready.push(index);
        }
        drop(state);
        self.raised.notify_one();
    }

    fn raise_client(&self) {
        self.state.lock().client = true;
        self.raised.notify_one();
    }
}

impl Shared {
    /// Tells a partition's follower to look at it. May be called on librdkafka's threads.
    fn raise(&self, index: usize) {
        let follower = match self.layout.at(index).source {
            Source::Topic(Topic::Deliveries) => DELIVERIES,
            Source::Topic(Topic::Attempts) => ATTEMPTS,
            _ => 0,
        };
        self.signals[follower].raise(index);
    }
}

impl Tails {
    pub(super) fn open(options: &Options, layout: &Arc<Layout>, link: &Arc<Link>) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            layout: Arc::clone(layout),
            tails: (0..layout.len()).map(|_| Tail::default()).collect(),
            signals: Default::default(),
            followed: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        for number in 0..FOLLOWERS {
            let mut consumer: BaseConsumer<Events> = config(options, number)
                .create_with_context(Events { link: Arc::clone(link) })
                .map_err(|error| OpenError::client(options, error))?;
            let client = Arc::clone(&shared);
            consumer.set_nonempty_callback(move || client.signals[number].raise_client());
            let follower = Follower::new(number, Arc::new(consumer), Arc::clone(&shared), Arc::clone(link));
            let thread = std::thread::Builder::new().name(format!("fanfare-kafka-tail-{number}"));
            thread.spawn(move || follower.run())?;
        }
        Ok(Self { shared })
    }

    /// Resolves when something at or above `from` can be read, or when a read would tell why nothing can.
    pub(super) async fn wait(&self, place: Place, from: Offset) -> Result<(), ReadError> {
        let shared = &self.shared;
        let index = shared.layout.index(place);
        let tail = &shared.tails[index];
        let waiter = Waiter::new(tail);
        loop {
            let mut changed = std::pin::pin!(tail.changed.notified());
            changed.as_mut().enable();
            if shared.closed.load(Ordering::Acquire) {
                return Err(ReadError::Closed("the log is shut down".to_owned()));
            }
            match tail.look(from, waiter.failures) {
                Look::Readable => return Ok(()),
                Look::Later => {}
                Look::Signal => shared.raise(index),
            }
            changed.await;
        }
    }

    /// What is in memory at and above `from`; `None` if that has to be asked for.
    pub(super) fn read(&self, place: Place, from: Offset, max_bytes: usize) -> Option<Batch> {
        let index = self.shared.layout.index(place);
        let mut state = self.shared.tails[index].state.lock();
        if state.mode != Mode::Following {
            return None;
        }
        let batch = state.ring.read(from, max_bytes)?;
        state.touched = Instant::now();
        let has_room_again = state.reached(batch.next);
        drop(state);
        if has_room_again {
            self.shared.raise(index);
        }
        Some(batch)
    }

    /// How many partitions are followed.
    pub(super) fn followed(&self) -> usize {
        self.shared.followed.load(Ordering::Relaxed)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.shared.tails.iter().map(|tail| tail.state.lock().ring.size_bytes()).sum()
    }

    pub(super) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        for signals in &self.shared.signals {
            signals.raise_client();
        }
        for tail in &self.shared.tails {
            tail.changed.notify_waiters();
        }
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a waiting reader finds.
enum Look {
    Readable,
    Later,
    /// Later, and the thread has to do something for it.
    Signal,
}

impl Tail {
    fn look(&self, from: Offset, failures: u64) -> Look {
        let mut state = self.state.lock();
        if state.failures != failures {
            return Look::Readable;
        }
        if state.mode == Mode::Idle {
            state.begin(from);
            return Look::Signal;
        }
        let next = state.ring.next();
        if from < next {
            return Look::Readable;
        }
        if from.0 > next.0 + limits::TAIL_JUMP && state.waiting == 1 {
            state.begin(from);
            return Look::Signal;
        }
        if state.reached(from) { Look::Signal } else { Look::Later }
    }
}

/// Somebody who waits: his partition is followed meanwhile.
struct Waiter<'a> {
    tail: &'a Tail,
    failures: u64,
}

impl<'a> Waiter<'a> {
    fn new(tail: &'a Tail) -> Self {
        let mut state = tail.state.lock();
        state.waiting += 1;
        Self { tail, failures: state.failures }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.tail.state.lock();
        state.waiting -= 1;
        state.touched = Instant::now();
    }
}

fn config(options: &Options, follower: usize) -> rdkafka::ClientConfig {
    let mut config = client::reader_config(options);
    if follower == ATTEMPTS {
        config.set("fetch.min.bytes", limits::ATTEMPTS_GATHER_BYTES.to_string());
    }
    config
        .set("fetch.wait.max.ms", millis(limits::TAIL_WAIT))
        .set("fetch.message.max.bytes", limits::TAIL_PARTITION_FETCH_BYTES.to_string())
        .set("fetch.max.bytes", limits::TAIL_FETCH_BYTES.to_string())
        .set("queued.max.messages.kbytes", limits::TAIL_QUEUE_KIB.to_string());
    config
}
