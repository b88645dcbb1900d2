//! What only a database has that is a server of its own: processes that share it, and its end.

use std::{sync::Arc, time::Duration};

use fanfare_testkit::postgres::{self, Database, Server, Settings};
use tokio::task::spawn_blocking;

use super::*;
use crate::store::{Kind, Target};

static ABOUT: Target = Target {
    table: "about",
    columns: &[("name", Kind::Text), ("value", Kind::Text)],
    on_conflict: "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
};

fn said(name: &str, value: &str) -> Vec<Statement> {
    let values = vec![Value::Text(name.to_owned()), Value::Text(value.to_owned())];
    vec![Statement::Insert { into: &ABOUT, values }]
}

async fn read(store: &Postgres, name: &str) -> Result<Option<String>, StoreError> {
    let rows =
        store.rows("SELECT value FROM about WHERE name = $1", vec![Value::Text(name.to_owned())]).await?;
    Ok(rows.into_iter().next().map(|mut row| match row.0.pop() {
        Some(Value::Text(value)) => value,
        other => panic!("{other:?}"),
    }))
}

async fn make(store: &Postgres) {
    assert!(!store.has_tables().await.unwrap());
    assert!(store.lead().await.unwrap());
    store.write(vec![Statement::Run { sql: store.schema(), values: vec![] }]).await.unwrap();
    assert!(store.has_tables().await.unwrap());
}

/// A fresh database, and a store that leads in it.
async fn leader() -> (Database, Postgres) {
    let database = spawn_blocking(postgres::database).await.unwrap();
    let store = Postgres::open(&database.url()).unwrap();
    make(&store).await;
    (database, store)
}

fn is_passing(answer: &Result<impl Sized, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_store() {
    let database = spawn_blocking(postgres::database).await.unwrap();
    let store = Postgres::open(&database.url()).unwrap();
    crate::store::conformance::check(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_writes_and_the_other_follows_it() {
    let (database, first) = leader().await;
    let second = Postgres::open(&database.url()).unwrap();
    assert!(!second.lead().await.unwrap());
    assert!(is_passing(&second.write(said("by", "second")).await));
    first.write(said("by", "first")).await.unwrap();
    assert_eq!(read(&second, "by").await.unwrap().as_deref(), Some("first"));

    first.close().await;
    assert!(second.lead().await.unwrap(), "at once, as the first said that it ends");
    second.write(said("by", "second")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lost_the_lease_without_knowing_changes_nothing() {
    let (database, first) = leader().await;
    first.write(said("by", "first")).await.unwrap();
    let second = Postgres::open(&database.url()).unwrap();
    // As if the first had stood still for long.
    database.run("UPDATE leader SET until = '-infinity'");
    assert!(second.lead().await.unwrap());
    second.write(said("by", "second")).await.unwrap();

    assert!(is_passing(&first.write(said("by", "first again")).await));
    assert_eq!(read(&first, "by").await.unwrap().as_deref(), Some("second"));
    assert!(!first.lead().await.unwrap());
    second.write(said("by", "second again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_nothing_is_written() {
    let (database, first) = leader().await;
    let second = Postgres::open(&database.url()).unwrap();
    let until = || database.run("SELECT until FROM leader");
    let begun = until();
    while until() == begun {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!second.lead().await.unwrap());
    }
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_what_was_not_committed() {
    let server = spawn_blocking(|| Server::start(&Settings::default()).unwrap()).await.unwrap();
    let server = Arc::new(server);
    let store = Postgres::open(&server.url("postgres")).unwrap();
    make(&store).await;
    store.write(said("before", "yes")).await.unwrap();

    let it = Arc::clone(&server);
    spawn_blocking(move || it.kill().unwrap()).await.unwrap();
    assert!(is_passing(&read(&store, "before").await));
    assert!(is_passing(&store.write(said("during", "yes")).await));
    assert!(is_passing(&store.lead().await));

    let it = Arc::clone(&server);
    spawn_blocking(move || it.restart().unwrap()).await.unwrap();
    assert_eq!(read(&store, "before").await.unwrap().as_deref(), Some("yes"));
    assert_eq!(read(&store, "during").await.unwrap(), None);
    assert!(store.lead().await.unwrap());
    store.write(said("after", "yes")).await.unwrap();
    assert_eq!(read(&store, "after").await.unwrap().as_deref(), Some("yes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_keeps_no_read_waiting() {
    let server = spawn_blocking(|| Server::start(&Settings::default()).unwrap()).await.unwrap();
    let server = Arc::new(server);
    let store = Arc::new(Postgres::open(&server.url("postgres")).unwrap());
    make(&store).await;
    assert_eq!(read(&store, "n").await.unwrap(), None);

    let it = Arc::clone(&server);
    spawn_blocking(move || it.freeze().unwrap()).await.unwrap();
    // More than there are connections: none of them may be lost.
    let readers = (0..limits::HISTORY_READERS * 2).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { read(&store, "n").await })
    });
    let readers: Vec<_> = readers.collect();
    for reader in readers {
        assert!(is_passing(&reader.await.unwrap()));
    }
    let it = Arc::clone(&server);
    spawn_blocking(move || it.thaw().unwrap()).await.unwrap();
    assert_eq!(read(&store, "n").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_gave_up_is_not_the_answer_of_the_next() {
    let (database, store) = leader().await;
    let reader = Arc::new(Postgres::open(&database.url()).unwrap());
    store.write(said("n", "1")).await.unwrap();
    for _ in 0..limits::HISTORY_READERS * 2 {
        let given_up = reader.rows("SELECT 'slow', pg_sleep(60) IS NULL", vec![]);
        assert!(timeout(Duration::from_millis(20), given_up).await.is_err());
        assert_eq!(read(&reader, "n").await.unwrap().as_deref(), Some("1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_with_nul_is_found_again() {
    let (_database, store) = leader().await;
    store.write(said("a\0b", "\0")).await.unwrap();
    assert_eq!(read(&store, "a\0b").await.unwrap().as_deref(), Some("\0"));
    assert_eq!(read(&store, "ab").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_refused_without_the_password() {
    let wrong = ["mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "no address, secret"];
    for url in wrong {
        match Postgres::open(url).err() {
            Some(StoreError::Refused(text)) => assert!(!text.contains("secret"), "{text}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_so() {
    let database = spawn_blocking(postgres::database).await.unwrap();
    let url = database.url().replace("only-for-tests", "a-guess");
    let store = Postgres::open(&url).unwrap();
    match store.has_tables().await {
        Err(StoreError::Refused(text)) => assert!(!text.contains("a-guess"), "{text}"),
        other => panic!("{other:?}"),
    }
}
