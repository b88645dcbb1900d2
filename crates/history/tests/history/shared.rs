//! A database that processes share, and one that goes away under load.

use std::sync::Arc;

use fanfare_history::{MessageFilter, Place, QueryError, Reach, StoreError, TableDigest};
use fanfare_testkit::postgres::{Server, Settings};
use tokio::task::spawn_blocking;

use crate::{
    tables::Tables,
    world::{INSTALLATION, Publish, Running, World, application, at, attempt, window},
};

/// Publishes and delivers until there are so many messages.
async fn load(world: &mut World, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let published = world.publish(&Publish::at(number * 10, &[1, 2])).await;
        let status = if number % 4 == 0 { 503 } else { 200 };
        world.facts(vec![attempt(1, published.delivery, 1, status, at(number * 10 + 5))]).await;
    }
}

async fn listed(running: &Running) -> Result<usize, QueryError> {
    let page = running.history.messages(application(1), &MessageFilter::default(), &window(250)).await?;
    Ok(page.items.len())
}

async fn digest(place: &Place) -> Vec<TableDigest> {
    fanfare_history::digest(place, INSTALLATION).await.unwrap()
}

/// What SQLite makes of the same log.
async fn expected(world: &World) -> Vec<TableDigest> {
    let place = Tables::Sqlite.place(world.directory.path());
    fanfare_history::rebuild(world.options(place.clone()), |_, _| {}).await.unwrap();
    digest(&place).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_say_the_same_of_a_log() {
    let mut world = World::new(Tables::postgres().await);
    let mut odd = Publish::at(1, &[1, 2]);
    odd.event_id = Some("e-1".to_owned());
    odd.ordering_key = Some("key\0with \u{10ffff}what \u{fffd} databases like less".to_owned());
    odd.channels = vec!["a".to_owned(), "ä".to_owned()];
    world.publish(&odd).await;
    load(&mut world, 0..80).await;
    let running = world.start().await;
    running.caught_up().await;
    let told = running.end(&world).await;
    assert!(told.iter().all(|table| table.rows > 0), "{told:?}");
    assert_eq!(told, expected(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_projects_and_both_answer() {
    let mut world = World::new(Tables::postgres().await);
    let (first, second) = (world.start().await, world.start().await);
    load(&mut world, 0..40).await;
    for process in [&first, &second] {
        process.caught_up().await;
        assert_eq!(listed(process).await.unwrap(), 40);
    }
    // Whichever of them projects.
    first.end(&world).await;
    load(&mut world, 40..80).await;
    second.caught_up().await;
    assert_eq!(listed(&second).await.unwrap(), 80);
    let third = world.start().await;
    second.end(&world).await;
    load(&mut world, 80..100).await;
    third.caught_up().await;
    assert_eq!(listed(&third).await.unwrap(), 100);
    assert_eq!(third.end(&world).await, expected(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_under_load_costs_nothing() {
    let server = Arc::new(spawn_blocking(|| Server::start(&Settings::default())).await.unwrap().unwrap());
    let mut world = World::new(Tables::Sqlite);
    let place = Place::Postgres(server.url("postgres"));
    let processes = [world.start_at(place.clone()).await, world.start_at(place.clone()).await];
    let mut published = 0;
    for _ in 0..3 {
        load(&mut world, published..published + 40).await;
        let it = Arc::clone(&server);
        spawn_blocking(move || it.kill().unwrap()).await.unwrap();
        // It goes on being written to, and nobody waits for the database.
        load(&mut world, published + 40..published + 60).await;
        published += 60;
        for process in &processes {
            let refused = listed(process).await;
            let is_plain = matches!(refused, Err(QueryError::Store(StoreError::Unavailable(_))));
            assert!(is_plain, "{refused:?}");
            assert!(!process.history.passed(Reach::Everything).await);
        }
        let it = Arc::clone(&server);
        spawn_blocking(move || it.restart().unwrap()).await.unwrap();
    }
    for process in &processes {
        process.caught_up().await;
        assert_eq!(listed(process).await.unwrap(), usize::try_from(published).unwrap());
    }
    for process in processes {
        process.end_at(&place).await;
    }
    assert_eq!(digest(&place).await, expected(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_late_is_waited_for() {
    let server = Arc::new(spawn_blocking(|| Server::start(&Settings::default())).await.unwrap().unwrap());
    let it = Arc::clone(&server);
    spawn_blocking(move || it.stop().unwrap()).await.unwrap();
    let mut world = World::new(Tables::Sqlite);
    let process = world.start_at(Place::Postgres(server.url("postgres"))).await;
    load(&mut world, 0..10).await;
    assert!(listed(&process).await.is_err());
    let it = Arc::clone(&server);
    spawn_blocking(move || it.restart().unwrap()).await.unwrap();
    process.caught_up().await;
    assert_eq!(listed(&process).await.unwrap(), 10);
    process.end_at(&Place::Postgres(server.url("postgres"))).await;
}
