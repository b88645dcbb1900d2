//! Promises that are put to the test against a server of their own: [`memory`], [`overload`], [`isolation`], [`jobs`].
//!
//! A trial starts a server and a receiver as processes, does what it has to, and writes down [`Check`]s: what
//! was measured, what is allowed.

mod checks;
pub mod isolation;
pub mod jobs;
pub mod memory;
pub mod overload;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use fanfare_core::{Entropy, Ordering, SystemEntropy, signature::SigningKey};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

pub use self::checks::{Check, Checks};
use crate::{
    client::{self, Connection},
    process,
    publisher::{self, Published, Publisher},
    receiver::{Behaviour, Counters, EndpointSpec, ListenerChange, Query, Report, Spec},
};

/// How often memory and counters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After load, before memory is called settled.
const SETTLE: Duration = Duration::from_secs(3);
/// Connections that set up what a trial needs.
const SET_UP_CONNECTIONS: usize = 32;

/// The programs that take part, and where the server's data goes.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `fanfare`.
    pub fanfare: PathBuf,
    /// `fanfare-load`: receivers and large crowds of publishers are processes of their own.
    pub loader: PathBuf,
    /// A directory on a disk.
    pub scratch: PathBuf,
}

/// An endpoint to be created.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    /// Index of its application.
    pub application: usize,
    pub ordering: Ordering,
    pub behaviour: Behaviour,
    /// It refuses connections until [`Stage::heal`].
    pub refuses: bool,
    /// Further fields, as the API names them.
    pub fields: Value,
}

impl EndpointPlan {
    pub fn of(application: usize) -> Self {
        Self {
            application,
            ordering: Ordering::Strict,
            behaviour: Behaviour::default(),
            refuses: false,
            fields: json!({}),
        }
    }
}

/// A server and a receiver at work.
pub struct Stage {
    programs: Programs,
    serve_arguments: Vec<String>,
    data: TempDir,
    broker: process::Server,
    pub server: client::Server,
    receiver_process: process::Server,
    pub receiver: client::Server,
    /// An address of the receiver that is closed at first.
    refusing: std::net::SocketAddr,
    pub run: u64,
    /// Ids.
    pub applications: Vec<String>,
    pub endpoints: Vec<String>,
    /// What the receiver was told to expect.
    spec: Spec,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

impl Stage {
    /// Starts both, on an empty data directory.
    pub async fn start(programs: &Programs, serve_arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments = ["receive", "--listen", "127.0.0.1:0", "--threads", "1"].map(str::to_owned);
        let receiver_process = process::Server::start(&programs.loader, &arguments).await?;
        let receiver = client::Server::resolve(&receiver_process.url, None).await?;
        let opened: Vec<std::net::SocketAddr> = change_listeners(
            &receiver,
            &ListenerChange { open: vec!["127.0.0.1:0".parse()?], close: Vec::new() },
        )
        .await?;
        let refusing = *opened.first().context("no listener was opened")?;
        let close = ListenerChange { open: Vec::new(), close: vec![refusing] };
        change_listeners(&receiver, &close).await?;

        let data = TempDir::with_prefix_in("fanfare-trial-", &programs.scratch)?;
        let serve_arguments: Vec<String> = serve_arguments.iter().map(|&text| text.to_owned()).collect();
        let (broker, server) = start_broker(programs, &data, &serve_arguments).await?;
        Ok(Self {
            programs: programs.clone(),
            serve_arguments,
            data,
            broker,
            server,
            receiver_process,
            receiver,
            refusing,
            run: <dyn Entropy>::u64(&SystemEntropy),
            applications: Vec::new(),
            endpoints: Vec::new(),
            spec: Spec { run: 0, endpoints: Vec::new() },
        })
    }

    /// SIGKILL to the server, and a new one on the same data; gives when it was started.
    pub async fn restart(&mut self) -> anyhow::Result<Instant> {
        self.broker.kill().await?;
        let started = Instant::now();
        (self.broker, self.server) = start_broker(&self.programs, &self.data, &self.serve_arguments).await?;
        Ok(started)
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.broker.stop().await?;
        self.receiver_process.stop().await
    }

    /// Creates applications and endpoints and tells the receiver what to expect.
    pub async fn set_up(&mut self, applications: usize, endpoints: &[EndpointPlan]) -> anyhow::Result<()> {
        let bodies = (0..applications).map(|index| {
            let body = json!({ "name": format!("trial {index}"), "uid": format!("trial-{index}") });
            ("/api/v1/app".to_owned(), body)
        });
        self.applications = self.create(bodies.collect()).await?;
        let mut spec = Spec { run: self.run, endpoints: Vec::new() };
        let mut bodies = Vec::new();
        for (number, plan) in endpoints.iter().enumerate() {
            let secret = SigningKey::generate_symmetric(&SystemEntropy).to_string();
            let address = if plan.refuses { self.refusing } else { self.receiver.address };
            let mut body = plan.fields.clone();
            body["url"] = json!(format!("http://{address}/e/{number}"));
            body["secret"] = json!(secret);
            body["ordering"] = json!(plan.ordering);
            bodies.push((format!("/api/v1/app/{}/endpoint", self.applications[plan.application]), body));
            spec.endpoints.push(EndpointSpec {
                application: u32::try_from(plan.application)?,
                ordering: plan.ordering,
                secrets: vec![secret],
                behaviour: plan.behaviour.clone(),
            });
        }
        self.spec = spec;
        self.forget_received().await?;
        self.endpoints = self.create(bodies).await?;
        Ok(())
    }

    /// The receiver begins anew, as if nothing had come yet.
    pub async fn forget_received(&self) -> anyhow::Result<()> {
        self.receiver.call::<_, ()>(Method::POST, "/configure", Some(&self.spec)).await
    }

    /// Posts all of these (path, body) over some connections; gives the ids in the same order.
    pub async fn create(&self, bodies: Vec<(String, Value)>) -> anyhow::Result<Vec<String>> {
        let bodies = Arc::new(bodies);
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..SET_UP_CONNECTIONS.min(bodies.len()) {
            let (bodies, next, server) = (Arc::clone(&bodies), Arc::clone(&next), self.server.clone());
            tasks.spawn(async move {
                let mut connection = Connection::open(server.address).await?;
                let mut created = Vec::new();
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    let Some((path, body)) = bodies.get(index) else { return anyhow::Ok(created) };
                    let answer: Created =
                        server.call_on(&mut connection, Method::POST, path, Some(body)).await?;
                    created.push((index, answer.id));
                }
            });
        }
        let mut created = Vec::new();
        while let Some(task) = tasks.join_next().await {
            created.extend(task??);
        }
        created.sort_unstable();
        Ok(created.into_iter().map(|(_, id)| id).collect())
    }

    /// Options to publish to one application as many messages as fast as they are answered.
    pub fn publishing(&self, application: usize, messages: u64) -> publisher::Options {
        let id = self.applications[application].clone();
        publisher::Options {
            connections: 64,
            payload_bytes: crate::payload::MINIMUM_BYTES,
            messages: Some(messages),
            first_application: u32::try_from(application).expect("few applications"),
            ..publisher::Options::new(self.server.clone(), self.run, vec![id])
        }
    }

    /// Publishes and watches the server's memory; gives the most that it was, in MB.
    pub async fn publish(&self, options: publisher::Options) -> anyhow::Result<(Published, f64)> {
        let mut publishing = tokio::spawn(Publisher::start(options).finish());
        let mut most = self.resident_mb();
        loop {
            tokio::select! {
                published = &mut publishing => return Ok((published?, most)),
                () = sleep(LOOK_EVERY) => most = most.max(self.resident_mb()),
            }
        }
    }

    /// Lets the endpoints that refused accept connections.
    pub async fn heal(&self) -> anyhow::Result<()> {
        let open = ListenerChange { open: vec![self.refusing], close: Vec::new() };
        change_listeners(&self.receiver, &open).await.map(drop)
    }

    /// Waits until the receiver has delivered so many in all; false if it has not within `patience`. Gives the
    /// most memory that was seen meanwhile.
    pub async fn delivered(&self, count: u64, patience: Duration) -> anyhow::Result<(bool, f64)> {
        let deadline = Instant::now() + patience;
        let mut most = self.resident_mb();
        loop {
            if self.counters().await?.delivered >= count {
                return Ok((true, most));
            }
            if Instant::now() >= deadline {
                return Ok((false, most));
            }
            sleep(LOOK_EVERY).await;
            most = most.max(self.resident_mb());
        }
    }

    pub async fn counters(&self) -> anyhow::Result<Counters> {
        self.receiver.call::<(), _>(Method::GET, "/counters", None).await
    }

    pub async fn report(&self, endpoints: Vec<usize>, sequences: bool) -> anyhow::Result<Report> {
        let query = Query { endpoints: Some(endpoints), sequences };
        self.receiver.call::<(), _>(Method::GET, &format!("/report{}", query.to_text()), None).await
    }

    pub fn resident_mb(&self) -> f64 {
        mb(self.broker.usage().resident_bytes)
    }

    /// Memory after some seconds without load.
    pub async fn settled_mb(&self) -> f64 {
        sleep(SETTLE).await;
        self.resident_mb()
    }

    pub fn token(&self) -> &str {
        self.server.token().unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.broker.url
    }

    fn loader(&self) -> &std::path::Path {
        &self.programs.loader
    }
}

async fn start_broker(
    programs: &Programs,
    data: &TempDir,
    serve_arguments: &[String],
) -> anyhow::Result<(process::Server, client::Server)> {
    let data = data.path().join("data").display().to_string();
    let mut arguments =
        ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"].map(str::to_owned).to_vec();
    arguments.push(data.clone());
    arguments.extend(serve_arguments.iter().cloned());
    let broker = process::Server::start(&programs.fanfare, &arguments).await?;
    let token = ["token", "--data-dir", &data].map(str::to_owned);
    let token = process::output(&programs.fanfare, &token).await?;
    let server = client::Server::resolve(&broker.url, Some(token)).await?;
    Ok((broker, server))
}

async fn change_listeners(
    receiver: &client::Server,
    change: &ListenerChange,
) -> anyhow::Result<Vec<std::net::SocketAddr>> {
    receiver.call(Method::POST, "/listeners", Some(change)).await
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_bad_pair() {
        assert!((median(vec![3.0, 900.0, 1.0, 2.0, 4.0]) - 3.0).abs() < f64::EPSILON);
    }
}
