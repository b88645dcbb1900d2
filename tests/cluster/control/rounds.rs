//! One round: something is changed on one node, and as soon as that is answered a message goes to another one, or is
//! looked at there.
//!
//! An endpoint that is changed has been sent a message before: its router and its worker know it as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    installation::ADDRESSES,
    support::{Receipt, Reply, client::Client, judge, random::Random, wait},
};

/// In one of so many rounds the change and the message go to the same node.
const SAME_NODE: usize = 8;
const GRACE_SECS: u64 = 3_600;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An endpoint is made.
    Endpoint,
    Application,
    Deleted,
    Disabled,
    /// An endpoint gets another filter by channels.
    Channels,
    /// The same by event types.
    EventTypes,
    Secret,
    /// The content of a message is erased, and the message looked at instead of sent.
    Erased,
}

/// What came of some rounds, and what has to hold in the end.
#[derive(Default)]
pub(super) struct Told {
    counts: BTreeMap<Kind, Count>,
    /// What has to arrive.
    pub(super) wanted: BTreeSet<String>,
    /// What must not.
    pub(super) forbidden: BTreeSet<String>,
    /// Messages whose content was shown after it was erased.
    pub(super) shown: Vec<String>,
    /// What signs an arrival.
    secrets: BTreeMap<String, Secrets>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    rounds: u64,
    /// The message went to another node.
    crossed: u64,
}

struct Secrets {
    newest: String,
    former: String,
    former_signs: bool,
}

/// What arrived, by endpoint and message.
#[derive(Clone, Default)]
pub(super) struct Arrived(Arc<Mutex<BTreeSet<String>>>);

/// Rounds one after the other.
pub(super) struct Rounds {
    pub(super) clients: [Client; ADDRESSES],
    pub(super) applications: Arc<Vec<String>>,
    /// In which the URLs of all endpoints begin.
    pub(super) base: String,
    pub(super) arrived: Arrived,
    pub(super) random: Random,
    pub(super) told: Told,
}

/// A message about one word: it is the event type and the only channel.
pub(super) fn message(word: &str, step: &str) -> String {
    json!({ "eventType": word, "channels": [word], "payload": { "step": step } }).to_string()
}

/// What the message of this step is called once it arrived at the endpoint of this name.
pub(super) fn arrival(name: &str, step: &str) -> String {
    format!("/{name} {step}")
}

fn arrival_of(receipt: &Receipt) -> String {
    let payload: Value = serde_json::from_slice(&receipt.body).unwrap_or_default();
    format!("{} {}", receipt.path, payload["step"].as_str().unwrap_or("of something else"))
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Endpoint,
        Self::Application,
        Self::Deleted,
        Self::Disabled,
        Self::Channels,
        Self::EventTypes,
        Self::Secret,
        Self::Erased,
    ];

    /// The field of an endpoint's filter in these rounds.
    fn field(self) -> &'static str {
        if self == Self::EventTypes { "eventTypes" } else { "channels" }
    }
}

impl Rounds {
    /// In each round an endpoint is made, and then something that is drawn happens.
    pub(super) async fn run(mut self, numbers: impl Iterator<Item = u64>) -> Told {
        for number in numbers {
            self.make_endpoint(number).await;
            let others = &Kind::ALL[1..];
            match others[self.below(others.len())] {
                Kind::Application => self.make_application(number).await,
                Kind::Secret => self.rotate(number).await,
                Kind::Erased => self.erase(number).await,
                kind => self.change(kind, number).await,
            }
        }
        self.told
    }

    /// A new endpoint gets what is sent after it was answered.
    async fn make_endpoint(&mut self, number: u64) {
        let [here, there] = self.nodes(Kind::Endpoint);
        let (name, application) = (name(Kind::Endpoint, number), self.application(number));
        self.endpoint(here, &application, Kind::Endpoint, &name).await;
        self.send(there, &application, &name, "after").await;
        self.told.wanted.insert(arrival(&name, "after"));
    }

    /// A new application is known where it is used first: by a message, or by an endpoint.
    async fn make_application(&mut self, number: u64) {
        let [here, there] = self.nodes(Kind::Application);
        let name = name(Kind::Application, number);
        let message_first = self.below(2) == 0;
        let application = self.clients[here].application(&name).await;
        if message_first {
            self.send(there, &application, &name, "before").await;
        }
        self.endpoint(there, &application, Kind::Application, &name).await;
        self.send(here, &application, &name, "after").await;
        self.told.wanted.insert(arrival(&name, "after"));
    }

    /// An endpoint is not sent any more what it does not want, and what it wants now it is sent.
    async fn change(&mut self, kind: Kind, number: u64) {
        let [here, there] = self.nodes(kind);
        let (name, application) = (name(kind, number), self.application(number));
        let (other, field) = (format!("{name}.other"), kind.field());
        if kind == Kind::EventTypes {
            // An endpoint may only name what exists, which the other node has to know.
            for word in [&name, &other] {
                let event_type = json!({ "name": word, "description": "of this round" });
                self.clients[there].post("/api/v1/event-type", &event_type).await.json(201);
            }
        }
        let path = self.endpoint_in_use(here, &application, kind, &name).await;
        let client = &self.clients[here];
        match kind {
            Kind::Deleted => {
                let answer = client.delete(&path).await;
                assert_eq!(answer.status, 204, "{answer:?}");
            }
            Kind::Disabled => drop(client.patch(&path, &json!({ "disabled": true })).await.json(200)),
            Kind::Channels | Kind::EventTypes => {
                drop(client.patch(&path, &json!({ field: [other] })).await.json(200));
            }
            Kind::Endpoint | Kind::Application | Kind::Secret | Kind::Erased => {
                unreachable!("each has its own rounds")
            }
        }
        self.send(there, &application, &name, "after").await;
        self.told.forbidden.insert(arrival(&name, "after"));
        if matches!(kind, Kind::Channels | Kind::EventTypes) {
            self.send(there, &application, &other, "then").await;
            self.told.wanted.insert(arrival(&name, "then"));
        }
    }

    /// A new secret signs, and the former one only as long as it was given.
    async fn rotate(&mut self, number: u64) {
        let [here, there] = self.nodes(Kind::Secret);
        let (name, application) = (name(Kind::Secret, number), self.application(number));
        let former_signs = self.below(2) == 0;
        let grace_secs = if former_signs { GRACE_SECS } else { 0 };
        let path = self.endpoint_in_use(here, &application, Kind::Secret, &name).await;
        let client = &self.clients[here];
        let former = key(&client.get(&format!("{path}/secret")).await.json(200));
        let grace = json!({ "gracePeriodSeconds": grace_secs });
        let newest = key(&client.post(&format!("{path}/secret/rotate"), &grace).await.json(200));
        self.send(there, &application, &name, "after").await;
        let arrival = arrival(&name, "after");
        self.told.wanted.insert(arrival.clone());
        self.told.secrets.insert(arrival, Secrets { newest, former, former_signs });
    }

    /// What was shown is not shown any more.
    async fn erase(&mut self, number: u64) {
        let [here, there] = self.nodes(Kind::Erased);
        let (name, application) = (name(Kind::Erased, number), self.application(number));
        let id = self.send(here, &application, &name, "shown").await;
        let path = format!("/api/v1/app/{application}/msg/{id}");
        let shown = async || self.clients[there].get(&format!("{path}?with_content=true")).await.json(200);
        assert_eq!(shown().await["payload"], json!({ "step": "shown" }));
        let answer = self.clients[here].delete(&format!("{path}/content")).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        if shown().await["payload"] != json!({ "expired": true }) {
            self.told.shown.push(name);
        }
    }

    /// The path of a new endpoint that was sent a message already.
    async fn endpoint_in_use(&self, node: usize, application: &str, kind: Kind, name: &str) -> String {
        let endpoint = self.endpoint(node, application, kind, name).await;
        self.send(node, application, name, "before").await;
        self.arrived.wait_for(arrival(name, "before")).await;
        format!("/api/v1/app/{application}/endpoint/{endpoint}")
    }

    async fn endpoint(&self, node: usize, application: &str, kind: Kind, name: &str) -> String {
        let (url, field) = (format!("{}/{name}", self.base), kind.field());
        self.clients[node].endpoint(application, &url, &json!({ field: [name] })).await
    }

    /// It has to be taken: whoever does not know the application answers 404.
    async fn send(&self, node: usize, application: &str, word: &str, step: &str) -> String {
        self.clients[node].publish(application, &[], &message(word, step)).await.id(202)
    }

    /// The node that is asked for the change, and the one that has to know of it.
    fn nodes(&mut self, kind: Kind) -> [usize; 2] {
        let here = self.below(ADDRESSES);
        let there = if self.below(SAME_NODE) == 0 { here } else { (here + 1) % ADDRESSES };
        let count = self.told.counts.entry(kind).or_default();
        count.rounds += 1;
        count.crossed += u64::from(here != there);
        [here, there]
    }

    fn application(&self, number: u64) -> String {
        let place = usize::try_from(number).unwrap() % self.applications.len();
        self.applications[place].clone()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }
}

fn name(kind: Kind, number: u64) -> String {
    format!("{kind:?}-{number}")
}

fn key(secret: &Value) -> String {
    secret["key"].as_str().expect("a secret has a key").to_owned()
}

impl Arrived {
    pub(super) fn note(&self, receipt: &Receipt) -> Reply {
        self.0.lock().insert(arrival_of(receipt));
        Reply::Status(204)
    }

    pub(super) fn missing(&self, wanted: &BTreeSet<String>) -> Vec<String> {
        let arrived = self.0.lock();
        wanted.difference(&arrived).cloned().collect()
    }

    pub(super) fn among(&self, forbidden: &BTreeSet<String>) -> Vec<String> {
        let arrived = self.0.lock();
        forbidden.intersection(&arrived).cloned().collect()
    }

    async fn wait_for(&self, arrival: String) {
        let wanted = BTreeSet::from([arrival]);
        let missing: Vec<String> = judge::missing_in_the_end(wait::PATIENCE, || self.missing(&wanted)).await;
        assert!(missing.is_empty(), "{missing:?} did not arrive");
    }
}

impl Told {
    pub(super) fn add(&mut self, other: Self) {
        for (kind, more) in other.counts {
            let count = self.counts.entry(kind).or_default();
            count.rounds += more.rounds;
            count.crossed += more.crossed;
        }
        self.wanted.extend(other.wanted);
        self.forbidden.extend(other.forbidden);
        self.shown.extend(other.shown);
        self.secrets.extend(other.secrets);
    }

    /// In some round of this kind the change and the message went to different nodes.
    pub(super) fn crossed(&self, kind: Kind) -> bool {
        self.counts.get(&kind).is_some_and(|count| count.crossed > 0)
    }

    pub(super) fn counts(&self) -> String {
        let told = self.counts.iter().map(|(kind, Count { rounds, crossed })| {
            format!("{kind:?}: {rounds} rounds, {crossed} of them from one node to another")
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// Arrivals that were not signed with just the secrets that count.
    pub(super) fn wrongly_signed(&self, receipts: &[Receipt]) -> Vec<String> {
        let mut wrong = Vec::new();
        for receipt in receipts {
            let arrival = arrival_of(receipt);
            let Some(secrets) = self.secrets.get(&arrival) else { continue };
            if !is_signed_with(receipt, &secrets.newest) {
                wrong.push(format!("{arrival}: not signed with the new secret"));
            }
            if is_signed_with(receipt, &secrets.former) != secrets.former_signs {
                let signs = if secrets.former_signs { "not signed" } else { "signed" };
                wrong.push(format!("{arrival}: {signs} with the former secret"));
            }
        }
        wrong
    }
}

/// As another implementation signs, however long ago that was.
fn is_signed_with(receipt: &Receipt, secret: &str) -> bool {
    let timestamp: i64 = receipt.header("webhook-timestamp").parse().expect("a timestamp is a number");
    let webhook = Webhook::new(secret).expect("a secret that was made is symmetric");
    let signature = webhook.sign(receipt.header("webhook-id"), timestamp, &receipt.body);
    let signature = signature.expect("payloads are text");
    receipt.header("webhook-signature").split(' ').any(|given| given == signature)
}
