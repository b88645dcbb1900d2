//! What has expired leaves the disk, and nothing else does.

use std::{path::Path, time::Duration};

use fanfare_history::{Payload, Reach};
use tokio::time::{Instant, sleep};

use crate::{
    tables::{Tables, on_every_database},
    world::{Publish, RETENTION, World, application, at},
};

const DAY: Duration = Duration::from_hours(24);

on_every_database! {
    bytes_of_what_has_expired_are_overwritten,
}

/// Whether the text stands in a file below.
fn is_in_files(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_in_files(&path, text);
        }
        let Ok(bytes) = std::fs::read(&path) else { return false };
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

async fn bytes_of_what_has_expired_are_overwritten(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut ids = Vec::new();
    for (name, kept_for) in
        [("short", DAY), ("too-long", 2 * DAY), ("short-too", DAY), ("as-the-log", RETENTION)]
    {
        let payload = format!(r#"{{"secret":"of {name} ones"}}"#);
        let publish = Publish { payload, kept_for: Some(kept_for), ..Publish::at(1, &[1]) };
        ids.push(world.publish(&publish).await.id);
    }
    running.caught_up().await;
    let is_there = |name| is_in_files(world.directory.path(), &format!("of {name} ones"));
    assert!(["short", "too-long", "short-too", "as-the-log"].into_iter().all(is_there));
    running.end(&world).await;

    // The time of two is over.
    world.clock.set(at(1) + DAY);
    let running = world.start().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_there("short") || is_there("short-too") {
        assert!(Instant::now() < deadline, "they are still there");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(is_there("too-long") && is_there("as-the-log"));
    assert!(running.history.passed(Reach::Everything).await);
    for (id, is_gone) in ids.iter().zip([true, false, true, false]) {
        let found = running.history.message(application(1), &id.to_string()).await.unwrap().unwrap();
        let payload = running.history.payload(&found).await.unwrap();
        assert_eq!(payload == Payload::Gone, is_gone, "{payload:?}");
    }
    running.end(&world).await;

    world.clock.set(at(1) + RETENTION);
    let running = world.start().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_there("too-long") {
        assert!(Instant::now() < deadline, "it is still there");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(is_there("as-the-log"), "it leaves with its segment");
    running.end(&world).await;
}
