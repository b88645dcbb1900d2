//! A cluster: its settings, its brokers, and what becomes of it at the end.

use std::{collections::BTreeMap, net::TcpListener, path::PathBuf, thread};

use anyhow::{Context, Result, ensure};

use super::{Broker, Distribution, Security, properties::Node, security::Ports, tools};
use crate::{directory::Directory, ports, process::Lifetime};

/// Another program may take a port between our look and the broker's start.
const TRIES: u32 = 3;
/// Every cluster has the same id: they never meet.
const CLUSTER: &str = "RmFuZmFyZS10ZXN0cw";

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub brokers: u32,
    /// Of the first broker; the others have the next ones. `None`: any that are free.
    pub port: Option<u16>,
    /// Added to each broker's `server.properties`.
    pub properties: BTreeMap<String, String>,
    /// Listeners within TLS, beside the open one.
    pub security: Option<Security>,
    pub heap_mib: u32,
    /// Its JVM compiles it well, instead of quickly.
    pub long_lived: bool,
    /// Where Apache Kafka is installed, or will be.
    pub tools: PathBuf,
    /// `None`: a temporary one, gone with the cluster.
    pub directory: Option<PathBuf>,
    pub lifetime: Lifetime,
}

impl Settings {
    pub fn new(brokers: u32) -> Self {
        Self {
            brokers,
            port: None,
            properties: BTreeMap::new(),
            security: None,
            heap_mib: 512,
            long_lived: false,
            tools: tools(),
            directory: None,
            lifetime: Lifetime::WithParent,
        }
    }

    /// For brokers that are measured or go on for long. A test wants those that start quickly.
    #[must_use]
    pub fn long_lived(self) -> Self {
        Self { long_lived: true, ..self }
    }
}

/// Brokers that make one cluster. They are killed when this is dropped; with [`Lifetime::Detached`] they go on.
pub struct Cluster {
    brokers: Vec<Broker>,
    directory: Directory,
    lifetime: Lifetime,
}

impl Cluster {
    /// Ready when this returns: each broker knows all.
    pub fn start(settings: &Settings) -> Result<Self> {
        ensure!(settings.brokers > 0, "a cluster has one broker at least");
        Self::start_from(&Distribution::fetch(&settings.tools)?, settings)
    }

    pub(super) fn start_from(distribution: &Distribution, settings: &Settings) -> Result<Self> {
        let mut tried = Self::try_start(settings, distribution);
        for _ in 1..TRIES {
            let is_taken = |error: &anyhow::Error| format!("{error:#}").contains("Address already in use");
            if settings.port.is_some() || !tried.as_ref().err().is_some_and(is_taken) {
                break;
            }
            tried = Self::try_start(settings, distribution);
        }
        tried
    }

    fn try_start(settings: &Settings, distribution: &Distribution) -> Result<Self> {
        let directory = match &settings.directory {
            Some(path) => Directory::named(path)?,
            None => Directory::temporary("kafka")?,
        };
        let (nodes, reserved) = nodes(settings)?;
        let brokers = nodes
            .iter()
            .map(|node| {
                let directory = directory.path().join(format!("broker-{}", node.id));
                Broker::new(node.clone(), directory, distribution.clone(), settings)
            })
            .collect();
        let mut cluster = Self { brokers, directory, lifetime: settings.lifetime };
        if let Err(error) = cluster.bring_up(settings, &nodes, reserved) {
            // The error names its log.
            cluster.directory.keep();
            cluster.kill()?;
            return Err(error);
        }
        Ok(cluster)
    }

    fn bring_up(&self, settings: &Settings, nodes: &[Node], reserved: Vec<TcpListener>) -> Result<()> {
        thread::scope(|scope| {
            let format = |broker: &'_ Broker| broker.format(CLUSTER, nodes, settings);
            let formats: Vec<_> =
                self.brokers.iter().map(|broker| scope.spawn(move || format(broker))).collect();
            formats.into_iter().try_for_each(|format| format.join().expect("no panic in it"))
        })?;
        drop(reserved);
        self.brokers.iter().try_for_each(Broker::launch)?;
        self.brokers.iter().try_for_each(|broker| broker.wait_until_ready(settings.brokers))
    }

    /// What a client is given: the addresses of all brokers.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(Broker::address).collect();
        addresses.join(",")
    }

    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// Stops all at once. What they keep stays until the cluster is dropped.
    pub fn stop(&self) -> Result<()> {
        thread::scope(|scope| {
            let stops: Vec<_> =
                self.brokers.iter().map(|broker| scope.spawn(move || broker.stop())).collect();
            stops.into_iter().try_for_each(|stop| stop.join().expect("no panic in it"))
        })
    }

    fn kill(&self) -> Result<()> {
        self.brokers.iter().try_for_each(Broker::kill)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached {
            return;
        }
        if thread::panicking() {
            self.directory.keep();
            eprintln!("what Kafka said is in {}", self.directory.path().display());
        }
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// The brokers with their ports, and what holds those until the brokers start.
fn nodes(settings: &Settings) -> Result<(Vec<Node>, Vec<TcpListener>)> {
    let count = settings.brokers as usize;
    let mut held = match settings.port {
        Some(first) => {
            (0..settings.brokers).map(|further| named_port(first, further)).collect::<Result<_>>()?
        }
        None => ports::reserve(count)?,
    };
    held.extend(ports::reserve(count)?);
    if settings.security.is_some() {
        held.extend(ports::reserve(Ports::COUNT * count)?);
    }
    let ports: Vec<u16> =
        held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<_>>()?;
    let (brokers, others) = ports.split_at(count);
    let (controllers, secure) = others.split_at(count);
    let (secure, _) = secure.as_chunks::<{ Ports::COUNT }>();
    let mut secure = secure.iter().copied().map(Ports::from);
    let nodes = (1..).zip(brokers.iter().zip(controllers));
    let nodes = nodes
        .map(|(id, (&port, &controller_port))| Node { id, port, controller_port, secure: secure.next() })
        .collect();
    Ok((nodes, held))
}

fn named_port(first: u16, further: u32) -> Result<TcpListener> {
    let port = u16::try_from(u32::from(first) + further).context("a port is at most 65535")?;
    TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("cannot listen on port {port}"))
}
