//! What history says of a log does not depend on when it was read: after kills under load its tables are those that are
//! made from the whole log at once.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    Client, Engine, Installation, Recorder, Reply, on_every_engine,
    random::Random,
    wait::{self, PATIENCE},
};

const KILLS: usize = 3;
const PUBLISHERS: usize = 4;
const UNTIL_GONE: usize = 60;
const CALM: Duration = Duration::from_secs(5);

on_every_engine!(tables_after_kills_are_those_of_a_rebuild);

async fn tables_after_kills_are_those_of_a_rebuild(engine: Engine) {
    let seed = RandomState::new().hash_one("seed");
    println!("seed {seed}");
    let mut random = Random::seeded(seed);
    let installation = Installation::on(&engine);
    let mut server = installation.start().await;
    let client = installation.client().await;
    // One takes everything, one refuses some, one goes away for good: attempts, retries, dead letters, a range.
    let left = AtomicUsize::new(UNTIL_GONE);
    let calmed = Arc::new(AtomicBool::new(false));
    let is_calm = Arc::clone(&calmed);
    let recorder = Recorder::behaving(move |receipt| match receipt.path.as_str() {
        "/moody" if receipt.body.len() % 7 == 0 && !is_calm.load(Ordering::Relaxed) => Reply::Status(422),
        "/gone" => {
            let left =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1)));
            Reply::Status(if left == Ok(0) { 410 } else { 200 })
        }
        _ => Reply::Status(200),
    })
    .await;
    let application = client.application("history").await;
    for (path, ordering) in [("/takes", "strict"), ("/moody", "unordered"), ("/gone", "keyed")] {
        let options = json!({ "ordering": ordering, "retrySchedule": [1, 1], "parkAfterSecs": 1 });
        client.endpoint(&application, &recorder.url(path), &options).await;
    }
    let load = Load::start(&client, &application);
    for _ in 0..KILLS {
        server.ready().await;
        let before = recorder.receipts().len();
        recorder.received(before + 50).await;
        sleep(random.millis(0..700)).await;
        server.kill();
        server = installation.spawn(&["--dev"]);
    }
    server.ready().await;
    let accepted = load.stop().await;
    assert!(accepted > 50, "{accepted}");
    // If only what is refused were left, its circuit would let one of them through now and then, for minutes.
    calmed.store(true, Ordering::Relaxed);
    everything_is_settled(&client).await;
    server.terminate().await;

    let running = digest(&installation).await;
    let rebuilt = installation.run(&["history", "rebuild", "--json"]).await;
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    assert_eq!(digest(&installation).await, running);
    let rows = |table: &str| running[table]["rows"].as_u64().unwrap();
    assert!(rows("messages") >= accepted as u64, "{running}");
    assert!(rows("deliveries") >= 2 * rows("messages"), "{running}");
    assert!(rows("attempts") > 2 * rows("messages"), "some were tried again: {running}");
}

/// Nothing is pending, and history has it all, for longer than figures are old.
async fn everything_is_settled(client: &Client) {
    let mut calm_since = None;
    wait::until("history has all that happened", PATIENCE * 4, async || {
        let backlog = client.metric("fanfare_delivery_backlog_messages", "").await;
        let lag = client.metric("fanfare_history_lag_records", "").await;
        if backlog > 0 || lag > 0 || client.metric("fanfare_history_records_total", "").await == 0 {
            calm_since = None;
            return None;
        }
        (calm_since.get_or_insert_with(Instant::now).elapsed() > CALM).then_some(())
    })
    .await;
}

async fn digest(installation: &Installation) -> Value {
    let finished = installation.run(&["history", "digest", "--json"]).await;
    assert!(finished.status.success(), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error} in {}", finished.stdout))
}

/// Publishes until it is stopped, whether the server is up or not.
struct Load {
    stop: Arc<AtomicBool>,
    publishers: Vec<tokio::task::JoinHandle<usize>>,
}

impl Load {
    fn start(client: &Client, application: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (client, stop, application) = (client.another(), Arc::clone(&stop), application.to_owned());
            tokio::spawn(async move {
                let mut accepted = 0;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = json!({
                        "eventType": "history.tested",
                        "eventId": format!("{publisher}-{number}"),
                        "payload": { "text": "x".repeat(number % 7) },
                    });
                    let path = format!("/api/v1/app/{application}/msg");
                    match client.try_send("POST", &path, &[], &body.to_string()).await {
                        Ok(answer) if answer.status == 202 => accepted += 1,
                        _ => sleep(Duration::from_millis(20)).await,
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                accepted
            })
        });
        Self { publishers: publishers.collect(), stop }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = 0;
        for publisher in self.publishers {
            accepted += publisher.await.unwrap();
        }
        accepted
    }
}
