//! What the log has for an endpoint, and what became of each.

use std::collections::BTreeSet;

use fanfare_core::Settlement;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::told::{Draft, End, Named, Told};

/// All pages of it: (sums of the counts, (message, what, standing) of each).
async fn reconciled(
    told: &Told,
    endpoint: &Named,
    what: &str,
) -> (Value, BTreeSet<(String, String, String)>) {
    told.all_routed().await;
    let range = "since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z";
    let mut sums = json!({});
    let (mut listed, mut iterator) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("{}/reconciliation?{range}&what={what}{iterator}", endpoint.path);
        let page = told.get(&path).await;
        assert_eq!(page["unrouted"], 0);
        let counts = page["counts"].as_object().unwrap();
        for (name, count) in counts.iter().filter(|(_, count)| count.is_u64()) {
            sums[name] = json!(sums[name].as_u64().unwrap_or(0) + count.as_u64().unwrap());
        }
        for missing in page["data"].as_array().unwrap() {
            let text = |name: &str| missing[name].as_str().unwrap_or_default().to_owned();
            assert!(listed.insert((text("messageId"), text("what"), text("standing"))), "{missing} twice");
        }
        let parts = ["delivered", "pending", "retrying", "deadLettered", "cancelled", "missing"];
        let sum: u64 = parts.iter().map(|part| counts[*part].as_u64().unwrap()).sum();
        assert_eq!(counts["accepted"].as_u64(), Some(sum), "{counts:?}");
        if page["done"] == true {
            assert_eq!(page["iterator"], Value::Null);
            return (sums, listed);
        }
        iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_add_up_and_planted_losses_are_named() {
    let told = Told::new().await;
    let shop = told.application().await;
    let (endpoint, another) = (told.endpoint(&shop).await, told.endpoint(&shop).await);
    let mut delivered = Vec::new();
    for _ in 0..20 {
        delivered.push(told.delivered(&shop, &endpoint).await);
        told.delivered(&shop, &another).await;
    }
    let pending = told.sent(&shop, &endpoint).await;
    let retrying = told.sent(&shop, &endpoint).await;
    told.attempt(retrying, 1, End::Answer(500, ""), true).await;
    let dead = told.dead(&shop, &endpoint, Settlement::Exhausted).await;
    let cancelled = told.sent(&shop, &endpoint).await;
    told.settle(cancelled, Settlement::Cancelled).await;

    let entry = |sent: &crate::told::Sent, what: &str, standing: &str| {
        (sent.message.id.to_string(), what.to_owned(), standing.to_owned())
    };
    let mut expected = BTreeSet::from([
        entry(&pending, "pending", "pending"),
        entry(&retrying, "pending", "retrying"),
        entry(&dead, "dead_letter", "exhausted"),
        entry(&cancelled, "cancelled", "cancelled"),
    ]);
    let (counts, listed) = reconciled(&told, &endpoint, "undelivered").await;
    assert_eq!(listed, expected);
    let of = |delivered: u64, missing: u64| {
        json!({
            "accepted": 24, "delivered": delivered, "pending": 1, "retrying": 1, "deadLettered": 1, "cancelled": 1,
            "purged": 0, "missing": missing,
        })
    };
    assert_eq!(counts, of(20, 0));

    // What the tables lost, the log still has.
    let lost = [delivered[3], delivered[7], delivered[19]];
    let url = format!("sqlite://{}", told.process.tables().display());
    let mut tables = SqliteConnection::connect(&url).await.unwrap();
    for sent in &lost {
        let delete = sqlx::query("DELETE FROM deliveries WHERE endpoint = $1 AND delivery = $2");
        let delete = delete.bind(i64::from(sent.number.0)).bind(i64::try_from(sent.offset.0).unwrap());
        assert_eq!(delete.execute(&mut tables).await.unwrap().rows_affected(), 1);
    }
    expected.extend(lost.iter().map(|sent| entry(sent, "missing", "")));
    let (counts, listed) = reconciled(&told, &endpoint, "undelivered").await;
    assert_eq!((counts, listed), (of(17, 3), expected.clone()));
    for what in ["missing", "pending", "dead_letter", "cancelled"] {
        let (counts, listed) = reconciled(&told, &endpoint, what).await;
        let of_them: BTreeSet<_> = expected.iter().filter(|(_, word, _)| word == what).cloned().collect();
        assert_eq!((counts, listed), (of(17, 3), of_them), "{what}");
    }
}

/// Else a consumer would take for proof what is only not known yet.
#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_much_no_router_has_looked_at() {
    let told = Told::new().await;
    let shop = told.application().await;
    let endpoint = told.endpoint(&shop).await;
    let path = format!("{}/reconciliation", endpoint.path);
    told.delivered(&shop, &endpoint).await;
    told.all_routed().await;
    for _ in 0..2 {
        told.message(&shop, Draft::default()).await;
    }
    let found = told.get(&path).await;
    assert_eq!((&found["counts"]["accepted"], &found["unrouted"]), (&json!(1), &json!(2)));
    told.all_routed().await;
    assert_eq!(told.get(&path).await["unrouted"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_cut_and_wrong_ones_are_refused() {
    let told = Told::new().await;
    let shop = told.application().await;
    let endpoint = told.endpoint(&shop).await;
    let mut sent = Vec::new();
    for _ in 0..6 {
        sent.push(told.delivered(&shop, &endpoint).await);
    }
    told.all_routed().await;
    let path = format!("{}/reconciliation", endpoint.path);
    let accepted = async |since: usize, until: usize| {
        let range = format!("since={}&until={}", sent[since].message.at, sent[until].message.at);
        told.get(&format!("{path}?{range}")).await["counts"]["accepted"].clone()
    };
    assert_eq!((accepted(1, 4).await, accepted(0, 5).await), (json!(3), json!(5)));
    // A day, if nothing is said.
    assert_eq!(told.get(&path).await["counts"]["accepted"], 6);
    let refused = told.process.get(&format!("{path}?since={0}&until={0}", sent[0].message.at)).await.is(400);
    assert_eq!(refused["code"], "invalid_range");
    for (query, field) in [("what=all", "what"), ("iterator=1", "iterator"), ("since=noon", "since")] {
        let refused = told.process.get(&format!("{path}?{query}")).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["query", field]));
    }
}
