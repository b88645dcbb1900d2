//! A disk that fills up while the server runs: a small file system of its own.

use std::{fs, io::Write as _, path::PathBuf};

use serde_json::json;

use crate::support::{Client, Installation, Recorder, Server, wait};

const DISK_BYTES: u64 = 256 << 20;
/// Less than the reserve is free then, and more than nothing.
const LEFT_BYTES: u64 = 40 << 20;
const BODY: &str = r#"{"eventType":"disk.tested","payload":{"n":1}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_refuses_messages_and_loses_none() {
    let installation = Installation::new();
    let mut server = installation.spawn_on_small_disk(DISK_BYTES);
    server.expect_error("disk is nearly full");
    server.ready().await;
    let token =
        fs::read(server.file(&installation.data().join("main-secret"))).expect("the first start makes it");
    // `fanfare token` reads the directory as it is outside.
    fs::write(installation.data().join("main-secret"), token).unwrap();
    fs::set_permissions(
        installation.data().join("main-secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let client = installation.client().await;
    let recorder = Recorder::start().await;
    let application = client.application("disk").await;
    client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let mut accepted = vec![client.publish(&application, &[], BODY).await.id(202)];

    // Little is left: messages are refused, and what was accepted is delivered.
    let filler = fill(&server, &installation, LEFT_BYTES);
    let refusal = refused(&client, &application, &mut accepted).await;
    assert!(refusal["detail"].as_str().unwrap().contains("room"), "{refusal}");
    assert_eq!(client.get("/readyz").await.status, 503);
    recorder.received(accepted.len()).await;

    // Nothing at all is left.
    let rest = fill(&server, &installation, 0);
    assert_eq!(client.publish(&application, &[], BODY).await.status, 503);
    assert_eq!(client.get("/livez").await.status, 200);

    fs::remove_file(rest).unwrap();
    fs::remove_file(filler).unwrap();
    let id = wait::until("messages are taken again", wait::PATIENCE, async || {
        let answer = client.publish(&application, &[], BODY).await;
        (answer.status == 202).then(|| answer.id(202))
    });
    accepted.push(id.await);
    let receipts = recorder.received(accepted.len()).await;
    let ids: Vec<&str> = receipts.iter().map(|receipt| receipt.header("webhook-id")).collect();
    assert_eq!(ids, accepted);
    server.terminate().await;
}

/// Publishes until it is refused; gives the refusal.
async fn refused(client: &Client, application: &str, accepted: &mut Vec<String>) -> serde_json::Value {
    wait::until("messages are refused", wait::PATIENCE, async || {
        let answer = client.publish(application, &[], BODY).await;
        if answer.status == 202 {
            accepted.push(answer.id(202));
            return None;
        }
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        Some(answer.json(503))
    })
    .await
}

/// Writes a file that leaves so much room in the server's file system.
fn fill(server: &Server, installation: &Installation, left_bytes: u64) -> PathBuf {
    let path = server.file(&installation.data().join(format!("filler-{left_bytes}")));
    let mut file = fs::File::create(&path).unwrap();
    let free = || rustix::fs::statvfs(&path).map(|found| found.f_bavail * found.f_frsize).unwrap();
    let block = vec![1; 1 << 20];
    while free() > left_bytes {
        let size = usize::try_from(free() - left_bytes).unwrap().min(block.len());
        if file.write_all(&block[..size]).is_err() {
            break;
        }
    }
    path
}
