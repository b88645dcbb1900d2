//! A process whose log is written by hand: what ingest, router and worker would write, no sooner and no later.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, AttemptRecord, Clock as _, Content, Delivery, EndpointNumber, Fact,
    Fingerprint, Identity, Message, MessageId, Offset, Outcome, Partition, RouterCheckpoint, Settlement,
    Source, Timestamp, Trigger,
};
use fanfare_log::{NewRecord, Sync, Topic};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::Process;

pub(crate) struct Told {
    pub(crate) process: Process,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    /// Of each partition of `attempts`.
    epochs: HashMap<Partition, Offset>,
    /// Last source offset by source and delivery partition.
    previous: HashMap<(Partition, Partition), Offset>,
    made: u64,
}

/// An application or an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) path: String,
}

/// A message as it is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) event_type: &'static str,
    pub(crate) event_id: Option<&'static str>,
    pub(crate) channels: &'static [&'static str],
    pub(crate) tags: &'static [&'static str],
    pub(crate) payload: String,
    pub(crate) at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) id: MessageId,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) at: Timestamp,
}

/// A message on its way to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) message: Accepted,
    pub(crate) number: EndpointNumber,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this status.
    Answer(u16, &'static str),
    /// With none.
    Nothing,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            event_type: "order.paid",
            event_id: None,
            channels: &[],
            tags: &[],
            payload: r#"{"a":1}"#.to_owned(),
            at: Timestamp::ZERO,
            expires_at: None,
        }
    }
}

impl Told {
    pub(crate) async fn new() -> Self {
        Self { process: Process::remembering().await, written: Mutex::default() }
    }

    pub(crate) async fn application(&self) -> Named {
        let id = id(&self.process.post("/app", json!({ "name": "shop" })).await.is(201));
        Named { path: format!("/app/{id}"), id }
    }

    pub(crate) async fn endpoint(&self, application: &Named) -> Named {
        let body = json!({ "url": "http://127.0.0.1:9/hook" });
        let made = self.process.post(&format!("{}/endpoint", application.path), body).await;
        let id = id(&made.is(201));
        Named { path: format!("{}/endpoint/{id}", application.path), id }
    }

    /// A moment ago, and later with every call.
    pub(crate) fn now(&self) -> Timestamp {
        let mut written = self.written.lock();
        written.made += 1;
        let passed = Duration::from_millis(10 * written.made);
        self.process.clock.now() - Duration::from_mins(5) + passed
    }

    pub(crate) async fn message(&self, application: &Named, draft: Draft) -> Accepted {
        let application_id: ApplicationId = application.id.parse().unwrap();
        let (organization, partition) = {
            let view = self.process.control.view();
            let application = view.application_by_id(application_id).unwrap();
            (application.organization, application.partition)
        };
        let at = if draft.at == Timestamp::ZERO { self.now() } else { draft.at };
        let number = {
            let mut written = self.written.lock();
            written.made += 1;
            written.made
        };
        let mut random = [0; 15];
        random[7..].copy_from_slice(&number.to_be_bytes());
        let id = MessageId::mint(at, random);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let head = Message {
            id,
            organization,
            application: application_id,
            event_type: draft.event_type.to_owned(),
            event_id: draft.event_id.map(str::to_owned),
            channels: texts(draft.channels),
            ordering_key: None,
            tags: texts(draft.tags),
            accepted_at: at,
            deliver_at: None,
            payload_expires_at: draft.expires_at,
            traceparent: None,
            identity: Identity {
                key: None,
                event_id: None,
                body: Fingerprint::of(&[id.as_bytes()]),
                short_window: false,
            },
            only_for: None,
            due_of: None,
        };
        let record = NewRecord { head: head.encode(), payload: Bytes::from(draft.payload) };
        let offset = self.append(Topic::Messages, partition, record).await;
        Accepted { id, partition, offset, at }
    }

    /// A router has looked at everything.
    pub(crate) async fn all_routed(&self) {
        for partition in (0..self.process.log.partitions(Topic::Messages)).map(Partition) {
            let position = self.process.log.bounds(Topic::Messages, partition).await.unwrap().end;
            let checkpoint = RouterCheckpoint { position, ..RouterCheckpoint::default() };
            self.append(Topic::Dedup, partition, NewRecord::head(checkpoint.encode())).await;
        }
    }

    /// As the router sends it.
    pub(crate) async fn route(&self, message: Accepted, endpoint: &Named) -> Sent {
        let (number, partition) = self.place(endpoint);
        let source = self.link(message, partition);
        let delivery = Delivery::Routed {
            source,
            id: message.id,
            accepted_at: message.at,
            ordering_key: 0,
            endpoints: vec![number],
            content: Content::Reference,
            due_of: None,
        };
        let record = NewRecord::head(delivery.encode());
        let offset = self.append(Topic::Deliveries, partition, record).await;
        Sent { message, number, partition, offset }
    }

    /// The message turns out to be a repeat of the first, or to be in conflict with it.
    pub(crate) async fn twin(&self, message: Accepted, first: Accepted, is_repeat: bool) {
        let partition = Partition(message.partition.0 % self.process.log.partitions(Topic::Deliveries));
        let source = self.link(message, partition);
        let (id, first) = (message.id, first.id);
        let delivery = if is_repeat {
            Delivery::Alias { source, id, first }
        } else {
            Delivery::Conflict { source, id, first }
        };
        self.append(Topic::Deliveries, partition, NewRecord::head(delivery.encode())).await;
    }

    pub(crate) async fn sent(&self, application: &Named, endpoint: &Named) -> Sent {
        let message = self.message(application, Draft::default()).await;
        self.route(message, endpoint).await
    }

    /// One attempt; `retried`: another is to follow.
    pub(crate) async fn attempt(&self, sent: Sent, number: u32, end: End, retried: bool) -> Timestamp {
        let at = self.now();
        let (status, error, response) = match end {
            End::Answer(status, text) if (200..300).contains(&status) => (status, None, text),
            End::Answer(status, text) => (status, Some(AttemptError::Status), text),
            End::Nothing => (0, Some(AttemptError::Connect), ""),
        };
        let attempt = Attempt {
            endpoint: sent.number,
            offset: sent.offset,
            number,
            trigger: Trigger::Scheduled,
            at,
            duration: Duration::from_millis(25),
            outcome: if error.is_none() { Outcome::Delivered } else { Outcome::Failed },
            status,
            error,
            response: Bytes::from_static(response.as_bytes()),
            due: retried.then(|| at + Duration::from_hours(1)),
            deadline_used: Duration::ZERO,
        };
        self.facts(sent.partition, vec![Fact::Attempted(attempt)]).await;
        at
    }

    pub(crate) async fn settle(&self, sent: Sent, reason: Settlement) {
        let at = self.now();
        let fact = Fact::Settled { endpoint: sent.number, offset: sent.offset, reason, at };
        self.facts(sent.partition, vec![fact]).await;
    }

    /// Delivered at the first attempt.
    pub(crate) async fn delivered(&self, application: &Named, endpoint: &Named) -> Sent {
        let sent = self.sent(application, endpoint).await;
        self.attempt(sent, 1, End::Answer(200, "thanks"), false).await;
        sent
    }

    /// Tried once and given up.
    pub(crate) async fn dead(&self, application: &Named, endpoint: &Named, reason: Settlement) -> Sent {
        let sent = self.sent(application, endpoint).await;
        self.attempt(sent, 1, End::Answer(500, "no"), false).await;
        self.settle(sent, reason).await;
        sent
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.process.get(path).await.is(200)
    }

    /// The ids on a page.
    pub(crate) async fn ids(&self, path: &str) -> Vec<String> {
        ids(&self.get(path).await)
    }

    /// All ids of a list, page by page; then the same pages backwards.
    pub(crate) async fn all_ids(&self, path: &str, limit: usize) -> Vec<String> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = async |iterator: &str| {
            let iterator = if iterator.is_empty() { String::new() } else { format!("&iterator={iterator}") };
            self.get(&format!("{path}{sign}limit={limit}{iterator}")).await
        };
        let (mut all, mut pages, mut iterator) = (Vec::new(), Vec::new(), String::new());
        loop {
            let shown = page(&iterator).await;
            all.extend(ids(&shown));
            let done = shown["done"] == true;
            shown["iterator"].as_str().unwrap_or_default().clone_into(&mut iterator);
            pages.push(shown);
            if done {
                break;
            }
            assert!(pages.len() < 100, "a list without end");
        }
        for pair in pages.windows(2).filter(|pair| !ids(&pair[1]).is_empty()) {
            let back = page(pair[1]["prevIterator"].as_str().unwrap()).await;
            assert_eq!(ids(&back), ids(&pair[0]), "back from {:?}", ids(&pair[1]));
        }
        all
    }

    fn place(&self, endpoint: &Named) -> (EndpointNumber, Partition) {
        let view = self.process.control.view();
        let found = view.endpoints().find(|found| found.id.to_string() == endpoint.id).unwrap();
        (found.number, found.partition)
    }

    fn link(&self, message: Accepted, to: Partition) -> Source {
        let previous = self.written.lock().previous.insert((message.partition, to), message.offset);
        let control = self.process.control.position();
        Source { partition: message.partition, offset: message.offset, session: 1, previous, control }
    }

    async fn facts(&self, partition: Partition, facts: Vec<Fact>) {
        let known = self.written.lock().epochs.get(&partition).copied();
        let epoch = if let Some(epoch) = known {
            epoch
        } else {
            let claim = AttemptRecord::Claim { owner: 1, at: self.now() };
            let record = NewRecord::head(claim.encode());
            let epoch = self.append(Topic::Attempts, partition, record).await;
            self.written.lock().epochs.insert(partition, epoch);
            epoch
        };
        let record = NewRecord::head(AttemptRecord::Facts { epoch, facts }.encode());
        self.append(Topic::Attempts, partition, record).await;
    }

    async fn append(&self, topic: Topic, partition: Partition, record: NewRecord) -> Offset {
        let pending = self.process.log.append(topic, partition, vec![record], Sync::Now).await.unwrap();
        pending.await.unwrap().start
    }
}

pub(crate) fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

pub(crate) fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(id).collect()
}

pub(crate) fn named(messages: &[Accepted]) -> Vec<String> {
    messages.iter().map(|message| message.id.to_string()).collect()
}
