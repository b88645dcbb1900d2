//! Who may do what, route by route: the list is the server's own, so that a new route cannot be left out.

mod examples;
mod malformed;
mod neighbours;
mod route;
mod strangers;
mod world;

use serde_json::json;

use self::{
    examples::{EXAMPLES, example},
    route::{Route, routes},
    strangers::{Strangers, judge},
    world::World,
};
use crate::support::{Engine, Installation, on_every_engine};

on_every_engine! {
    every_route_opens_to_whom_it_should_and_to_nobody_else,
    every_body_that_is_wrong_is_refused_by_name,
    what_was_taken_back_stays_so_over_a_kill,
}

/// Another organization's, of this installation.
const FOREIGN: &str = "org_29HHYvqxq1Dw9rT7hHS0tl5tE22";

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
    let before = world.state().await;
    // Event types of the same name may be in both.
    let makes_its_own = |route: &Route| route.name() == "PUT /api/v1/event-type/{name}";
    let (named, not): (Vec<&Route>, Vec<&Route>) = routes
        .iter()
        .filter(|route| route.who != "anyone" && !makes_its_own(route))
        .partition(|route| route.is_about_something());
    let token = world.token(&["--org", FOREIGN]).await;
    for route in named {
        let answer = world.call(route, &world.things, Some(&token)).await;
        assert_eq!(answer.json(404)["code"], "not_found", "{}", route.name());
    }
    assert_eq!(world.state().await, before, "another organization changed something of ours");

    let before = world.seen().await;
    let ours = [
        &world.things.application,
        &world.things.endpoint,
        &world.things.operational,
        &world.things.event_type,
        &world.things.key,
        &world.things.message,
        &world.things.task,
        &world.things.attempt,
        &world.things.dead_letter,
    ];
    for route in not {
        // One of the routes takes it back.
        let token = world.token(&["--org", FOREIGN]).await;
        let answer = world.call(route, &world.things, Some(&token)).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status < 300, "{}: {text}", route.name());
        assert!(!ours.iter().any(|id| text.contains(id.as_str())), "{} shows {text}", route.name());
    }
    for route in routes.iter().filter(|route| makes_its_own(route)) {
        let answer = world.call(route, &world.things, Some(&token)).await;
        assert_eq!(answer.status, 201, "{}: {answer:?}", route.name());
        let own = format!("/api/v1/event-type/{}?expunge=true", world.things.event_type);
        assert_eq!(world.installation.client_with(Some(&token)).delete(&own).await.status, 204);
    }
    assert_eq!(world.seen().await, before, "another organization changed something of ours");
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
