//! The publishers of the kill test. They number their messages, and know what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use fanfare_core::{Clock as _, SystemClock};
use fanfare_loadtest::{
    payload::{self, NO_KEY, Stamp},
    sequence::{Numbering, SequenceSet},
};
use tokio::{task::JoinHandle, time::sleep};

use super::endpoints::Endpoints;
use crate::support::{Answer, Client, Engine};

const KEYS: u32 = 100;
const PAYLOAD_BYTES: usize = 512;
/// Both publishers of the first application together stay below what a `strict` endpoint with 1 % timeouts of
/// a second can take.
const PACE: Duration = Duration::from_millis(50);
const LOAD_PACE: Duration = Duration::from_millis(2);
/// On Kafka nothing is delivered after a kill until the session of the killed process ends; what comes meanwhile has to
/// be caught up with.
const SLOWER_ON_KAFKA: u32 = 3;
/// Of the publisher that repeats until acknowledged: this message is always answered 400.
const REJECTED: u64 = 10;
/// Between two tries to reach a server that is down.
const DOWN: Duration = Duration::from_millis(20);

/// Publishes until it is stopped.
pub(super) struct Publisher {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    applications: [Arc<Application>; 2],
}

/// What was published, and acknowledged.
pub(super) struct Published {
    applications: [Arc<Application>; 2],
}

struct Application {
    index: u32,
    id: String,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    numbering: Numbering,
    by_key: BTreeMap<u32, Numbering>,
    acknowledged: BTreeMap<u64, Acknowledged>,
}

struct Acknowledged {
    message: String,
    /// Idempotency key and request body of a message that had one.
    keyed: Option<(String, String)>,
}

impl Publisher {
    pub(super) fn start(client: &Client, endpoints: &Arc<Endpoints>, engine: &Engine) -> Self {
        let slower = if engine.is_kafka() { SLOWER_ON_KAFKA } else { 1 };
        let applications = [0, 1].map(|index| {
            let target = [super::Target::Strict, super::Target::LoadedStrict][index as usize];
            let id = endpoints.application_of(target).to_owned();
            Arc::new(Application { index, id, ledger: Mutex::default() })
        });
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (stream, application, pace) in [(0, 0, PACE), (1, 1, LOAD_PACE), (2, 1, LOAD_PACE)] {
            let publisher = alternate(
                client.another(),
                Arc::clone(&applications[application]),
                stream,
                pace * slower,
                Arc::clone(&stop),
            );
            tasks.push(tokio::spawn(publisher));
        }
        let (application, endpoints) = (Arc::clone(&applications[0]), Arc::clone(endpoints));
        tasks.push(tokio::spawn(repeat(client.another(), application, endpoints, Arc::clone(&stop))));
        Self { stop, tasks, applications }
    }

    pub(super) async fn stop(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no publisher panics");
        }
        Published { applications: self.applications }
    }
}

impl Published {
    pub(super) fn acknowledged(&self, application: usize) -> SequenceSet {
        self.applications[application].ledger().acknowledged.keys().copied().collect()
    }

    /// Of an acknowledged message.
    pub(super) fn id(&self, application: usize, sequence: u64) -> Option<String> {
        let ledger = self.applications[application].ledger();
        ledger.acknowledged.get(&sequence).map(|acknowledged| acknowledged.message.clone())
    }

    /// Whether it had an idempotency key.
    pub(super) fn is_keyed(&self, application: usize, sequence: u64) -> bool {
        let ledger = self.applications[application].ledger();
        ledger.acknowledged.get(&sequence).is_some_and(|acknowledged| acknowledged.keyed.is_some())
    }

    /// Publishes again what had an idempotency key, then a last message: when that one has arrived, no repeat will come
    /// any more. Where the router runs in the same process each repeat is answered with the id of the first time.
    pub(super) async fn repeats_are_the_first(&self, client: &Client, engine: &Engine) {
        for application in &self.applications {
            let keyed: Vec<_> = application
                .ledger()
                .acknowledged
                .values()
                .filter_map(|acknowledged| Some((acknowledged.message.clone(), acknowledged.keyed.clone()?)))
                .collect();
            for (message, (key, body)) in keyed {
                let answer = client.publish(&application.id, &[("idempotency-key", &key)], &body).await;
                let id = answer.id(202);
                assert!(id == message || engine.is_kafka(), "{key}: {id} and {message}");
            }
            let stamp = application.begin(u32::MAX, NO_KEY);
            let answer = client.publish(&application.id, &[], &body(&stamp)).await;
            application.finish(&stamp, Some(Acknowledged { message: answer.id(202), keyed: None }));
        }
    }
}

impl Application {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder panics")
    }

    fn begin(&self, stream: u32, key: u32) -> Stamp {
        let mut ledger = self.ledger();
        let (seq, floor) = ledger.numbering.begin();
        let (key_seq, key_floor) = match key {
            NO_KEY => (0, 0),
            _ => ledger.by_key.entry(key).or_default().begin(),
        };
        let at = SystemClock.now();
        Stamp { run: 1, stream, application: self.index, key, seq, floor, key_seq, key_floor, at }
    }

    fn finish(&self, stamp: &Stamp, acknowledged: Option<Acknowledged>) {
        let mut ledger = self.ledger();
        ledger.numbering.finish(stamp.seq);
        if stamp.key != NO_KEY {
            ledger.by_key.entry(stamp.key).or_default().finish(stamp.key_seq);
        }
        if let Some(acknowledged) = acknowledged {
            ledger.acknowledged.insert(stamp.seq, acknowledged);
        }
    }
}

/// Alternates among the ordering keys; what is not acknowledged is not sent again.
async fn alternate(
    client: Client,
    application: Arc<Application>,
    stream: u32,
    pace: Duration,
    stop: Arc<AtomicBool>,
) {
    for key in (0..KEYS).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let stamp = application.begin(stream, key);
        let answer = publish(&client, &application, &[], &body(&stamp)).await;
        let message = answer.as_ref().ok().and_then(acknowledged);
        let reached = message.is_some();
        application.finish(&stamp, message.map(|message| Acknowledged { message, keyed: None }));
        sleep(if reached { pace } else { DOWN }).await;
    }
}

/// Repeats each publish with its idempotency key until it is acknowledged.
async fn repeat(
    client: Client,
    application: Arc<Application>,
    endpoints: Arc<Endpoints>,
    stop: Arc<AtomicBool>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) && number > REJECTED {
            return;
        }
        let stamp = application.begin(u32::MAX, NO_KEY);
        if number == REJECTED {
            endpoints.reject(stamp.seq);
        }
        let key = format!("number-{number}");
        let body = body(&stamp);
        let message = loop {
            let answer = publish(&client, &application, &[("idempotency-key", &key)], &body).await;
            if let Some(message) = answer.as_ref().ok().and_then(acknowledged) {
                break message;
            }
            sleep(DOWN).await;
        };
        application.finish(&stamp, Some(Acknowledged { message, keyed: Some((key, body)) }));
        sleep(PACE).await;
    }
}

async fn publish(
    client: &Client,
    application: &Application,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    client.try_send("POST", &format!("/api/v1/app/{}/msg", application.id), headers, body).await
}

/// The message's id; none if the server shed the message.
fn acknowledged(answer: &Answer) -> Option<String> {
    if answer.status == 503 {
        assert!(answer.header("retry-after").is_some(), "a 503 says when to come back");
        return None;
    }
    Some(answer.id(202))
}

fn body(stamp: &Stamp) -> String {
    let mut payload = Vec::new();
    payload::write(stamp, PAYLOAD_BYTES, &mut payload);
    let payload = String::from_utf8(payload).expect("a payload is JSON");
    let key =
        if stamp.key == NO_KEY { String::new() } else { format!(r#","orderingKey":"key-{}""#, stamp.key) };
    format!(r#"{{"eventType":"order.changed","payload":{payload}{key}}}"#)
}
