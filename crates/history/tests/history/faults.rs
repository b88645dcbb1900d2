//! The end of a process at any moment, a log that begins in the middle, records that nobody understands.

use bytes::Bytes;
use fanfare_core::{AttemptRecord, Fact, Offset, Settlement};
use fanfare_history::{MessageFilter, Reach};
use fanfare_log::{Log as _, NewRecord, Topic};

use crate::{
    tables::{Tables, on_every_database},
    world::{INSTALLATION, Publish, World, application, at, attempt, endpoint, window},
};

on_every_database! {
    tables_made_again_are_the_same,
    a_server_keeps_its_tables_to_itself,
    what_nobody_understands_is_passed_and_what_is_newer_stands,
    facts_whose_deliveries_are_gone_hold_nothing_up,
}

async fn some_load(world: &mut World, from: i64) {
    for number in from..from + 30 {
        let published = world.publish(&Publish::at(number * 100, &[1, 2, 3])).await;
        let status = if number % 3 == 0 { 500 } else { 200 };
        let time = at(number * 100 + 50);
        world
            .facts(vec![
                attempt(1, published.delivery, 1, status, time),
                attempt(2, published.delivery, 1, 200, time),
            ])
            .await;
    }
    let to = world.log.bounds(Topic::Deliveries, endpoint(3).partition).await.unwrap().end;
    let range = Fact::SettledRange {
        endpoint: endpoint(3).number,
        from: Offset::ZERO,
        to,
        reason: Settlement::Cancelled,
        at: at(9),
    };
    world.facts(vec![range]).await;
}

async fn tables_made_again_are_the_same(tables: Tables) {
    let mut world = World::new(tables);
    let mut digest = Vec::new();
    for round in 0..4 {
        let running = world.start().await;
        some_load(&mut world, round * 30).await;
        if round % 2 == 0 {
            running.caught_up().await;
        }
        digest = running.end(&world).await;
    }
    let running = world.start().await;
    running.caught_up().await;
    let told = running.end(&world).await;
    assert!(
        told.iter().map(|table| table.rows).sum::<u64>()
            > digest.iter().map(|table| table.rows).sum::<u64>() / 2
    );
    let records = fanfare_history::rebuild(world.options(world.place()), |_, _| {}).await.unwrap();
    assert!(records > 0);
    assert_eq!(fanfare_history::digest(&world.place(), INSTALLATION).await.unwrap(), told);
}

async fn a_server_keeps_its_tables_to_itself(tables: Tables) {
    let world = World::new(tables);
    let running = world.start().await;
    running.caught_up().await;
    let refused = fanfare_history::rebuild(world.options(world.place()), |_, _| {}).await;
    assert!(matches!(refused, Err(fanfare_history::OpenError::Kept)), "{refused:?}");
    running.end(&world).await;
}

async fn what_nobody_understands_is_passed_and_what_is_newer_stands(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    world.append(Topic::Messages, NewRecord::head(Bytes::from_static(b"\x01\x63rubbish"))).await;
    world.append(Topic::Attempts, NewRecord::head(Bytes::from_static(b"\x01"))).await;
    let published = world.publish(&Publish::at(1, &[1])).await;
    running.caught_up().await;
    let history = &running.history;
    assert!(history.message(application(1), &published.id.to_string()).await.unwrap().is_some());

    world.append(Topic::Attempts, NewRecord::head(Bytes::from_static(b"\x63\x01"))).await;
    world.facts(vec![attempt(1, published.delivery, 1, 200, at(5))]).await;
    let after = world.publish(&Publish::at(2, &[1])).await;
    assert!(history.passed(Reach::Messages(endpoint(1).partition)).await, "other partitions go on");
    assert!(history.message(application(1), &after.id.to_string()).await.unwrap().is_some());
    assert!(!history.passed(Reach::Endpoints(endpoint(1).partition)).await);
    running.end(&world).await;
}

async fn facts_whose_deliveries_are_gone_hold_nothing_up(tables: Tables) {
    let mut world = World::new(tables);
    // Nothing was ever delivered at these offsets.
    let claim = AttemptRecord::Claim { owner: 1, at: at(0) };
    world.append(Topic::Attempts, NewRecord::head(claim.encode())).await;
    world.facts(vec![attempt(1, Offset(77), 1, 200, at(5))]).await;
    let running = world.start().await;
    running.caught_up().await;
    let published = world.publish(&Publish::at(1, &[1])).await;
    running.caught_up().await;
    let page = running.history.messages(application(1), &MessageFilter::default(), &window(5)).await.unwrap();
    assert_eq!(page.items[0].id, published.id);
    running.end(&world).await;
}
