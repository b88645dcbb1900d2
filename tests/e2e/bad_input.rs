//! Bad input over REST: the right status, the field and what would be right; and nothing is written.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Engine, Installation, Recorder, on_every_engine};

/// One wrong request. `{app}` in a path stands for an application that exists.
struct Wrong {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
    /// Where it is wrong: for 422 the field.
    field: &'static str,
    /// What would be right: one of the words in the answer.
    remedy: &'static str,
}

const GET: Wrong =
    Wrong { name: "", method: "GET", path: "", headers: &[], body: "", status: 422, field: "", remedy: "" };
const POST: Wrong = Wrong { method: "POST", ..GET };
const MESSAGE: Wrong = Wrong { path: "/api/v1/app/{app}/msg", ..POST };
const ENDPOINT: Wrong = Wrong { path: "/api/v1/app/{app}/endpoint", ..POST };

const TABLE: &[Wrong] = &[
    Wrong { name: "malformed JSON", body: r#"{"eventType": "a", "#, remedy: "JSON", ..MESSAGE },
    Wrong { name: "no JSON object", body: "[]", remedy: "object", ..MESSAGE },
    Wrong { name: "no body", remedy: "JSON", ..MESSAGE },
    Wrong {
        name: "no event type",
        body: r#"{"payload":{}}"#,
        field: "eventType",
        remedy: "letters",
        ..MESSAGE
    },
    Wrong {
        name: "event type of a wrong type",
        body: r#"{"eventType":7,"payload":{}}"#,
        field: "eventType",
        remedy: "string",
        ..MESSAGE
    },
    Wrong {
        name: "event type with a blank",
        body: r#"{"eventType":"a b","payload":{}}"#,
        field: "eventType",
        remedy: "letters",
        ..MESSAGE
    },
    Wrong { name: "no payload", body: r#"{"eventType":"a"}"#, field: "payload", remedy: "object", ..MESSAGE },
    Wrong {
        name: "payload is no object",
        body: r#"{"eventType":"a","payload":"text"}"#,
        field: "payload",
        remedy: "object",
        ..MESSAGE
    },
    Wrong {
        name: "channels of a wrong type",
        body: r#"{"eventType":"a","payload":{},"channels":"one"}"#,
        field: "channels",
        remedy: "sequence",
        ..MESSAGE
    },
    Wrong {
        name: "too many channels",
        body: r#"{"eventType":"a","payload":{},"channels":["1","2","3","4","5","6"]}"#,
        field: "channels",
        remedy: "5",
        ..MESSAGE
    },
    Wrong {
        name: "ordering key of a wrong type",
        body: r#"{"eventType":"a","payload":{},"orderingKey":{}}"#,
        field: "orderingKey",
        remedy: "string",
        ..MESSAGE
    },
    Wrong {
        name: "body that is no JSON by its content type",
        headers: &[("content-type", "text/plain")],
        body: r#"{"eventType":"a","payload":{}}"#,
        status: 415,
        remedy: "application/json",
        ..MESSAGE
    },
    Wrong {
        name: "application that is unknown",
        path: "/api/v1/app/nobody/msg",
        body: r#"{"eventType":"a","payload":{}}"#,
        status: 404,
        field: "nobody",
        remedy: "id",
        ..MESSAGE
    },
    Wrong {
        name: "application id that is none",
        path: "/api/v1/app/app_short",
        status: 404,
        field: "app_short",
        remedy: "id",
        ..GET
    },
    Wrong {
        name: "endpoint that is unknown",
        path: "/api/v1/app/{app}/endpoint/ep_nobody",
        status: 404,
        field: "ep_nobody",
        remedy: "id",
        ..GET
    },
    Wrong { name: "endpoint without URL", body: "{}", field: "url", remedy: "absolute URL", ..ENDPOINT },
    Wrong {
        name: "URL that is none",
        body: r#"{"url":"example.com"}"#,
        field: "url",
        remedy: "https://",
        ..ENDPOINT
    },
    Wrong {
        name: "URL of another scheme",
        body: r#"{"url":"ftp://a.example/"}"#,
        field: "url",
        remedy: "http",
        ..ENDPOINT
    },
    Wrong {
        name: "URL with a password",
        body: r#"{"url":"https://a:b@a.example/"}"#,
        field: "url",
        remedy: "password",
        ..ENDPOINT
    },
    Wrong {
        name: "ordering that is unknown",
        body: r#"{"url":"https://a.example/","ordering":"random"}"#,
        field: "ordering",
        remedy: "strict",
        ..ENDPOINT
    },
    Wrong {
        name: "time to answer of zero",
        body: r#"{"url":"https://a.example/","timeoutSecs":0}"#,
        field: "timeoutSecs",
        remedy: "1",
        ..ENDPOINT
    },
    Wrong {
        name: "in-flight window that is negative",
        body: r#"{"url":"https://a.example/","maxInFlight":-1}"#,
        field: "maxInFlight",
        remedy: "expected",
        ..ENDPOINT
    },
    Wrong {
        name: "retry schedule of words",
        body: r#"{"url":"https://a.example/","retrySchedule":["soon"]}"#,
        field: "retrySchedule",
        remedy: "expected",
        ..ENDPOINT
    },
    Wrong {
        name: "event type that does not exist",
        body: r#"{"url":"https://a.example/","eventTypes":["never.made"]}"#,
        field: "eventTypes",
        remedy: "never.made",
        ..ENDPOINT
    },
    Wrong {
        name: "uid with a blank",
        path: "/api/v1/app",
        body: r#"{"name":"a","uid":"a b"}"#,
        field: "uid",
        remedy: "letters",
        ..POST
    },
    Wrong {
        name: "uid that looks like an id",
        path: "/api/v1/app",
        body: r#"{"name":"a","uid":"app_mine"}"#,
        field: "uid",
        remedy: "app_",
        ..POST
    },
    Wrong {
        name: "application without name",
        path: "/api/v1/app",
        body: "{}",
        field: "name",
        remedy: "characters",
        ..POST
    },
    Wrong {
        name: "event type without name",
        path: "/api/v1/event-type",
        body: r#"{"description":"a"}"#,
        field: "name",
        remedy: "letters",
        ..POST
    },
    Wrong { name: "page too long", path: "/api/v1/app?limit=251", field: "limit", remedy: "250", ..GET },
];

on_every_engine! {
    is_refused_with_field_and_remedy_and_nothing_is_written,
    oversize_bodies_are_refused_before_they_are_read,
    tokens_open_what_they_are_for,
    without_dev_only_public_https_endpoints_are_taken,
}

async fn is_refused_with_field_and_remedy_and_nothing_is_written(engine: Engine) {
    let world = World::new(&engine).await;
    let before = world.written().await;
    let mut failures = Vec::new();
    for wrong in TABLE {
        let path = wrong.path.replace("{app}", &world.application);
        let answer = world.client.send(wrong.method, &path, wrong.headers, wrong.body).await;
        if let Err(reason) = judge(wrong, &answer) {
            let body = String::from_utf8_lossy(&answer.body);
            failures.push(format!("{}: {reason}: {} {body}", wrong.name, answer.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(world.written().await, before);
    world.nothing_was_published().await;
}

async fn oversize_bodies_are_refused_before_they_are_read(engine: Engine) {
    let world = World::new(&engine).await;
    let path = format!("/api/v1/app/{}/msg", world.application);
    let body = format!(r#"{{"eventType":"a","payload":{{"pad":"{}"}}}}"#, "x".repeat(1 << 20));
    let answer = world.client.send("POST", &path, &[], &body).await;
    assert_eq!(answer.json(413)["code"], "payload_too_large");
    assert!(answer.json(413)["detail"].as_str().unwrap().contains("1048576"), "{answer:?}");
    world.nothing_was_published().await;
}

async fn tokens_open_what_they_are_for(engine: Engine) {
    let world = World::new(&engine).await;
    let path = format!("/api/v1/app/{}", world.application);
    for token in [None, Some("garbage"), Some("eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmdfMSJ9.")] {
        let answer = world.installation.client_with(token).get(&path).await;
        let body = answer.json(401);
        assert_eq!(body["code"], "authentication_failed", "{token:?}");
        assert!(!body["detail"].as_str().unwrap().is_empty());
    }
    // A token of another installation is signed with another secret.
    let elsewhere = Installation::on(&engine).token(&[]).await;
    world.installation.client_with(Some(&elsewhere)).get(&path).await.json(401);

    let another = world.client.application("another").await;
    let token = world.installation.token(&["--app", &another]).await;
    let narrow = world.installation.client_with(Some(&token));
    narrow.get(&format!("/api/v1/app/{another}")).await.json(200);
    assert_eq!(narrow.get(&path).await.status, 404, "another application");
    assert_eq!(narrow.post("/api/v1/app", &json!({ "name": "mine" })).await.status, 403);
}

async fn without_dev_only_public_https_endpoints_are_taken(engine: Engine) {
    let installation = Installation::on(&engine);
    let mut server = installation.spawn(&[]);
    server.ready().await;
    let client = installation.client().await;
    let application = client.application("careful").await;
    let path = format!("/api/v1/app/{application}/endpoint");
    let urls = [
        "http://a.example/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1]/",
        "https://0x7f000001/",
    ];
    for url in urls {
        let answer = client.post(&path, &json!({ "url": url })).await;
        assert_eq!(answer.status, 422, "{url}: {answer:?}");
        assert_eq!(answer.json(422)["detail"][0]["loc"], json!(["body", "url"]), "{url}");
    }
    client.post(&path, &json!({ "url": "https://a.example/" })).await.json(201);
    server.terminate().await;
}

struct World {
    installation: Installation,
    client: Client,
    application: String,
    recorder: Recorder,
    _server: crate::support::Server,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = installation.start().await;
        let client = installation.client().await;
        let application = client.application("careless").await;
        let recorder = Recorder::start().await;
        client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
        Self { installation, client, application, recorder, _server: server }
    }

    /// Everything that can be listed.
    async fn written(&self) -> Vec<Value> {
        let endpoints = format!("/api/v1/app/{}/endpoint", self.application);
        let mut lists = Vec::new();
        for path in ["/api/v1/app", endpoints.as_str(), "/api/v1/event-type"] {
            lists.push(self.client.get(path).await.json(200));
        }
        lists
    }

    /// The endpoint is `strict`: whatever was published before this last message would arrive before it.
    async fn nothing_was_published(&self) {
        let body = r#"{"eventType":"last","payload":{"last":true}}"#;
        let last = self.client.publish(&self.application, &[], body).await.id(202);
        let receipts = self.recorder.received(1).await;
        assert_eq!(receipts[0].header("webhook-id"), last);
    }
}

fn judge(wrong: &Wrong, answer: &Answer) -> Result<(), String> {
    if answer.status != wrong.status {
        return Err(format!("status is not {}", wrong.status));
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    for member in ["type", "title", "code"] {
        if body[member].as_str().is_none_or(str::is_empty) {
            return Err(format!("no {member}"));
        }
    }
    if body["status"] != wrong.status {
        return Err("the body has another status".to_owned());
    }
    let (place, text) = match &body["detail"] {
        Value::String(text) => (text.clone(), text.clone()),
        Value::Array(details) => details
            .first()
            .map(|first| (first["loc"].to_string(), first["msg"].to_string()))
            .ok_or("no detail")?,
        other => return Err(format!("detail is {other}")),
    };
    // serde names a missing field in its text only.
    if !place.contains(wrong.field) && !text.contains(wrong.field) {
        return Err(format!("{} is not named", wrong.field));
    }
    if !text.contains(wrong.remedy) {
        return Err(format!("{:?} is not in the text", wrong.remedy));
    }
    Ok(())
}
