//! One message, one attempt, counts.

use std::time::Duration;

use fanfare_core::{Delivery, Fact, Offset, Settlement};
use fanfare_history::{
    AttemptFilter, AttemptStatus, Day, DeadLetterFilter, DeliveryFilter, MessageFilter, Payload, Reach,
    Standing, Twin, Why,
};
use fanfare_log::{NewRecord, Topic};

use crate::{
    tables::{Tables, on_every_database},
    world::{Publish, World, application, at, attempt, endpoint, settled, window},
};

on_every_database! {
    what_was_accepted_is_found_at_once,
    attempts_and_what_became_of_it,
    twins_are_known,
    counts_add_up_and_what_is_missing_is_named,
    rows_that_somebody_removed_are_named,
}

async fn what_was_accepted_is_found_at_once(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut publish = Publish::at(1, &[1, 2]);
    publish.event_id = Some("order-17".to_owned());
    publish.channels = vec!["europe".to_owned()];
    publish.tags = vec!["big".to_owned()];
    r#"{"amount":17}"#.clone_into(&mut publish.payload);
    let published = world.publish(&publish).await;
    let history = &running.history;
    assert!(history.passed(Reach::Messages(endpoint(1).partition)).await);

    let found = history.message(application(1), &published.id.to_string()).await.unwrap().unwrap();
    assert_eq!((found.id, found.key.offset), (published.id, published.source));
    assert_eq!(
        (found.event_id.as_deref(), &found.channels, &found.tags),
        (Some("order-17"), &publish.channels, &publish.tags)
    );
    assert_eq!(history.message(application(1), "order-17").await.unwrap(), Some(found.clone()));
    assert_eq!(history.message(application(2), "order-17").await.unwrap(), None);
    assert_eq!(history.payload(&found).await.unwrap(), Payload::Here(publish.payload.into()));

    assert!(history.passed(Reach::Endpoints(endpoint(1).partition)).await);
    let deliveries =
        history.deliveries_of_message(&found, &DeliveryFilter::default(), &window(10)).await.unwrap();
    assert_eq!(deliveries.items.iter().map(|row| row.endpoint.0).collect::<Vec<_>>(), [1, 2]);
    assert!(deliveries.items.iter().all(|row| row.standing == Standing::Pending) && deliveries.done);
    running.end(&world).await;
}

async fn attempts_and_what_became_of_it(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let published = world.publish(&Publish::at(1, &[1])).await;
    world
        .facts(vec![
            attempt(1, published.delivery, 1, 503, at(10)),
            attempt(1, published.delivery, 2, 0, at(6_000)),
            attempt(1, published.delivery, 3, 204, at(12_000)),
        ])
        .await;
    running.caught_up().await;
    let history = &running.history;
    let message = history.message(application(1), &published.id.to_string()).await.unwrap().unwrap();
    let of_message =
        history.attempts_of_message(&message, &AttemptFilter::default(), &window(10)).await.unwrap();
    let of_endpoint =
        history.attempts_of_endpoint(endpoint(1), &AttemptFilter::default(), &window(10)).await.unwrap();
    assert_eq!(of_message.items, of_endpoint.items);
    let shown: Vec<_> =
        of_message.items.iter().map(|row| (row.number, row.http_status, row.status)).collect();
    assert_eq!(
        shown,
        [
            (1, 503, AttemptStatus::Retrying),
            (2, 0, AttemptStatus::Retrying),
            (3, 204, AttemptStatus::Delivered)
        ]
    );
    for row in &of_message.items {
        assert_eq!(history.attempt(row.id).await.unwrap().as_ref(), Some(row));
    }
    assert_eq!(of_message.items[0].response, "answer 503");
    let delivery = history.delivery(&message, endpoint(1)).await.unwrap().unwrap();
    assert_eq!((delivery.standing, delivery.attempts), (Standing::Settled(Settlement::Delivered), 3));
    running.end(&world).await;
}

async fn twins_are_known(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let first = world.publish(&Publish::at(1, &[1])).await;
    let (alias, alias_at) = world.accept(&Publish::at(2, &[])).await;
    let (conflict, conflict_at) = world.accept(&Publish::at(3, &[])).await;
    let record = Delivery::Alias { source: world.source(alias_at), id: alias, first: first.id };
    world.append(Topic::Deliveries, NewRecord::head(record.encode())).await;
    let record = Delivery::Conflict { source: world.source(conflict_at), id: conflict, first: first.id };
    world.append(Topic::Deliveries, NewRecord::head(record.encode())).await;
    running.caught_up().await;
    let history = &running.history;
    let found = history.message(application(1), &alias.to_string()).await.unwrap().unwrap();
    assert_eq!(found.id, first.id);
    let places = history.places(&found).await.unwrap();
    assert_eq!(places.iter().map(|place| place.offset).collect::<Vec<_>>(), [first.source, alias_at]);
    let found = history.message(application(1), &conflict.to_string()).await.unwrap().unwrap();
    assert_eq!((found.id, found.twin), (conflict, Some(Twin::Conflict { first: first.id })));
    let filter = MessageFilter::default();
    let conflicts = history.conflicts(application(1), &filter, &window(10)).await.unwrap();
    assert_eq!(conflicts.items, [found]);
    let messages = history.messages(application(1), &filter, &window(10)).await.unwrap();
    assert_eq!(messages.items.iter().map(|row| row.id).collect::<Vec<_>>(), [first.id]);
    let day = Day::of(at(0));
    let usage = history.usage(application(1), &[endpoint(1).number], day..day.next()).await.unwrap();
    assert_eq!((usage[&day].messages, usage[&day].deliveries), (1, 1), "what was dropped is no usage");
    running.end(&world).await;
}

async fn counts_add_up_and_what_is_missing_is_named(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut all = Vec::new();
    for number in 0..40 {
        all.push(world.publish(&Publish::at(number * 1_000, &[1, 2])).await);
    }
    let offset = |number: usize| all[number].delivery;
    world
        .facts(vec![
            attempt(1, offset(0), 1, 200, at(50_000)),
            attempt(1, offset(1), 1, 500, at(50_001)),
            settled(1, offset(2), Settlement::Exhausted, at(50_002)),
            settled(1, offset(3), Settlement::Rejected, at(50_003)),
            Fact::SettledRange {
                endpoint: endpoint(1).number,
                from: offset(30),
                to: Offset(offset(34).0 + 1),
                reason: Settlement::Cancelled,
                at: at(50_004),
            },
        ])
        .await;
    running.caught_up().await;
    let history = &running.history;
    let (since, until) = (at(0), at(1_000_000));
    let stats = history.stats(endpoint(1), since, until).await.unwrap();
    assert_eq!(
        (stats.delivered, stats.retrying, stats.dead(), stats.cancelled, stats.total()),
        (1, 1, 2, 5, 40)
    );
    // Also where whole hours are counted from tallies.
    let long_before = at(0) - Duration::from_secs(10_000);
    assert_eq!(history.stats(endpoint(1), long_before, at(10_000_000)).await.unwrap(), stats);
    assert_eq!(history.stats(endpoint(1), at(1_000), at(3_000)).await.unwrap().total(), 2);

    let told = history.reconcile(endpoint(1), since, until, None).await.unwrap();
    assert_eq!((told.accepted, told.not_in_history, told.next.is_none()), (40, 0, true));
    assert_eq!((&told.stats, told.missing.len()), (&stats, 39));

    let letters =
        history.dead_letters(&[endpoint(1), endpoint(2)], &DeadLetterFilter::default(), &window(10)).await;
    assert_eq!(
        letters.unwrap().items.iter().map(|row| row.offset).collect::<Vec<_>>(),
        [offset(2), offset(3)]
    );
    let hours = history.attempt_stats(endpoint(1).number, since, at(60_000)).await.unwrap();
    assert_eq!((hours[0].delivered, hours[0].failed), (1, 1));
    running.end(&world).await;
}

async fn rows_that_somebody_removed_are_named(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut all = Vec::new();
    for number in 0..20 {
        let published = world.publish(&Publish::at(number, &[1])).await;
        world.facts(vec![attempt(1, published.delivery, 1, 200, at(100 + number))]).await;
        all.push(published);
    }
    running.caught_up().await;
    running.end(&world).await;
    let gone = [3, 11, 12];
    assert_eq!(gone.map(|number| all[number].delivery.0), [3, 11, 12]);
    let remove = "DELETE FROM deliveries WHERE delivery IN (3, 11, 12)";
    world.tables.run(world.directory.path(), remove).await;
    let running = world.start().await;
    running.caught_up().await;
    let told = running.history.reconcile(endpoint(1), at(0), at(1_000), None).await.unwrap();
    assert_eq!((told.accepted, told.stats.delivered, told.not_in_history), (20, 17, 3));
    let named: Vec<_> = told.missing.iter().map(|missing| (missing.message, missing.why)).collect();
    assert_eq!(named, gone.map(|number| (all[number].id, Why::NotInHistory)));
    running.end(&world).await;
}
