//! What every database has to do, checked against each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use fanfare_core::InstallationId;

use super::{Kind, Statement, Store, Target, Value};
use crate::service;

static TALLIES: Target = Target {
    table: "tallies",
    columns: &[("endpoint", Kind::Int), ("hour", Kind::Int), ("what", Kind::Int), ("amount", Kind::Int)],
    on_conflict: "ON CONFLICT (endpoint, hour, what) DO UPDATE SET amount = tallies.amount + excluded.amount",
};

/// All of it, on a database without tables of ours.
pub(crate) async fn check(store: Arc<dyn Store>) {
    let store = &*store;
    let installation = InstallationId::from_bytes([7; 20]);
    assert!(!store.has_tables().await.unwrap());
    assert!(store.lead().await.unwrap());
    service::prepare(store, installation).await.unwrap();
    assert!(store.has_tables().await.unwrap());
    assert!(service::check(store, installation).await.unwrap());
    let foreign = service::check(store, InstallationId::from_bytes([8; 20])).await;
    assert!(matches!(foreign, Err(crate::OpenError::Foreign { .. })), "{foreign:?}");

    values_come_back(store).await;
    rows_are_merged(store).await;
    it_is_all_or_nothing(store).await;
    many_rows_are_inserted(store).await;
    many_read_at_once(store).await;
    store.write(service::fresh(store, installation)).await.unwrap();
    assert!(amounts(store).await.is_empty(), "fresh tables are empty");
}

fn run(sql: &str, values: Vec<Value>) -> Statement {
    Statement::Run { sql: sql.to_owned(), values }
}

fn ints(values: &[i64]) -> Vec<Value> {
    values.iter().copied().map(Value::Int).collect()
}

fn tally(rows: &[[i64; 4]]) -> Statement {
    Statement::Insert { into: &TALLIES, values: ints(&rows.concat()) }
}

async fn amounts(store: &dyn Store) -> Vec<[i64; 2]> {
    let rows =
        store.rows("SELECT endpoint, amount FROM tallies ORDER BY endpoint", Vec::new()).await.unwrap();
    rows.iter().map(|row| [row.int(0).unwrap(), row.int(1).unwrap()]).collect()
}

async fn values_come_back(store: &dyn Store) {
    let blob = Value::Bytes(Bytes::from_static(&[0, 255, 7]));
    let text = Value::Text("Größe \u{1F600} '\" $1 ? \u{7f}".to_owned());
    let insert = "INSERT INTO messages (message, application, id, kind, event_type, event_id, channels, tags, \
                  ordering_key, accepted_at, deliver_at, expires_at, first) \
                  VALUES ($1, $2, $3, 0, $4, $5, $6, NULL, NULL, $7, $8, NULL, $9)";
    let values = vec![
        Value::Int(i64::MAX),
        Value::Int(i64::MIN),
        blob.clone(),
        text.clone(),
        Value::Null(Kind::Text),
        Value::Text(String::new()),
        Value::Int(-1),
        Value::Null(Kind::Int),
        Value::Null(Kind::Bytes),
    ];
    store.write(vec![run(insert, values)]).await.unwrap();
    let select = "SELECT message, application, id, event_type, event_id, channels, accepted_at, deliver_at, first, \
                  COUNT(*) OVER (), CAST(SUM(accepted_at) OVER () AS BIGINT) FROM messages WHERE id = $1";
    let rows = store.rows(select, vec![blob.clone()]).await.unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.int(0), row.int(1)), (Ok(i64::MAX), Ok(i64::MIN)));
    assert_eq!((&row.0[2], &row.0[3]), (&blob, &text));
    assert_eq!((row.text(4), row.text(5)), (Ok(None), Ok(Some(""))));
    assert_eq!((row.int(6), row.opt_int(7), row.bytes(8)), (Ok(-1), Ok(None), Ok(None)));
    assert_eq!((row.int(9), row.int(10)), (Ok(1), Ok(-1)));
    let rows = store
        .rows("SELECT MIN(low), MAX(high) FROM moments WHERE minute >= $1", ints(&[i64::MIN]))
        .await
        .unwrap();
    assert_eq!(rows[0].opt_int(0), Ok(None), "of nothing there is no least");
    store.write(vec![run("DELETE FROM messages WHERE message = $1", ints(&[i64::MAX]))]).await.unwrap();
}

async fn rows_are_merged(store: &dyn Store) {
    store
        .write(vec![tally(&[[1, 5, 0, 10], [2, 5, 0, 20]]), tally(&[[1, 5, 0, -3], [3, 5, 0, 1]])])
        .await
        .unwrap();
    assert_eq!(amounts(store).await, [[1, 7], [2, 20], [3, 1]]);
    let sql = "WITH k(a, b) AS (VALUES ($1, $2), ($3, $4)) SELECT t.endpoint FROM k CROSS JOIN tallies t \
               WHERE t.endpoint = k.a AND t.hour = k.b ORDER BY t.endpoint DESC";
    let rows = store.rows(sql, ints(&[1, 5, 3, 5])).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.int(0).unwrap()).collect::<Vec<_>>(), [3, 1]);
    let sql = "SELECT * FROM (SELECT * FROM (SELECT endpoint, amount FROM tallies WHERE endpoint < $1 ORDER BY endpoint \
               LIMIT 1) AS a UNION ALL SELECT * FROM (SELECT endpoint, amount FROM tallies WHERE (endpoint, hour) > ($1, $2) \
               ORDER BY endpoint LIMIT 1) AS b) AS merged ORDER BY endpoint DESC";
    let rows = store.rows(sql, ints(&[2, 5])).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.int(0).unwrap()).collect::<Vec<_>>(), [3, 1]);
    let sql = "SELECT t.endpoint, t.place FROM (SELECT x.*, row_number() OVER (ORDER BY endpoint DESC) AS place FROM \
               (SELECT * FROM tallies) AS x) AS t WHERE (t.endpoint / 2 = 1 OR t.place = 3) AND TRUE ORDER BY t.place";
    let rows = store.rows(sql, Vec::new()).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.int(0).unwrap(), row.int(1).unwrap())).collect();
    assert_eq!(rows, [(3, 1), (2, 2), (1, 3)]);
    let sql = "DELETE FROM tallies WHERE (endpoint, hour, what) IN \
               (SELECT x.endpoint, x.hour, x.what FROM tallies x WHERE x.hour < $1 LIMIT 2)";
    store.write(vec![run(sql, ints(&[6]))]).await.unwrap();
    assert_eq!(amounts(store).await.len(), 1, "in steps");
    store.write(vec![run(sql, ints(&[6]))]).await.unwrap();
}

async fn it_is_all_or_nothing(store: &dyn Store) {
    let broken = vec![tally(&[[1, 1, 1, 1]]), run("INSERT INTO nowhere (a) VALUES ($1)", ints(&[1]))];
    let refused = store.write(broken).await;
    assert!(matches!(refused, Err(super::StoreError::Refused(_))), "{refused:?}");
    assert!(amounts(store).await.is_empty());
    assert!(store.rows("SELECT nothing FROM nowhere", Vec::new()).await.is_err());
    // It goes on.
    assert!(store.lead().await.unwrap());
    store.write(vec![tally(&[[1, 1, 1, 1]])]).await.unwrap();
    assert_eq!(amounts(store).await, [[1, 1]]);
    store.write(vec![run("DELETE FROM tallies", Vec::new())]).await.unwrap();
}

async fn many_rows_are_inserted(store: &dyn Store) {
    for count in [1_i64, 255, 256, 257, 5_003] {
        let rows: Vec<[i64; 4]> = (0..count).map(|endpoint| [endpoint, 0, 0, endpoint * 2]).collect();
        store.write(vec![tally(&rows)]).await.unwrap();
        let expected: Vec<[i64; 2]> = (0..count).map(|endpoint| [endpoint, endpoint * 2]).collect();
        assert_eq!(amounts(store).await, expected);
        store.write(vec![run("DELETE FROM tallies", Vec::new())]).await.unwrap();
    }
}

async fn many_read_at_once(store: &dyn Store) {
    store.write(vec![tally(&[[1, 1, 1, 1]])]).await.unwrap();
    let reads = (0..50).map(|_| amounts(store));
    let writes = store.write(vec![tally(&[[1, 1, 1, 1]])]);
    let (read, written) = futures_util::future::join(futures_util::future::join_all(reads), writes).await;
    written.unwrap();
    assert!(
        read.iter().all(|amounts| [[[1, 1]], [[1, 2]]].contains(&amounts.as_slice().try_into().unwrap()))
    );
    store.write(vec![run("DELETE FROM tallies", Vec::new())]).await.unwrap();
}
