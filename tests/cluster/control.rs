//! What one node answered, another one knows: a message sent to node B after node A answered 201 for a new endpoint
//! reaches that endpoint.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::json;

use super::{
    alone,
    installation::{ADDRESSES, Installation},
    process::Role,
    setting,
};
use crate::support::{Recorder, client::Client, judge, random::Random, wait};

const APPLICATIONS: usize = 8;
/// Rounds that go on at once.
const LANES: u64 = 4;
/// Who else changes something all the time.
const OTHERS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn control_plane_is_read_after_it_was_written_elsewhere() {
    let _alone = alone().await;
    let rounds = setting("FANFARE_ROUNDS", 100);
    let seed = setting("FANFARE_SEED", 1);
    let mut installation = Installation::new(fanfare_testkit::kafka::shared(), 1);
    for role in [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker] {
        installation.start(role).await;
    }
    let recorder = Recorder::start().await;
    let [client, _] = installation.clients();
    let mut applications = Vec::new();
    for number in 0..APPLICATIONS {
        applications.push(client.application(&format!("application {number}")).await);
    }
    let applications = Arc::new(applications);

    let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let others: Vec<_> = (0..OTHERS)
        .map(|other| {
            let (clients, stop, changes) = (installation.clients(), Arc::clone(&stop), Arc::clone(&changes));
            tokio::spawn(change_something(clients, other, stop, changes))
        })
        .collect();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (clients, applications) = (installation.clients(), Arc::clone(&applications));
            let numbers = (0..rounds).filter(move |number| number % LANES == lane);
            let (base, random) = (recorder.url(""), Random::seeded(seed + lane));
            tokio::spawn(create_and_publish(clients, applications, base, numbers, random))
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for other in others {
        other.await.unwrap();
    }

    let wanted: BTreeSet<String> = (0..rounds).map(|number| format!("/{number}")).collect();
    let received = || recorder.receipts().into_iter().map(|receipt| receipt.path).collect::<BTreeSet<_>>();
    let missing = || wanted.difference(&received()).cloned().collect();
    let missed: Vec<String> = judge::missing_in_the_end(wait::PATIENCE, missing).await;
    println!(
        "{rounds} rounds, {} missed; {} other changes meanwhile",
        missed.len(),
        changes.load(Ordering::Relaxed)
    );
    assert!(missed.is_empty(), "FANFARE_SEED={seed}: missed: {missed:?}");
    assert!(changes.load(Ordering::Relaxed) > rounds / 4, "there was little load on the control plane");
    installation.stop().await;
}

async fn create_and_publish(
    clients: [Client; ADDRESSES],
    applications: Arc<Vec<String>>,
    base: String,
    numbers: impl Iterator<Item = u64>,
    mut random: Random,
) {
    for number in numbers {
        let application = &applications[usize::try_from(number).unwrap() % APPLICATIONS];
        let channel = format!("round-{number}");
        let mut any = || &clients[usize::try_from(random.below(ADDRESSES as u64)).unwrap()];
        let options = json!({ "channels": [channel] });
        any().endpoint(application, &format!("{base}/{number}"), &options).await;
        let message =
            json!({ "eventType": "round.begun", "channels": [channel], "payload": { "number": number } });
        any().publish(application, &[], &message.to_string()).await.id(202);
    }
}

/// Commands on the one partition of `control`, from both nodes.
async fn change_something(
    clients: [Client; ADDRESSES],
    other: u64,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
) {
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let client = &clients[usize::try_from(number).unwrap() % ADDRESSES];
        let event_type =
            json!({ "name": format!("other{other}.n{number}"), "description": "x".repeat(1_000) });
        client.post("/api/v1/event-type", &event_type).await.json(201);
        changes.fetch_add(1, Ordering::Relaxed);
    }
}
