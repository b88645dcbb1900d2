//! What happens in the demo, from the first order to the verdict.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::http::Method;
use fanfare_control::{MainSecret, Tokens, default_organization};
use fanfare_core::{Clock as _, Entropy, Ordering, SystemClock, SystemEntropy, signature::SigningKey};
use fanfare_loadtest::{
    client::Server,
    publisher::{self, Publisher},
    receiver::{Behaviour, EndpointSpec, Query, Receiver, Spec},
    sequence::SequenceSet,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    Fault, Plan,
    broker::Broker,
    summary::Summary,
    view::{Scene, View},
    wire::Wire,
};
use crate::settings;

const TICK: Duration = Duration::from_millis(100);
/// The broker stays dead for so long, so that it can be seen.
const DEAD: Duration = Duration::from_millis(500);
/// After the last order this much quiet, in which repeats may still come.
const QUIET: Duration = Duration::from_millis(300);
/// Nothing arrives any more: what is missing now will not come.
const STALLED: Duration = Duration::from_secs(30);
const ORDER_BYTES: usize = 400;
const UID: &str = "shop";

/// Runs the demo. The broker is left in `broker` for the caller to stop.
pub(crate) async fn play(
    plan: &Plan,
    directory: &Path,
    broker: &mut Option<Broker>,
    view: &mut View,
) -> anyhow::Result<Summary> {
    let data_dir = directory.join("data");
    std::fs::create_dir(&data_dir).context("cannot create the data directory")?;
    let secret = MainSecret::load_or_create(&settings::main_secret_path(&data_dir), &SystemEntropy)?;
    let token = Tokens::new(&secret, Arc::new(SystemEntropy))
        .mint_organization(default_organization(), SystemClock.now());
    let running = broker.insert(Broker::spawn(&data_dir, (Ipv4Addr::LOCALHOST, 0).into())?);
    let address = running.listening().await?;
    view.say(&format!(
        "broker started: pid {}, http://{address}, data in {}",
        running.pid,
        data_dir.display()
    ));

    let server = Server::resolve(&format!("http://{address}"), Some(token)).await?;
    let run = <dyn Entropy>::u64(&SystemEntropy);
    let (receiver, wires) = set_up(&server, run, plan).await?;
    view.say("3 receivers, each an endpoint of one application, each wants every order in order:");
    view.say("healthy; flaky answers 500 to one request in ten; slow takes 30 ms for each");
    view.say("in what follows 17! was answered 500 and comes again, 17+ came again though it was taken");

    let publisher = Publisher::start(publisher::Options {
        payload_bytes: ORDER_BYTES,
        rate: Some(f64::from(plan.orders) / plan.time.as_secs_f64()),
        messages: Some(u64::from(plan.orders)),
        // While the broker is dead, and with the same idempotency key.
        repeat: true,
        patience: STALLED,
        ..publisher::Options::new(server, run, vec![UID.to_owned()])
    });
    let mut stage = Stage { plan, wires, view, accepted: 0, last_change: (0, Instant::now()) };
    let kill_at = Instant::now() + plan.time / 2;
    while Instant::now() < kill_at {
        stage.pass(&publisher, running).await?;
    }

    let killed = running.pid;
    running.kill().await;
    stage.view.say(&format!("broker killed with SIGKILL (pid {killed})"));
    stage.accepted = publisher.counts().accepted;
    stage.show(None);
    sleep(DEAD).await;
    *running = Broker::spawn(&data_dir, address)?;
    let spawned = Instant::now();
    running.listening().await.context("after the kill")?;
    let pid = running.pid;
    let took = spawned.elapsed().as_millis();
    stage.view.say(&format!("broker started again in {took} ms: pid {pid}, same directory and port"));

    while finished(&publisher) < u64::from(plan.orders) && !stage.is_stalled() {
        stage.pass(&publisher, running).await?;
    }
    publisher.stop();
    let published = publisher.finish().await;
    if published.counts.accepted == 0 {
        anyhow::bail!("no order was accepted: {}", published.complaint.unwrap_or_default());
    }
    let accepted = published.accepted.into_iter().next().unwrap_or_default();
    stage
        .view
        .say(&format!("all orders sent, {} accepted; waiting until they are delivered", accepted.len()));
    stage.accepted = accepted.len();
    while !is_drained(&receiver, &accepted) && !stage.is_stalled() {
        stage.look(running).await?;
    }
    sleep(QUIET).await;
    stage.show(Some(running.pid));

    let planted = stage.wires.iter().find_map(Wire::planted);
    let names: Vec<&'static str> = stage.wires.iter().map(|wire| wire.name).collect();
    let report = receiver.report(&Query { endpoints: None, sequences: true });
    let fault = plan.fault.map(|fault| (fault, planted));
    Ok(Summary::judge(&names, &accepted, &report, fault))
}

/// Orders that came to an end, as the publisher sees it.
fn finished(publisher: &Publisher) -> u64 {
    let counts = publisher.counts();
    counts.accepted + counts.unknown
}

struct Stage<'a> {
    plan: &'a Plan,
    wires: Vec<Wire>,
    view: &'a mut View,
    accepted: u64,
    /// Arrivals and acceptances so far, and when that last changed.
    last_change: (u64, Instant),
}

impl Stage<'_> {
    async fn pass(&mut self, publisher: &Publisher, broker: &mut Broker) -> anyhow::Result<()> {
        self.accepted = publisher.counts().accepted;
        self.look(broker).await
    }

    async fn look(&mut self, broker: &mut Broker) -> anyhow::Result<()> {
        broker.must_run()?;
        let arrivals: u64 = self.wires.iter().map(|wire| wire.traffic().arrivals).sum();
        if arrivals + self.accepted != self.last_change.0 {
            self.last_change = (arrivals + self.accepted, Instant::now());
        }
        self.show(Some(broker.pid));
        sleep(TICK).await;
        Ok(())
    }

    fn show(&mut self, broker: Option<u32>) {
        let receivers = self.wires.iter().map(|wire| (wire.name, wire.traffic())).collect();
        let scene = Scene { orders: self.plan.orders, accepted: self.accepted, broker, receivers };
        self.view.show(&scene);
    }

    fn is_stalled(&self) -> bool {
        self.last_change.1.elapsed() > STALLED
    }
}

/// Endpoints take orders in their order: with the last one they are through.
fn is_drained(receiver: &Receiver, accepted: &SequenceSet) -> bool {
    let Some(last) = accepted.iter().last() else { return true };
    let report = receiver.report(&Query { endpoints: None, sequences: true });
    report.endpoints.iter().all(|endpoint| endpoint.delivered_sequences.contains(last))
}

/// Creates the application with its endpoints, the receivers, and the ways to them.
async fn set_up(server: &Server, run: u64, plan: &Plan) -> anyhow::Result<(Receiver, Vec<Wire>)> {
    #[derive(Deserialize)]
    struct Created {}
    let behaviours = [
        ("healthy", Behaviour::default()),
        ("flaky", Behaviour { fail_fraction: 0.1, ..Behaviour::default() }),
        ("slow", Behaviour { latency_ms: 30, ..Behaviour::default() }),
    ];
    let receiver =
        Receiver::bind((Ipv4Addr::LOCALHOST, 0).into()).context("no free port for the receivers")?;
    let application = json!({ "name": "Shop", "uid": UID });
    server.call::<_, Created>(Method::POST, "/api/v1/app", Some(&application)).await?;
    let mut spec = Spec { run, endpoints: Vec::new() };
    let mut wires = Vec::new();
    let mut endpoints = Vec::new();
    for (number, (name, behaviour)) in behaviours.into_iter().enumerate() {
        // Early enough that the kill has nothing to do with it.
        let fault =
            plan.fault.filter(|_| number == 0).map(|fault: Fault| (fault, u64::from(plan.orders / 4)));
        let wire = Wire::lay(name, receiver.address(), &format!("/e/{number}"), fault).await?;
        let secret = SigningKey::generate_symmetric(&SystemEntropy).to_string();
        endpoints.push(json!({
            "url": wire.url, "uid": name, "description": name, "secret": secret, "ordering": "strict"
        }));
        spec.endpoints.push(EndpointSpec {
            application: 0,
            ordering: Ordering::Strict,
            secrets: vec![secret],
            behaviour,
        });
        wires.push(wire);
    }
    receiver.configure(&spec)?;
    for endpoint in &endpoints {
        let path = format!("/api/v1/app/{UID}/endpoint");
        server.call::<_, Created>(Method::POST, &path, Some(endpoint)).await?;
    }
    Ok((receiver, wires))
}
