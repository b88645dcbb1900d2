//! The same where the tables are in PostgreSQL: what they tell, also after a kill; what they lost; and that they are made
//! again from the log as they were.

use std::collections::BTreeSet;

use fanfare_testkit::postgres::{Database, database};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::{CHOOSES, Reconciled, TAKES, World, reconcile, started, tell};
use crate::support::{Engine, Installation, on_every_engine, wait};

on_every_engine!(tables_in_postgres_tell_what_became_name_what_they_lost_and_are_made_again);

const MESSAGES: usize = 12;
/// Refused at the one that chooses, where they become dead letters.
const REFUSED: [usize; 3] = [0, 4, 8];
/// One of them is among what the tables lose.
const LOST: [usize; 3] = [0, 5, 11];

async fn tables_in_postgres_tell_what_became_name_what_they_lost_and_are_made_again(engine: Engine) {
    let database = spawn_blocking(database).await.unwrap();
    let tables = vec!["--history".to_owned(), database.url()];
    let world = World::with_tables(&engine, tables).await;
    let (takes, chooses) = (world.endpoint(TAKES).await, world.endpoint(CHOOSES).await);
    let mut published = Vec::new();
    for number in 0..MESSAGES {
        published.push(world.publish(number).await);
    }
    world.until_there_are(&takes, "success", 12).await;
    world.until_there_are(&chooses, "success", 9).await;
    world.until_there_are(&chooses, "fail", 3).await;
    let seen = tell(&world, &takes, &chooses).await;
    assert_eq!(seen.refused.iter().cloned().collect::<BTreeSet<_>>(), these(&published, &REFUSED));
    let world = world.killed_and_started_again().await;
    assert_eq!(tell(&world, &takes, &chooses).await, seen, "after a kill it tells something else");
    world.server.terminate().await;
    let whole = history(&world.installation, "digest", &world.tables).await;
    assert_eq!(whole["deliveries"]["rows"], 2 * MESSAGES, "{whole}");

    let server = started(&world.installation, &world.tables).await;
    let world = World { server, ..world };
    lose(&database);
    they_name_what_they_lost(&world, &takes, &chooses, &published).await;
    world.server.terminate().await;
    let server = started(&world.installation, &world.tables).await;
    let world = World { server, ..world };
    they_name_what_they_lost(&world, &takes, &chooses, &published).await;
    world.server.terminate().await;

    let (installation, tables) = (&world.installation, world.tables.as_slice());
    let damaged = history(installation, "digest", tables).await;
    assert_ne!(damaged["deliveries"], whole["deliveries"]);
    nobody_leads(&database).await;
    history(installation, "rebuild", tables).await;
    assert_eq!(history(installation, "digest", tables).await, whole, "not made again as they were");
    // A server that keeps its tables elsewhere may have made no directory.
    std::fs::create_dir_all(installation.data()).unwrap();
    history(installation, "rebuild", &[]).await;
    assert_eq!(history(installation, "digest", &[]).await, whole, "SQLite says something else");

    let server = started(&world.installation, &world.tables).await;
    let world = World { server, ..world };
    assert_eq!(
        reconcile(&world.asking(), &takes, "missing").await,
        Reconciled::whole(12, 12, 0, &BTreeSet::new())
    );
    assert_eq!(
        reconcile(&world.asking(), &chooses, "missing").await,
        Reconciled::whole(12, 9, 0, &BTreeSet::new())
    );
    assert_eq!(tell(&world, &takes, &chooses).await, seen, "made again they tell something else");
    world.server.terminate().await;
}

fn these(published: &[String], numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|&number| published[number].clone()).collect()
}

/// What nobody but a test would do: the deliveries of some messages, to each endpoint.
fn lose(database: &Database) {
    // In the order in which they were accepted: those of one application are in one partition.
    let messages = database.run("SELECT message FROM messages ORDER BY message");
    let messages: Vec<&str> = messages.lines().collect();
    assert_eq!(messages.len(), MESSAGES, "{messages:?}");
    let lost = LOST.map(|number| messages[number]).join(", ");
    let delete = format!("DELETE FROM deliveries WHERE message IN ({lost}) RETURNING 1");
    let deleted = database.run(&format!("WITH deleted AS ({delete}) SELECT count(*) FROM deleted"));
    assert_eq!(deleted, "6", "three of each endpoint");
}

/// A server that was killed leads until its lease runs out.
async fn nobody_leads(database: &Database) {
    wait::until("nobody writes the tables", wait::PATIENCE, async || {
        (database.run("SELECT until < clock_timestamp() FROM leader") == "t").then_some(())
    })
    .await;
}

async fn they_name_what_they_lost(world: &World, takes: &str, chooses: &str, published: &[String]) {
    let lost = these(published, &LOST);
    let dead = &these(published, &REFUSED) - &lost;
    let asking = world.asking();
    for what in ["missing", "undelivered"] {
        assert_eq!(reconcile(&asking, takes, what).await, Reconciled::whole(12, 9, 3, &lost), "{what}");
    }
    assert_eq!(reconcile(&asking, chooses, "missing").await, Reconciled::whole(12, 7, 3, &lost));
    assert_eq!(reconcile(&asking, chooses, "dead_letter").await, Reconciled::whole(12, 7, 3, &dead));
    assert_eq!(
        reconcile(&asking, chooses, "undelivered").await,
        Reconciled::whole(12, 7, 3, &(&lost | &dead))
    );
}

/// What `fanfare history …` says of tables that no server keeps.
async fn history(installation: &Installation, what: &str, tables: &[String]) -> Value {
    let mut arguments = vec!["history", what, "--json"];
    arguments.extend(tables.iter().map(String::as_str));
    let finished = installation.run(&arguments).await;
    assert!(finished.status.success(), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error} in {}", finished.stdout))
}
