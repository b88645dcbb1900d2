//! What the tools beside `serve` show: `demo`, `inspect`, `verify`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    Engine, Installation, Receipt, Recorder, Reply,
    installation::{Finished, fanfare, finish},
    on_every_engine,
    wait::{self, PATIENCE},
};

/// Runs a short demo and gives its JSON beside how it ended.
async fn demo(options: &[&str]) -> (Finished, Value) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = fanfare(directory.path());
    command.args(["demo", "--json", "--seconds", "2", "--messages", "30"]).args(options);
    command.env("TMPDIR", directory.path());
    let finished = finish(&mut command).await;
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "the demo's directory is still there");
    let summary =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error} in {finished:?}"));
    (finished, summary)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_delivers_everything_through_a_kill() {
    let (finished, summary) = demo(&[]).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!((&summary["accepted"], &summary["kills"]), (&json!(30), &json!(1)));
    let endpoints = summary["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 3, "{summary}");
    for endpoint in endpoints {
        assert_eq!(endpoint["delivered"], 30, "{summary}");
        for fault in ["lost", "outOfOrder", "forged"] {
            assert_eq!(endpoint[fault], 0, "{summary}");
        }
    }
    let flaky = endpoints.iter().find(|endpoint| endpoint["name"] == "flaky").unwrap();
    assert!(flaky["retried"].as_u64().unwrap() > 0, "a flaky endpoint is sent some again: {summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_finds_what_is_planted() {
    for (fault, found) in [("drop", "lost"), ("swap", "outOfOrder"), ("forge", "forged")] {
        let (finished, summary) = demo(&["--break", fault]).await;
        assert_eq!(finished.status.code(), Some(1), "{fault}: {finished:?}");
        let healthy = &summary["endpoints"][0];
        assert_eq!((&healthy["name"], &healthy[found]), (&json!("healthy"), &json!(1)), "{fault}: {summary}");
        assert!(summary["faults"][0].as_str().unwrap().contains("at healthy"), "{summary}");
        assert!(summary["planted"].as_str().unwrap().contains("healthy"), "{summary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_refuses_what_it_cannot_do_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let finished = finish(fanfare(directory.path()).args(["demo", "--messages", "3"])).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
}

on_every_engine! {
    inspect_shows_lanes_and_dead_letters,
    verify_tells_a_delivery_from_a_forgery,
}

/// One endpoint refuses the third message for good, one cannot be reached.
async fn inspect_shows_lanes_and_dead_letters(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let poisoned = |receipt: &Receipt| receipt.body.ends_with(b"3}");
    let recorder =
        Recorder::behaving(move |receipt| Reply::Status(if poisoned(receipt) { 400 } else { 204 })).await;
    let application = client.application("shop").await;
    let options = json!({ "parkAfterSecs": 1, "ordering": "strict" });
    let refusing = client.endpoint(&application, &recorder.url("/hook"), &options).await;
    let dead = client.endpoint(&application, "http://127.0.0.1:9/hook", &json!({})).await;
    let mut messages = Vec::new();
    for number in 1..=5 {
        let body = format!(r#"{{"eventType":"order.made","payload":{{"order":{number}}}}}"#);
        messages.push(client.publish(&application, &[], &body).await.id(202));
    }

    // Beside the running server, until it is parked.
    let running = wait::until("the third message is parked", PATIENCE, async || {
        let report = installation.inspect().await;
        let parked = report["deadLetterCount"] == 1 && lane(&report, &refusing)["pending"] == 0;
        parked.then_some(report)
    })
    .await;
    assert_eq!(running["deadLetters"][0]["message"], messages[2].as_str());
    server.kill();

    let report = installation.inspect().await;
    let letter = &report["deadLetters"][0];
    assert_eq!(letter["endpoint"], refusing.as_str());
    assert_eq!(letter["message"], messages[2].as_str());
    assert_eq!(letter["reason"], "rejected");
    assert_eq!((&report["deadLetterCount"], &report["installation"]["endpoints"]), (&json!(1), &json!(2)));

    let held = lane(&report, &dead);
    assert_eq!((&held["pending"], &held["heldBy"]), (&json!(5), &json!("circuit")), "{held}");
    assert_eq!(held["oldestMessage"], messages[0].as_str());
    assert_eq!(held["retries"][0]["message"], messages[0].as_str());
    let last = held["attempts"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["error"], &last["status"]), (&json!("connect"), &Value::Null));
    let attempts = lane(&report, &refusing)["attempts"].as_array().unwrap().clone();
    assert!(attempts.iter().any(|it| it["status"] == 400 && it["message"] == messages[2].as_str()));
    assert!(attempts.iter().any(|it| it["status"] == 204 && it["message"] == messages[4].as_str()));
    let ends = report["topics"].as_array().unwrap().iter().filter(|topic| topic["topic"] == "messages");
    assert_eq!(ends.map(|topic| topic["end"].as_u64().unwrap()).sum::<u64>(), 5);

    let table = installation.run(&["inspect", "--endpoint", &refusing, "--last", "1"]).await;
    assert!(table.status.success(), "{table:?}");
    for needle in [&refusing, &messages[2], "rejected", "LANES"] {
        assert!(table.stdout.contains(needle), "no {needle} in {}", table.stdout);
    }
    assert!(!table.stdout.contains(&dead), "{}", table.stdout);
}

fn lane<'a>(report: &'a Value, endpoint: &str) -> &'a Value {
    let lanes = report["lanes"].as_array().unwrap();
    lanes.iter().find(|lane| lane["endpoint"] == endpoint).unwrap_or_else(|| panic!("no lane in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_refuses_what_is_no_data_directory() {
    let installation = Installation::new();
    let finished = installation.run(&["inspect"]).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(finished.stderr.contains(installation.data().to_str().unwrap()), "{finished:?}");
    assert!(!installation.data().exists(), "looking makes nothing");
}

async fn verify_tells_a_delivery_from_a_forgery(engine: Engine) {
    let installation = Installation::on(&engine);
    let server = installation.start().await;
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("shop").await;
    let endpoint = client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let secret = client.secret(&application, &endpoint).await;
    let body = r#"{"eventType":"order.made","payload":{"order": 17}}"#;
    client.publish(&application, &[], body).await.id(202);
    let receipt = recorder.received(1).await.remove(0);
    server.terminate().await;

    let verify = |body: &[u8], more: &[&str]| {
        let mut command = fanfare(installation.data().as_path());
        command.args(["verify", "--body", "-"]).args(more);
        for (name, value) in &receipt.headers {
            command.args(["--header", &format!("{name}: {}", value.to_str().unwrap())]);
        }
        with_input(&mut command, body)
    };
    let ours = ["--secret", &secret];
    assert_eq!(verify(&receipt.body, &ours), (Some(0), "valid\n".to_owned()));
    let changed = String::from_utf8_lossy(&receipt.body).replace("17", "18");
    let (code, said) = verify(changed.as_bytes(), &ours);
    assert_eq!((code, said.contains("does not match")), (Some(1), true), "{said}");
    let another = ["--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
    assert_eq!(verify(&receipt.body, &another).0, Some(1));

    let at: i64 = receipt.header("webhook-timestamp").parse().unwrap();
    let later = (at + 1_000).to_string();
    let (code, said) = verify(&receipt.body, &["--secret", &secret, "--now", &later]);
    assert_eq!((code, said.contains("1000 s old")), (Some(1), true), "{said}");
    let (code, said) = verify(&receipt.body, &["--secret", &secret, "--now", &later, "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["valid"], &said["failedCheck"]), (Some(1), &json!(false), &json!("age")));
}

/// Runs a command on this standard input; gives its status and what it printed.
fn with_input(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary was built");
    // Dropped at once: the input ends here.
    child.stdin.take().expect("stdin was piped").write_all(input).expect("a small input fits the pipe");
    let output = child.wait_with_output().expect("the process is ours");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}
