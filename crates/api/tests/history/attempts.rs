//! Attempts: of an endpoint, of a message, and one of them.

use serde_json::{Value, json};

use crate::told::{Draft, End, Named, Told, id};

/// Three messages for one endpoint and one for another: retried and delivered, refused, unanswered.
struct Scene {
    told: Told,
    shop: Named,
    endpoint: Named,
    another: Named,
    /// (message, attempts in order)
    retried: (String, Vec<String>),
}

impl Scene {
    async fn new() -> Self {
        let told = Told::new().await;
        let shop = told.application().await;
        let (endpoint, another) = (told.endpoint(&shop).await, told.endpoint(&shop).await);
        let draft = Draft { channels: &["eu"], tags: &["gold"], ..Draft::default() };
        let message = told.message(&shop, draft).await;
        let (here, there) = (told.route(message, &endpoint).await, told.route(message, &another).await);
        told.attempt(here, 1, End::Answer(503, "busy"), true).await;
        told.attempt(there, 1, End::Answer(204, ""), false).await;
        told.attempt(here, 2, End::Answer(200, "thanks"), false).await;
        let refused = told.message(&shop, Draft { event_type: "order.sent", ..Draft::default() }).await;
        let refused = told.route(refused, &endpoint).await;
        told.attempt(refused, 1, End::Answer(404, "nobody"), false).await;
        let unanswered = told.sent(&shop, &endpoint).await;
        told.attempt(unanswered, 1, End::Nothing, true).await;
        let of_message = format!("{}/attempt/msg/{}", shop.path, message.id);
        let mut attempts = told.ids(&format!("{of_message}?endpoint_id={}", endpoint.id)).await;
        attempts.reverse();
        let retried = (message.id.to_string(), attempts);
        Self { told, shop, endpoint, another, retried }
    }

    async fn of_endpoint(&self, query: &str) -> Vec<Value> {
        let path = format!("{}/attempt/endpoint/{}?{query}", self.shop.path, self.endpoint.id);
        self.told.get(&path).await["data"].as_array().unwrap().clone()
    }

    async fn codes(&self, query: &str) -> Vec<u64> {
        self.of_endpoint(query)
            .await
            .iter()
            .map(|attempt| attempt["responseStatusCode"].as_u64().unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_every_field_that_clients_read() {
    let scene = Scene::new().await;
    let (message, attempts) = &scene.retried;
    let of_endpoint = scene.of_endpoint("with_msg=true").await;
    let failed = of_endpoint.iter().find(|attempt| attempt["responseStatusCode"] == 503).unwrap();
    let expected = json!({
        "id": attempts[0],
        "url": "http://127.0.0.1:9/hook",
        "response": "busy",
        "responseStatusCode": 503,
        "responseDurationMs": 25,
        "status": 2,
        "statusText": "fail",
        "triggerType": 0,
        "msgId": message,
        "endpointId": scene.endpoint.id,
        "timestamp": failed["timestamp"],
        "msg": failed["msg"],
        "attemptNumber": 1,
        "error": "status",
        "nextAttempt": failed["nextAttempt"],
    });
    assert_eq!(failed, &expected);
    assert!(failed["nextAttempt"].as_str().unwrap() > failed["timestamp"].as_str().unwrap());
    let whose = &failed["msg"];
    assert_eq!(
        (&whose["id"], &whose["payload"], &whose["tags"]),
        (&json!(message), &json!({}), &json!(["gold"]))
    );

    let one = scene.told.get(&format!("{}/msg/{message}/attempt/{}", scene.shop.path, attempts[1])).await;
    assert_eq!((&one["status"], &one["statusText"]), (&json!(0), &json!("success")));
    assert_eq!((&one["response"], &one["attemptNumber"]), (&json!("thanks"), &json!(2)));
    assert_eq!((one.get("msg"), one.get("nextAttempt"), &one["error"]), (None, None, &Value::Null));
    let unanswered = &scene.of_endpoint("status_code_class=0").await[0];
    assert_eq!(unanswered["response"], "no answer: connect");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_erased() {
    let scene = Scene::new().await;
    let (message, attempts) = &scene.retried;
    let of_attempt = format!("{}/msg/{message}/attempt/{}", scene.shop.path, attempts[0]);
    assert_eq!(scene.told.get(&of_attempt).await["response"], "busy");
    assert_eq!(scene.told.process.delete(&format!("{of_attempt}/content")).await, 204);
    let shown = scene.told.get(&of_attempt).await;
    assert_eq!((&shown["response"], &shown["responseStatusCode"]), (&json!(""), &json!(503)));
    let listed = scene.of_endpoint("").await;
    assert!(listed.iter().any(|attempt| attempt["response"] == "thanks"), "the others stay");
    assert!(listed.iter().all(|attempt| attempt["response"] != "busy"));
    let unknown =
        format!("{}/msg/{message}/attempt/atmpt_29HHYvqxq1Dw9rT7hHS0tl5tE22/content", scene.shop.path);
    assert_eq!(scene.told.process.delete(&unknown).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let scene = Scene::new().await;
    assert_eq!(scene.codes("").await, [0, 404, 200, 503], "newest first");
    assert_eq!(scene.codes("status=0").await, [200]);
    assert_eq!(scene.codes("status=2&expanded_statuses=true").await, [0, 404, 503]);
    assert_eq!(scene.codes("status=2&limit=1").await, [0]);
    for nothing in
        ["status=1", "status=3", "status=4", "channel=us", "tag=silver", "status=0&status_code_class=400"]
    {
        assert!(scene.codes(nothing).await.is_empty(), "{nothing}");
    }
    assert_eq!(scene.codes("status_code_class=400").await, [404]);
    assert_eq!(scene.codes("status_code_class=500&channel=eu").await, [503]);
    assert_eq!(scene.codes("event_types=order.sent").await, [404]);
    assert_eq!(scene.codes("tag=gold").await, [200, 503]);
    let all = scene.of_endpoint("with_content=false").await;
    assert!(all.iter().all(|attempt| attempt["response"] == "{}"));
    let third = all[1]["timestamp"].as_str().unwrap();
    assert_eq!(scene.codes(&format!("before={third}")).await, [200, 503]);
    assert_eq!(scene.codes(&format!("after={third}")).await, [0, 404]);
    let path = format!("{}/attempt/endpoint/{}", scene.shop.path, scene.endpoint.id);
    let ids: Vec<String> = all.iter().map(id).collect();
    for limit in [1, 3, 4] {
        assert_eq!(scene.told.all_ids(&path, limit).await, ids);
    }
    let wrong = scene.told.process.get(&format!("{path}?status_code_class=201&status=7")).await.is(422);
    assert_eq!(wrong["detail"][0]["loc"][1], "status");
    assert_eq!(wrong["detail"][1]["loc"][1], "status_code_class");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_message_at_one_endpoint_or_at_all() {
    let scene = Scene::new().await;
    let (message, attempts) = &scene.retried;
    let told = &scene.told;
    let all = told.get(&format!("{}/attempt/msg/{message}", scene.shop.path)).await;
    let codes: Vec<&Value> =
        all["data"].as_array().unwrap().iter().map(|attempt| &attempt["responseStatusCode"]).collect();
    assert_eq!(codes, [200, 204, 503]);
    assert_eq!(told.get(&format!("{}/msg/{message}/attempt", scene.shop.path)).await, all);
    let there =
        told.ids(&format!("{}/msg/{message}/endpoint/{}/attempt", scene.shop.path, scene.another.id)).await;
    assert_eq!(there.len(), 1);
    let one = async |message: &str, attempt: &str| {
        told.process.get(&format!("{}/msg/{message}/attempt/{attempt}", scene.shop.path)).await.status
    };
    assert_eq!(one(message, &there[0]).await, 200);
    assert_eq!(one(message, "atmpt_2YjLQk4UkQdLmCOWTBRhQnQlWrk").await, 404);
    assert_eq!(one(message, "nonsense").await, 404);
    // Through another message, or another application, it is not found.
    let others = told.ids(&format!("{}/msg", scene.shop.path)).await;
    let other = others.iter().find(|other| *other != message).unwrap();
    assert_eq!(one(other, &attempts[0]).await, 404);
    let stranger = told.application().await;
    let path = format!("{}/attempt/msg/{message}", stranger.path);
    assert_eq!(told.process.get(&path).await.status, 404);
    let path = format!("{}/attempt/endpoint/{}", stranger.path, scene.endpoint.id);
    assert_eq!(told.process.get(&path).await.status, 404);
}
