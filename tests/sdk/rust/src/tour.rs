//! The tour, with the SDK that the module around it names.

#[path = "parts.rs"]
mod parts;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    MAJOR, TYPES, replace_application, replace_endpoint, replace_event_type, replace_headers, rotate, sdk,
};
use crate::{
    Visit,
    check::{Checks, input, shown},
    receiver::{Delivery, Receiver},
};
use sdk::api::{
    ApplicationCreateOptions, ApplicationListOptions, EventTypeDeleteOptions, EventTypeListOptions,
    MessageCreateOptions, Svix, SvixOptions,
};

/// How many checks were made.
pub(crate) async fn tour(visit: &Visit) -> Result<u32> {
    let tour = Tour { api: connect(visit, &visit.token), visit, receiver: Receiver::start()? };
    let mut checks = Checks::default();
    let app = tour.applications(&mut checks).await?;
    tour.pages(&mut checks, &app).await?;
    let event_type = tour.event_types(&mut checks).await?;
    tour.import(&mut checks).await?;
    let endpoint = tour.endpoints(&mut checks, &app, &event_type).await?;
    tour.headers(&mut checks, &app, &endpoint).await?;
    let (message, secret) = tour.messages(&mut checks, (&app, &endpoint), &event_type).await?;
    tour.reads(&mut checks, &app, &message).await?;
    tour.attempts(&mut checks, (&app, &endpoint), &message).await?;
    tour.resend(&mut checks, (&app, &endpoint), &message).await?;
    tour.recover(&mut checks, &app, &endpoint).await?;
    tour.rotation(&mut checks, (&app, &endpoint), &event_type, &secret).await?;
    tour.tokens(&mut checks, &app).await?;
    tour.ends(&mut checks, &app, &endpoint).await?;
    Ok(checks.0)
}

struct Tour<'a> {
    api: Svix,
    visit: &'a Visit,
    receiver: Receiver,
}

fn connect(visit: &Visit, token: &str) -> Svix {
    let options = SvixOptions { server_url: Some(visit.url.clone()), ..SvixOptions::default() };
    Svix::new(token.to_owned(), Some(options))
}

/// An error as (status, body).
fn outcome<T>(result: sdk::error::Result<T>) -> Result<(), (u16, Value)> {
    match result {
        Ok(_) => Ok(()),
        Err(sdk::error::Error::Http(error)) => Err((error.status.as_u16(), shown(error.payload))),
        Err(sdk::error::Error::Validation(error)) => Err((error.status.as_u16(), shown(error.payload))),
        Err(error) => Err((0, Value::String(error.to_string()))),
    }
}

fn verifies(secret: &str, delivery: &Delivery, body: &[u8]) -> bool {
    let webhook = sdk::webhooks::Webhook::new(secret).expect("it is a secret");
    webhook.verify(body, &delivery.headers).is_ok()
}

impl Tour<'_> {
    fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.visit.name)
    }

    async fn applications(&self, checks: &mut Checks) -> Result<String> {
        let uid = self.name("-a");
        let wanted =
            json!({ "name": "Tour", "uid": uid, "metadata": { "plan": "gold" }, "throttleRate": 900 });
        let key = || Some(ApplicationCreateOptions { idempotency_key: Some(self.name("-app")) });
        let application = self.api.application();
        let made = shown(application.create(input(wanted.clone()), key()).await?);
        checks.prefixed("application.id", &made["id"], "app_")?;
        checks.equal("application.uid", &made["uid"], uid.clone())?;
        checks.equal("application.name", &made["name"], "Tour")?;
        checks.equal("application.metadata", &made["metadata"], json!({ "plan": "gold" }))?;
        checks.equal("application.throttleRate", &made["throttleRate"], 900)?;
        checks.moment("application.createdAt", &made["createdAt"])?;
        checks.moment("application.updatedAt", &made["updatedAt"])?;
        let id = made["id"].as_str().context("it has an id")?.to_owned();
        let again = application.create(input(wanted.clone()), key()).await?;
        checks.equal("one key is one application", &again.id, id.clone())?;
        let taken = outcome(application.create(input(wanted.clone()), None).await);
        checks.refused_as("a uid that is taken", (409, "conflict"), taken)?;
        let found = application.get_or_create(input(wanted), None).await?;
        checks.equal("get or create", &found.id, id.clone())?;

        let read = shown(application.get(uid.clone()).await?);
        for field in ["id", "uid", "name", "metadata", "throttleRate", "createdAt"] {
            checks.equal(&format!("by uid: {field}"), &read[field], made[field].clone())?;
        }
        checks.equal("by id", &application.get(id.clone()).await?.uid, Some(uid.clone()))?;
        let patched = application.patch(uid.clone(), input(json!({ "name": "Patched" }))).await?;
        let patched = shown(patched);
        checks.equal("patched: name", &patched["name"], "Patched")?;
        checks.equal("patched: uid", &patched["uid"], uid.clone())?;
        checks.equal("patched: metadata", &patched["metadata"], json!({ "plan": "gold" }))?;
        let body = json!({ "name": "Replaced", "metadata": { "plan": "tin" } });
        let replaced = replace_application(&self.api, &uid, body).await?;
        checks.equal("replaced: name", &replaced["name"], "Replaced")?;
        checks.equal("replaced: metadata", &replaced["metadata"], json!({ "plan": "tin" }))?;
        checks.equal("replaced: id", &replaced["id"], id)?;
        checks.equal("replaced: throttleRate", &replaced["throttleRate"], Value::Null)?;
        let missing = outcome(application.get(self.name("-none")).await);
        checks.refused_as("no such application", (404, "not_found"), missing)?;
        let nameless = outcome(application.create(input(json!({ "name": "" })), None).await);
        checks.invalid("a name that is missing", json!(["body", "name"]), nameless)?;
        let whoami = shown(self.api.authentication().whoami().await?);
        checks.prefixed("whoami: envId", &whoami["envId"], "org_")?;
        checks.equal("whoami: appId", &whoami["appId"], Value::Null)?;
        Ok(uid)
    }

    async fn pages(&self, checks: &mut Checks, uid: &str) -> Result<()> {
        let application = self.api.application();
        for letter in ["-b", "-c"] {
            let wanted = json!({ "name": "Tour", "uid": self.name(letter) });
            application.create(input(wanted), None).await?;
        }
        let options = |iterator| ApplicationListOptions {
            limit: Some(2),
            iterator,
            ..ApplicationListOptions::default()
        };
        let (mut seen, mut pages, mut iterator) = (Vec::new(), Vec::new(), None);
        loop {
            let page = application.list(Some(options(iterator.take()))).await?;
            checks.equal("list: at most as many as asked for", &(page.data.len() <= 2), true)?;
            let full = page.done || page.data.len() == 2;
            checks.equal("list: a page before the last is full", &full, true)?;
            seen.extend(page.data.iter().filter_map(|one| one.uid.clone()));
            iterator.clone_from(&page.iterator);
            let done = page.done;
            pages.push(page);
            if done {
                break;
            }
            checks.prefixed("list: iterator", &shown(&iterator), "app_")?;
        }
        seen.retain(|other| other.starts_with(&self.visit.name));
        let expected = vec![uid.to_owned(), self.name("-b"), self.name("-c")];
        checks.equal("list: each once, oldest first", &seen, expected)?;
        checks.prefixed("list: prevIterator", &shown(&pages[1].prev_iterator), "-app_")?;
        let back = application.list(Some(options(pages[1].prev_iterator.clone()))).await?;
        checks.equal("list: back", &back.data, pages[0].data.clone())
    }

    async fn event_types(&self, checks: &mut Checks) -> Result<String> {
        let paid = self.name(".paid");
        let schemas = json!({ "1": { "type": "object", "required": ["amount"] } });
        let wanted = json!({
            "name": paid,
            "description": "Paid",
            "schemas": schemas,
            "groupName": "orders",
            "featureFlags": ["beta"],
        });
        let event_type = self.api.event_type();
        let made = shown(event_type.create(input(wanted.clone()), None).await?);
        for field in ["name", "description", "schemas", "groupName", "featureFlags"] {
            checks.equal(&format!("event type: {field}"), &made[field], wanted[field].clone())?;
        }
        checks.equal("event type: archived", &made["archived"], false)?;
        checks.equal("event type: deprecated", &made["deprecated"], false)?;
        checks.moment("event type: createdAt", &made["createdAt"])?;
        checks.moment("event type: updatedAt", &made["updatedAt"])?;
        let exists = outcome(event_type.create(input(wanted), None).await);
        checks.refused_as("an event type that exists", (409, "conflict"), exists)?;
        let read = shown(event_type.get(paid.clone()).await?);
        checks.equal("event type: read", &read["schemas"], schemas)?;
        let patch = json!({ "description": "Is paid", "deprecated": true });
        let patched = shown(event_type.patch(paid.clone(), input(patch)).await?);
        checks.equal("event type: patched description", &patched["description"], "Is paid")?;
        checks.equal("event type: patched deprecated", &patched["deprecated"], true)?;
        let body = json!({ "description": "Paid at last" });
        let replaced = replace_event_type(&self.api, &paid, body).await?;
        checks.equal("event type: replaced name", &replaced["name"], paid.clone())?;
        checks.equal("event type: replaced description", &replaced["description"], "Paid at last")?;
        checks.equal("event type: no longer deprecated", &replaced["deprecated"], false)?;

        let gone = self.name(".gone");
        event_type.create(input(json!({ "name": gone, "description": "" })), None).await?;
        event_type.delete(gone.clone(), None).await?;
        checks.equal(
            "event type: archived now",
            &event_type.get(gone.clone()).await?.archived,
            Some(true),
        )?;
        checks.equal("event types: listed", &self.listed(false).await?, vec![paid.clone()])?;
        let all = self.listed(true).await?;
        checks.equal("event types: with archived ones", &all, vec![gone.clone(), paid.clone()])?;
        event_type.delete(gone.clone(), Some(EventTypeDeleteOptions { expunge: Some(true) })).await?;
        let expunged = outcome(event_type.get(gone).await);
        checks.refused_as("an event type that is expunged", (404, "not_found"), expunged)?;
        Ok(paid)
    }

    /// The event types of this tour.
    async fn listed(&self, include_archived: bool) -> Result<Vec<String>> {
        let (mut names, mut iterator) = (Vec::new(), None);
        loop {
            let options = EventTypeListOptions {
                limit: Some(250),
                iterator,
                include_archived: Some(include_archived),
                ..EventTypeListOptions::default()
            };
            let page = self.api.event_type().list(Some(options)).await?;
            names.extend(page.data.into_iter().map(|one| one.name));
            if page.done {
                names.retain(|name| name.starts_with(&self.name(".")));
                return Ok(names);
            }
            iterator = page.iterator;
        }
    }

    async fn import(&self, checks: &mut Checks) -> Result<()> {
        let sent = self.name(".sent");
        let schema = json!({ "type": "object" });
        let content = json!({ "application/json": { "schema": schema } });
        let hook = json!({ "post": { "description": "Sent", "requestBody": { "content": content } } });
        let mut spec =
            json!({ "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "webhooks": {} });
        spec["webhooks"][&sent] = hook;
        let event_type = self.api.event_type();
        let dry = json!({ "spec": spec, "dryRun": true });
        let planned = shown(event_type.import_openapi(input(dry), None).await?);
        checks.equal("import: what would change", &planned["data"]["to_modify"][0]["name"], sent.clone())?;
        checks.refused("import: nothing yet", 404, outcome(event_type.get(sent.clone()).await))?;
        let raw = json!({ "specRaw": spec.to_string() });
        let imported = shown(event_type.import_openapi(input(raw), None).await?);
        checks.equal("import: changed", &imported["data"]["modified"], json!([sent]))?;
        let read = shown(event_type.get(sent).await?);
        checks.equal("import: description", &read["description"], "Sent")?;
        checks.equal("import: schemas", &read["schemas"], json!({ "1": schema }))
    }

    async fn endpoints(&self, checks: &mut Checks, app: &str, event_type: &str) -> Result<String> {
        let (uid, url) = (self.name("-hook"), format!("{}?tour", self.receiver.url));
        let mut wanted = json!({
            "url": url,
            "uid": uid,
            "description": "Hook",
            "channels": ["eu"],
            "metadata": { "team": "a" },
            "headers": { "x-tour": "one", "Authorization": "secret" },
            "throttleRate": 900,
        });
        wanted[TYPES] = json!([event_type]);
        let endpoint = self.api.endpoint();
        let made = shown(endpoint.create(app.to_owned(), input(wanted.clone()), None).await?);
        checks.prefixed("endpoint.id", &made["id"], "ep_")?;
        for field in ["url", "uid", "description", TYPES, "channels", "metadata", "throttleRate"] {
            checks.equal(&format!("endpoint.{field}"), &made[field], wanted[field].clone())?;
        }
        checks.equal("endpoint.disabled", &made["disabled"], false)?;
        if MAJOR < 2 {
            checks.equal("endpoint.version", &made["version"], 1)?;
        }
        checks.moment("endpoint.createdAt", &made["createdAt"])?;
        checks.moment("endpoint.updatedAt", &made["updatedAt"])?;
        let read = shown(endpoint.get(app.to_owned(), uid.clone()).await?);
        for field in ["id", "url", "uid"] {
            checks.equal(&format!("endpoint by uid: {field}"), &read[field], made[field].clone())?;
        }
        let list = endpoint.list(app.to_owned(), None).await?;
        let ids: Vec<Value> = list.data.iter().map(|one| json!(one.id)).collect();
        checks.equal("endpoints: listed", &ids, vec![made["id"].clone()])?;
        checks.equal("endpoints: done", &list.done, true)?;

        let patch = input(json!({ "description": "Patched" }));
        let patched = shown(endpoint.patch(app.to_owned(), uid.clone(), patch).await?);
        checks.equal("endpoint: patched", &patched["description"], "Patched")?;
        checks.equal("endpoint: patched url", &patched["url"], url.clone())?;
        checks.equal("endpoint: patched types", &patched[TYPES], json!([event_type]))?;
        wanted["description"] = "Replaced".into();
        wanted["metadata"] = json!({ "team": "b" });
        let replaced = replace_endpoint(&self.api, app, &uid, wanted).await?;
        checks.equal("endpoint: replaced", &replaced["description"], "Replaced")?;
        checks.equal("endpoint: replaced metadata", &replaced["metadata"], json!({ "team": "b" }))?;
        checks.equal("endpoint: replaced id", &replaced["id"], made["id"].clone())?;
        let missing = outcome(endpoint.get(app.to_owned(), "nobody".to_owned()).await);
        checks.refused_as("no such endpoint", (404, "not_found"), missing)?;
        let nowhere = input(json!({ "url": "nowhere" }));
        let nowhere = outcome(endpoint.create(app.to_owned(), nowhere, None).await);
        checks.invalid("a URL that is none", json!(["body", "url"]), nowhere)?;
        let mut unknown = json!({ "url": url });
        unknown[TYPES] = json!([self.name(".unknown")]);
        let unknown = outcome(endpoint.create(app.to_owned(), input(unknown), None).await);
        checks.refused("an event type that does not exist", 422, unknown)?;
        Ok(uid)
    }

    async fn headers(&self, checks: &mut Checks, app: &str, uid: &str) -> Result<()> {
        let endpoint = self.api.endpoint();
        let read = async || endpoint.get_headers(app.to_owned(), uid.to_owned()).await.map(shown);
        let headers = read().await?;
        checks.equal("headers", &headers["headers"], json!({ "x-tour": "one" }))?;
        checks.equal("headers: not shown", &headers["sensitive"], json!(["authorization"]))?;
        let patch = json!({ "headers": { "x-more": "two" }, "deleteHeaders": ["authorization"] });
        endpoint.patch_headers(app.to_owned(), uid.to_owned(), input(patch)).await?;
        let headers = read().await?;
        checks.equal("headers: patched", &headers["headers"], json!({ "x-more": "two", "x-tour": "one" }))?;
        checks.equal("headers: all shown", &headers["sensitive"], json!([]))?;
        replace_headers(&self.api, app, uid, json!({ "headers": { "x-tour": "three" } })).await?;
        checks.equal("headers: replaced", &read().await?["headers"], json!({ "x-tour": "three" }))
    }

    /// A publish with this key, or with none of ours.
    async fn publish(&self, app: &str, body: Value, key: Option<String>) -> sdk::error::Result<Value> {
        let options = MessageCreateOptions { with_content: Some(true), idempotency_key: key };
        self.api.message().create(app.to_owned(), input(body), Some(options)).await.map(shown)
    }

    async fn messages(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
    ) -> Result<(String, String)> {
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

        let id = made["id"].as_str().context("it has an id")?.to_owned();
        let delivery = self.receiver.of(&id, 1).await?.remove(0);
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
        Ok((id, secret))
    }

    async fn secret(&self, app: &str, endpoint: &str) -> Result<String> {
        Ok(self.api.endpoint().get_secret(app.to_owned(), endpoint.to_owned()).await?.key)
    }

    async fn rotation(
        &self,
        checks: &mut Checks,
        (app, endpoint): (&str, &str),
        event_type: &str,
        secret: &str,
    ) -> Result<()> {
        let send = async || {
            let body = json!({ "eventType": event_type, "payload": { "a": 1 }, "channels": ["eu"] });
            let made = self.publish(app, body, None).await?;
            let id = made["id"].as_str().context("it has an id")?.to_owned();
            anyhow::Ok(self.receiver.of(&id, 1).await?.remove(0))
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

    async fn tokens(&self, checks: &mut Checks, app: &str) -> Result<()> {
        let opened = async |body: Value| {
            let authentication = self.api.authentication();
            authentication.app_portal_access(app.to_owned(), input(body), None).await.map(shown)
        };
        let access = opened(json!({ "expiry": 3_600, "sessionId": self.name("-s") })).await?;
        checks.prefixed("portal: url", &access["url"], "http")?;
        let portal = connect(self.visit, access["token"].as_str().context("it has a token")?);
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

        let access = opened(json!({})).await?;
        let another = connect(self.visit, access["token"].as_str().context("it has a token")?);
        let own = another.application().get(app.to_owned()).await?;
        checks.equal("another token", &own.uid, Some(app.to_owned()))?;
        self.api.authentication().expire_all(app.to_owned(), input(json!({})), None).await?;
        let after = outcome(another.application().get(app.to_owned()).await);
        checks.refused_as("expired with all others", (401, "authentication_failed"), after)?;
        let nobody = outcome(connect(self.visit, "nonsense").application().list(None).await);
        checks.refused_as("no token of ours", (401, "authentication_failed"), nobody)
    }

    async fn ends(&self, checks: &mut Checks, app: &str, endpoint: &str) -> Result<()> {
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
