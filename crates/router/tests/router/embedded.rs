//! On the embedded log: the plain cases and restarts.

use std::{path::Path, sync::Arc, time::Duration};

use fanfare_core::{ClaimEntry, KnownClaims, Offset, Partition};
use fanfare_log::{
    Log, Topic,
    embedded::{self, EmbeddedLog},
};
use fanfare_router::{
    dedup::{DedupTable, Tuning},
    load_claims,
};
use tempfile::TempDir;

use crate::{
    oracle::{Seen, checkpoint, expect, take},
    world::{DELIVERY_PARTITIONS, HandClock, MESSAGE_PARTITIONS, Process, Publish, Wanting},
};

pub(crate) fn open(dir: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(embedded::Options::new(dir.join("log"), MESSAGE_PARTITIONS, DELIVERY_PARTITIONS))
        .unwrap()
}

pub(crate) fn plain(body: u64) -> Publish {
    Publish { body, ..Publish::default() }
}

pub(crate) fn keyed(key: &str, body: u64) -> Publish {
    Publish { key: Some(key.into()), body, ..Publish::default() }
}

async fn assert_exact(process: &Process, endpoints: &[Wanting]) -> Seen {
    let seen = take(&*process.log).await;
    assert_eq!(seen.outcome, expect(&*process.log, endpoints).await);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_reaches_each_endpoint_that_wants_it_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    let process = Process::start(open(dir.path()), &Arc::default()).await;
    let applications =
        [process.application().await, process.application().await, process.application().await];
    let mut endpoints = Vec::new();
    for (application, _) in applications {
        for channel in [None, None, None, Some("red"), Some("blue"), None, None] {
            endpoints.push(process.endpoint(application, channel).await);
        }
    }
    let routing = process.route(None);
    for round in 0..40 {
        for application in applications {
            let channel =
                |body: usize| [None, Some("red".to_owned()), Some("green".to_owned())][body % 3].clone();
            let publishes: Vec<_> =
                (0..5).map(|n| Publish { channel: channel(round + n), ..plain(n as u64) }).collect();
            process.publish(application, &publishes).await;
        }
    }
    routing.caught_up().await;
    let seen = assert_exact(&process, &endpoints).await;
    assert_eq!((seen.repeats, seen.gaps, seen.sessions.len()), (0, 0, 3));
    assert!(seen.records <= 600 * DELIVERY_PARTITIONS as usize, "one record per delivery partition");
    routing.stop().await;
    for partition in (0..MESSAGE_PARTITIONS).map(Partition) {
        let end = process.log.bounds(Topic::Messages, partition).await.unwrap().end;
        assert_eq!(
            checkpoint(&*process.log, partition).await.unwrap().position,
            end,
            "a drain ends in a checkpoint"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_from_the_checkpoint() {
    let dir = TempDir::new().unwrap();
    let process = Process::start(open(dir.path()), &Arc::default()).await;
    let application = process.application().await;
    let endpoints =
        [process.endpoint(application.0, None).await, process.endpoint(application.0, None).await];

    for round in 0..4 {
        let dedup_dir = (round % 2 == 0).then(|| dir.path().join("claims"));
        let routing = process.route(dedup_dir);
        let key = |n: u64| keyed(&n.to_string(), n);
        let publishes: Vec<_> = (10 * round..10 * round + 20).map(key).collect();
        process.publish(application, &publishes).await;
        routing.caught_up().await;
        routing.stop().await;
    }
    let seen = assert_exact(&process, &endpoints).await;
    assert_eq!((seen.repeats, seen.gaps), (0, 0), "a drained router repeats nothing");
    assert_eq!(
        seen.unchained, 2,
        "of two delivery partitions only the very first record names none before it"
    );
    assert_eq!(seen.sessions.len(), 4, "each run is a session of its own");
    assert_eq!(seen.outcome.aliases.len(), 30, "keys are known over restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_router_sent_comes_again_and_is_refused() {
    let dir = TempDir::new().unwrap();
    let process = Process::start(open(dir.path()), &Arc::default()).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    let (mut repeats, mut published) = (0, 0);
    while repeats == 0 && published < 100 {
        let routing = process.route(Some(dir.path().join("claims")));
        process.publish(application, &[plain(1), keyed(&published.to_string(), 2), plain(3)]).await;
        published += 1;
        routing.caught_up().await;
        routing.abort().await;
        repeats = take(&*process.log).await.repeats;
    }
    let routing = process.route(Some(dir.path().join("claims")));
    routing.caught_up().await;
    routing.stop().await;
    let seen = assert_exact(&process, &endpoints).await;
    assert!(seen.repeats > 0, "it was aborted before a checkpoint");
    assert_eq!((seen.gaps, seen.outcome.aliases.len()), (0, 0), "no message is a repeat of itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_and_conflicts_are_records_without_endpoints() {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(HandClock::default());
    let process = Process::start(open(dir.path()), &clock).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    let event = |event: &str, body| Publish { event_id: Some(event.into()), ..plain(body) };
    let both = |key: &str, id: &str, body| Publish { event_id: Some(id.into()), ..keyed(key, body) };
    let automatic = |key: &str, body| Publish { short_window: true, ..keyed(key, body) };

    let routing = process.route(None);
    let publishes = [
        both("k1", "e1", 1),
        keyed("k2", 2),
        event("e3", 3),
        automatic("auto_4", 4),
        // Repeats.
        both("k1", "e1", 1),
        event("e3", 3),
        automatic("auto_4", 4),
        // Conflicts: other body, same event id under another key, key and event id of two messages.
        keyed("k2", 5),
        both("k6", "e1", 1),
        both("k2", "e3", 2),
        event("e3", 7),
        // The key of a conflict is free.
        keyed("k6", 8),
    ];
    let messages = process.publish(application, &publishes).await;
    clock.advance(Duration::from_mins(16));
    process.publish(application, &[automatic("auto_4", 9), keyed("k2", 2)]).await;
    clock.advance(Duration::from_hours(24));
    process.publish(application, &[keyed("k2", 10), event("e3", 11)]).await;
    routing.caught_up().await;
    routing.stop().await;

    let seen = assert_exact(&process, &endpoints).await;
    assert_eq!((seen.outcome.aliases.len(), seen.outcome.conflicts.len()), (4, 4));
    let first = |place: usize| seen.outcome.aliases[&(application.1, messages[place].1)].1;
    assert_eq!([first(4), first(5), first(6)], [messages[0].0, messages[2].0, messages[3].0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_answered_before_a_publish_is_never_missed() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &Arc::default()).await;
    // Another node, whose view of the control plane is its own.
    let elsewhere = Process::start(log, &Arc::default()).await;
    let application = process.application().await;
    let routing = elsewhere.route(None);
    for round in 0..60 {
        let endpoint = process.endpoint(application.0, None).await;
        let offset = process.publish(application, &[plain(round)]).await[0].1;
        routing.caught_up().await;
        let seen = take(&*process.log).await;
        let arrived = &seen.outcome.arrived[&(endpoint.number, application.1)];
        assert_eq!(arrived.first(), Some(&offset), "round {round}");
    }
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_learns_what_the_router_knows() {
    let dir = TempDir::new().unwrap();
    let process = Process::start(open(dir.path()), &Arc::default()).await;
    let application = process.application().await;
    let routing = process.route(Some(dir.path().join("claims")));
    let (id, offset) = process.publish(application, &[keyed("k", 1)]).await[0];
    routing.handle.caught_up(application.1, offset.next()).await;
    assert!(routing.handle.routed(application.1) > offset);
    let claim = process.message(application.0, &keyed("k", 1)).identity.key.unwrap();
    let now = crate::world::START;
    let found = routing.handle.lookup(application.1, claim, now).unwrap();
    assert_eq!((found.id, found.offset), (id, offset));
    assert_eq!(routing.handle.lookup(application.1, claim, found.expires_at), None, "it has lapsed");

    let handle = routing.handle.clone();
    routing.stop().await;
    assert_eq!(handle.routed(application.1), Offset::ZERO);
    let waited = tokio::time::timeout(Duration::from_millis(20), handle.caught_up(application.1, Offset(1)));
    assert!(waited.await.is_err(), "nobody routes it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_known_after_a_kill_from_disk_or_from_the_log() {
    let dir = TempDir::new().unwrap();
    let claims = dir.path().join("claims");
    let clock = Arc::default();
    let log = open(dir.path());
    let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &clock).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    // Enough for a run on disk, and a rest that is not sealed.
    let at = crate::world::START + Duration::from_hours(24);
    let old = |n: u64| process.message(application.0, &keyed(&format!("old {n}"), n));
    let entries = (0..20_000).map(|n| ClaimEntry {
        claim: old(n).identity.key.unwrap(),
        body: old(n).identity.body,
        id: old(n).id,
        offset: Offset::ZERO,
        expires_at: at,
    });
    let id = process.control.view().installation().unwrap().id;
    let table =
        DedupTable::open(&claims.join(application.1.to_string()), id, application.1, Tuning::default());
    let table = Arc::new(table.unwrap());
    assert_eq!(load_claims(&*log, application.1, &table, entries).await.unwrap(), 20_000);
    assert_eq!(table.run_count(), 1);
    drop((table, process));
    log.kill().await;

    // First with the run, then with a damaged one, then with none.
    for round in 0..3 {
        let log = open(dir.path());
        let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &clock).await;
        let runs = std::fs::read_dir(claims.join(application.1.to_string())).unwrap();
        for run in runs.map(|run| run.unwrap().path()).skip(usize::from(round == 0)) {
            if round == 1 {
                let mut bytes = std::fs::read(&run).unwrap();
                // In every page, so that the first lookup meets it.
                (4_096..bytes.len()).step_by(4_096).for_each(|page| bytes[page] ^= 1);
                std::fs::write(&run, bytes).unwrap();
            } else if round == 2 {
                std::fs::remove_file(&run).unwrap();
            }
        }
        let routing = process.route(Some(claims.clone()));
        let publishes: Vec<_> =
            (0..200).map(|n| 100 * n + round).map(|n| keyed(&format!("old {n}"), n)).collect();
        process.publish(application, &[vec![plain(1), keyed("new", 2)], publishes].concat()).await;
        routing.caught_up().await;
        routing.stop().await;
        let seen = take(&*log).await;
        let repeats = 200 * (usize::try_from(round).unwrap() + 1) + usize::try_from(round).unwrap();
        assert_eq!(seen.outcome.aliases.len(), repeats, "round {round}");
        assert_eq!(seen.outcome.conflicts.len(), 0);
        assert_eq!(seen.outcome.arrived[&(endpoints[0].number, application.1)].len(), repeats / 200 + 1);
        drop(process);
        log.kill().await;
    }
}
