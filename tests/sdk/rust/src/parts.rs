//! What became of messages, and sending them again.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Tour, sdk};
use crate::{
    check::{Checks, input, shown},
    receiver,
};
use sdk::api::{MessageAttemptListByMsgOptions, MessageGetOptions, MessageListOptions};

impl Tour<'_> {
    pub(super) async fn reads(&self, checks: &mut Checks, app: &str, message: &str) -> Result<()> {
        let api = self.api.message();
        let options = MessageGetOptions { with_content: Some(true) };
        let read = shown(api.get(app.to_owned(), message.to_owned(), Some(options)).await?);
        checks.equal("message: read", &read["id"], message)?;
        checks.equal("message: read eventId", &read["eventId"], self.name("-1"))?;
        checks.equal("message: read payload", &read["payload"]["amount"], 1.5)?;
        let by_event = api.get(app.to_owned(), self.name("-1"), None).await?;
        checks.equal("message: by eventId", &by_event.id, message)?;
        let options = MessageListOptions { tag: Some("red".to_owned()), ..MessageListOptions::default() };
        let list = api.list(app.to_owned(), Some(options)).await?;
        let ids: Vec<&str> = list.data.iter().map(|one| one.id.as_str()).collect();
        checks.equal("messages: by tag", &ids, vec![message])
    }

    pub(super) async fn attempts(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        message: &str,
    ) -> Result<()> {
        let id = self.api.endpoint().get(app.to_owned(), endpoint.to_owned()).await?.id;
        let api = self.api.message_attempt();
        // An attempt is written down a moment after it was made.
        let deadline = Instant::now() + receiver::PATIENCE;
        let list = loop {
            let options = MessageAttemptListByMsgOptions { with_content: Some(true), ..Default::default() };
            let list = shown(api.list_by_msg(app.to_owned(), message.to_owned(), Some(options)).await?);
            let is_there = list["data"].as_array().is_some_and(|list| !list.is_empty());
            if is_there || Instant::now() > deadline {
                break list;
            }
            tokio::time::sleep(receiver::POLL).await;
        };
        checks.equal("attempts: how many", &list["data"].as_array().map(Vec::len), Some(1))?;
        let attempt = &list["data"][0];
        checks.prefixed("attempt.id", &attempt["id"], "atmpt_")?;
        checks.equal("attempt.msgId", &attempt["msgId"], message)?;
        checks.equal("attempt.endpointId", &attempt["endpointId"], id)?;
        checks.equal("attempt.status", &attempt["status"], 0)?;
        checks.equal("attempt.responseStatusCode", &attempt["responseStatusCode"], 200)?;
        checks.equal("attempt.response", &attempt["response"], "taken")?;
        checks.equal("attempt.triggerType", &attempt["triggerType"], 0)?;
        checks.equal("attempt.url", &attempt["url"], format!("{}?tour", self.receiver.url))?;
        checks.moment("attempt.timestamp", &attempt["timestamp"])?;
        let attempt_id = attempt["id"].as_str().context("it has an id")?.to_owned();
        let one = api.get(app.to_owned(), message.to_owned(), attempt_id.clone(), None);
        checks.equal("attempt: alone", &shown(one.await?)["id"], attempt_id.clone())?;
        let by_endpoint = api.list_by_endpoint(app.to_owned(), endpoint.to_owned(), None).await?;
        let found = by_endpoint.data.iter().any(|one| one.id == attempt_id);
        checks.equal("attempts of the endpoint", &found, true)
    }

    pub(super) async fn resend(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        message: &str,
    ) -> Result<()> {
        let api = self.api.message_attempt();
        api.resend(app.to_owned(), message.to_owned(), endpoint.to_owned(), None).await?;
        let deliveries = self.receiver.of(message, 2).await?;
        checks.equal("resent: the same body", &deliveries[1].body, deliveries[0].body.clone())
    }

    pub(super) async fn recover(&self, checks: &mut Checks, app: &str, endpoint: &str) -> Result<()> {
        let since = input(json!({ "since": "2020-01-01T00:00:00Z" }));
        let endpoints = self.api.endpoint();
        let task = shown(endpoints.recover(app.to_owned(), endpoint.to_owned(), since, None).await?);
        checks.prefixed("recover: id", &task["id"], "qtask_")?;
        checks.equal("recover: task", &task["task"], "endpoint.recover")
    }
}
