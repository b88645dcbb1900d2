//! A server with one of each thing, and what can be seen of them.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    examples::{Example, example},
    route::{OPERATIONAL, Route, Things},
};
use crate::support::{Answer, Client, Engine, Installation, Recorder, Reply, Server, wait};

/// Where the recorder takes nothing.
const REFUSES: &str = "/refuses";
/// Topics that nobody writes to but on behalf of somebody.
const TOPICS: [&str; 4] = ["control", "messages", "deliveries", "attempts"];
/// What goes on by itself shows in a topic sooner.
const STILL: Duration = Duration::from_secs(3);

pub(super) struct World {
    pub(super) installation: Installation,
    pub(super) client: Client,
    pub(super) things: Things,
    recorder: Recorder,
    made: Cell<u32>,
    /// Endpoints that are disabled.
    held: RefCell<Vec<String>>,
    _server: Server,
}

/// All that must not change.
#[derive(Debug, PartialEq)]
pub(super) struct State {
    seen: Vec<Value>,
    /// How far each partition goes.
    ends: Vec<(String, u64)>,
}

impl World {
    pub(super) async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = installation.start().await;
        let client = installation.client().await;
        let recorder =
            Recorder::behaving(|receipt| Reply::Status(if receipt.path == REFUSES { 500 } else { 204 }))
                .await;
        let things = Things::default();
        let (made, held) = (Cell::new(0), RefCell::default());
        let mut world = Self { installation, client, things, recorder, made, held, _server: server };
        world.things = Things { operational: world.operational().await, ..world.make().await };
        world
    }

    fn number(&self) -> u32 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// Makes one of each.
    pub(super) async fn make(&self) -> Things {
        self.make_for_organization(&self.client).await
    }

    /// The same in the organization whose client it is.
    pub(super) async fn make_for_organization(&self, client: &Client) -> Things {
        let number = self.number();
        let application = client.application(&format!("application {number}")).await;
        let event_type = format!("type.{number}");
        let body = json!({ "name": event_type, "description": "" });
        client.post("/api/v1/event-type", &body).await.json(201);
        let endpoint = client.endpoint(&application, &self.recorder.url("/hook"), &json!({})).await;
        let body = json!({ "name": format!("key {number}") });
        let key = client.post("/api/v1/auth/api-key", &body).await.id(201);
        // One that goes on: its endpoint is disabled, and it waits for it. So nothing changes by itself.
        let held = json!({ "disabled": true });
        let held = client.endpoint(&application, &self.recorder.url("/held"), &held).await;
        let recover = format!("/api/v1/app/{application}/endpoint/{held}/recover");
        self.held.borrow_mut().push(held);
        // Given up at the first failure.
        let options = json!({ "ordering": "unordered", "retrySchedule": [], "eventTypes": [event_type] });
        client.endpoint(&application, &self.recorder.url(REFUSES), &options).await;
        let body = json!({ "eventType": event_type, "payload": {} }).to_string();
        let message = client.publish(&application, &[], &body).await.id(202);
        let since = json!({ "since": "2026-01-31T12:00:00Z" });
        let task = client.post(&recover, &since).await.id(202);
        let path = format!("/api/v1/background-task/{task}");
        wait::until("it has begun", wait::PATIENCE, async || {
            let task = client.get(&path).await.json(200);
            (!task["data"]["total"].is_null()).then_some(())
        })
        .await;
        let first = async |path: String| {
            wait::until("it became something", wait::PATIENCE, async || {
                let list = client.get(&path).await.json(200);
                Some(list["data"][0]["id"].as_str()?.to_owned())
            })
            .await
        };
        let dead_letter = first(format!("/api/v1/app/{application}/dead-letter")).await;
        let attempt = first(format!("/api/v1/app/{application}/attempt/msg/{message}")).await;
        let operational = String::new();
        Things { application, endpoint, operational, message, event_type, key, task, attempt, dead_letter }
    }

    /// One of each that the route may name.
    pub(super) async fn make_for(&self, route: &Route) -> Things {
        let operational =
            if route.path.starts_with(OPERATIONAL) { self.operational().await } else { String::new() };
        Things { operational, ..self.make().await }
    }

    /// Disabled: what is told of all that is done here is not looked at.
    async fn operational(&self) -> String {
        let body = json!({ "url": self.recorder.url("/operational"), "disabled": true });
        self.client.post(OPERATIONAL, &body).await.id(201)
    }

    pub(super) fn body(&self, example: &Example, things: &Things) -> String {
        example
            .body
            .replace("{n}", &self.number().to_string())
            .replace("{url}", &self.recorder.url("/hook"))
            .replace("{event_type}", &things.event_type)
            .replace("{endpoint_id}", &things.endpoint)
    }

    /// Calls a route as it should be called, on these things.
    pub(super) async fn call(&self, route: &Route, things: &Things, token: Option<&str>) -> Answer {
        let example = example(&route.name());
        let client = self.installation.client_with(token);
        client.send(&route.method, &things.path(route), &[], &self.body(&example, things)).await
    }

    pub(super) async fn token(&self, options: &[&str]) -> String {
        self.installation.token(options).await
    }

    /// Once nothing goes on any more.
    pub(super) async fn state(&self) -> State {
        self.no_job_goes_on().await;
        let ends = self.ends_that_stay().await;
        State { seen: self.seen().await, ends }
    }

    /// Jobs that can come to their end have.
    async fn no_job_goes_on(&self) {
        wait::until("no job goes on", wait::PATIENCE, async || {
            let running = self.client.get("/api/v1/background-task?status=running&limit=250").await.json(200);
            let running = running["data"].as_array().unwrap();
            // An endpoint that is disabled holds its job up.
            let held = running.iter().filter(|task| {
                self.held.borrow().iter().any(|held| task["data"]["endpointId"] == held.as_str())
            });
            (held.count() == running.len()).then_some(())
        })
        .await;
    }

    /// How far the topics go when what was published is delivered, given up or cancelled.
    async fn ends_that_stay(&self) -> Vec<(String, u64)> {
        let mut last: Option<(Instant, Vec<(String, u64)>)> = None;
        wait::until("nothing is written any more", wait::PATIENCE, async || {
            let ends = self.ends().await;
            if let Some((since, same)) = &last
                && *same == ends
            {
                return (since.elapsed() > STILL).then_some(ends);
            }
            last = Some((Instant::now(), ends));
            None
        })
        .await
    }

    async fn ends(&self) -> Vec<(String, u64)> {
        let report = self.installation.inspect().await;
        let topics = report["topics"].as_array().unwrap().iter();
        let topics = topics.filter(|topic| TOPICS.iter().any(|name| topic["topic"] == *name));
        let ends = topics.map(|topic| {
            let place = format!("{} {}", topic["topic"].as_str().unwrap(), topic["partition"]);
            (place, topic["end"].as_u64().unwrap())
        });
        let ends: Vec<_> = ends.collect();
        for name in TOPICS {
            assert!(ends.iter().any(|(place, _)| place.starts_with(name)), "no {name} in {report}");
        }
        ends
    }

    /// Everything that the API shows of the things that must not change.
    pub(super) async fn seen(&self) -> Vec<Value> {
        let Things { application, endpoint, operational, message, task, attempt, dead_letter, .. } =
            &self.things;
        let of_application = format!("/api/v1/app/{application}");
        let of_endpoint = format!("{of_application}/endpoint/{endpoint}");
        let mut seen = Vec::new();
        for path in [
            "/api/v1/app?limit=250".to_owned(),
            format!("{of_application}/endpoint"),
            format!("{of_endpoint}/headers"),
            format!("{of_endpoint}/secret"),
            format!("{of_endpoint}/msg?limit=250"),
            format!("{of_application}/msg/{message}"),
            format!("{of_application}/msg/{message}/endpoint"),
            format!("{of_application}/msg/{message}/attempt/{attempt}"),
            format!("{of_application}/dead-letter/{dead_letter}"),
            format!("{OPERATIONAL}?limit=250"),
            format!("{OPERATIONAL}/{operational}/headers"),
            format!("{OPERATIONAL}/{operational}/secret"),
            format!("/api/v1/background-task/{task}"),
            "/api/v1/event-type?limit=250&include_archived=true&with_content=true".to_owned(),
            "/api/v1/auth/api-key?limit=250".to_owned(),
        ] {
            let shown = self.client.get(&path).await.json(200);
            assert_ne!(shown["done"], false, "{path} is longer than a page");
            seen.push(shown);
        }
        seen
    }
}
