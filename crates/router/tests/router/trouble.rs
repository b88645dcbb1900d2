//! On an embedded log that loses appends or tells late.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fanfare_log::Log;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    embedded::{keyed, open, plain},
    hindered::Hindered,
    oracle::{Seen, checkpoint, expect, take},
    world::{DELIVERY_PARTITIONS, Process, Publish},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_after_a_failed_append_is_filled_by_the_next_session() {
    let dir = TempDir::new().unwrap();
    let log = Hindered { fail_every: Some(11), ..Hindered::new(open(dir.path())) };
    let process = Process::start(Arc::new(log), &Arc::default()).await;
    let application = process.application().await;
    let mut endpoints = Vec::new();
    for _ in 0..DELIVERY_PARTITIONS {
        endpoints.push(process.endpoint(application.0, None).await);
    }
    let routing = process.route(None);
    for round in 0..25 {
        process.publish(application, &[keyed(&round.to_string(), 1), plain(2), keyed("same", 3)]).await;
        // One batch each, so that later ones are under way when the loss of an earlier one is learned.
        routing.caught_up().await;
    }
    // `caught_up` speaks of what was routed; here it has to be durable too.
    let deadline = Instant::now() + Duration::from_secs(30);
    let expected = expect(&*process.log, &endpoints).await;
    let mut seen = take(&*process.log).await;
    while seen.outcome != expected {
        assert!(Instant::now() < deadline, "{seen:?}\n{expected:?}");
        sleep(Duration::from_millis(20)).await;
        seen = take(&*process.log).await;
    }
    let Seen { gaps, repeats, sessions, .. } = seen;
    assert!(gaps > 0 && repeats > 0 && sessions.len() > 1, "{gaps} gaps, {repeats} repeats, {sessions:?}");
    drop(routing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_stops_before_a_batch_that_is_not_durable() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(Hindered::new(open(dir.path())));
    let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &Arc::default()).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    let routing = process.route(None);
    // Three batches; of the second nobody ever hears again.
    let mut offsets = Vec::new();
    for batch in 0..3 {
        log.lose_next.store(batch == 1, Ordering::Relaxed);
        offsets.push(process.publish(application, &[plain(batch)]).await[0].1);
        routing.caught_up().await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while checkpoint(&*log, application.1).await.is_none_or(|newest| newest.position <= offsets[0]) {
        assert!(Instant::now() < deadline, "the first batch was never in a checkpoint");
        sleep(Duration::from_millis(10)).await;
    }
    let newest = checkpoint(&*log, application.1).await.unwrap();
    assert!(newest.position <= offsets[1], "{newest:?}");
    routing.abort().await;

    let routing = process.route(None);
    routing.caught_up().await;
    routing.stop().await;
    let seen = take(&*log).await;
    assert_eq!(seen.outcome, expect(&*log, &endpoints).await);
    assert_eq!(seen.gaps, 1);
}

/// A worker takes the first record that it sees of a session whatever it names before it: the loss would be
/// in storage, and waiting for ever no help. So it must not see the second first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_follows_a_sessions_first_record_before_that_is_durable() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(Hindered::new(open(dir.path())));
    let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &Arc::default()).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    let routing = process.route(None);
    log.lose_next.store(true, Ordering::Relaxed);
    process.publish(application, &[plain(1)]).await;
    routing.caught_up().await;
    process.publish(application, &[plain(2)]).await;
    let second = tokio::time::timeout(Duration::from_millis(150), routing.caught_up()).await;
    assert!(second.is_err(), "the second message was routed");
    assert_eq!(take(&*log).await.records, 0);
    routing.abort().await;

    let routing = process.route(None);
    routing.caught_up().await;
    routing.stop().await;
    let seen = take(&*log).await;
    assert_eq!((seen.outcome, seen.gaps), (expect(&*log, &endpoints).await, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_not_missed_by_a_router_that_learns_late_of_control() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let process = Process::start(Arc::clone(&log) as Arc<dyn Log>, &Arc::default()).await;
    let late = Hindered { control_lag: Duration::from_mins(1), ..Hindered::new(log) };
    let elsewhere = Process::start(Arc::new(late), &Arc::default()).await;
    let application = process.application().await;
    let routing = elsewhere.route(None);
    for round in 0..5 {
        let endpoint = process.endpoint(application.0, None).await;
        let offset = process.publish(application, &[plain(round)]).await[0].1;
        routing.caught_up().await;
        let seen = take(&*process.log).await;
        let arrived = seen.outcome.arrived.get(&(endpoint.number, application.1));
        assert_eq!(arrived.and_then(|offsets| offsets.first()), Some(&offset), "round {round}");
    }
    routing.stop().await;
}

/// With its payload a delivery record may be too large for a log that an operator narrowed: the payload stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_stay_in_messages_where_deliveries_do_not_take_them() {
    let dir = TempDir::new().unwrap();
    let log = Hindered { delivery_bytes: 400, ..Hindered::new(open(dir.path())) };
    let process = Process::start(Arc::new(log), &Arc::default()).await;
    let application = process.application().await;
    let endpoints = [process.endpoint(application.0, None).await];
    let routing = process.route_with(None, true);
    process.publish(application, &[plain(1), plain(2)]).await;
    routing.caught_up().await;
    let inlined = take(&*process.log).await.inlined;
    let large = Publish { channel: Some("c".repeat(500)), ..plain(3) };
    process.publish(application, &[large, plain(4)]).await;
    routing.caught_up().await;
    routing.stop().await;
    let seen = take(&*process.log).await;
    assert_eq!(seen.outcome, expect(&*process.log, &endpoints).await);
    assert_eq!((inlined, seen.inlined, seen.gaps), (2, 2, 0));
}

/// A record that is too large without any payload can be routed by nobody: a plain error, and no skip.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_log_never_takes_stops_routing() {
    for inline in [false, true] {
        let dir = TempDir::new().unwrap();
        let log = Hindered { delivery_bytes: 20, ..Hindered::new(open(dir.path())) };
        let process = Process::start(Arc::new(log), &Arc::default()).await;
        let application = process.application().await;
        process.endpoint(application.0, None).await;
        let routing = process.route_with(None, inline);
        process.publish(application, &[plain(1)]).await;
        let line = routing.failed().await;
        assert!(line.contains("`deliveries`") && line.contains("limit of 20"), "{line}");
        assert_eq!(take(&*process.log).await.records, 0);
        assert!(checkpoint(&*process.log, application.1).await.is_none(), "it was not passed over");
    }
}
