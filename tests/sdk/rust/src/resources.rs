//! What is made before anything is published: applications, event types, endpoints.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::super::{
    MAJOR, TYPES, replace_application, replace_endpoint, replace_event_type, replace_headers,
};
use super::{Tour, id_of, outcome, sdk};
use crate::check::{Checks, input, shown};
use sdk::api::{
    ApplicationCreateOptions, ApplicationListOptions, EventTypeDeleteOptions, EventTypeListOptions,
};

impl Tour<'_> {
    pub(super) async fn applications(&self, checks: &mut Checks) -> Result<Value> {
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
        if MAJOR < 2 {
            checks.equal("application.rateLimit", &made["rateLimit"], 900)?;
        }
        checks.moment("application.createdAt", &made["createdAt"])?;
        checks.moment("application.updatedAt", &made["updatedAt"])?;
        let again = shown(application.create(input(wanted.clone()), key()).await?);
        checks.equal("one key is one application", &again, made.clone())?;
        let taken = outcome(application.create(input(wanted.clone()), None).await);
        checks.refused_as("a uid that is taken", (409, "conflict"), taken)?;
        let found = shown(application.get_or_create(input(wanted), None).await?);
        checks.equal("get or create", &found, made.clone())?;
        let read = async |id: String| application.get(id).await.map(shown);
        checks.equal("by uid", &read(uid.clone()).await?, made.clone())?;
        checks.equal("by id", &read(id_of(&made)?).await?, made.clone())?;

        let patch = input(json!({ "name": "Patched" }));
        let patched = shown(application.patch(uid.clone(), patch).await?);
        checks.equal("patched: name", &patched["name"], "Patched")?;
        for field in ["id", "uid", "metadata", "throttleRate", "createdAt"] {
            checks.equal(&format!("patched: {field}"), &patched[field], made[field].clone())?;
        }
        checks.equal("patched: read", &read(uid.clone()).await?, patched)?;
        let body = json!({ "name": "Replaced", "metadata": { "plan": "tin" }, "throttleRate": 800 });
        let replaced = replace_application(&self.api, &uid, body).await?;
        checks.equal("replaced: name", &replaced["name"], "Replaced")?;
        checks.equal("replaced: metadata", &replaced["metadata"], json!({ "plan": "tin" }))?;
        checks.equal("replaced: throttleRate", &replaced["throttleRate"], 800)?;
        checks.equal("replaced: id", &replaced["id"], made["id"].clone())?;
        checks.equal("replaced: read", &read(uid).await?, replaced.clone())?;
        let missing = outcome(application.get(self.name("-none")).await);
        checks.refused_as("no such application", (404, "not_found"), missing)?;
        let nameless = outcome(application.create(input(json!({ "name": "" })), None).await);
        checks.invalid("a name that is missing", json!(["body", "name"]), nameless)?;
        let whoami = shown(self.api.authentication().whoami().await?);
        checks.prefixed("whoami: envId", &whoami["envId"], "org_")?;
        checks.equal("whoami: appId", &whoami["appId"], Value::Null)?;
        checks.equal("whoami: permissionSource", &whoami["permissionSource"], "SvixJwt")?;
        Ok(replaced)
    }

    pub(super) async fn pages(&self, checks: &mut Checks, first: Value) -> Result<()> {
        let application = self.api.application();
        let mut made = vec![first];
        for letter in ["-b", "-c"] {
            let wanted = json!({ "name": "Tour", "uid": self.name(letter), "throttleRate": 700 });
            made.push(shown(application.create(input(wanted), None).await?));
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
            seen.extend(page.data.iter().map(shown));
            iterator.clone_from(&page.iterator);
            let done = page.done;
            pages.push(page);
            if done {
                break;
            }
            checks.prefixed("list: iterator", &shown(&iterator), "app_")?;
        }
        let own = self.name("-");
        seen.retain(|one: &Value| one["uid"].as_str().is_some_and(|uid| uid.starts_with(&own)));
        checks.equal("list: each once, oldest first", &seen, made)?;
        checks.prefixed("list: prevIterator", &shown(&pages[1].prev_iterator), "-app_")?;
        let back = application.list(Some(options(pages[1].prev_iterator.clone()))).await?;
        checks.equal("list: back", &back.data, pages[0].data.clone())
    }

    pub(super) async fn event_types(&self, checks: &mut Checks) -> Result<String> {
        let paid = self.name(".paid");
        let mut wanted = json!({
            "name": paid,
            "description": "Paid",
            "schemas": { "1": { "type": "object", "required": ["amount"] } },
            "groupName": "orders",
            "featureFlags": ["beta"],
        });
        let event_type = self.api.event_type();
        let made = shown(event_type.create(input(wanted.clone()), None).await?);
        for field in ["name", "description", "schemas", "groupName", "featureFlags"] {
            checks.equal(&format!("event type: {field}"), &made[field], wanted[field].clone())?;
        }
        checks.equal("event type: featureFlag", &made["featureFlag"], "beta")?;
        checks.equal("event type: archived", &made["archived"], false)?;
        checks.equal("event type: deprecated", &made["deprecated"], false)?;
        checks.moment("event type: createdAt", &made["createdAt"])?;
        checks.moment("event type: updatedAt", &made["updatedAt"])?;
        let exists = outcome(event_type.create(input(wanted.clone()), None).await);
        checks.refused_as("an event type that exists", (409, "conflict"), exists)?;
        let read = async || event_type.get(paid.clone()).await.map(shown);
        checks.equal("event type: read", &read().await?, made)?;
        let patch = json!({ "description": "Is paid", "deprecated": true });
        let patched = shown(event_type.patch(paid.clone(), input(patch)).await?);
        checks.equal("event type: patched description", &patched["description"], "Is paid")?;
        checks.equal("event type: patched deprecated", &patched["deprecated"], true)?;
        checks.equal("event type: patched, read", &read().await?, patched)?;
        wanted["description"] = "Paid at last".into();
        let replaced = replace_event_type(&self.api, &paid, wanted).await?;
        checks.equal("event type: replaced name", &replaced["name"], paid.clone())?;
        checks.equal("event type: replaced description", &replaced["description"], "Paid at last")?;
        checks.equal("event type: no longer deprecated", &replaced["deprecated"], false)?;
        checks.equal("event type: replaced, read", &read().await?, replaced.clone())?;

        let gone = self.name(".gone");
        event_type.create(input(json!({ "name": gone, "description": "" })), None).await?;
        event_type.delete(gone.clone(), None).await?;
        let archived = event_type.get(gone.clone()).await?.archived;
        checks.equal("event type: archived now", &archived, Some(true))?;
        let listed = self.listed(checks, false).await?;
        checks.equal("event types: listed", &listed, vec![replaced])?;
        let all = self.listed(checks, true).await?;
        let names: Vec<Value> = all.iter().map(|one| one["name"].clone()).collect();
        let expected = vec![json!(gone), json!(paid)];
        checks.equal("event types: with archived ones", &names, expected)?;
        event_type.delete(gone.clone(), Some(EventTypeDeleteOptions { expunge: Some(true) })).await?;
        let expunged = outcome(event_type.get(gone).await);
        checks.refused_as("an event type that is expunged", (404, "not_found"), expunged)?;
        Ok(paid)
    }

    /// The event types of this tour.
    async fn listed(&self, checks: &mut Checks, include_archived: bool) -> Result<Vec<Value>> {
        let (mut found, mut iterator, own) = (Vec::new(), None, self.name("."));
        loop {
            let options = EventTypeListOptions {
                limit: Some(250),
                iterator,
                include_archived: Some(include_archived),
                with_content: Some(true),
                ..EventTypeListOptions::default()
            };
            let page = shown(self.api.event_type().list(Some(options)).await?);
            let items = page["data"].as_array().cloned().unwrap_or_default();
            let (Some(first), Some(last)) = (items.first(), items.last()) else { bail!("no event types") };
            checks.equal("event types: iterator", &page["iterator"], last["name"].clone())?;
            let previous = format!("-{}", first["name"].as_str().unwrap_or_default());
            checks.equal("event types: prevIterator", &page["prevIterator"], previous)?;
            let is_ours = |one: &Value| one["name"].as_str().is_some_and(|name| name.starts_with(&own));
            found.extend(items.into_iter().filter(is_ours));
            if page["done"] == true {
                return Ok(found);
            }
            iterator = page["iterator"].as_str().map(str::to_owned);
        }
    }

    /// The name of the event type that was imported; its schema has an example.
    pub(super) async fn import(&self, checks: &mut Checks) -> Result<String> {
        let sent = self.name(".sent");
        let schema = json!({ "type": "object", "examples": [{ "sent": true }] });
        let post = json!({
            "description": "Sent",
            "deprecated": true,
            "x-svix-group-name": "orders",
            "x-svix-feature-flags": ["beta"],
            "requestBody": { "content": { "application/json": { "schema": schema } } },
        });
        let mut spec =
            json!({ "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "webhooks": {} });
        spec["webhooks"][&sent] = json!({ "post": post });
        let event_type = self.api.event_type();
        let dry = json!({ "spec": spec, "dryRun": true });
        let planned = shown(event_type.import_openapi(input(dry), None).await?);
        checks.equal("import: what would change", &planned["data"]["modified"], json!([sent]))?;
        let planned = planned["data"]["to_modify"].as_array().cloned().unwrap_or_default();
        checks.equal("import: how many would change", &planned.len(), 1)?;
        checks.refused("import: nothing yet", 404, outcome(event_type.get(sent.clone()).await))?;
        let raw = json!({ "specRaw": spec.to_string() });
        let imported = shown(event_type.import_openapi(input(raw), None).await?);
        checks.equal("import: changed", &imported["data"]["modified"], json!([sent]))?;
        let read = shown(event_type.get(sent.clone()).await?);
        checks.equal("import: description", &read["description"], "Sent")?;
        checks.equal("import: deprecated", &read["deprecated"], true)?;
        checks.equal("import: group", &read["groupName"], "orders")?;
        checks.equal("import: flags", &read["featureFlags"], json!(["beta"]))?;
        checks.equal("import: schemas", &read["schemas"], json!({ "1": schema }))?;
        for field in ["name", "description", "schemas", "deprecated", "groupName", "featureFlags"] {
            checks.equal(&format!("import: {field} as planned"), &planned[0][field], read[field].clone())?;
        }
        Ok(sent)
    }

    pub(super) async fn endpoints(&self, checks: &mut Checks, app: &str, event_type: &str) -> Result<String> {
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
            checks.equal("endpoint.rateLimit", &made["rateLimit"], 900)?;
        }
        checks.moment("endpoint.createdAt", &made["createdAt"])?;
        checks.moment("endpoint.updatedAt", &made["updatedAt"])?;
        let read = async || endpoint.get(app.to_owned(), uid.clone()).await.map(shown);
        checks.equal("endpoint by uid", &read().await?, made.clone())?;
        let list = shown(endpoint.list(app.to_owned(), None).await?);
        checks.equal("endpoints: listed", &list["data"], json!([made]))?;
        checks.last_page("endpoints", &list, "id")?;

        let patch = input(json!({ "description": "Patched" }));
        let patched = shown(endpoint.patch(app.to_owned(), uid.clone(), patch).await?);
        checks.equal("endpoint: patched", &patched["description"], "Patched")?;
        checks.equal("endpoint: patched url", &patched["url"], url.clone())?;
        checks.equal("endpoint: patched types", &patched[TYPES], json!([event_type]))?;
        checks.equal("endpoint: patched, read", &read().await?, patched)?;
        wanted["description"] = "Replaced".into();
        wanted["metadata"] = json!({ "team": "b" });
        wanted["throttleRate"] = json!(800);
        let replaced = replace_endpoint(&self.api, app, &uid, wanted).await?;
        checks.equal("endpoint: replaced", &replaced["description"], "Replaced")?;
        checks.equal("endpoint: replaced metadata", &replaced["metadata"], json!({ "team": "b" }))?;
        checks.equal("endpoint: replaced throttleRate", &replaced["throttleRate"], 800)?;
        checks.equal("endpoint: replaced id", &replaced["id"], made["id"].clone())?;
        checks.equal("endpoint: replaced, read", &read().await?, replaced)?;
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

    pub(super) async fn headers(&self, checks: &mut Checks, app: &str, uid: &str) -> Result<()> {
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
}
