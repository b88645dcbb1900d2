//! What one node answered, all honour for every message sent after the answer, whichever node takes it: endpoints and
//! applications that were made are known, those that were deleted, disabled or given another filter are not sent what
//! they do not want any more, a new secret signs, and content that was erased is not shown.

mod rounds;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::json;

use self::rounds::{Arrived, Kind, Rounds, Told, arrival, message};
use super::{
    alone,
    installation::{ADDRESSES, DELIVERY_PARTITIONS, Installation},
    process::Role,
    setting,
};
use crate::support::{Recorder, client::Client, judge, random::Random, wait};

const APPLICATIONS: usize = 8;
/// Rounds that go on at once.
const LANES: u64 = 4;
/// Who else changes something all the time.
const OTHERS: u64 = 3;
/// What the last messages are about.
const LAST: &str = "last";

#[tokio::test(flavor = "multi_thread")]
async fn control_plane_is_read_after_it_was_written_elsewhere() {
    let _alone = alone().await;
    let rounds = setting("FANFARE_ROUNDS", 100);
    let seed = setting("FANFARE_SEED", 1);
    let mut installation = Installation::new(fanfare_testkit::kafka::shared(), 1);
    for role in [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker] {
        installation.start(role).await;
    }
    let arrived = Arrived::default();
    let noted = arrived.clone();
    let recorder = Recorder::behaving(move |receipt| noted.note(receipt)).await;
    let [client, _] = installation.clients();
    let mut applications = Vec::new();
    for number in 0..APPLICATIONS {
        applications.push(client.application(&format!("application {number}")).await);
    }
    make_last_endpoints(&client, &applications, &recorder).await;
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
            let lane_rounds = Rounds {
                clients: installation.clients(),
                applications: Arc::clone(&applications),
                base: recorder.url(""),
                arrived: arrived.clone(),
                random: Random::seeded(seed + lane),
                told: Told::default(),
            };
            tokio::spawn(lane_rounds.run((0..rounds).filter(move |number| number % LANES == lane)))
        })
        .collect();
    let mut told = Told::default();
    for lane in lanes {
        told.add(lane.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    for other in others {
        other.await.unwrap();
    }

    let missed: Vec<String> =
        judge::missing_in_the_end(wait::PATIENCE, || arrived.missing(&told.wanted)).await;
    everything_has_gone_out(&installation.clients(), &applications, &arrived).await;
    let unheeded = arrived.among(&told.forbidden);
    let wrongly_signed = told.wrongly_signed(&recorder.receipts());
    println!(
        "FANFARE_SEED={seed}: {} messages missed of {}, {} delivered of {} that nobody wanted any more; {} other \
         changes meanwhile",
        missed.len(),
        told.wanted.len(),
        unheeded.len(),
        told.forbidden.len(),
        changes.load(Ordering::Relaxed)
    );
    println!("{}", told.counts());
    assert!(missed.is_empty(), "FANFARE_SEED={seed}: missed: {missed:?}");
    assert!(unheeded.is_empty(), "FANFARE_SEED={seed}: sent all the same: {unheeded:?}");
    assert!(wrongly_signed.is_empty(), "FANFARE_SEED={seed}: {wrongly_signed:?}");
    assert!(told.shown.is_empty(), "FANFARE_SEED={seed}: shown after it was erased: {:?}", told.shown);
    for kind in Kind::ALL {
        assert!(told.crossed(kind), "no round of {kind:?} went to another node: {}", told.counts());
    }
    assert!(changes.load(Ordering::Relaxed) > rounds / 4, "there was little load on the control plane");
    installation.stop().await;
}

/// An endpoint in each delivery partition for each application: a new one goes where there are fewest.
async fn make_last_endpoints(client: &Client, applications: &[String], recorder: &Recorder) {
    for (number, application) in applications.iter().enumerate() {
        for partition in 0..DELIVERY_PARTITIONS {
            let url = recorder.url(&format!("/{}", last_name(number, partition)));
            client.endpoint(application, &url, &json!({ "channels": [LAST] })).await;
        }
    }
}

fn last_name(application: usize, partition: u32) -> String {
    format!("{LAST}-{application}-{partition}")
}

/// Sends what stands behind everything else, in each pair of a partition of `messages` and one of `deliveries`, and
/// waits for it; then once more, for requests that were on their way beside it.
async fn everything_has_gone_out(clients: &[Client; ADDRESSES], applications: &[String], arrived: &Arrived) {
    for step in ["once", "twice"] {
        let mut wanted = BTreeSet::new();
        for (number, application) in applications.iter().enumerate() {
            let client = &clients[number % ADDRESSES];
            client.publish(application, &[], &message(LAST, step)).await.id(202);
            let names = (0..DELIVERY_PARTITIONS).map(|partition| last_name(number, partition));
            wanted.extend(names.map(|name| arrival(&name, step)));
        }
        let missing: Vec<String> =
            judge::missing_in_the_end(wait::PATIENCE, || arrived.missing(&wanted)).await;
        assert!(missing.is_empty(), "{missing:?} did not arrive");
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
