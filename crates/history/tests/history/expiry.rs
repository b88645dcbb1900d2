//! What has expired leaves the disk, and nothing else does.

use std::{path::Path, time::Duration};

use fanfare_history::{Payload, Reach};
use fanfare_testkit::files;
use tokio::time::{Instant, sleep};

use crate::{
    tables::{Tables, on_every_database},
    world::{Publish, RETENTION, World, application, at},
};

const DAY: Duration = Duration::from_hours(24);

on_every_database! {
    bytes_of_what_has_expired_are_overwritten,
}

struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn has(&self, name: &str) -> bool {
        files::hold(self.0, content(name).as_bytes())
    }

    async fn loses(&self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.has(name) {
            assert!(Instant::now() < deadline, "{name} is still there");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn content(name: &str) -> String {
    format!("of {name} ones")
}

async fn bytes_of_what_has_expired_are_overwritten(tables: Tables) {
    let mut world = World::new(tables);
    let running = world.start().await;
    let mut ids = Vec::new();
    for (name, kept_for) in
        [("short", DAY), ("too-long", 2 * DAY), ("short-too", DAY), ("as-the-log", RETENTION)]
    {
        let payload = format!(r#"{{"secret":"{}"}}"#, content(name));
        let publish = Publish { payload, kept_for: Some(kept_for), ..Publish::at(1, &[1]) };
        ids.push(world.publish(&publish).await.id);
    }
    running.caught_up().await;
    let data = world.directory.path().to_owned();
    let disk = Disk(&data);
    assert!(["short", "too-long", "short-too", "as-the-log"].into_iter().all(|name| disk.has(name)));
    running.end(&world).await;

    // The time of two is over.
    world.clock.set(at(1) + DAY);
    let running = world.start().await;
    disk.loses("short").await;
    disk.loses("short-too").await;
    assert!(disk.has("too-long") && disk.has("as-the-log"));
    assert!(running.history.passed(Reach::Everything).await);
    for (id, is_gone) in ids.iter().zip([true, false, true, false]) {
        let found = running.history.message(application(1), &id.to_string()).await.unwrap().unwrap();
        let payload = running.history.payload(&found).await.unwrap();
        assert_eq!(payload == Payload::Gone, is_gone, "{payload:?}");
    }
    running.end(&world).await;

    world.clock.set(at(1) + RETENTION);
    let running = world.start().await;
    disk.loses("too-long").await;
    assert!(disk.has("as-the-log"), "it leaves with its segment");
    running.end(&world).await;
}
