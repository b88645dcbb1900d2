//! What history says of a log does not depend on when it was read: after kills under load its tables are those that are
//! made from the whole log at once.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    Client, Engine, Installation, Recorder, Reply, on_every_engine, random::Random,
    wait::{self, PATIENCE},
};

const KILLS: usize = 3;
const PUBLISHERS: usize = 4;

on_every_engine!(tables_after_kills_are_those_of_a_rebuild);

async fn tables_after_kills_are_those_of_a_rebuild(engine: Engine) {
    let seed = RandomState::new().hash_one("seed");
    println!("seed {seed}");
    let mut random = Random::seeded(seed);
    let installation = Installation::on(&engine);
    let mut server = installation.start().await;
    let client = installation.client().await;
    // One takes everything, one refuses every third request, one refuses all: attempts, retries, dead letters.
    let recorder = Recorder::behaving(|receipt| match receipt.path.as_str() {
        "/refuses" => Reply::Status(500),
        "/moody" if receipt.body.len() % 3 == 0 => Reply::Status(503),
        _ => Reply::Status(200),
    })
    .await;
    let application = client.application("history").await;
    for (path, ordering) in [("/takes", "strict"), ("/moody", "unordered"), ("/refuses", "keyed")] {
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
    everything_is_settled(&client).await;
    server.terminate().await;

    let running = digest(&installation).await;
    let rebuilt = installation.run(&["history", "rebuild", "--json"]).await;
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    assert_eq!(digest(&installation).await, running);
    let rows = |table: &str| running[table]["rows"].as_u64().unwrap();
    assert!(rows("messages") >= accepted as u64, "{running}");
    // Each message is for all three, and each of those was tried.
    assert!(rows("deliveries") == 3 * rows("routes").max(rows("messages")) || engine.is_kafka(), "{running}");
    assert!(rows("attempts") > rows("deliveries"), "{running}");
}

/// Nothing is pending, and history has it all.
async fn everything_is_settled(client: &Client) {
    wait::until("history has all that happened", PATIENCE * 4, async || {
        let backlog = client.metric("fanfare_delivery_backlog_messages").await;
        let lag = client.metric("fanfare_history_lag_records").await;
        (backlog == 0.0 && lag == 0.0).then_some(())
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
                        _ => sleep(std::time::Duration::from_millis(20)).await,
                    }
                    sleep(std::time::Duration::from_millis(5)).await;
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
