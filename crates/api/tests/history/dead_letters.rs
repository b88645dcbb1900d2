//! Dead letters: listed, and looked at.

use fanfare_core::Settlement;
use serde_json::{Value, json};

use crate::told::{Draft, End, Told, ids};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_and_looked_at() {
    let told = Told::new().await;
    let (shop, other) = (told.application().await, told.application().await);
    let (first, second) = (told.endpoint(&shop).await, told.endpoint(&shop).await);
    let path = format!("{}/dead-letter", shop.path);
    told.delivered(&shop, &first).await;
    told.sent(&shop, &first).await;
    let exhausted = told.sent(&shop, &first).await;
    told.attempt(exhausted, 1, End::Answer(500, "one"), true).await;
    told.attempt(exhausted, 2, End::Answer(502, "two"), false).await;
    told.settle(exhausted, Settlement::Exhausted).await;
    let rejected = told.dead(&shop, &second, Settlement::Rejected).await;
    let expired = told.sent(&shop, &first).await;
    told.settle(expired, Settlement::Expired).await;

    let listed = told.get(&path).await;
    let shown: Vec<(Value, Value)> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dead| (dead["message"]["id"].clone(), dead["reason"].clone()))
        .collect();
    let expected = [(expired, "expired"), (rejected, "rejected"), (exhausted, "exhausted")];
    assert_eq!(shown, expected.map(|(sent, reason)| (json!(sent.message.id.to_string()), json!(reason))));
    let all = ids(&listed);
    assert_eq!(told.all_ids(&path, 2).await, all);
    assert_eq!(
        told.ids(&format!("{path}?endpoint={}", first.id)).await,
        [&all[0], &all[2]].map(String::clone)
    );
    assert_eq!(told.ids(&format!("{path}?reason=rejected,expired")).await, all[..2]);
    assert_eq!(
        told.ids(&format!("{path}?reason=exhausted&endpoint={}", second.id)).await,
        Vec::<String>::new()
    );
    let since = listed["data"][1]["deadSince"].as_str().unwrap();
    assert_eq!(told.ids(&format!("{path}?after={since}")).await, all[..2]);
    assert_eq!(told.ids(&format!("{path}?before={since}")).await, all[2..]);
    assert_eq!(listed["data"][2]["message"]["payload"], json!({}), "a list brings no payloads");

    let one = told.get(&format!("{path}/{}", all[2])).await;
    assert_eq!(
        (&one["id"], &one["reason"], &one["attemptCount"]),
        (&json!(all[2]), &json!("exhausted"), &json!(2))
    );
    assert_eq!((&one["endpointId"], &one["message"]["payload"]), (&json!(first.id), &json!({ "a": 1 })));
    let answers: Vec<(&Value, &Value)> = one["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (&attempt["responseStatusCode"], &attempt["response"]))
        .collect();
    assert_eq!(answers, [(&json!(502), &json!("two")), (&json!(500), &json!("one"))]);
    assert!(one["firstAttemptAt"].as_str() < one["lastAttemptAt"].as_str() && one["deadSince"].is_string());

    // Neither through another application, nor what is none.
    let delivered = told.get(&format!("{}/msg", first.path)).await;
    let alive = delivered["data"].as_array().unwrap().iter().map(|message| &message["standing"]);
    assert_eq!(alive.filter(|standing| **standing == "delivered").count(), 1);
    let delivery = delivered["data"].as_array().unwrap().last().unwrap()["deliveryId"].as_str().unwrap();
    for gone in [
        format!("{}/dead-letter/{}", other.path, all[2]),
        format!("{path}/{delivery}"),
        format!("{path}/nonsense"),
        format!("{path}/{}", exhausted.message.id),
    ] {
        assert_eq!(told.process.get(&gone).await.status, 404, "{gone}");
    }
    assert_eq!(ids(&told.get(&format!("{}/dead-letter", other.path)).await), Vec::<String>::new());

    // With its endpoint they do not go.
    assert_eq!(told.process.delete(&second.path).await, 204);
    assert_eq!(told.ids(&path).await, all);
    let one = told.get(&format!("{path}/{}", all[1])).await;
    assert_eq!(one["endpointId"], json!(second.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_conflict_is_a_dead_letter_of_nobody() {
    let told = Told::new().await;
    let (shop, other) = (told.application().await, told.application().await);
    let path = format!("{}/dead-letter", shop.path);
    let first = told.message(&shop, Draft { event_id: Some("order-17"), ..Draft::default() }).await;
    let payload = r#"{"another":true}"#.to_owned();
    let conflict =
        told.message(&shop, Draft { event_id: Some("order-17"), payload, ..Draft::default() }).await;
    told.twin(conflict, first, false).await;

    assert_eq!(told.ids(&path).await, Vec::<String>::new());
    let listed = told.get(&format!("{path}?reason=idempotency_conflict")).await;
    assert_eq!(ids(&listed), [conflict.id.to_string()]);
    let one = told.get(&format!("{path}/{}", conflict.id)).await;
    assert_eq!(one["conflictsWith"], json!(first.id.to_string()));
    assert_eq!((&one["endpointId"], &one["attempts"]), (&Value::Null, &json!([])));
    assert_eq!(one["message"]["payload"], json!({ "another": true }));
    // Its event id is the first one's.
    let found = told.get(&format!("{}/msg/order-17", shop.path)).await;
    assert_eq!(found["id"], json!(first.id.to_string()));
    for gone in [format!("{path}/{}", first.id), format!("{}/dead-letter/{}", other.path, conflict.id)] {
        assert_eq!(told.process.get(&gone).await.status, 404, "{gone}");
    }
    for wrong in
        ["reason=idempotency_conflict,rejected", "reason=idempotency_conflict&endpoint=e", "reason=delivered"]
    {
        let refused = told.process.get(&format!("{path}?{wrong}")).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["query", "reason"]), "{wrong}");
    }
}
