//! `throttleRate`: an endpoint is sent so many messages a second and no more, over kills and handovers too; nobody else
//! waits for it.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{Client, Engine, Installation, Recorder, Server, on_every_engine, wait};

on_every_engine! {
    fifty_messages_at_five_a_second_take_ten_seconds,
    a_rate_holds_over_a_kill_and_a_handover,
    another_rate_takes_effect_at_once,
}

const RATE: usize = 5;
const MESSAGES: usize = 50;
const ORDERINGS: [&str; 3] = ["strict", "keyed", "unordered"];
/// How far a lane may run ahead of its rate.
const SLACK: Duration = Duration::from_millis(100);

/// So many requests take at least so long from the moment before the first was published: the first goes at once.
fn least(requests: usize, rate: usize) -> Duration {
    let intervals = u32::try_from(requests - 1).unwrap();
    (Duration::from_secs(1) * intervals / u32::try_from(rate).unwrap()).saturating_sub(SLACK)
}

async fn fifty_messages_at_five_a_second_take_ten_seconds(engine: Engine) {
    let world = World::new(&engine).await;
    let began = Instant::now();
    world.publish(MESSAGES).await;
    world.others_are_not_kept_waiting().await;
    for ordering in ORDERINGS {
        world.received(ordering, MESSAGES).await;
    }
    for ordering in ORDERINGS {
        let arrived = world.arrived(ordering);
        let took = arrived.last().unwrap().duration_since(began);
        println!("{ordering}: {MESSAGES} messages at {RATE} a second took {took:?}");
        assert_eq!(arrived.len(), MESSAGES, "{ordering}: each once");
        assert!(took >= least(MESSAGES, RATE), "{ordering}: {took:?}");
    }
    world.came_in_order();
    world.stop().await;
}

async fn a_rate_holds_over_a_kill_and_a_handover(engine: Engine) {
    let mut world = World::new(&engine).await;
    let began = Instant::now();
    world.publish(MESSAGES).await;
    world.received("strict", MESSAGES / 4).await;
    world.kill_and_restart().await;
    world.received("strict", MESSAGES / 2).await;
    world.hand_over(&engine).await;
    for ordering in ORDERINGS {
        world.received(ordering, MESSAGES).await;
    }
    for ordering in ORDERINGS {
        let arrived = world.arrived(ordering);
        let took = arrived.last().unwrap().duration_since(began);
        let requests = arrived.len();
        println!("{ordering}: {requests} requests at {RATE} a second, a kill and a handover, took {took:?}");
        assert!(took >= least(requests, RATE), "{ordering}: {requests} requests in {took:?}");
    }
    world.came_in_order();
    world.stop().await;
}

/// Each wait is shorter than what the former rate would need for it.
async fn another_rate_takes_effect_at_once(engine: Engine) {
    let world = World::new(&engine).await;
    let path = format!("/api/v1/app/{}/endpoint/strict", world.application);
    world.client.patch(&path, &json!({ "throttleRate": 1 })).await.json(200);
    let count = usize::try_from(wait::PATIENCE.as_secs()).unwrap() * 2;
    world.publish(count).await;
    world.received("strict", 2).await;
    let changed = world.client.patch(&path, &json!({ "rateLimit": 50 })).await.json(200);
    assert_eq!((&changed["throttleRate"], &changed["rateLimit"]), (&json!(50), &json!(50)));
    world.received("strict", count).await;

    // A lower one holds for what comes from now on; until it is known there may go one more.
    world.client.patch(&path, &json!({ "throttleRate": 2 })).await.json(200);
    let before = world.arrived("strict").len();
    let began = Instant::now();
    world.publish(2).await;
    world.received("strict", before + 2).await;
    world.publish(10).await;
    world.received("strict", before + 12).await;
    let took = world.arrived("strict").last().unwrap().duration_since(began);
    println!("12 messages at two a second took {took:?}");
    // The first two may have gone at the former rate.
    assert!(took >= least(10, 2), "{took:?}");

    world.client.patch(&path, &json!({ "throttleRate": null })).await.json(200);
    world.publish(count).await;
    world.received("strict", before + 12 + count).await;
    world.stop().await;
}

/// An endpoint of each ordering with a rate, and one without.
struct World {
    installation: Installation,
    successor: Option<Installation>,
    server: Option<Server>,
    client: Client,
    recorder: Recorder,
    application: String,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = Some(installation.start().await);
        let client = installation.client().await;
        let recorder = Recorder::start().await;
        let application = client.application("throttled").await;
        for ordering in ORDERINGS {
            let options = json!({ "uid": ordering, "ordering": ordering, "throttleRate": RATE });
            client.endpoint(&application, &recorder.url(&format!("/{ordering}")), &options).await;
        }
        client.endpoint(&application, &recorder.url("/free"), &json!({})).await;
        Self { installation, successor: None, server, client, recorder, application }
    }

    async fn publish(&self, count: usize) {
        for n in 0..count {
            let body = json!({ "eventType": "number.counted", "payload": { "n": n }, "orderingKey": "one" });
            self.client.publish(&self.application, &[], &body.to_string()).await.id(202);
        }
    }

    /// The one without a rate has everything while the others are at their beginning.
    async fn others_are_not_kept_waiting(&self) {
        self.received("free", MESSAGES).await;
        for ordering in ORDERINGS {
            let so_far = self.arrived(ordering).len();
            assert!(so_far < MESSAGES, "{ordering} has all of its messages already");
        }
    }

    /// Waits until an endpoint has so many different messages.
    async fn received(&self, name: &str, count: usize) {
        wait::until(&format!("{count} messages at {name}"), wait::PATIENCE, async || {
            (self.firsts(name).len() >= count).then_some(())
        })
        .await;
    }

    fn firsts(&self, name: &str) -> Vec<String> {
        let path = format!("/{name}");
        let mut seen = HashSet::new();
        let receipts = self.recorder.receipts().into_iter().filter(|receipt| receipt.path == path);
        receipts
            .map(|receipt| receipt.header("webhook-id").to_owned())
            .filter(|id| seen.insert(id.clone()))
            .collect()
    }

    fn arrived(&self, name: &str) -> Vec<Instant> {
        let path = format!("/{name}");
        let receipts = self.recorder.receipts().into_iter().filter(|receipt| receipt.path == path);
        receipts.map(|receipt| receipt.arrived).collect()
    }

    /// The messages have one ordering key, so `keyed` is as `strict`.
    fn came_in_order(&self) {
        let accepted = self.firsts("free");
        assert_eq!(accepted.len(), MESSAGES);
        assert_eq!(self.firsts("strict"), accepted);
        assert_eq!(self.firsts("keyed"), accepted);
    }

    async fn kill_and_restart(&mut self) {
        self.server.take().expect("it runs").kill();
        self.server = Some(self.installation.start().await);
    }

    /// To a process that stands beside it, where there can be one; else to the next one.
    async fn hand_over(&mut self, engine: &Engine) {
        let first = self.server.take().expect("it runs");
        if engine.is_kafka() {
            let successor = Installation::on(engine);
            std::fs::copy(self.installation.main_secret(), successor.main_secret()).unwrap();
            self.server = Some(successor.start().await);
            self.successor = Some(successor);
            first.terminate().await;
        } else {
            first.terminate().await;
            self.server = Some(self.installation.start().await);
        }
    }

    async fn stop(mut self) {
        self.server.take().expect("it runs").terminate().await;
    }
}
