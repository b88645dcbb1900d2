//! Publishes messages and remembers what was acknowledged.
//!
//! A connection has one request in flight. Closed loop: the next follows the answer. Open loop: messages are
//! due at a pace, and latency counts from then. Messages go to the applications in turn; with ordering keys,
//! in turn to the keys too.

mod connection;
mod ledger;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

pub use self::ledger::Acknowledged;
use self::{connection::Line, ledger::Ledger};
use crate::{
    client,
    latency::{Latencies, Summary},
    pacer::Pacer,
    payload,
    sequence::SequenceSet,
};

/// What to publish, where and how.
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own, named where it is set")]
#[derive(Clone, Debug)]
pub struct Options {
    pub server: client::Server,
    /// Goes into every payload and idempotency key.
    pub run: u64,
    /// Ids or uids.
    pub applications: Vec<String>,
    /// Index of the first of them in payloads; the others follow.
    pub first_application: u32,
    pub connections: usize,
    pub payload_bytes: usize,
    /// Ordering keys per application; 0: messages have none.
    pub keys: u32,
    /// A message is sent only after the one before it of the same application and key was answered. At most
    /// one connection then serves an application and key, so no more connections are opened than there are.
    pub sequential: bool,
    /// Messages per second; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// Ends after so many messages …
    pub messages: Option<u64>,
    /// … or after this time, whichever is first.
    pub duration: Option<Duration>,
    /// Sends an `Idempotency-Key`.
    pub idempotency: bool,
    /// Repeats a message, with its key, until it is acknowledged or refused for good (4xx), whatever
    /// happens to the server meanwhile. Implies `idempotency`.
    pub repeat: bool,
    /// How long one message is repeated, and how long a new connection is tried.
    pub patience: Duration,
    /// After this a request counts as failed.
    pub answer_timeout: Duration,
    /// Remembers the id of every acknowledged message, not only its number.
    pub keep_ids: bool,
}

impl Options {
    /// One connection, closed loop, no end.
    pub fn new(server: client::Server, run: u64, applications: Vec<String>) -> Self {
        Self {
            server,
            run,
            applications,
            first_application: 0,
            connections: 1,
            payload_bytes: payload::DEFAULT_BYTES,
            keys: 0,
            sequential: false,
            rate: None,
            messages: None,
            duration: None,
            idempotency: false,
            repeat: false,
            patience: Duration::from_mins(2),
            answer_timeout: Duration::from_secs(30),
            keep_ids: false,
        }
    }
}

/// Numbers of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Answered 202.
    pub accepted: u64,
    /// Answered 503.
    pub shed: u64,
    /// Of those, without `Retry-After`.
    pub shed_without_retry_after: u64,
    /// Any other answer.
    pub other: u64,
    /// No answer: the connection broke or time ran out.
    pub errors: u64,
    /// Messages given up without an answer: they may have been accepted.
    pub unknown: u64,
    /// Connections made, the first ones included.
    pub connects: u64,
}

/// What was published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    pub counts: Counts,
    /// Per application: the numbers of the acknowledged messages.
    pub accepted: Vec<SequenceSet>,
    /// Every acknowledged message, if they were to be kept.
    pub acknowledged: Vec<Acknowledged>,
    /// From when a message was due until its 202.
    pub latency: Summary,
    /// From sending until a 503.
    pub shed_latency: Summary,
    pub elapsed: Duration,
    /// An answer that was neither 202 nor 503, or the last error, to say what is wrong.
    pub complaint: Option<String>,
}

/// A publisher at work. It stops when it is dropped.
pub struct Publisher {
    shared: Arc<Shared>,
    lines: JoinSet<Line>,
    ender: Option<JoinHandle<()>>,
    started: Instant,
}

struct Shared {
    options: Options,
    ledgers: Vec<Ledger>,
    pacer: Option<Pacer>,
    begun: AtomicU64,
    stopped: AtomicBool,
    counts: AtomicCounts,
}

#[derive(Default)]
struct AtomicCounts {
    accepted: AtomicU64,
    shed: AtomicU64,
    shed_without_retry_after: AtomicU64,
    other: AtomicU64,
    errors: AtomicU64,
    unknown: AtomicU64,
    connects: AtomicU64,
}

impl Publisher {
    /// Starts publishing on the current runtime.
    pub fn start(options: Options) -> Self {
        let keys = options.keys.max(1);
        let pairs = options.applications.len() * keys as usize;
        let connections =
            if options.sequential { options.connections.min(pairs) } else { options.connections };
        let duration = options.duration;
        let ledgers = options.applications.iter().map(|_| Ledger::new(options.keys, options.keep_ids));
        let shared = Arc::new(Shared {
            ledgers: ledgers.collect(),
            pacer: options.rate.map(Pacer::start),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            counts: AtomicCounts::default(),
            options,
        });
        let mut lines = JoinSet::new();
        for number in 0..connections {
            lines.spawn(Line::new(Arc::clone(&shared), number, connections).run());
        }
        let ender = duration.map(|duration| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                sleep(duration).await;
                shared.stop();
            })
        });
        Self { shared, lines, ender, started: Instant::now() }
    }

    /// Begins no more messages; those begun are brought to an end.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.read()
    }

    /// Waits until everything is published.
    pub async fn finish(mut self) -> Published {
        let mut latencies = Latencies::default();
        let mut shed_latencies = Latencies::default();
        let mut complaint = None;
        while let Some(line) = self.lines.join_next().await {
            let line = line.expect("a connection's task does not panic");
            latencies.add(&line.latencies);
            shed_latencies.add(&line.shed_latencies);
            complaint = complaint.or(line.complaint);
        }
        let elapsed = self.started.elapsed();
        let (accepted, acknowledged): (Vec<_>, Vec<_>) = self.shared.ledgers.iter().map(Ledger::take).unzip();
        Published {
            counts: self.counts(),
            accepted,
            acknowledged: acknowledged.into_iter().flatten().collect(),
            latency: latencies.summary(),
            shed_latency: shed_latencies.summary(),
            elapsed,
            complaint,
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(ender) = &self.ender {
            ender.abort();
        }
    }
}

impl Shared {
    fn stop(&self) {
        self.stopped.store(true, SeqCst);
        if let Some(pacer) = &self.pacer {
            pacer.end();
        }
    }

    /// The number of the next message of the whole run; `None`: there is to be no more.
    fn next(&self) -> Option<u64> {
        if self.stopped.load(Relaxed) {
            return None;
        }
        let number = self.begun.fetch_add(1, Relaxed);
        self.options.messages.is_none_or(|messages| number < messages).then_some(number)
    }
}

impl AtomicCounts {
    fn read(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            shed: self.shed.load(Relaxed),
            shed_without_retry_after: self.shed_without_retry_after.load(Relaxed),
            other: self.other.load(Relaxed),
            errors: self.errors.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            connects: self.connects.load(Relaxed),
        }
    }
}
