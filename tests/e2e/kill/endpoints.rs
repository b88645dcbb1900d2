//! The endpoints of the kill test: they verify, remember, and err as they are told.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock},
};

use fanfare_loadtest::{
    payload::{self, Stamp},
    receiver::{Answer, Behaviour},
    sequence::SequenceSet,
};
use standardwebhooks::Webhook;
use tokio::net::TcpSocket;

use super::publishers::Published;
use crate::support::{Receipt, Recorder, Reply, judge};

/// Behind the rejected message so many are answered well at once: the lane tries them to learn whether the
/// endpoint is alive, and would give up those that fail then too.
const CALM_AFTER_REJECTED: u64 = 64;
const DELIVERED: Reply = Reply::Status(204);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Strict,
    Keyed,
    Unordered,
    Dead,
    LoadedStrict,
    LoadedKeyed,
}

/// One request of an endpoint, and what its payload says.
pub(super) struct Arrival {
    pub(super) receipt: Receipt,
    pub(super) stamp: Stamp,
}

pub(super) struct Endpoints {
    recorder: Recorder,
    applications: [String; 2],
    /// Bound but never listening: whoever connects is refused.
    dead: TcpSocket,
    ids: [OnceLock<String>; Target::ALL.len()],
    state: Arc<State>,
}

/// What the endpoints share with the recorder's tasks.
#[derive(Default)]
struct State {
    webhooks: [OnceLock<Webhook>; Target::ALL.len()],
    /// Number of the message, in the first application, that every endpoint answers 400.
    rejected: OnceLock<u64>,
    memory: [Mutex<Memory>; Target::ALL.len()],
}

#[derive(Default)]
struct Memory {
    seen: HashSet<u64>,
    delivered: SequenceSet,
    requests: u64,
    forged: Vec<String>,
}

impl Target {
    pub(super) const ALL: [Self; 6] =
        [Self::Strict, Self::Keyed, Self::Unordered, Self::Dead, Self::LoadedStrict, Self::LoadedKeyed];
    pub(super) const HEALTHY: [Self; 5] =
        [Self::Strict, Self::Keyed, Self::Unordered, Self::LoadedStrict, Self::LoadedKeyed];
    /// Where the rejected message holds others up, so that it is parked.
    const PARKING: [Self; 2] = [Self::Strict, Self::Keyed];

    pub(super) const fn ordering(self) -> &'static str {
        match self {
            Self::Strict | Self::Dead | Self::LoadedStrict => "strict",
            Self::Keyed | Self::LoadedKeyed => "keyed",
            Self::Unordered => "unordered",
        }
    }

    /// Index of its application.
    pub(super) const fn application(self) -> usize {
        match self {
            Self::Strict | Self::Keyed | Self::Unordered | Self::Dead => 0,
            Self::LoadedStrict | Self::LoadedKeyed => 1,
        }
    }

    fn behaviour(self) -> Behaviour {
        match self.application() {
            0 => Behaviour { fail_fraction: 0.02, hang_fraction: 0.01, ..Behaviour::default() },
            _ => Behaviour::default(),
        }
    }

    fn path(self) -> String {
        format!("/{self:?}")
    }

    fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.path() == path)
    }
}

impl Endpoints {
    pub(super) async fn start(applications: [String; 2]) -> Arc<Self> {
        let state = Arc::new(State::default());
        let judging = Arc::clone(&state);
        let recorder = Recorder::behaving(move |receipt| judging.answer(receipt)).await;
        let dead = TcpSocket::new_v4().expect("there are sockets");
        dead.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback has a free port");
        Arc::new(Self { recorder, applications, dead, ids: Default::default(), state })
    }

    pub(super) fn application_of(&self, target: Target) -> &str {
        &self.applications[target.application()]
    }

    pub(super) fn url(&self, target: Target) -> String {
        match target {
            Target::Dead => format!("http://{}/", self.dead.local_addr().expect("it is bound")),
            _ => self.recorder.url(&target.path()),
        }
    }

    /// The endpoint exists now; what it is sent must be signed with this secret.
    pub(super) fn created(&self, target: Target, id: String, secret: &str) {
        let webhook = Webhook::new(secret).expect("the secret is one");
        assert!(self.state.webhooks[target as usize].set(webhook).is_ok());
        assert!(self.ids[target as usize].set(id).is_ok());
    }

    /// Decides which message every endpoint of the first application answers 400, before it is sent.
    pub(super) fn reject(&self, sequence: u64) {
        self.state.rejected.set(sequence).expect("one message is rejected");
    }

    pub(super) fn rejected(&self) -> Option<u64> {
        self.state.rejected.get().copied()
    }

    /// Everything that arrived at one endpoint, as it arrived.
    pub(super) fn arrivals(&self, target: Target) -> Vec<Arrival> {
        let path = target.path();
        let receipts = self.recorder.receipts().into_iter().filter(|receipt| receipt.path == path);
        receipts
            .filter_map(|receipt| Some(Arrival { stamp: payload::read(&receipt.body).ok()?, receipt }))
            .collect()
    }

    /// The same as judges see it.
    pub(super) fn seen(&self, target: Target) -> Vec<judge::Arrival> {
        let seen = |Arrival { receipt, stamp }: Arrival| {
            let answered = receipt.answered.filter(|_| receipt.is_success()).map(|(answered, _)| answered);
            judge::Arrival { stamp, at: receipt.arrived, answered }
        };
        self.arrivals(target).into_iter().map(seen).collect()
    }

    /// That came to all endpoints so far.
    pub(super) fn requests(&self) -> u64 {
        self.state.memory.iter().map(|memory| memory.lock().expect("no holder panics").requests).sum()
    }

    /// Deliveries whose signature or content was wrong.
    pub(super) fn forged(&self, target: Target) -> Vec<String> {
        self.state.memory[target as usize].lock().expect("no holder panics").forged.clone()
    }

    /// What was acknowledged and not delivered yet, per healthy endpoint.
    pub(super) fn missing(&self, published: &Published) -> Vec<(Target, Vec<u64>)> {
        let mut missing = Vec::new();
        for target in Target::HEALTHY {
            let delivered = &self.state.memory[target as usize].lock().expect("no holder panics").delivered;
            let acknowledged = published.acknowledged(target.application());
            let lost = acknowledged.iter().filter(|seq| !delivered.contains(*seq));
            let lost: Vec<u64> = lost.filter(|seq| !self.is_rejected(target, *seq)).collect();
            if !lost.is_empty() {
                missing.push((target, lost));
            }
        }
        missing
    }

    pub(super) fn is_rejected(&self, target: Target, sequence: u64) -> bool {
        target.application() == 0 && self.rejected() == Some(sequence)
    }

    /// (endpoint, message, reason), sorted.
    pub(super) fn expected_dead_letters(&self) -> Vec<(String, String, String)> {
        let rejected = self.rejected().expect("one message was rejected");
        let arrivals = self.arrivals(Target::Strict);
        let arrival = arrivals.iter().find(|arrival| arrival.stamp.seq == rejected);
        let message = arrival.expect("it was rejected").receipt.header("webhook-id").to_owned();
        let id = |target: Target| self.ids[target as usize].get().expect("it was created").clone();
        let mut letters: Vec<_> =
            Target::PARKING.map(|target| (id(target), message.clone(), "rejected".to_owned())).into();
        letters.sort();
        letters
    }
}

impl State {
    /// Errs only on the first attempt of a message: one that fails again and again would rightly be parked.
    fn answer(&self, receipt: &Receipt) -> Reply {
        let Some(target) = Target::at(&receipt.path) else { return Reply::Status(404) };
        let mut memory = self.memory[target as usize].lock().expect("no holder panics");
        let verified = self.webhooks[target as usize]
            .get()
            .is_some_and(|webhook| webhook.verify(&receipt.body, &receipt.headers).is_ok());
        let stamp = match payload::read(&receipt.body) {
            Ok(stamp) if verified && stamp.application as usize == target.application() => stamp,
            _ => {
                memory.forged.push(format!("{:?} {:?}", receipt.headers, receipt.body));
                return Reply::Status(401);
            }
        };
        memory.requests += 1;
        let first = memory.seen.insert(stamp.seq);
        let reply = self.reply(target, &stamp, first, memory.requests);
        if reply == DELIVERED {
            memory.delivered.insert(stamp.seq);
        }
        reply
    }

    fn reply(&self, target: Target, stamp: &Stamp, first: bool, request: u64) -> Reply {
        let rejected = self.rejected.get().filter(|_| target.application() == 0);
        if let Some(&rejected) = rejected {
            if stamp.seq == rejected {
                return Reply::Status(400);
            }
            if (rejected..rejected + CALM_AFTER_REJECTED).contains(&stamp.seq) {
                return DELIVERED;
            }
        }
        match target.behaviour().answer_to(stamp, request) {
            Answer::Status { status, .. } if first => Reply::Status(status),
            Answer::Hang if first => Reply::Silence,
            _ => DELIVERED,
        }
    }
}
