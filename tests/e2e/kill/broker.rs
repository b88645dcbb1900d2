//! kill -9 of the one broker, again and again under load: what was acknowledged is delivered once it is back, in order;
//! meanwhile publishers are told to come back, and what was read before goes out.
//!
//! `FANFARE_BROKER_KILLS` says how often (3 unless set), `FANFARE_SEED` repeats the moments of an earlier run.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use fanfare_testkit::kafka::{Cluster, Settings};
use serde_json::json;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{
    CATCH_UP, dead_letters, deliveries_go_on,
    endpoints::Target,
    judge::{self, Crash, Rule},
    number,
    publishers::Publisher,
    set_up,
};
use crate::support::{
    Client, Engine, Installation, Recorder, Reply,
    judge::{missing_in_the_end, repeats},
    random::Random,
    wait,
};

/// A session that ended while the broker was away is noticed this long after it is back; what is in flight then may
/// come again.
const SESSION: Duration = Duration::from_secs(6);
/// Of one `strict` endpoint one request is in flight when a partition is lost, and may be when it is gained and lost
/// once more. Facts are not forgotten: the process that has them lives.
const STRICT_REPEATS_PER_KILL: usize = 2;
const BODY: &str = r#"{"eventType":"order.changed","payload":{"n":1}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_out_of_order_when_the_broker_dies() {
    let kills = number("FANFARE_BROKER_KILLS").unwrap_or(3);
    let seed = number("FANFARE_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed"));
    println!("FANFARE_BROKER_KILLS={kills} FANFARE_SEED={seed}");
    let mut random = Random::seeded(seed);

    let cluster = block_in_place(|| Cluster::start(&Settings::new(1)).unwrap());
    let broker = &cluster.brokers()[0];
    let engine = Engine::kafka_at(&cluster.bootstrap());
    let installation = Installation::on(&engine);
    // A process that is started first waits for it.
    block_in_place(|| broker.kill().unwrap());
    let mut server = installation.spawn(&["--dev"]);
    block_in_place(|| broker.start(1).unwrap());
    server.ready().await;
    let client = installation.client().await;
    let endpoints = set_up(&client).await;
    let steady = Steady::set_up(&client).await;
    let load = Publisher::start(&client, &endpoints, &engine);

    let mut outages = Vec::new();
    for _ in 0..kills {
        deliveries_go_on(&endpoints).await;
        sleep(random.millis(200..1_500)).await;
        let read = steady.begin(&client).await;
        let before = Instant::now();
        block_in_place(|| broker.kill().unwrap());
        steady.goes_on(read).await;
        steady.is_refused(&client).await;
        sleep(random.millis(0..1_500)).await;
        block_in_place(|| broker.start(1).unwrap());
        println!("the broker was away for {:?}", before.elapsed());
        outages.push(Crash { before, restarted: Instant::now() + SESSION });
    }
    deliveries_go_on(&endpoints).await;
    let published = load.stop().await;
    published.repeats_are_the_first(&client, &engine).await;
    let missing = missing_in_the_end(CATCH_UP, || endpoints.missing(&published)).await;
    assert!(missing.is_empty(), "FANFARE_SEED={seed}: acknowledged, never delivered: {missing:?}");
    steady.everything_came_in_order().await;
    server.terminate().await;

    let findings = judge::judge(&endpoints, &published, &outages, &Rule::of(&engine));
    println!("{}", findings.summary);
    assert!(findings.wrong.is_empty(), "FANFARE_SEED={seed}\n{}", findings.wrong.join("\n"));
    for strict in [Target::Strict, Target::LoadedStrict] {
        let repeats = repeats(&endpoints.seen(strict)).len();
        assert!(repeats <= STRICT_REPEATS_PER_KILL * outages.len(), "{strict:?}: {repeats} repeats");
    }
    let dead_letters = dead_letters(&installation.inspect().await);
    assert_eq!(dead_letters, endpoints.expected_dead_letters(), "FANFARE_SEED={seed}");
}

/// An application with one `strict` endpoint that takes its time, and one without any.
struct Steady {
    recorder: Recorder,
    application: String,
    lonely: String,
    accepted: std::sync::Mutex<Vec<String>>,
}

/// Before each kill so many are published, ...
const BATCH: usize = 24;
/// ... so many of them have arrived, ...
const ARRIVED: usize = 8;
/// ... and so many more arrive without a broker.
const MORE: usize = 4;
const PACE: Duration = Duration::from_millis(100);

impl Steady {
    async fn set_up(client: &Client) -> Self {
        let recorder = Recorder::behaving(|_| Reply::After(PACE, 204)).await;
        let application = client.application("steady").await;
        client.endpoint(&application, &recorder.url("/steady"), &json!({})).await;
        let lonely = client.application("lonely").await;
        Self { recorder, application, lonely, accepted: std::sync::Mutex::default() }
    }

    /// Publishes a batch and waits until it is being delivered; gives how many requests there were.
    async fn begin(&self, client: &Client) -> usize {
        let before = self.recorder.receipts().len();
        for _ in 0..BATCH {
            let id = client.publish(&self.application, &[], BODY).await.id(202);
            self.accepted.lock().unwrap().push(id);
        }
        self.recorder.received(before + ARRIVED).await.len()
    }

    async fn goes_on(&self, read: usize) {
        self.recorder.received(read + MORE).await;
    }

    async fn is_refused(&self, client: &Client) {
        let answer = client.publish(&self.lonely, &[], BODY).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "a 503 says when to come back: {answer:?}");
    }

    async fn everything_came_in_order(&self) {
        let accepted = self.accepted.lock().unwrap().clone();
        let came = wait::until("all of the batches arrive", wait::PATIENCE, async || {
            let mut seen = std::collections::HashSet::new();
            let receipts = self.recorder.receipts();
            let ids = receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned());
            let firsts: Vec<String> = ids.filter(|id| seen.insert(id.clone())).collect();
            (firsts.len() >= accepted.len()).then_some(firsts)
        });
        assert_eq!(came.await, accepted, "each once for the first time, in the order of publishing");
    }
}
