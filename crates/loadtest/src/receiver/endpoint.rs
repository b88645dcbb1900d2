//! One endpoint of the receiver: what arrived at it, and what it answers.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use fanfare_core::{
    Ordering, Timestamp,
    signature::{VerifyingKey, verify},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{
    behaviour::{Answer, Behaviour},
    report::EndpointReport,
};
use crate::{
    latency::Latencies,
    payload::{self, NO_KEY, Stamp},
    sequence::{OrderWatch, SequenceSet},
};

/// An endpoint as it is configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSpec {
    /// Index of its application.
    pub application: u32,
    #[serde(default)]
    pub ordering: Ordering,
    /// `whsec_…` or `whpk_…`; several while a secret is replaced.
    pub secrets: Vec<String>,
    #[serde(default)]
    pub behaviour: Behaviour,
}

pub(super) struct Endpoint {
    application: u32,
    ordering: Ordering,
    keys: Vec<VerifyingKey>,
    run: u64,
    /// Of each message of the application, a hash of the `webhook-id` it came with.
    ids: Arc<Mutex<Vec<u32>>>,
    record: Mutex<Record>,
}

/// What arrived.
#[derive(Default)]
struct Record {
    behaviour: Behaviour,
    plain: bool,
    requests: u64,
    retried: u64,
    repeated: u64,
    out_of_order: u64,
    forged: u64,
    damaged: u64,
    foreign: u64,
    misrouted: u64,
    second_ids: u64,
    received: SequenceSet,
    delivered: SequenceSet,
    /// Of the whole endpoint if it is `strict`, of each key if `keyed`.
    order: OrderWatch,
    key_orders: HashMap<u32, OrderWatch>,
    /// Stands for the order of all first arrivals.
    order_digest: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    latencies: Latencies,
}

/// What the endpoint does with a request.
pub(super) enum Decision {
    /// 401: not signed by who should have, or not what was signed.
    Forged,
    /// 422: signed, but no message of this run for this endpoint.
    Unknown,
    /// Answers 200 at once; it is recorded as delivered.
    Deliver,
    /// Answers like this after a while; [`Endpoint::answered`] is told then.
    Answer { stamp: Stamp, answer: Answer, latency_ms: u64 },
}

impl Endpoint {
    pub(super) fn new(
        spec: &EndpointSpec,
        run: u64,
        ids: Arc<Mutex<Vec<u32>>>,
    ) -> Result<Self, fanfare_core::signature::KeyError> {
        let keys = spec.secrets.iter().map(|secret| secret.parse()).collect::<Result<_, _>>()?;
        let endpoint = Self {
            application: spec.application,
            ordering: spec.ordering,
            keys,
            run,
            ids,
            record: Mutex::default(),
        };
        endpoint.behave(spec.behaviour.clone());
        Ok(endpoint)
    }

    /// Judges one request; the hot path of the receiver.
    pub(super) fn take(&self, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Decision {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let id = header("webhook-id");
        let signed =
            verify(&self.keys, id, header("webhook-timestamp"), header("webhook-signature"), body, now);
        if signed.is_err() || id.is_empty() {
            self.record().forged += 1;
            return Decision::Forged;
        }
        let stamp = payload::read(body);
        let is_ours = |stamp: &Stamp| stamp.run == self.run && stamp.application == self.application;
        let under_second_id = stamp.is_ok_and(|stamp| is_ours(&stamp) && self.is_second_id(&stamp, id));

        let mut record = self.record();
        let Ok(stamp) = stamp else {
            record.damaged += 1;
            return Decision::Unknown;
        };
        if stamp.run != self.run {
            record.foreign += 1;
            return Decision::Unknown;
        }
        if stamp.application != self.application {
            record.misrouted += 1;
            return Decision::Unknown;
        }
        record.second_ids += u64::from(under_second_id);
        record.arrival(&stamp, self.ordering, now);
        if record.plain {
            record.delivered.insert(stamp.seq);
            return Decision::Deliver;
        }
        let answer = record.behaviour.answer_to(&stamp, record.requests);
        Decision::Answer { stamp, answer, latency_ms: record.behaviour.latency_ms }
    }

    /// An answer with status 2xx is about to be written.
    pub(super) fn answered(&self, stamp: &Stamp) {
        self.record().delivered.insert(stamp.seq);
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        let mut record = self.record();
        record.plain = behaviour.is_plain();
        record.behaviour = behaviour;
    }

    /// Forgets latencies: what came before was warming up.
    pub(super) fn reset_latencies(&self) {
        self.record().latencies.clear();
    }

    pub(super) fn add_latencies(&self, sum: &mut Latencies) {
        sum.add(&self.record().latencies);
    }

    /// (received, delivered, of these delivered to an endpoint that takes all).
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let record = self.record();
        let delivered = record.delivered.len();
        let expected = if record.behaviour.takes_all() { delivered } else { 0 };
        (record.received.len(), delivered, expected)
    }

    pub(super) fn report(&self, number: usize, sequences: bool) -> EndpointReport {
        let record = self.record();
        EndpointReport {
            number,
            application: self.application,
            ordering: self.ordering,
            takes_all: record.behaviour.takes_all(),
            requests: record.requests,
            received: record.received.len(),
            delivered: record.delivered.len(),
            retried: record.retried,
            repeated: record.repeated,
            out_of_order: record.out_of_order,
            forged: record.forged,
            damaged: record.damaged,
            foreign: record.foreign,
            misrouted: record.misrouted,
            second_ids: record.second_ids,
            order_digest: format!("{:016x}", record.order_digest),
            first_at: record.first,
            last_at: record.last,
            latency: record.latencies.summary(),
            received_sequences: if sequences { record.received.clone() } else { SequenceSet::default() },
            delivered_sequences: if sequences { record.delivered.clone() } else { SequenceSet::default() },
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder panics")
    }

    /// Whether the message came with another id before, to whichever endpoint.
    fn is_second_id(&self, stamp: &Stamp, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = (hasher.finish() >> 32) as u32 | 1;
        let mut ids = self.ids.lock().expect("no holder panics");
        let place = usize::try_from(stamp.seq).expect("at most MAX_SEQUENCE");
        if place >= ids.len() {
            ids.resize(place + 1, 0);
        }
        let known = std::mem::replace(&mut ids[place], hash);
        known != 0 && known != hash
    }
}

impl Record {
    fn arrival(&mut self, stamp: &Stamp, ordering: Ordering, now: Timestamp) {
        self.requests += 1;
        self.first.get_or_insert(now);
        self.last = Some(now);
        if !self.received.insert(stamp.seq) {
            let settled = self.delivered.contains(stamp.seq);
            self.repeated += u64::from(settled);
            self.retried += u64::from(!settled);
            return;
        }
        self.latencies.record(now.since(stamp.at));
        self.order_digest =
            (self.order_digest.rotate_left(5) ^ stamp.seq).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let in_order = match ordering {
            Ordering::Strict => self.order.first_arrival(stamp.seq, stamp.floor),
            // Messages without a key share one; they are numbered by the application.
            Ordering::Keyed if stamp.key == NO_KEY => self.order.first_arrival(stamp.seq, stamp.floor),
            Ordering::Keyed => {
                let order = self.key_orders.entry(stamp.key).or_default();
                order.first_arrival(stamp.key_seq, stamp.key_floor)
            }
            Ordering::Unordered => true,
        };
        self.out_of_order += u64::from(!in_order);
    }
}
