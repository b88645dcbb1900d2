//! kill -9 at random moments under load, also during start and recovery: nothing acknowledged is lost, nothing
//! comes out of order, and what comes twice was on its way when the process died.
//!
//! `FANFARE_KILLS` says how often (5 unless set), `FANFARE_SEED` repeats the moments of an earlier run.

mod broker;
mod endpoints;
mod judge;
mod publishers;

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::{
    endpoints::{Endpoints, Target},
    judge::{Crash, Rule},
    publishers::Publisher,
};
use crate::support::{
    Client, Engine, Installation, judge::missing_in_the_end, on_every_engine, random::Random, wait,
};

/// Long enough for what an ordered lane waits behind the rejected message, and for the rest to follow.
const CATCH_UP: Duration = Duration::from_mins(2);

on_every_engine!(nothing_is_lost_or_out_of_order);

async fn nothing_is_lost_or_out_of_order(engine: Engine) {
    let kills = number("FANFARE_KILLS").unwrap_or(5);
    let seed = number("FANFARE_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed"));
    println!("FANFARE_KILLS={kills} FANFARE_SEED={seed}");

    let installation = Installation::on(&engine);
    let mut server = installation.start().await;
    let client = installation.client().await;
    let endpoints = set_up(&client).await;
    let load = Publisher::start(&client, &endpoints, &engine);

    let mut random = Random::seeded(seed);
    let mut crashes = Vec::new();
    for kill in 0..kills {
        // The first time nothing is recovered yet, so it is left running for a while.
        let running = kill == 0 || random.below(3) > 0;
        if running {
            server.ready().await;
            // On Kafka the killed process is a member of its groups until its session ends.
            deliveries_go_on(&endpoints).await;
            sleep(random.millis(200..1_500)).await;
        } else {
            sleep(random.millis(0..60)).await;
        }
        let kill = server.kill();
        server = installation.spawn(&["--dev"]);
        crashes.push(Crash { before: kill.before, restarted: Instant::now() });
        println!(
            "killed {} after {:?}",
            if running { "under load" } else { "while starting" },
            kill.after - kill.before
        );
    }
    server.ready().await;
    let published = load.stop().await;
    published.repeats_are_the_first(&client, &engine).await;
    let missing = missing_in_the_end(CATCH_UP, || endpoints.missing(&published)).await;
    assert!(missing.is_empty(), "FANFARE_SEED={seed}: acknowledged, never delivered: {missing:?}");
    server.terminate().await;

    let findings = judge::judge(&endpoints, &published, &crashes, &Rule::of(&engine));
    println!("{}", findings.summary);
    assert!(findings.wrong.is_empty(), "FANFARE_SEED={seed}\n{}", findings.wrong.join("\n"));
    let dead_letters = dead_letters(&installation.inspect().await);
    assert_eq!(dead_letters, endpoints.expected_dead_letters(), "FANFARE_SEED={seed}");
}

/// Two applications: one whose endpoints err in all ways, at a pace that a `strict` endpoint can follow in
/// spite of its timeouts; and one for load, whose endpoints always take what comes.
async fn set_up(client: &Client) -> Arc<Endpoints> {
    let errant = client.application("errant").await;
    let loaded = client.application("loaded").await;
    let endpoints = Endpoints::start([errant, loaded]).await;
    for target in Target::ALL {
        let application = endpoints.application_of(target);
        let options = json!({ "ordering": target.ordering(), "timeoutSecs": 1, "parkAfterSecs": 5 });
        let id = client.endpoint(application, &endpoints.url(target), &options).await;
        let secret = client.secret(application, &id).await;
        endpoints.created(target, id, &secret);
    }
    endpoints
}

/// Waits until something more arrives.
async fn deliveries_go_on(endpoints: &Endpoints) {
    let before = endpoints.requests();
    wait::until("deliveries go on", wait::PATIENCE, async || (endpoints.requests() > before).then_some(()))
        .await;
}

/// (endpoint, message, reason), sorted.
fn dead_letters(inspected: &Value) -> Vec<(String, String, String)> {
    let text = |letter: &Value, field: &str| letter[field].as_str().unwrap_or_default().to_owned();
    let letters = inspected["deadLetters"].as_array().expect("inspect lists dead letters");
    let mut letters: Vec<_> = letters
        .iter()
        .map(|letter| (text(letter, "endpoint"), text(letter, "message"), text(letter, "reason")))
        .collect();
    letters.sort();
    letters
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}")))
}
