//! One installation on Kafka: its processes come and go, its secret, topics and address book stay.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
};

use fanfare_core::planted::Fault;
use tempfile::TempDir;

use super::{
    process::{Name, Process, Role},
    watch::Watch,
};
use crate::support::{
    client::{Address, Client},
    installation::fanfare,
};

pub(crate) const MESSAGE_PARTITIONS: u32 = 4;
pub(crate) const DELIVERY_PARTITIONS: u32 = 8;
/// A client knows this many addresses; a front listens behind each, or nobody does.
pub(crate) const ADDRESSES: usize = 2;

pub(crate) struct Installation {
    directory: TempDir,
    brokers: String,
    prefix: String,
    replication: u32,
    token: String,
    addresses: [Address; ADDRESSES],
    /// Which front listens behind which address.
    fronts: BTreeMap<Name, usize>,
    started: BTreeMap<Role, u32>,
    pub(crate) running: BTreeMap<Name, Process>,
    pub(crate) watch: Arc<Watch>,
    /// A guard taken out of the processes of a role that are started, where the build allows it.
    pub(crate) planted: Option<(Fault, Role)>,
}

impl Installation {
    pub(crate) fn new(brokers: &str, replication: u32) -> Self {
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        // Makes the main secret, too.
        let token = fanfare(directory.path()).args(["token", "--data-dir"]).arg(directory.path()).output();
        let token = token.expect("the binary was built");
        assert!(token.status.success(), "{token:?}");
        Self {
            brokers: brokers.to_owned(),
            prefix: format!("cluster-{:016x}.", RandomState::new().hash_one("installation")),
            replication,
            token: String::from_utf8(token.stdout).expect("a token is text").trim().to_owned(),
            addresses: Default::default(),
            fronts: BTreeMap::new(),
            started: BTreeMap::new(),
            running: BTreeMap::new(),
            watch: Arc::default(),
            planted: None,
            directory,
        }
    }

    /// Starts a process without waiting for it.
    pub(crate) fn spawn(&mut self, role: Role) -> Name {
        let number = self.started.entry(role).or_default();
        *number += 1;
        let name = Name(role, *number);
        let address = self.address_for(name);
        let directory = tempfile::tempdir().expect("there is room for a temporary directory");
        let mut command = fanfare(directory.path());
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--role", role.options()]);
        command.args(["--kafka", &self.brokers, "--kafka-prefix", &self.prefix]);
        command.args(["--kafka-replication", &self.replication.to_string()]);
        command.args(["--message-partitions", &MESSAGE_PARTITIONS.to_string()]);
        command.args(["--delivery-partitions", &DELIVERY_PARTITIONS.to_string()]);
        command
            .arg("--main-secret-file")
            .arg(self.secret())
            .arg("--data-dir")
            .arg(directory.path().join("data"));
        if let Some((fault, _)) = self.planted.filter(|(_, of)| *of == role) {
            command.env("FANFARE_PLANTED", format!("{fault:?}"));
        }
        let process = Process::spawn(name, directory, command, address);
        self.watch.add(name, process.log());
        self.running.insert(name, process);
        name
    }

    /// Starts a process and waits until it is ready.
    pub(crate) async fn start(&mut self, role: Role) -> Name {
        let name = self.spawn(role);
        self.running.get_mut(&name).expect("it was just started").ready().await;
        name
    }

    pub(crate) fn take(&mut self, name: Name) -> Process {
        self.fronts.remove(&name);
        self.running.remove(&name).unwrap_or_else(|| panic!("{name} runs"))
    }

    /// Stops all, those first that others depend on least. Each has to end well.
    pub(crate) async fn stop(&mut self) {
        while let Some((&name, _)) = self.running.first_key_value() {
            let status = self.take(name).stop().await;
            assert!(status.success(), "{name}: {status}");
        }
    }

    pub(crate) fn of(&self, role: Role) -> Vec<Name> {
        self.running.keys().copied().filter(|name| name.0 == role).collect()
    }

    /// Behind which address a front listens; no other process does.
    #[cfg_attr(feature = "planted", allow(dead_code, reason = "only a rolling restart asks"))]
    pub(crate) fn address_of(&self, name: Name) -> Option<usize> {
        self.fronts.get(&name).copied()
    }

    /// A client for each address, each with a connection of its own.
    pub(crate) fn clients(&self) -> [Client; ADDRESSES] {
        self.addresses.clone().map(|address| Client::new(address, Some(self.token.clone())))
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("main-secret")
    }

    fn address_for(&mut self, name: Name) -> Address {
        if name.0 != Role::Front {
            return Address::default();
        }
        let taken: Vec<usize> = self.fronts.values().copied().collect();
        let free = (0..ADDRESSES).find(|place| !taken.contains(place));
        let place = free.expect("there are never more fronts than addresses");
        self.fronts.insert(name, place);
        self.addresses[place].clone()
    }
}
