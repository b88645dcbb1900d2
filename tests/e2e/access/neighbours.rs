//! An id opens nothing by itself: below an application that it is not of, nothing is found by it, whoever asks.

use serde_json::json;

use super::{
    FOREIGN,
    route::{Route, Things, routes},
    strangers::judge,
    world::World,
};
use crate::support::{Client, Engine, on_every_engine, wait};

on_every_engine!(what_is_ours_is_found_below_our_application_alone);

async fn what_is_ours_is_found_below_our_application_alone(engine: Engine) {
    let world = World::new(&engine).await;
    let foreigner = world.token(&["--org", FOREIGN]).await;
    let foreign = world.make_for_organization(&world.installation.client_with(Some(&foreigner))).await;
    let theirs = world.make().await;
    let neighbour = world.token(&["--app", &theirs.application]).await;
    let both = world.token(&[]).await;
    let callers = [
        ("another application's token", &neighbour, &theirs),
        ("a token for both applications", &both, &theirs),
        ("another organization's token", &foreigner, &foreign),
    ];
    let routes = routes().await;
    // What an application has is for its token to see and to change.
    let routes = routes.iter().filter(|route| route.who == "application" && route.path.contains("{app_id}"));
    let routes: Vec<&Route> = routes.collect();
    let before = world.state().await;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (name, token, own) in callers {
        for route in &routes {
            for things in mixed(route, own, &world.things) {
                tried += 1;
                let answer = world.call(route, &things, Some(token)).await;
                judge(&mut wrong, route, name, &answer, Some(404));
            }
        }
        let client = world.installation.client_with(Some(token));
        bodies_and_queries_name_nothing_of_others(&client, own, &world.things).await;
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 100, "only {tried} paths were tried");
    assert_eq!(world.state().await, before, "something was done below another application");

    let client = world.installation.client_with(Some(&neighbour));
    jobs_are_their_applications(&client, &theirs, &world.things).await;
}

/// Paths below an application of which one thing, or all, are of another.
fn mixed(route: &Route, own: &Things, others: &Things) -> Vec<Things> {
    let parts: Vec<&str> = route.parts().filter(|part| *part != "{app_id}").collect();
    let mut all: Vec<Things> = parts.iter().map(|part| own.with(part, others)).collect();
    if parts.len() > 1 {
        all.push(Things { application: own.application.clone(), ..others.clone() });
    }
    all
}

async fn bodies_and_queries_name_nothing_of_others(client: &Client, own: &Things, others: &Things) {
    let (application, endpoint) = (format!("/api/v1/app/{}", own.application), &others.endpoint);
    for path in [
        format!("{application}/msg?endpoint={endpoint}"),
        format!("{application}/dead-letter?endpoint={endpoint}"),
        format!("{application}/attempt/msg/{}?endpoint_id={endpoint}", own.message),
    ] {
        assert_eq!(client.get(&path).await.json(404)["code"], "not_found", "{path}");
    }
    let purge = format!("{application}/dead-letter/purge");
    let answer = client.post(&purge, &json!({ "endpointId": endpoint })).await;
    assert_eq!(answer.json(404)["code"], "not_found");
    let purged = client.post(&purge, &json!({ "ids": [others.dead_letter] })).await.json(200);
    assert_eq!(purged["purged"], 0, "{purged}");
    let replay = format!("{application}/endpoint/{}/dead-letter/replay", own.endpoint);
    let refused = client.post(&replay, &json!({ "ids": [others.dead_letter] })).await.json(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "ids", "0"]), "{refused}");
    let erase = format!("{application}/msg/bulk-expunge");
    let erased = client.post(&erase, &json!({ "ids": [others.message] })).await.json(200);
    assert_eq!(erased["results"][others.message.as_str()], "not-found", "{erased}");
}

/// A job sends no message of another application, whatever it is asked for, and is listed for its own.
async fn jobs_are_their_applications(client: &Client, own: &Things, others: &Things) {
    let path = format!("/api/v1/app/{}/endpoint/{}/bulk-replay", own.application, own.endpoint);
    let body = json!({ "since": "2026-01-31T12:00:00Z", "messageIds": [others.message] });
    let id = client.post(&path, &body).await.id(202);
    let done = wait::until("the job is done", wait::PATIENCE, async || {
        let task = client.get(&format!("/api/v1/background-task/{id}")).await.json(200);
        (task["status"] != "running").then_some(task)
    })
    .await;
    assert_eq!((&done["data"]["state"], &done["data"]["sent"]), (&json!("finished"), &json!(0)), "{done}");
    let listed = client.get("/api/v1/background-task?limit=250").await.json(200);
    let listed = listed["data"].as_array().unwrap().iter();
    let mut listed: Vec<&str> = listed.map(|task| task["id"].as_str().unwrap()).collect();
    listed.sort_unstable();
    let mut expected = [own.task.as_str(), &id];
    expected.sort_unstable();
    assert_eq!(listed, expected);
}
