//! What an organization sees and does beside: operational webhooks, statistics, tokens, erasing, and the end of it all.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::{MAJOR, TYPES, dashboard, erase_some, replace_operational};
use super::{
    Tour,
    again::{SINCE, is_task},
    connect, id_of, outcome, sdk,
};
use crate::check::{Checks, input, shown, without};
use sdk::api::{MessageListOptions, OperationalWebhookEndpointListOptions, Svix};

impl Tour<'_> {
    /// Operational webhooks: the secret of who is told.
    pub(super) async fn operational(&self, checks: &mut Checks) -> Result<String> {
        let uid = self.name("-told");
        let mut wanted = json!({
            "url": format!("{}?told", self.receiver.url),
            "uid": uid,
            "description": "Told",
            "metadata": { "team": "a" },
            "throttleRate": 900,
        });
        wanted[TYPES] = json!(["endpoint.created"]);
        let endpoints = self.api.operational_webhook().endpoint();
        let made = shown(endpoints.create(input(wanted.clone()), None).await?);
        checks.prefixed("operational: id", &made["id"], "ep_")?;
        for field in ["url", "uid", "description", TYPES, "metadata", "throttleRate"] {
            checks.equal(&format!("operational: {field}"), &made[field], wanted[field].clone())?;
        }
        checks.equal("operational: disabled", &made["disabled"], false)?;
        if MAJOR < 2 {
            checks.equal("operational: rateLimit", &made["rateLimit"], 900)?;
        }
        checks.moment("operational: createdAt", &made["createdAt"])?;
        checks.moment("operational: updatedAt", &made["updatedAt"])?;
        let read = async |id: String| endpoints.get(id).await.map(shown);
        checks.equal("operational: read", &read(uid.clone()).await?, made.clone())?;
        let options = OperationalWebhookEndpointListOptions { limit: Some(250), ..Default::default() };
        let list = shown(endpoints.list(Some(options)).await?);
        let mut found = list["data"].as_array().cloned().unwrap_or_default();
        found.retain(|one| one["id"] == made["id"]);
        checks.equal("operational: listed", &found, vec![made.clone()])?;
        checks.last_page("operational", &list, "id")?;
        wanted["description"] = "Replaced".into();
        let replaced = replace_operational(&self.api, &uid, wanted).await?;
        checks.equal("operational: replaced", &replaced["description"], "Replaced")?;
        checks.equal("operational: replaced id", &replaced["id"], made["id"].clone())?;
        checks.equal("operational: replaced, read", &read(id_of(&made)?).await?, replaced)?;
        let secret = endpoints.get_secret(uid).await?.key;
        checks.prefixed("operational: secret", &json!(secret), "whsec_")?;
        Ok(secret)
    }

    /// Of an application with two endpoints.
    pub(super) async fn statistics(&self, checks: &mut Checks, app: &str, event_type: &str) -> Result<()> {
        let id = self.api.application().get(app.to_owned()).await?.id;
        let statistics = self.api.statistics();
        let nobody = self.name("-none");
        let wanted = json!({ "since": SINCE, "until": "2100-01-01T00:00:00Z", "appIds": [app, nobody] });
        let usage = shown(statistics.aggregate_app_stats(input(wanted), None).await?);
        checks.equal("usage: unresolved", &usage["unresolvedAppIds"], json!([nobody]))?;
        // Each message once for each endpoint that it came to, however often.
        let stats = json!({ "appId": id, "appUid": app, "messageDestinations": 5 });
        let expected = json!({
            "since": "2020-01-01T00:00:00.000000Z",
            "until": "2100-01-01T00:00:00.000000Z",
            "appStats": [stats],
        });
        let usage = without(usage, &["unresolvedAppIds"]);
        let found = self.report(checks, "usage", usage, "application.stats").await?;
        checks.equal("usage", &found, expected)?;
        let asked = shown(statistics.aggregate_event_types().await?);
        let wants = self.report(checks, "event types", asked, "event-type.aggregate").await?;
        let mut ours = wants["appEventTypes"].as_array().cloned().unwrap_or_default();
        ours.retain(|one| one["appUid"] == app);
        let mut expected = json!({ "appId": id, "appUid": app, "eventTypes": {} });
        expected["eventTypes"][event_type] = json!(2);
        checks.equal("event types that are wanted", &ours, vec![expected])
    }

    /// What a report says, which is a task that is finished at once.
    async fn report(&self, checks: &mut Checks, what: &str, asked: Value, kind: &str) -> Result<Value> {
        is_task(checks, what, &asked, kind)?;
        checks.equal(&format!("{what}: status"), &asked["status"], "finished")?;
        let task = shown(self.api.background_task().get(id_of(&asked)?).await?);
        let data = task["data"].clone();
        checks.equal(&format!("{what}: read"), &without(task, &["data"]), asked)?;
        Ok(data)
    }

    pub(super) async fn tokens(&self, checks: &mut Checks, app: &str) -> Result<()> {
        let opened = async |body: Value| {
            let authentication = self.api.authentication();
            authentication.app_portal_access(app.to_owned(), input(body), None).await.map(shown)
        };
        let access = opened(json!({ "expiry": 3_600, "sessionId": self.name("-s") })).await?;
        checks.prefixed("portal: url", &access["url"], "http")?;
        let portal = self.connected(&access)?;
        let own = portal.application().get(app.to_owned()).await?;
        checks.equal("portal: own application", &own.uid, Some(app.to_owned()))?;
        let whoami = shown(portal.authentication().whoami().await?);
        checks.equal("portal: whoami", &whoami["appId"], own.id)?;
        checks.equal("portal: session", &whoami["sessionId"], self.name("-s"))?;
        let another = outcome(portal.application().get(self.name("-b")).await);
        checks.refused_as("portal: another application", (404, "not_found"), another)?;
        let all = outcome(portal.application().list(None).await);
        checks.refused_as("portal: all applications", (403, "insufficient_access"), all)?;
        portal.authentication().logout(None).await?;
        let after = outcome(portal.application().get(app.to_owned()).await);
        checks.refused_as("logged out", (401, "authentication_failed"), after)?;
        if let Some(access) = dashboard(&self.api, app).await? {
            checks.prefixed("dashboard: url", &access["url"], "http")?;
            let own = self.connected(&access)?.application().get(app.to_owned()).await?;
            checks.equal("dashboard: own application", &own.uid, Some(app.to_owned()))?;
        }

        let another = self.connected(&opened(json!({})).await?)?;
        let own = another.application().get(app.to_owned()).await?;
        checks.equal("another token", &own.uid, Some(app.to_owned()))?;
        self.api.authentication().expire_all(app.to_owned(), input(json!({})), None).await?;
        let after = outcome(another.application().get(app.to_owned()).await);
        checks.refused_as("expired with all others", (401, "authentication_failed"), after)?;
        let nobody = outcome(connect(self.visit, "nonsense").application().list(None).await);
        checks.refused_as("no token of ours", (401, "authentication_failed"), nobody)
    }

    /// With the token that access was given by.
    fn connected(&self, access: &Value) -> Result<Svix> {
        Ok(connect(self.visit, access["token"].as_str().context("it has a token")?))
    }

    /// Contents: of an answer, of a message, of some, of all.
    pub(super) async fn erases(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        message: &Value,
        failed: &Value,
    ) -> Result<()> {
        let (message, failed) = (id_of(message)?, id_of(failed)?);
        let attempts = self.api.message_attempt();
        let attempt = id_of(&self.attempts_of(app, &failed, 2).await?["data"][0])?;
        attempts.expunge_content(app.to_owned(), failed.clone(), attempt.clone()).await?;
        let erased = attempts.get(app.to_owned(), failed.clone(), attempt, None).await?;
        checks.equal("an answer that is erased", &erased.response, "")?;
        let gone = || json!({ "expired": true });
        self.api.message().expunge_content(app.to_owned(), message.clone()).await?;
        let erased = self.read(app, &message, true).await?;
        checks.equal("a message that is erased", &erased["payload"], gone())?;
        let resent = attempts.resend(app.to_owned(), message, endpoint.to_owned(), None).await;
        checks.refused_as("what is erased is not sent again", (400, "missing_payload"), outcome(resent))?;
        let nobody = self.name("-none");
        if let Some(erased) = erase_some(&self.api, app, json!({ "ids": [failed, nobody] })).await? {
            let mut expected = json!({});
            expected[&failed] = "expunged".into();
            expected[&nobody] = "not-found".into();
            checks.equal("some are erased", &erased["results"], expected)?;
            let erased = self.read(app, &failed, true).await?;
            checks.equal("one of some", &erased["payload"], gone())?;
        }
        let task = shown(self.api.message().expunge_all_contents(app.to_owned(), None).await?);
        is_task(checks, "all are erased", &task, "application.purge_content")?;
        let options =
            MessageListOptions { limit: Some(1), with_content: Some(true), ..MessageListOptions::default() };
        let list = shown(self.api.message().list(app.to_owned(), Some(options)).await?);
        checks.equal("one of all", &list["data"][0]["payload"], gone())
    }

    pub(super) async fn ends(&self, checks: &mut Checks, app: &str, endpoint: &str) -> Result<()> {
        let (operational, told) = (self.api.operational_webhook().endpoint(), self.name("-told"));
        operational.delete(told.clone()).await?;
        let deleted = outcome(operational.get(told).await);
        checks.refused_as("a deleted operational endpoint", (404, "not_found"), deleted)?;
        self.api.endpoint().delete(app.to_owned(), endpoint.to_owned()).await?;
        let deleted = outcome(self.api.endpoint().get(app.to_owned(), endpoint.to_owned()).await);
        checks.refused_as("a deleted endpoint", (404, "not_found"), deleted)?;
        for uid in [app.to_owned(), self.name("-b"), self.name("-c")] {
            self.api.application().delete(uid).await?;
        }
        let deleted = outcome(self.api.application().get(app.to_owned()).await);
        checks.refused_as("a deleted application", (404, "not_found"), deleted)
    }
}
