//! Finding the message that is to be sent again, and what is not sent again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Clock as _, Delivery, Entropy, Fingerprint, Identity, Message, MessageId, Offset,
    Partition, SystemEntropy, Timestamp,
};
use fanfare_log::{NewRecord, Sync, Topic};
use serde_json::{Value, json};

use support::Process;

/// An application with an endpoint, and messages in its partition.
struct World {
    process: Process,
    application: ApplicationId,
    endpoint: String,
}

impl World {
    async fn new() -> Self {
        let process = Process::start(true).await;
        let made = process.post("/app", json!({ "name": "shop" })).await.is(201);
        let application = made["id"].as_str().unwrap().to_owned();
        let url = json!({ "url": "http://127.0.0.1:9/hook" });
        let endpoint = process.post(&format!("/app/{application}/endpoint"), url).await.is(201);
        let endpoint = endpoint["id"].as_str().unwrap().to_owned();
        Self { process, application: application.parse().unwrap(), endpoint }
    }

    fn partition(&self) -> Partition {
        self.process.control.view().application_by_id(self.application).unwrap().partition
    }

    /// The next message in the log, accepted then.
    async fn accept(&self, at: Timestamp, expires_at: Option<Timestamp>, payload: &'static str) -> MessageId {
        let entropy: &dyn Entropy = &SystemEntropy;
        let id = MessageId::mint(at, entropy.bytes());
        let message = Message {
            id,
            organization: fanfare_control::default_organization(),
            application: self.application,
            event_type: "a".into(),
            event_id: None,
            channels: Vec::new(),
            ordering_key: None,
            tags: Vec::new(),
            accepted_at: at,
            deliver_at: None,
            payload_expires_at: expires_at,
            traceparent: None,
            identity: Identity { key: None, event_id: None, body: Fingerprint([0; 16]), short_window: false },
            due_of: None,
            only_for: None,
        };
        let record = NewRecord { head: message.encode(), payload: Bytes::from_static(payload.as_bytes()) };
        let pending = self
            .process
            .log
            .append(Topic::Messages, self.partition(), vec![record], Sync::Now)
            .await
            .unwrap();
        pending.await.unwrap();
        id
    }

    async fn resend(&self, id: MessageId) -> (u16, Value) {
        let path = format!("/app/{}/msg/{id}/endpoint/{}/resend", self.application, self.endpoint);
        let answer = self.process.post(&path, json!({})).await;
        (answer.status, answer.body)
    }

    /// Offsets of the messages that were sent again.
    async fn injected(&self) -> Vec<Offset> {
        let partition =
            self.process.control.view().endpoint(self.application, &self.endpoint).unwrap().partition;
        let batch =
            self.process.log.fetch(Topic::Deliveries, partition, Offset::ZERO, usize::MAX).await.unwrap();
        let offset = |head: &[u8]| match Delivery::decode(head).unwrap() {
            Delivery::Injected { offset, .. } => offset,
            other => panic!("{other:?}"),
        };
        batch.records.iter().map(|record| offset(&record.head)).collect()
    }
}

/// Times rise with offsets, but for a little: several processes accept messages.
#[tokio::test]
async fn every_message_is_found_by_the_time_in_its_id() {
    let world = World::new().await;
    let begin = world.process.clock.now();
    let mut ids = Vec::new();
    for step in 0..400_u64 {
        // One every ten seconds, by clocks that are up to 45 s apart.
        let at = begin + Duration::from_secs(step * 10 + step * 13 % 46);
        ids.push(world.accept(at, None, "{}").await);
    }
    for id in ids.iter().step_by(9) {
        assert_eq!(world.resend(*id).await, (202, json!({})), "{id}");
    }
    let expected: Vec<Offset> = (0..400).step_by(9).map(Offset).collect();
    assert_eq!(world.injected().await, expected);
    let never = MessageId::mint(begin + Duration::from_secs(2_000), [1; 15]);
    assert_eq!(world.resend(never).await.0, 404);
    assert_eq!(world.resend(MessageId::mint(Timestamp::from_secs(1_700_000_000), [1; 15])).await.0, 404);
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_not_sent_again() {
    let world = World::new().await;
    let now = world.process.clock.now();
    let expired = world.accept(now, Some(now + Duration::from_mins(1)), "{}").await;
    assert_eq!(world.resend(expired).await.0, 202);
    world.process.clock.advance(Duration::from_secs(61));
    let (status, body) = world.resend(expired).await;
    assert_eq!((status, &body["code"]), (400, &json!("missing_payload")));
    assert_eq!(world.injected().await.len(), 1);
}
