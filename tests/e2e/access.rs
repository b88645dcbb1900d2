//! Who may do what, route by route: the list is the server's own, so that a new route cannot be left out.

mod examples;
mod malformed;

use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Engine, Installation, Recorder, Reply, Server,
    installation::{fanfare, finish},
    on_every_engine, wait,
};
use examples::{EXAMPLES, Example, example};

on_every_engine! {
    every_route_opens_to_whom_it_should_and_to_nobody_else,
    every_body_that_is_wrong_is_refused_by_name,
    what_was_taken_back_stays_so_over_a_kill,
}

/// Where the recorder takes nothing.
const REFUSES: &str = "/refuses";
const OPERATIONAL: &str = "/api/v1/operational-webhook/endpoint";
/// Another organization's, of this installation.
const FOREIGN: &str = "org_29HHYvqxq1Dw9rT7hHS0tl5tE22";

/// A route as the server lists it.
#[derive(Clone, Debug)]
struct Route {
    method: String,
    path: String,
    who: String,
    /// `full`, `read`, or nothing where no token is needed.
    scope: String,
}

impl Route {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether the path names something of an organization.
    fn is_about_something(&self) -> bool {
        self.path.contains('{')
    }
}

async fn routes() -> Vec<Route> {
    let directory = tempfile::tempdir().unwrap();
    let listed = finish(fanfare(directory.path()).args(["routes", "--json"])).await;
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed.len() > 30, "{} routes", listed.len());
    let text = |route: &Value, field: &str| route[field].as_str().unwrap_or_default().to_owned();
    listed
        .iter()
        .map(|route| Route {
            method: text(route, "method"),
            path: text(route, "path"),
            who: text(route, "who"),
            scope: text(route, "scope"),
        })
        .collect()
}

/// Things that exist, for paths to name.
#[derive(Clone, Debug, Default)]
struct Things {
    application: String,
    endpoint: String,
    /// That operational webhooks go to.
    operational: String,
    message: String,
    event_type: String,
    key: String,
    task: String,
    attempt: String,
    dead_letter: String,
}

impl Things {
    fn path(&self, route: &Route) -> String {
        let operational = route.path.starts_with(OPERATIONAL);
        route
            .path
            .replace("{app_id}", &self.application)
            .replace("{endpoint_id}", if operational { &self.operational } else { &self.endpoint })
            .replace("{msg_id}", &self.message)
            .replace("{name}", &self.event_type)
            .replace("{id}", &self.key)
            .replace("{task_id}", &self.task)
            .replace("{attempt_id}", &self.attempt)
            .replace("{dead_letter_id}", &self.dead_letter)
    }
}

struct World {
    installation: Installation,
    client: Client,
    recorder: Recorder,
    things: Things,
    made: std::cell::Cell<u32>,
    /// Endpoints that are disabled.
    held: std::cell::RefCell<Vec<String>>,
    _server: Server,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = installation.start().await;
        let client = installation.client().await;
        let recorder =
            Recorder::behaving(|receipt| Reply::Status(if receipt.path == REFUSES { 500 } else { 204 }))
                .await;
        let things = Things::default();
        let made = std::cell::Cell::new(0);
        let held = std::cell::RefCell::default();
        let mut world = Self { installation, client, recorder, things, made, held, _server: server };
        world.things = Things { operational: world.operational().await, ..world.make().await };
        world
    }

    fn number(&self) -> u32 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// Makes one of each.
    async fn make(&self) -> Things {
        let number = self.number();
        let application = self.client.application(&format!("application {number}")).await;
        let event_type = format!("type.{number}");
        let body = json!({ "name": event_type, "description": "" });
        self.client.post("/api/v1/event-type", &body).await.json(201);
        let endpoint = self.client.endpoint(&application, &self.recorder.url("/hook"), &json!({})).await;
        let body = json!({ "name": format!("key {number}") });
        let key = self.client.post("/api/v1/auth/api-key", &body).await.id(201);
        // One that goes on: its endpoint is disabled, and it waits for it. So nothing changes by itself.
        let held = json!({ "disabled": true });
        let held = self.client.endpoint(&application, &self.recorder.url("/held"), &held).await;
        let recover = format!("/api/v1/app/{application}/endpoint/{held}/recover");
        self.held.borrow_mut().push(held);
        // Given up at the first failure.
        let options = json!({ "ordering": "unordered", "retrySchedule": [], "eventTypes": [event_type] });
        self.client.endpoint(&application, &self.recorder.url(REFUSES), &options).await;
        let body = json!({ "eventType": event_type, "payload": {} }).to_string();
        let message = self.client.publish(&application, &[], &body).await.id(202);
        let since = json!({ "since": "2026-01-31T12:00:00Z" });
        let task = self.client.post(&recover, &since).await.id(202);
        let path = format!("/api/v1/background-task/{task}");
        wait::until("it has begun", wait::PATIENCE, async || {
            let task = self.client.get(&path).await.json(200);
            (!task["data"]["total"].is_null()).then_some(())
        })
        .await;
        let first = async |path: String| {
            wait::until("it became something", wait::PATIENCE, async || {
                let list = self.client.get(&path).await.json(200);
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
    async fn make_for(&self, route: &Route) -> Things {
        let operational =
            if route.path.starts_with(OPERATIONAL) { self.operational().await } else { String::new() };
        Things { operational, ..self.make().await }
    }

    /// Disabled: what is told of all that is done here is not looked at.
    async fn operational(&self) -> String {
        let body = json!({ "url": self.recorder.url("/operational"), "disabled": true });
        self.client.post(OPERATIONAL, &body).await.id(201)
    }

    fn body(&self, example: &Example, things: &Things) -> String {
        example
            .body
            .replace("{n}", &self.number().to_string())
            .replace("{url}", &self.recorder.url("/hook"))
            .replace("{event_type}", &things.event_type)
            .replace("{endpoint_id}", &things.endpoint)
    }

    /// Calls a route as it should be called, on these things.
    async fn call(&self, route: &Route, things: &Things, token: Option<&str>) -> Answer {
        let example = example(&route.name());
        let client = self.installation.client_with(token);
        client.send(&route.method, &things.path(route), &[], &self.body(&example, things)).await
    }

    async fn token(&self, options: &[&str]) -> String {
        self.installation.token(options).await
    }

    /// Jobs that can come to their end have.
    async fn nothing_goes_on(&self) {
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

    /// Everything that can be seen of the things that must not change, and how far the topics go.
    async fn state(&self) -> (Vec<Value>, Vec<(String, u64)>) {
        self.nothing_goes_on().await;
        let report = self.installation.inspect().await;
        let ends = report["topics"].as_array().unwrap().iter();
        let end =
            |topic: &Value| (topic["topic"].as_str().unwrap().to_owned(), topic["end"].as_u64().unwrap());
        let ends = ends.map(end).filter(|(topic, _)| ["control", "messages"].contains(&topic.as_str()));
        (self.seen().await, ends.collect())
    }

    async fn seen(&self) -> Vec<Value> {
        let Things { application, endpoint, operational, .. } = &self.things;
        let of_endpoint = format!("/api/v1/app/{application}/endpoint/{endpoint}");
        let mut seen = Vec::new();
        for path in [
            "/api/v1/app?limit=250".to_owned(),
            format!("/api/v1/app/{application}/endpoint"),
            format!("{of_endpoint}/headers"),
            format!("{of_endpoint}/secret"),
            format!("{OPERATIONAL}?limit=250"),
            format!("{OPERATIONAL}/{operational}/headers"),
            format!("{OPERATIONAL}/{operational}/secret"),
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

async fn every_route_opens_to_whom_it_should_and_to_nobody_else(engine: Engine) {
    let world = World::new(&engine).await;
    let routes = routes().await;
    let listed: Vec<String> = routes.iter().map(Route::name).collect();
    for (route, ..) in EXAMPLES {
        assert!(listed.iter().any(|listed| listed == route), "{route} is gone");
    }
    for route in &routes {
        let needs = format!("{} {}", route.who, route.scope);
        assert_eq!(needs.trim(), example(&route.name()).needs, "{}", route.name());
    }
    // First that it works at all: or what is refused below might be refused for another reason.
    for route in &routes {
        let token = world.token(&[]).await;
        let answer = world.call(route, &world.make_for(route).await, Some(&token)).await;
        assert_eq!(answer.status, example(&route.name()).status, "{}: {answer:?}", route.name());
    }

    let strangers = Strangers::gather(&world, &engine).await;
    let before = world.state().await;
    let mut wrong = Vec::new();
    for route in &routes {
        for (name, token) in strangers.nobodies() {
            let answer = world.call(route, &world.things, token).await;
            let expected = if route.who == "anyone" { None } else { Some(401) };
            judge(&mut wrong, route, name, &answer, expected);
        }
        for stranger in [&strangers.neighbour, &strangers.reader, &strangers.narrow_reader, &strangers.owner]
        {
            let Some(status) = stranger.refused(route) else { continue };
            let answer = world.call(route, &world.things, Some(&stranger.token)).await;
            judge(&mut wrong, route, stranger.name, &answer, Some(status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.state().await, before, "something was done for somebody who may not");

    // What such a token may do, it can.
    for route in routes.iter().filter(|route| route.scope == "read" && route.path != "/api/v1/auth/logout") {
        let answer = world.call(route, &world.things, Some(&strangers.reader.token)).await;
        assert_eq!(answer.status, 200, "{} with a token that reads: {answer:?}", route.name());
    }
    foreigners_find_nothing_of_ours(&world, &routes).await;
}

/// Another organization's token does its own things where no thing is named, and finds none that is.
async fn foreigners_find_nothing_of_ours(world: &World, routes: &[Route]) {
    let before = world.seen().await;
    let ours = [
        &world.things.application,
        &world.things.endpoint,
        &world.things.operational,
        &world.things.event_type,
        &world.things.key,
        &world.things.message,
    ];
    for route in routes.iter().filter(|route| route.who != "anyone") {
        let token = world.token(&["--org", FOREIGN]).await;
        let answer = world.call(route, &world.things, Some(&token)).await;
        let text = String::from_utf8_lossy(&answer.body);
        // Event types of the same name may be in both.
        let makes_its_own = route.name() == "PUT /api/v1/event-type/{name}";
        if route.is_about_something() && !makes_its_own {
            assert_eq!(answer.json(404)["code"], "not_found", "{}", route.name());
        } else if makes_its_own {
            assert_eq!(answer.status, 201, "{text}");
            let own = format!("/api/v1/event-type/{}", world.things.event_type);
            assert_eq!(
                world
                    .installation
                    .client_with(Some(&token))
                    .delete(&format!("{own}?expunge=true"))
                    .await
                    .status,
                204
            );
        } else {
            assert!(answer.status < 300, "{}: {text}", route.name());
            assert!(!ours.iter().any(|id| text.contains(id.as_str())), "{} shows {text}", route.name());
        }
    }
    assert_eq!(world.seen().await, before, "another organization changed something of ours");
}

/// A token that is good for something else.
struct Stranger {
    name: &'static str,
    token: String,
    /// The status where it is refused.
    refuses: fn(&Route) -> Option<u16>,
}

impl Stranger {
    fn refused(&self, route: &Route) -> Option<u16> {
        if route.who == "anyone" { None } else { (self.refuses)(route) }
    }
}

struct Strangers {
    /// Of another application.
    neighbour: Stranger,
    /// Of the organization, but only reads.
    reader: Stranger,
    /// Of the very application, but only reads.
    narrow_reader: Stranger,
    /// Of the very application.
    owner: Stranger,
    elsewhere: String,
    revoked: String,
    deleted_key: String,
}

impl Strangers {
    async fn gather(world: &World, engine: &Engine) -> Self {
        let application = world.things.application.as_str();
        let another = world.client.application("another").await;
        let revoked = world.token(&[]).await;
        let client = world.installation.client_with(Some(&revoked));
        assert_eq!(client.send("POST", "/api/v1/auth/logout", &[], "").await.status, 204);
        let key = world.client.post("/api/v1/auth/api-key", &json!({ "name": "gone" })).await.json(201);
        let path = format!("/api/v1/auth/api-key/{}", key["id"].as_str().unwrap());
        assert_eq!(world.client.delete(&path).await.status, 204);
        let only_organization = |route: &Route| (route.who == "organization").then_some(403);
        Self {
            neighbour: Stranger {
                name: "another application's token",
                token: world.token(&["--app", &another]).await,
                refuses: |route| match route.who.as_str() {
                    "organization" => Some(403),
                    _ if route.path.contains("{app_id}") => Some(404),
                    _ => None,
                },
            },
            reader: Stranger {
                name: "a token that only reads",
                token: world.token(&["--read-only"]).await,
                refuses: |route| (route.scope == "full").then_some(403),
            },
            narrow_reader: Stranger {
                name: "the application's token that only reads",
                token: world.token(&["--app", application, "--read-only"]).await,
                refuses: |route| (route.who == "organization" || route.scope == "full").then_some(403),
            },
            owner: Stranger {
                name: "the application's own token",
                token: world.token(&["--app", application]).await,
                refuses: only_organization,
            },
            elsewhere: Installation::on(&engine.another()).token(&[]).await,
            revoked,
            deleted_key: key["key"].as_str().unwrap().to_owned(),
        }
    }

    fn nobodies(&self) -> [(&'static str, Option<&str>); 6] {
        [
            ("no token", None),
            ("garbage", Some("garbage")),
            (
                "a token without signature",
                Some(
                    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmdfMjNyYjhZZEdxTVQwcUl6cGdHd2RYZkhpck11IiwiZXhwIjo0MDAwMDAwMDAwfQ.",
                ),
            ),
            ("another installation's token", Some(&self.elsewhere)),
            ("a revoked token", Some(&self.revoked)),
            ("a deleted key", Some(&self.deleted_key)),
        ]
    }
}

fn judge(wrong: &mut Vec<String>, route: &Route, name: &str, answer: &Answer, expected: Option<u16>) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = match expected {
        None => {
            if answer.status >= 300 {
                wrong.push(format!("{} with {name}: {}", route.name(), answer.status));
            }
            return;
        }
        Some(401) => "authentication_failed",
        Some(403) => "insufficient_access",
        Some(_) => "not_found",
    };
    if Some(answer.status) != expected
        || body["code"] != code
        || body["detail"].as_str().is_none_or(str::is_empty)
    {
        wrong.push(format!("{} with {name}: not {expected:?} but {} {body}", route.name(), answer.status));
    }
}

async fn every_body_that_is_wrong_is_refused_by_name(engine: Engine) {
    let world = World::new(&engine).await;
    let before = world.state().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for route in
        routes().await.iter().filter(|route| ["POST", "PUT", "PATCH"].contains(&route.method.as_str()))
    {
        let path = world.things.path(route);
        let good = world.body(&example(&route.name()), &world.things);
        for case in malformed::cases(&route.name(), &good) {
            tried += 1;
            let answer = world.client.send(&route.method, &path, &[], &case.body).await;
            if let Err(reason) = case.judge(&answer) {
                let body = String::from_utf8_lossy(&answer.body);
                let body: String = body.chars().take(300).collect();
                wrong.push(format!("{}: {}: {reason}: {} {body}", route.name(), case.name, answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 300, "only {tried} bodies were tried");
    assert_eq!(world.state().await, before, "something was done though it was refused");
}

async fn what_was_taken_back_stays_so_over_a_kill(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let application = client.application("shop").await;
    let [logged_out, reading] = [
        installation.token(&[]).await,
        installation.token(&["--read-only", "--expires-in-hours", "1"]).await,
    ];
    let expired = installation.token(&["--app", &application]).await;
    let key = client.post("/api/v1/auth/api-key", &json!({ "name": "deploy" })).await.json(201);
    let key = key["key"].as_str().unwrap().to_owned();
    let with = |token: &str| installation.client_with(Some(token));
    let path = format!("/api/v1/app/{application}");
    for token in [&logged_out, &expired, &reading, &key] {
        with(token).get(&path).await.json(200);
    }
    assert_eq!(with(&logged_out).post("/api/v1/auth/logout", &json!({})).await.status, 204);
    let path_of_order = format!("/api/v1/auth/app/{application}/expire-all");
    assert_eq!(with(&key).post(&path_of_order, &json!({})).await.status, 204);
    for token in [&logged_out, &expired] {
        with(token).get(&path).await.json(401);
    }
    server.kill();
    let mut server = installation.spawn(&["--dev"]);
    server.ready().await;
    for token in [&logged_out, &expired] {
        with(token).get(&path).await.json(401);
    }
    for token in [&reading, &key] {
        with(token).get(&path).await.json(200);
    }
    assert_eq!(with(&reading).post("/api/v1/app", &json!({ "name": "a" })).await.status, 403);
    let fresh =
        client.post(&format!("/api/v1/auth/app-portal-access/{application}"), &json!({})).await.json(200);
    with(fresh["token"].as_str().unwrap()).get(&path).await.json(200);

    let log = client.get("/api/v1/audit-log?action=token.expire_all").await.json(200);
    let entry = &log["data"][0];
    assert_eq!(
        (&entry["principal"]["kind"], &entry["principal"]["name"]),
        (&json!("api_key"), &json!("deploy"))
    );
    assert_eq!((&entry["from"], &entry["application"]), (&json!("127.0.0.1"), &json!(application)));
    server.terminate().await;
}
