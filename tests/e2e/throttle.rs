//! `throttleRate`: an endpoint is sent so many messages a second, no more and no fewer, over kills and handovers too;
//! nobody else waits for it.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{Client, Engine, Installation, Receipt, Recorder, Server, on_every_engine, wait};

on_every_engine! {
    fifty_messages_at_five_a_second_take_ten_seconds,
    a_rate_holds_over_a_kill_and_a_handover,
    another_rate_takes_effect_at_once,
    the_rate_of_an_application_holds_for_each_of_its_endpoints,
}

const RATE: usize = 5;
/// Between two messages at that rate.
const INTERVAL: Duration = Duration::from_millis(200);
const MESSAGES: usize = 50;
const ORDERINGS: [&str; 3] = ["strict", "keyed", "unordered"];
/// How far a lane may run ahead of its rate.
const SLACK: Duration = Duration::from_millis(100);
/// Endpoints without a rate that are asked how soon they get a message: of the same application and of another.
const NEIGHBOURS: [&str; 2] = ["neighbour", "stranger"];
/// Messages to each of them, and how far apart: all have come long before what is throttled has.
const PROBES: usize = 20;
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// What a busy machine may add to half of them.
const NOISE: Duration = Duration::from_millis(50);

/// So many requests take at least so long from the moment before the first was published: the first goes at once.
fn least(requests: usize, rate: usize) -> Duration {
    let intervals = u32::try_from(requests - 1).unwrap();
    (Duration::from_secs(1) * intervals / u32::try_from(rate).unwrap()).saturating_sub(SLACK)
}

/// So many requests take about so long from the first to the last: the rate is used.
fn about(requests: usize) -> RangeInclusive<Duration> {
    let whole = INTERVAL * u32::try_from(requests).unwrap();
    whole * 9 / 10..=whole * 11 / 10
}

/// What single gaps are longer than an interval, where the machine did something else for that long: a lane makes up for
/// little of it. A rate that is too low is none: all of its gaps are alike.
fn stalls(arrived: &[Instant]) -> Duration {
    let gaps = arrived.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    gaps.filter(|gap| *gap > INTERVAL * 2).map(|gap| gap.saturating_sub(INTERVAL)).sum()
}

/// A lane may stand still for so long beyond the time in which no server was ready.
fn recovery(engine: &Engine) -> Duration {
    // Where a process is killed, the brokers miss it a session later.
    Duration::from_secs(if engine.is_kafka() { 15 } else { 2 })
}

async fn fifty_messages_at_five_a_second_take_ten_seconds(engine: Engine) {
    let world = World::new(&engine).await;
    let alone = world.latencies().await;
    let began = Instant::now();
    world.publish(MESSAGES).await;
    let beside = world.latencies().await;
    world.others_are_not_kept_waiting().await;
    for ordering in ORDERINGS {
        world.received(ordering, MESSAGES).await;
    }
    for ordering in ORDERINGS {
        let arrived = world.arrived(ordering);
        let (first, last) = (arrived[0], arrived[arrived.len() - 1]);
        let took = last.duration_since(first);
        println!("{ordering}: {MESSAGES} messages at {RATE} a second took {took:?}");
        assert_eq!(arrived.len(), MESSAGES, "{ordering}: each once");
        let (fewest, most) = about(MESSAGES).into_inner();
        let stalls = stalls(&arrived);
        assert!((fewest..=most + stalls).contains(&took), "{ordering}: {took:?}, {stalls:?} of it stalls");
        assert!(last.duration_since(began) >= least(MESSAGES, RATE), "{ordering}: {took:?}");
    }
    world.came_in_order();
    for (name, (alone, beside)) in NEIGHBOURS.iter().zip(alone.into_iter().zip(beside)) {
        println!("{name}: half come within {alone:?} alone, within {beside:?} beside a throttle");
        assert!(beside <= (alone * 3).max(alone + NOISE), "{name}: {alone:?} alone, {beside:?} beside");
    }
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
        let (requests, last) = (arrived.len(), arrived[arrived.len() - 1]);
        let (took, stood) = (last.duration_since(arrived[0]), world.stood_still(&arrived));
        println!(
            "{ordering}: {requests} requests at {RATE} a second took {took:?}, {stood:?} of it restarts"
        );
        assert!(last.duration_since(began) >= least(requests, RATE), "{ordering}: {requests} in {took:?}");
        let most = *about(requests).end();
        let excused = stood.max(stalls(&arrived));
        assert!(took <= most + excused, "{ordering}: {requests} in {took:?}, {excused:?} of it restarts");
        let down: Duration = world.restarts.iter().map(|(from, to)| *to - *from + recovery(&engine)).sum();
        assert!(stood <= down, "{ordering} stood still for {stood:?}, restarts excuse {down:?}");
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

async fn the_rate_of_an_application_holds_for_each_of_its_endpoints(engine: Engine) {
    const FASTER: usize = 2 * RATE;
    const COUNT: usize = 4 * RATE;
    let world = World::new(&engine).await;
    let path = format!("/api/v1/app/{}", world.applications[1]);
    let changed = world.client.patch(&path, &json!({ "throttleRate": FASTER })).await.json(200);
    assert_eq!(changed["throttleRate"], FASTER);
    // What is less holds, the application's or its own.
    let endpoints =
        [("none", json!(null), FASTER), ("lower", json!(RATE), RATE), ("higher", json!(100), FASTER)];
    for (name, rate, _) in &endpoints {
        let options = json!({ "uid": name, "throttleRate": rate, "channels": ["counted"] });
        world
            .client
            .endpoint(&world.applications[1], &world.recorder.url(&format!("/{name}")), &options)
            .await;
    }
    let began = Instant::now();
    for n in 0..COUNT {
        let body = json!({ "eventType": "number.counted", "payload": { "n": n }, "channels": ["counted"] });
        world.client.publish(&world.applications[1], &[], &body.to_string()).await.id(202);
    }
    for (name, _, rate) in &endpoints {
        world.received(name, COUNT).await;
        let took = world.arrived(name).last().unwrap().duration_since(began);
        println!("{name}: {COUNT} messages took {took:?}");
        assert!(took >= least(COUNT, *rate), "{name}: {took:?}");
    }
    let end = |name: &str| world.arrived(name).last().copied();
    assert!(end("none") < end("lower") && end("higher") < end("lower"), "its own rate slows down the others");

    // Taken back, it holds up nothing: at one a second this would take longer than there is patience for.
    world.client.patch(&path, &json!({ "throttleRate": 1 })).await.json(200);
    let count = usize::try_from(wait::PATIENCE.as_secs()).unwrap() * 2;
    for n in 0..count {
        let body = json!({ "eventType": "number.counted", "payload": { "n": n }, "channels": ["counted"] });
        world.client.publish(&world.applications[1], &[], &body.to_string()).await.id(202);
    }
    world.client.patch(&path, &json!({ "throttleRate": null })).await.json(200);
    for name in ["none", "higher"] {
        world.received(name, COUNT + count).await;
    }
    world.stop().await;
}

/// An endpoint of each ordering with a rate, one without, and the neighbours, which are sent other messages.
struct World {
    installation: Installation,
    successor: Option<Installation>,
    server: Option<Server>,
    client: Client,
    recorder: Recorder,
    application: String,
    /// Of each neighbour.
    applications: [String; NEIGHBOURS.len()],
    /// From the end of one server until the next was ready.
    restarts: Vec<(Instant, Instant)>,
}

impl World {
    async fn new(engine: &Engine) -> Self {
        let installation = Installation::on(engine);
        let server = Some(installation.start().await);
        let client = installation.client().await;
        let recorder = Recorder::start().await;
        let application = client.application("throttled").await;
        for ordering in ORDERINGS {
            let options = json!({
                "uid": ordering, "ordering": ordering, "throttleRate": RATE, "channels": ["counted"],
            });
            client.endpoint(&application, &recorder.url(&format!("/{ordering}")), &options).await;
        }
        let options = json!({ "channels": ["counted"] });
        client.endpoint(&application, &recorder.url("/free"), &options).await;
        let applications = [application.clone(), client.application("another").await];
        for (name, application) in NEIGHBOURS.iter().zip(&applications) {
            let options = json!({ "channels": ["asked"] });
            client.endpoint(application, &recorder.url(&format!("/{name}")), &options).await;
        }
        Self {
            installation,
            successor: None,
            server,
            client,
            recorder,
            application,
            applications,
            restarts: Vec::new(),
        }
    }

    async fn publish(&self, count: usize) {
        for n in 0..count {
            let body = json!({
                "eventType": "number.counted", "payload": { "n": n }, "orderingKey": "one", "channels": ["counted"],
            });
            self.client.publish(&self.application, &[], &body.to_string()).await.id(202);
        }
    }

    /// How soon each neighbour gets a message: the median of some.
    async fn latencies(&self) -> [Duration; NEIGHBOURS.len()] {
        let mut all = NEIGHBOURS.map(|_| Vec::with_capacity(PROBES));
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        for _ in 0..PROBES {
            ticks.tick().await;
            for (latencies, (name, application)) in
                all.iter_mut().zip(NEIGHBOURS.iter().zip(&self.applications))
            {
                latencies.push(self.latency(name, application).await);
            }
        }
        all.map(|mut latencies| {
            latencies.sort();
            latencies[PROBES / 2]
        })
    }

    /// From the answer to the publish until it arrives.
    async fn latency(&self, name: &str, application: &str) -> Duration {
        let body = json!({ "eventType": "neighbour.asked", "payload": {}, "channels": ["asked"] });
        let id = self.client.publish(application, &[], &body.to_string()).await.id(202);
        let answered = Instant::now();
        let arrived = wait::until(&format!("a message is at {name}"), wait::PATIENCE, async || {
            let receipts = self.receipts(name);
            let receipt = receipts.iter().find(|receipt| receipt.header("webhook-id") == id)?;
            Some(receipt.arrived)
        })
        .await;
        // Zero where the answer comes later than the message.
        arrived.saturating_duration_since(answered)
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

    fn receipts(&self, name: &str) -> Vec<Receipt> {
        let path = format!("/{name}");
        self.recorder.receipts().into_iter().filter(|receipt| receipt.path == path).collect()
    }

    fn firsts(&self, name: &str) -> Vec<String> {
        let mut seen = HashSet::new();
        let receipts = self.receipts(name).into_iter();
        receipts
            .map(|receipt| receipt.header("webhook-id").to_owned())
            .filter(|id| seen.insert(id.clone()))
            .collect()
    }

    fn arrived(&self, name: &str) -> Vec<Instant> {
        self.receipts(name).into_iter().map(|receipt| receipt.arrived).collect()
    }

    /// What the gaps around restarts are longer than an interval.
    fn stood_still(&self, arrived: &[Instant]) -> Duration {
        let pairs = arrived.windows(2).map(|pair| (pair[0], pair[1]));
        let around = pairs
            .filter(|(before, after)| self.restarts.iter().any(|(from, to)| before < to && from < after));
        around.map(|(before, after)| after.duration_since(before).saturating_sub(INTERVAL)).sum()
    }

    /// The messages have one ordering key, so `keyed` is as `strict`.
    fn came_in_order(&self) {
        let accepted = self.firsts("free");
        assert_eq!(accepted.len(), MESSAGES);
        assert_eq!(self.firsts("strict"), accepted);
        assert_eq!(self.firsts("keyed"), accepted);
    }

    async fn kill_and_restart(&mut self) {
        let kill = self.server.take().expect("it runs").kill();
        self.server = Some(self.installation.start().await);
        self.restarts.push((kill.before, Instant::now()));
    }

    /// To a process that stands beside it, where there can be one; else to the next one.
    async fn hand_over(&mut self, engine: &Engine) {
        let first = self.server.take().expect("it runs");
        let began = Instant::now();
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
        self.restarts.push((began, Instant::now()));
    }

    async fn stop(mut self) {
        self.server.take().expect("it runs").terminate().await;
    }
}
