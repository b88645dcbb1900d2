//! Publishers that behave as the common client libraries do: a key for each message, and a publish that fails is
//! tried twice more, on another node.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use fanfare_core::{Clock as _, SystemClock};
use fanfare_loadtest::{
    payload::{self, Stamp},
    sequence::{Numbering, SequenceSet},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, error::Elapsed, sleep, timeout},
};

use super::{
    endpoints::{Endpoints, Wanted},
    installation::{ADDRESSES, Installation},
};
use crate::support::{Answer, client::Client, random::Random};

const KEYS: u32 = 20;
const PAYLOAD_BYTES: usize = 400;
/// Pauses before the second and third try.
const RETRIES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(40)];
/// A node that is frozen does not answer; a client gives up on it.
const TRY: Duration = Duration::from_secs(5);

/// When a publisher sends its next message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At this distance.
    Steady(Duration),
    /// At once while fewer deliveries than this are unsettled, else at the distance.
    Fill(u64, Duration),
}

/// How many deliveries were accepted and not received.
#[derive(Clone)]
pub(crate) struct Unsettled {
    accepted: Arc<AtomicU64>,
    delivered: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Unsettled {
    pub(crate) fn count(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed).saturating_sub((self.delivered)())
    }
}

pub(crate) struct Load {
    applications: Vec<Arc<Application>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    pub(crate) unsettled: Unsettled,
}

/// What was published.
pub(crate) struct Published {
    /// By application.
    pub(crate) acknowledged: Vec<SequenceSet>,
    /// After all tries.
    pub(crate) failed: Vec<String>,
    /// Tries that were followed by another.
    pub(crate) retries: Vec<Retry>,
}

/// A try that did not come through.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "planted", allow(dead_code, reason = "only a rolling restart looks at them closely"))]
pub(crate) struct Retry {
    pub(crate) at: Instant,
    /// The address that was tried.
    pub(crate) address: usize,
    /// Tries of the same message before it.
    pub(crate) earlier: usize,
    pub(crate) trouble: Trouble,
}

#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// No connection, or one that ended without an answer.
    Nobody(String),
    /// No answer within [`TRY`].
    Silence,
    /// 5xx.
    Refused(String),
}

struct Application {
    index: u32,
    id: String,
    endpoints: u64,
    ledger: Mutex<Ledger>,
    accepted: Arc<AtomicU64>,
}

#[derive(Default)]
struct Ledger {
    numbering: Numbering,
    by_key: BTreeMap<u32, Numbering>,
    acknowledged: SequenceSet,
    failed: Vec<String>,
    retries: Vec<Retry>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(error) | Self::Refused(error) => f.write_str(error),
            Self::Silence => write!(f, "no answer within {TRY:?}"),
        }
    }
}

impl Load {
    /// Makes the applications with their endpoints.
    pub(crate) async fn set_up(
        installation: &Installation,
        endpoints: &Endpoints,
        applications: usize,
    ) -> Self {
        let [client, _] = installation.clients();
        let accepted = Arc::default();
        let mut made = Vec::new();
        for index in 0..applications {
            let id = client.application(&format!("application {index}")).await;
            let of_it = endpoints.wanted().enumerate().filter(|(_, wanted)| wanted.application == index);
            let of_it: Vec<(usize, &Wanted)> = of_it.collect();
            for (number, wanted) in &of_it {
                let options = json!({ "ordering": wanted.ordering, "timeoutSecs": 15 });
                client.endpoint(&id, &endpoints.url(*number), &options).await;
            }
            made.push(Arc::new(Application {
                index: u32::try_from(index).expect("few"),
                id,
                endpoints: of_it.len() as u64,
                ledger: Mutex::default(),
                accepted: Arc::clone(&accepted),
            }));
        }
        let unsettled = Unsettled { accepted, delivered: Arc::new(endpoints.delivered()) };
        Self { applications: made, stop: Arc::default(), tasks: Vec::new(), unsettled }
    }

    /// Publishes to an application until [`Load::stop`].
    pub(crate) fn publish(&mut self, installation: &Installation, application: usize, seed: u64, pace: Pace) {
        let publisher = Publisher {
            application: Arc::clone(&self.applications[application]),
            clients: installation.clients(),
            random: Random::seeded(seed),
            stream: u32::try_from(self.tasks.len()).expect("few"),
            pace,
            unsettled: self.unsettled.clone(),
            stop: Arc::clone(&self.stop),
        };
        self.tasks.push(tokio::spawn(publisher.run()));
    }

    pub(crate) async fn stop(&mut self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.expect("no publisher panics");
        }
        let mut published = Published { acknowledged: Vec::new(), failed: Vec::new(), retries: Vec::new() };
        for application in &self.applications {
            let ledger = application.ledger.lock();
            published.acknowledged.push(ledger.acknowledged.clone());
            published.failed.extend_from_slice(&ledger.failed);
            published.retries.extend_from_slice(&ledger.retries);
        }
        published
    }
}

struct Publisher {
    application: Arc<Application>,
    clients: [Client; ADDRESSES],
    random: Random,
    stream: u32,
    pace: Pace,
    unsettled: Unsettled,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    async fn run(mut self) {
        let mut last = Instant::now();
        for key in (0..KEYS).cycle() {
            while !self.is_time(last) {
                sleep(Duration::from_millis(2)).await;
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            last = Instant::now();
            let stamp = self.application.begin(self.stream, key);
            let published = self.publish(&stamp).await;
            self.application.finish(&stamp, published);
        }
    }

    fn is_time(&self, last: Instant) -> bool {
        let (Pace::Steady(distance) | Pace::Fill(_, distance)) = self.pace;
        let has_room = match self.pace {
            Pace::Steady(_) => false,
            Pace::Fill(up_to, _) => self.unsettled.count() < up_to,
        };
        has_room || last.elapsed() >= distance || self.stop.load(Ordering::Relaxed)
    }

    /// One publish as a client library makes it.
    async fn publish(&mut self, stamp: &Stamp) -> Result<(), String> {
        let mut address = usize::try_from(self.random.below(ADDRESSES as u64)).expect("few");
        let key = format!("auto_{:016x}", self.random.u64());
        let body = body(stamp);
        let mut troubles = Vec::new();
        for pause in RETRIES.map(Some).into_iter().chain([None]) {
            let trouble = match self.attempt(address, &key, &body).await {
                Ok(Ok(answer)) if answer.status == 202 => return Ok(()),
                Ok(Ok(answer)) if answer.status < 500 => return Err(told(&answer)),
                Ok(Ok(answer)) => Trouble::Refused(told(&answer)),
                Ok(Err(error)) => Trouble::Nobody(format!("{error:#}")),
                Err(_) => Trouble::Silence,
            };
            let earlier = troubles.len();
            troubles.push(trouble.to_string());
            if let Some(pause) = pause {
                let retry = Retry { at: Instant::now(), address, earlier, trouble };
                self.application.ledger.lock().retries.push(retry);
                sleep(pause).await;
            }
            address = (address + 1) % ADDRESSES;
        }
        Err(troubles.join(" | "))
    }

    async fn attempt(
        &self,
        address: usize,
        key: &str,
        body: &str,
    ) -> Result<anyhow::Result<Answer>, Elapsed> {
        let path = format!("/api/v1/app/{}/msg", self.application.id);
        let headers = [("idempotency-key", key)];
        timeout(TRY, self.clients[address].try_send("POST", &path, &headers, body)).await
    }
}

impl Application {
    fn begin(&self, stream: u32, key: u32) -> Stamp {
        let mut ledger = self.ledger.lock();
        let (seq, floor) = ledger.numbering.begin();
        let (key_seq, key_floor) = ledger.by_key.entry(key).or_default().begin();
        let at = SystemClock.now();
        Stamp { run: 1, stream, application: self.index, key, seq, floor, key_seq, key_floor, at }
    }

    fn finish(&self, stamp: &Stamp, published: Result<(), String>) {
        let mut ledger = self.ledger.lock();
        ledger.numbering.finish(stamp.seq);
        ledger.by_key.entry(stamp.key).or_default().finish(stamp.key_seq);
        match published {
            Ok(()) => {
                ledger.acknowledged.insert(stamp.seq);
                self.accepted.fetch_add(self.endpoints, Ordering::Relaxed);
            }
            Err(error) => ledger.failed.push(format!("message {}: {error}", stamp.seq)),
        }
    }
}

fn told(answer: &Answer) -> String {
    format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))
}

fn body(stamp: &Stamp) -> String {
    let mut payload = Vec::new();
    payload::write(stamp, PAYLOAD_BYTES, &mut payload);
    let payload = String::from_utf8(payload).expect("a payload is JSON");
    format!(r#"{{"eventType":"order.changed","payload":{payload},"orderingKey":"key-{}"}}"#, stamp.key)
}
