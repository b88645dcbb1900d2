//! What a request is signed with, and which headers it carries.

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{
    Client, Engine, Installation, Receipt, Recorder, Server,
    installation::{fanfare, finish},
    on_every_engine,
};

on_every_engine! {
    a_secret_is_rotated_with_an_overlap,
    an_endpoint_signs_with_ed25519,
    sensitive_headers_are_sent_and_not_shown,
    the_three_headers_have_the_prefix_that_is_set,
}

/// A server with an endpoint.
struct World {
    installation: Installation,
    server: Server,
    client: Client,
    recorder: Recorder,
    application: String,
    endpoint: String,
}

impl World {
    async fn new(engine: &Engine, serve: &[&str], options: &Value) -> Self {
        let installation = Installation::on(engine);
        let mut server = installation.spawn(&[&["--dev"], serve].concat());
        server.ready().await;
        let client = installation.client().await;
        let recorder = Recorder::start().await;
        let application = client.application("signed").await;
        let endpoint = client.endpoint(&application, &recorder.url("/hook"), options).await;
        Self { installation, server, client, recorder, application, endpoint }
    }

    fn path(&self, part: &str) -> String {
        format!("/api/v1/app/{}/endpoint/{}{part}", self.application, self.endpoint)
    }

    async fn secret(&self) -> String {
        self.client.secret(&self.application, &self.endpoint).await
    }

    /// Publishes a message and gives how it came.
    async fn delivery(&self) -> Receipt {
        let count = self.recorder.receipts().len();
        let body = r#"{"eventType":"a","payload":{"n":1}}"#;
        let id = self.client.publish(&self.application, &[], body).await.id(202);
        let receipts = self.recorder.received(count + 1).await;
        let receipt = receipts.into_iter().nth(count).unwrap();
        let names = ["webhook-id", "svix-id", "acme-id"];
        let named = names.iter().find_map(|name| receipt.headers.get(*name)).unwrap();
        assert_eq!(named.to_str().unwrap(), id);
        receipt
    }

    async fn rotate(&self, body: Value) -> Value {
        self.client.post(&self.path("/secret/rotate"), &body).await.json(200)
    }

    /// What `fanfare verify` says of it.
    async fn verifies(&self, receipt: &Receipt, key: [&str; 2]) -> bool {
        let body = self.installation.data().join("body");
        std::fs::create_dir_all(self.installation.data()).unwrap();
        std::fs::write(&body, &receipt.body).unwrap();
        let mut command = fanfare(self.installation.data().as_path());
        command.args(["verify", "--body", body.to_str().unwrap()]).args(key);
        for (name, value) in &receipt.headers {
            command.args(["--header", &format!("{name}: {}", value.to_str().unwrap())]);
        }
        finish(&mut command).await.status.success()
    }
}

fn is_signed_with(receipt: &Receipt, secret: &str) -> bool {
    Webhook::new(secret).unwrap().verify(&receipt.body, &receipt.headers).is_ok()
}

fn signatures(receipt: &Receipt) -> usize {
    receipt.header("webhook-signature").split(' ').count()
}

async fn a_secret_is_rotated_with_an_overlap(engine: Engine) {
    let world = World::new(&engine, &[], &json!({})).await;
    let first = world.secret().await;
    assert!(is_signed_with(&world.delivery().await, &first));
    world.rotate(json!({ "gracePeriodSeconds": 3_600 })).await;
    let second = world.secret().await;
    let overlapping = world.delivery().await;
    assert_eq!(signatures(&overlapping), 2);
    assert!(is_signed_with(&overlapping, &first) && is_signed_with(&overlapping, &second));
    // Without grace the former one is good for nothing at once; that of before still has its hour.
    world.rotate(json!({ "gracePeriodSeconds": 0 })).await;
    let third = world.secret().await;
    let after = world.delivery().await;
    assert!(is_signed_with(&after, &third) && !is_signed_with(&after, &second));
    assert!(is_signed_with(&after, &first));
    let long = json!({ "gracePeriodSeconds": 7 * 24 * 3_600 + 1 });
    let refused = world.client.post(&world.path("/secret/rotate"), &long).await.json(422);
    assert!(refused["detail"].to_string().contains("gracePeriodSeconds"), "{refused}");
    assert_eq!(world.secret().await, third);
    world.server.terminate().await;
}

async fn an_endpoint_signs_with_ed25519(engine: Engine) {
    let world = World::new(&engine, &[], &json!({ "secretType": "ed25519" })).await;
    let public = world.secret().await;
    assert!(public.starts_with("whpk_"), "{public}");
    let receipt = world.delivery().await;
    assert!(receipt.header("webhook-signature").starts_with("v1a,"));
    assert!(world.verifies(&receipt, ["--public-key", &public]).await);
    let forged = Receipt { body: "{}".into(), ..receipt.clone() };
    assert!(!world.verifies(&forged, ["--public-key", &public]).await);
    // From one kind to the other, and both while it lasts.
    world.rotate(json!({ "type": "hmac", "gracePeriodSeconds": 3_600 })).await;
    let secret = world.secret().await;
    let both = world.delivery().await;
    assert!(is_signed_with(&both, &secret) && world.verifies(&both, ["--public-key", &public]).await);
    world.server.terminate().await;
}

async fn sensitive_headers_are_sent_and_not_shown(engine: Engine) {
    let world = World::new(&engine, &[], &json!({})).await;
    let headers = json!({ "headers": { "x-team": "seven", "authorization": "Bearer hunter2" } });
    let put = world.client.send("PUT", &world.path("/headers"), &[], &headers.to_string()).await;
    assert_eq!(put.status, 204, "{put:?}");
    let receipt = world.delivery().await;
    assert_eq!((receipt.header("x-team"), receipt.header("authorization")), ("seven", "Bearer hunter2"));
    for part in ["", "/headers"] {
        let shown = world.client.get(&world.path(part)).await.json(200);
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
    }
    let shown = world.client.get(&world.path("/headers")).await.json(200);
    assert_eq!(shown, json!({ "headers": { "x-team": "seven" }, "sensitive": ["authorization"] }));
    // A header of ours cannot be taken over.
    let ours = json!({ "headers": { "webhook-id": "x" } }).to_string();
    let refused = world.client.send("PUT", &world.path("/headers"), &[], &ours).await.json(422);
    assert!(refused["detail"].to_string().contains("webhook-id"), "{refused}");
    world.server.terminate().await;
}

async fn the_three_headers_have_the_prefix_that_is_set(engine: Engine) {
    for (set, has, has_not) in [
        ("svix", vec!["svix"], vec!["webhook"]),
        ("both", vec!["svix", "webhook"], vec![]),
        ("acme", vec!["acme"], vec!["svix", "webhook"]),
    ] {
        let world = World::new(&engine.another(), &["--header-prefix", set], &json!({})).await;
        let secret = world.secret().await;
        let mut receipt = world.delivery().await;
        for part in ["id", "timestamp", "signature"] {
            assert!(
                has.iter().all(|prefix| receipt.headers.contains_key(format!("{prefix}-{part}"))),
                "{set}"
            );
            let astray =
                has_not.iter().any(|prefix| receipt.headers.contains_key(format!("{prefix}-{part}")));
            assert!(!astray, "{set}: {:?}", receipt.headers);
            // Under the standard's names, for the standard's library.
            let value = receipt.headers[format!("{}-{part}", has[0])].clone();
            receipt
                .headers
                .insert(http::HeaderName::from_bytes(format!("webhook-{part}").as_bytes()).unwrap(), value);
        }
        assert!(is_signed_with(&receipt, &secret), "{set}");
        world.server.terminate().await;
    }
}
