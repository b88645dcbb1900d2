//! What is published, what became of it, and sending it again one by one.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::rotate;
use super::{Tour, id_of, outcome, sdk, verifies};
use crate::{
    check::{Checks, input, shown, without},
    receiver::{TAKES_MS, as_soon_as},
};
use sdk::api::{
    MessageAttemptListAttemptedMessagesOptions, MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions, MessageCreateOptions, MessageGetOptions, MessageListOptions,
};

/// What was sent, or whom it was sent to, as it stands there.
pub(super) fn standing(described: &Value, status: u32, text: &str) -> Value {
    let mut standing = described.clone();
    standing["status"] = json!(status);
    standing["statusText"] = json!(text);
    standing
}

impl Tour<'_> {
    /// A publish with this key, or with none of ours.
    pub(super) async fn publish(
        &self,
        app: &str,
        body: Value,
        key: Option<String>,
    ) -> sdk::error::Result<Value> {
        let options = MessageCreateOptions { with_content: Some(true), idempotency_key: key };
        self.api.message().create(app.to_owned(), input(body), Some(options)).await.map(shown)
    }

    pub(super) async fn secret(&self, app: &str, endpoint: &str) -> Result<String> {
        Ok(self.api.endpoint().get_secret(app.to_owned(), endpoint.to_owned()).await?.key)
    }

    /// A message, by its id or event id, with its payload or without.
    pub(super) async fn read(&self, app: &str, id: &str, with_content: bool) -> Result<Value> {
        let options = MessageGetOptions { with_content: Some(with_content) };
        Ok(shown(self.api.message().get(app.to_owned(), id.to_owned(), Some(options)).await?))
    }

    pub(super) async fn messages(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
    ) -> Result<(Value, String)> {
        let secret = self.secret(app, endpoint).await?;
        checks.prefixed("secret", &json!(secret), "whsec_")?;
        let payload = json!({ "amount": 1.5, "name": "Zo\u{eb}" });
        let wanted = json!({
            "eventType": event_type,
            "eventId": self.name("-1"),
            "payload": payload,
            "channels": ["eu"],
            "tags": ["blue", "red"],
        });
        let key = || Some(self.name("-key"));
        let made = self.publish(app, wanted.clone(), key()).await?;
        checks.prefixed("message.id", &made["id"], "msg_")?;
        for field in ["eventType", "eventId", "channels", "tags", "payload"] {
            checks.equal(&format!("message.{field}"), &made[field], wanted[field].clone())?;
        }
        checks.moment("message.timestamp", &made["timestamp"])?;
        let again = self.publish(app, wanted.clone(), key()).await?;
        checks.equal("one key is one message", &again["id"], made["id"].clone())?;
        let mut other = wanted.clone();
        other["payload"] = json!({ "amount": 2 });
        let conflict = outcome(self.publish(app, other, key()).await);
        checks.refused_as("a key for another body", (409, "conflict"), conflict)?;
        let conflict = outcome(self.publish(app, wanted, Some(self.name("-other"))).await);
        checks.refused_as("an eventId that is taken", (409, "conflict"), conflict)?;
        let nameless = outcome(self.publish(app, json!({ "eventType": "a b", "payload": {} }), None).await);
        checks.invalid("no event type", json!(["body", "eventType"]), nameless)?;

        let delivery = self.receiver.of(&id_of(&made)?, 1).await?.remove(0);
        let body: Value = serde_json::from_slice(&delivery.body)?;
        checks.equal("delivery: payload", &body, payload)?;
        checks.equal("delivery: own header", delivery.header("x-tour"), "three".to_owned())?;
        checks.equal(
            "delivery: content type",
            delivery.header("content-type"),
            "application/json".to_owned(),
        )?;
        checks.equal("delivery: verified", &verifies(&secret, &delivery, &delivery.body), true)?;
        checks.equal("delivery: changed", &verifies(&secret, &delivery, b"{}"), false)?;
        Ok((made, secret))
    }

    pub(super) async fn reads(&self, checks: &mut Checks, app: &str, message: &Value) -> Result<()> {
        let id = id_of(message)?;
        checks.equal("message: read", &self.read(app, &id, true).await?, message.clone())?;
        let by_event = self.read(app, &self.name("-1"), true).await?;
        checks.equal("message: by eventId", &by_event, message.clone())?;
        let options = MessageListOptions {
            tag: Some("red".to_owned()),
            with_content: Some(true),
            ..MessageListOptions::default()
        };
        let list = shown(self.api.message().list(app.to_owned(), Some(options)).await?);
        checks.equal("messages: by tag", &list["data"], json!([message]))?;
        checks.last_page("messages", &list, "id")
    }

    /// Of a message, as soon as there are so many: one is written down a moment after it was made.
    pub(super) async fn attempts_of(&self, app: &str, message: &str, count: usize) -> Result<Value> {
        let api = self.api.message_attempt();
        let ask = async || {
            let options = MessageAttemptListByMsgOptions { with_content: Some(true), ..Default::default() };
            let list = api.list_by_msg(app.to_owned(), message.to_owned(), Some(options)).await?;
            anyhow::Ok(shown(list))
        };
        let are_there =
            |list: &Value| list["data"].as_array().is_some_and(|attempts| attempts.len() >= count);
        as_soon_as(ask, are_there).await
    }

    /// The messages of an endpoint, and how each stands there.
    pub(super) async fn attempted(&self, app: &str, endpoint: &str) -> Result<Value> {
        let options =
            MessageAttemptListAttemptedMessagesOptions { with_content: Some(true), ..Default::default() };
        let api = self.api.message_attempt();
        let list = api.list_attempted_messages(app.to_owned(), endpoint.to_owned(), Some(options));
        Ok(shown(list.await?))
    }

    pub(super) async fn attempts(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        message: &Value,
    ) -> Result<()> {
        let described = shown(self.api.endpoint().get(app.to_owned(), endpoint.to_owned()).await?);
        let id = id_of(message)?;
        let list = self.attempts_of(app, &id, 1).await?;
        checks.equal("attempts: how many", &list["data"].as_array().map(Vec::len), Some(1))?;
        let attempt = &list["data"][0];
        checks.prefixed("attempt.id", &attempt["id"], "atmpt_")?;
        checks.equal("attempt.msgId", &attempt["msgId"], id.clone())?;
        checks.equal("attempt.endpointId", &attempt["endpointId"], described["id"].clone())?;
        checks.equal("attempt.status", &attempt["status"], 0)?;
        checks.equal("attempt.statusText", &attempt["statusText"], "success")?;
        checks.equal("attempt.responseStatusCode", &attempt["responseStatusCode"], 200)?;
        let duration_ms = &attempt["responseDurationMs"];
        checks.between("attempt.responseDurationMs", duration_ms, TAKES_MS / 2, 20_000)?;
        checks.equal("attempt.response", &attempt["response"], "taken")?;
        checks.equal("attempt.triggerType", &attempt["triggerType"], 0)?;
        checks.equal("attempt.url", &attempt["url"], format!("{}?tour", self.receiver.url))?;
        checks.moment("attempt.timestamp", &attempt["timestamp"])?;
        checks.last_page("attempts", &list, "id")?;
        let api = self.api.message_attempt();
        let alone = api.get(app.to_owned(), id.clone(), id_of(attempt)?, None).await?;
        checks.equal("attempt: alone", &shown(alone), attempt.clone())?;

        let options = MessageAttemptListByEndpointOptions {
            with_content: Some(true),
            with_msg: Some(true),
            ..Default::default()
        };
        let list = api.list_by_endpoint(app.to_owned(), endpoint.to_owned(), Some(options));
        let list = shown(list.await?);
        let mut expected = attempt.clone();
        expected["msg"] = self.read(app, &id, false).await?;
        checks.equal("attempts of the endpoint", &list["data"], json!([expected]))?;
        checks.last_page("attempts of the endpoint", &list, "id")?;
        let list = self.attempted(app, endpoint).await?;
        let expected = standing(message, 0, "success");
        checks.equal("messages of the endpoint", &list["data"], json!([expected]))?;
        checks.last_page_of("messages of the endpoint", &list, "msgep_")?;
        let list = shown(api.list_attempted_destinations(app.to_owned(), id, None).await?);
        let expected = standing(&without(described, &["metadata"]), 0, "success");
        checks.equal("endpoints of the message", &list["data"], json!([expected]))?;
        checks.last_page_of("endpoints of the message", &list, "msgep_")
    }

    pub(super) async fn resend(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        message: &Value,
    ) -> Result<()> {
        let id = id_of(message)?;
        let api = self.api.message_attempt();
        api.resend(app.to_owned(), id.clone(), endpoint.to_owned(), None).await?;
        let deliveries = self.receiver.of(&id, 2).await?;
        checks.equal("resent: the same body", &deliveries[1].body, deliveries[0].body.clone())
    }

    pub(super) async fn example(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
        secret: &str,
    ) -> Result<()> {
        let wanted = input(json!({ "eventType": event_type }));
        let endpoints = self.api.endpoint();
        let made = endpoints.send_example(app.to_owned(), endpoint.to_owned(), wanted, None).await?;
        let made = shown(made);
        checks.prefixed("example.id", &made["id"], "msg_")?;
        checks.equal("example.eventType", &made["eventType"], event_type)?;
        checks.equal("example.payload", &made["payload"], json!({ "sent": true }))?;
        checks.moment("example.timestamp", &made["timestamp"])?;
        let id = id_of(&made)?;
        let delivery = self.receiver.of(&id, 1).await?.remove(0);
        let body: Value = serde_json::from_slice(&delivery.body)?;
        checks.equal("example: delivered", &body, json!({ "sent": true }))?;
        checks.equal("example: verified", &verifies(secret, &delivery, &delivery.body), true)?;
        checks.equal("example: read", &self.read(app, &id, true).await?, made)
    }

    pub(super) async fn precheck(&self, checks: &mut Checks, app: &str, event_type: &str) -> Result<()> {
        for (channel, expected) in [("eu", true), ("nowhere", false)] {
            let wanted = input(json!({ "eventType": event_type, "channels": [channel] }));
            let found = self.api.message().precheck(app.to_owned(), wanted, None).await?;
            checks.equal(&format!("precheck: {channel}"), &found.active, expected)?;
        }
        Ok(())
    }

    pub(super) async fn rotation(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
        secret: &str,
    ) -> Result<()> {
        let send = async || {
            let body = json!({ "eventType": event_type, "payload": { "a": 1 }, "channels": ["eu"] });
            let made = self.publish(app, body, None).await?;
            anyhow::Ok(self.receiver.of(&id_of(&made)?, 1).await?.remove(0))
        };
        let answer = rotate(&self.api, app, endpoint, json!({ "gracePeriodSeconds": 3_600 })).await?;
        let next = self.secret(app, endpoint).await?;
        checks.equal("rotated: another secret", &(next != secret), true)?;
        if let Some(answered) = answer {
            checks.equal("rotated: the answer", &answered, next.clone())?;
        }
        let overlapping = send().await?;
        let signatures = overlapping.header("webhook-signature").split(' ').count();
        checks.equal("overlap: two signatures", &signatures, 2)?;
        for secret in [secret, &next] {
            checks.equal("overlap: both verify", &verifies(secret, &overlapping, &overlapping.body), true)?;
        }
        let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        rotate(&self.api, app, endpoint, json!({ "key": own, "gracePeriodSeconds": 0 })).await?;
        checks.equal("rotated: to our own", &self.secret(app, endpoint).await?, own)?;
        let after = send().await?;
        checks.equal("no grace: ours verifies", &verifies(own, &after, &after.body), true)?;
        checks.equal("no grace: the former does not", &verifies(&next, &after, &after.body), false)?;
        let long = json!({ "gracePeriodSeconds": 7 * 24 * 3_600 + 1 });
        let refused = outcome(rotate(&self.api, app, endpoint, long).await);
        checks.refused("a period that is too long", 422, refused).map(drop)
    }
}
