//! What failed, was never sent, or is wanted once more is sent again in bulk; and the tasks that do it.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::{TYPES, attempt_stats};
use super::{Tour, id_of, messages::standing, sdk, verifies};
use crate::{
    check::{Checks, input, shown},
    plain,
    receiver::as_soon_as,
};
use sdk::api::BackgroundTaskListOptions;

pub(super) const SINCE: &str = "2020-01-01T00:00:00Z";

impl Tour<'_> {
    /// With a second endpoint, which comes late: `told` is the secret of who is told so. Gives the message that failed.
    pub(super) async fn again(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
        (message, told): (&Value, &str),
    ) -> Result<Value> {
        let late = self.name("-late");
        // It comes to the first endpoint: so it is routed before there is another.
        let body =
            json!({ "eventType": event_type, "payload": { "early": true }, "channels": ["eu", "late"] });
        let early = id_of(&self.publish(app, body, None).await?)?;
        self.receiver.of(&early, 1).await?;
        let url = format!("{}?late", self.receiver.url);
        let mut wanted = json!({ "url": url, "uid": late, "channels": ["late"] });
        wanted[TYPES] = json!([event_type]);
        let endpoints = self.api.endpoint();
        let made = shown(endpoints.create(app.to_owned(), input(wanted), None).await?);
        self.is_told(checks, told, app, &made).await?;
        // One attempt, and it is a dead letter.
        let path = format!("/api/v1/app/{app}/endpoint/{late}");
        plain::patch(self.visit, &path, &json!({ "retrySchedule": [] }))?;
        let secret = self.secret(app, &late).await?;
        let failed = self.fails(checks, (app, &late), event_type).await?;

        let since = || json!({ "since": SINCE });
        let task = endpoints.recover(app.to_owned(), late.clone(), input(since()), None).await?;
        let recovering = shown(task);
        is_task(checks, "recover", &recovering, "endpoint.recover")?;
        let task = endpoints.replay_missing(app.to_owned(), late.clone(), input(since()), None).await?;
        let replaying = shown(task);
        is_task(checks, "replay missing", &replaying, "endpoint.replay")?;
        let red = input(json!({ "since": SINCE, "tag": "red" }));
        let bulk = shown(endpoints.bulk_replay(app.to_owned(), endpoint.to_owned(), red, None).await?);
        is_task(checks, "bulk replay", &bulk, "endpoint.bulk-replay")?;
        for (what, id) in [("recovered", id_of(&failed)?), ("replayed", early)] {
            let deliveries = self.receiver.of(&id, 2).await?;
            let (first, again) = (&deliveries[0], &deliveries[1]);
            checks.equal(&format!("{what}: the same body"), &again.body, first.body.clone())?;
            checks.equal(&format!("{what}: verified"), &verifies(&secret, again, &again.body), true)?;
        }
        let deliveries = self.receiver.of(&id_of(message)?, 3).await?;
        checks.equal("replayed in bulk: the same body", &deliveries[2].body, deliveries[0].body.clone())?;

        let application = self.api.application().get(app.to_owned()).await?.id;
        let hook = endpoints.get(app.to_owned(), endpoint.to_owned()).await?.id;
        let late_id = id_of(&made)?;
        let ended = self.is_over(checks, "recover", &recovering, (&application, &late_id)).await?;
        self.is_over(checks, "replay missing", &replaying, (&application, &late_id)).await?;
        self.is_over(checks, "bulk replay", &bulk, (&application, &hook)).await?;
        self.tasks(checks, &ended).await?;
        self.recovered(checks, (app, &late), &failed).await?;
        Ok(failed)
    }

    async fn is_told(&self, checks: &mut Checks, secret: &str, app: &str, made: &Value) -> Result<()> {
        let delivery = self.receiver.told(&self.name("-late")).await?;
        let told: Value = serde_json::from_slice(&delivery.body)?;
        checks.equal("told: type", &told["type"], "endpoint.created")?;
        checks.equal("told: appUid", &told["data"]["appUid"], app)?;
        checks.equal("told: endpointId", &told["data"]["endpointId"], made["id"].clone())?;
        checks.equal("told: verified", &verifies(secret, &delivery, &delivery.body), true)
    }

    /// A message that the endpoint refuses, as soon as it is given up.
    async fn fails(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
    ) -> Result<Value> {
        self.receiver.refuse(true);
        let body = json!({
            "eventType": event_type,
            "eventId": self.name("-2"),
            "payload": { "fails": true },
            "channels": ["late"],
            "tags": ["late"],
        });
        let made = self.publish(app, body, None).await?;
        self.receiver.of(&id_of(&made)?, 1).await?;
        let (pending, sending) = (1, 3);
        let is_settled = |list: &Value| {
            let status = list["data"][0]["status"].as_i64();
            status.is_some_and(|status| status != pending && status != sending)
        };
        let list = as_soon_as(async || self.attempted(app, endpoint).await, is_settled).await?;
        self.receiver.refuse(false);
        checks.equal("failed", &list["data"], json!([standing(&made, 2, "fail")]))?;
        self.stands(checks, "failed", (app, endpoint), (0, 1)).await?;
        Ok(made)
    }

    async fn stands(
        &self,
        checks: &mut Checks,
        what: &str,
        (app, endpoint): (&str, &str),
        (success, fail): (u32, u32),
    ) -> Result<()> {
        let stats = self.api.endpoint().get_stats(app.to_owned(), endpoint.to_owned(), None).await?;
        let expected = json!({ "success": success, "pending": 0, "sending": 0, "fail": fail, "canceled": 0 });
        checks.equal(&format!("{what}: stats"), &shown(stats), expected)
    }

    /// The task as it is when it is over: it sent one message.
    async fn is_over(
        &self,
        checks: &mut Checks,
        what: &str,
        task: &Value,
        (application, endpoint): (&str, &str),
    ) -> Result<Value> {
        let (api, id) = (self.api.background_task(), id_of(task)?);
        let ask = async || anyhow::Ok(shown(api.get(id.clone()).await?));
        let ended = as_soon_as(ask, |task: &Value| task["status"] != "running").await?;
        checks.equal(&format!("{what}: id"), &ended["id"], id.clone())?;
        checks.equal(&format!("{what}: ended"), &ended["status"], "finished")?;
        checks.equal(&format!("{what}: task"), &ended["task"], task["task"].clone())?;
        checks.moment(&format!("{what}: ended at"), &ended["updatedAt"])?;
        let data = &ended["data"];
        checks.equal(&format!("{what}: application"), &data["appId"], application)?;
        checks.equal(&format!("{what}: endpoint"), &data["endpointId"], endpoint)?;
        for (field, count) in [("total", 1), ("sent", 1), ("delivered", 1), ("pending", 0)] {
            checks.equal(&format!("{what}: {field}"), &data[field], count)?;
        }
        Ok(ended)
    }

    /// The one that ended is on the list, as it is.
    async fn tasks(&self, checks: &mut Checks, ended: &Value) -> Result<()> {
        let options = BackgroundTaskListOptions {
            task: Some(input(json!("endpoint.recover"))),
            limit: Some(250),
            ..Default::default()
        };
        let list = shown(self.api.background_task().list(Some(options)).await?);
        let mut found = list["data"].as_array().cloned().unwrap_or_default();
        found.retain(|task| task["id"] == ended["id"]);
        checks.equal("tasks: listed", &found, vec![ended.clone()])?;
        checks.last_page("tasks", &list, "id")
    }

    async fn recovered(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        failed: &Value,
    ) -> Result<()> {
        let list = self.attempts_of(app, &id_of(failed)?, 2).await?;
        let attempts = list["data"].as_array().cloned().unwrap_or_default();
        let fields = ["status", "statusText", "responseStatusCode", "response", "triggerType"];
        let of = |attempt: &Value| Value::from(fields.map(|field| attempt[field].clone()).to_vec());
        let found: Vec<Value> = attempts.iter().map(of).collect();
        // By hand, and before that as scheduled.
        let expected = vec![json!([0, "success", 200, "taken", 1]), json!([2, "fail", 500, "refused", 0])];
        checks.equal("recovered: attempts", &found, expected)?;
        self.stands(checks, "recovered", (app, endpoint), (2, 0)).await?;
        if let Some(stats) = attempt_stats(&self.api, app, endpoint).await? {
            let expected = json!({ "success": 2, "fail": 1, "canceled": 0 });
            checks.equal("attempt stats", &stats, expected)?;
        }
        Ok(())
    }
}

pub(super) fn is_task(checks: &mut Checks, what: &str, task: &Value, kind: &str) -> Result<()> {
    checks.prefixed(&format!("{what}: id"), &task["id"], "qtask_")?;
    checks.equal(&format!("{what}: task"), &task["task"], kind)?;
    checks.says(&format!("{what}: status"), &task["status"])?;
    checks.moment(&format!("{what}: updatedAt"), &task["updatedAt"])
}
