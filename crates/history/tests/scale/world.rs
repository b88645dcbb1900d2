//! What happened: a log of messages, deliveries and attempts as the roles write it, made up by number, so that any part
//! of it can be told again without keeping it.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, AttemptRecord, Content, Delivery, EndpointNumber, Fact,
    Fingerprint, Identity, Message, MessageId, Offset, OrganizationId, Outcome, Partition, Settlement,
    Source, Timestamp, Trigger,
};
use fanfare_history::EndpointAt;
use fanfare_log::{
    Log, NewRecord, Sync, Topic,
    embedded::{EmbeddedLog, Options},
};

pub(crate) const APPLICATIONS: u64 = 8;
pub(crate) const ENDPOINTS: u32 = 25;
pub(crate) const MESSAGE_PARTITIONS: u32 = 4;
pub(crate) const DELIVERY_PARTITIONS: u32 = 8;
pub(crate) const EVENT_TYPES: [&str; 5] =
    ["invoice.paid", "invoice.created", "invoice.failed", "user.created", RARE_TYPE];
pub(crate) const RARE_TYPE: &str = "refund.rare";
pub(crate) const RARE_TAG: &str = "by hand";
/// Customers that payloads speak of.
pub(crate) const CUSTOMERS: u64 = 50;
const CHANNELS: [&str; 3] = ["eu", "us", "apac"];
/// All of it happened in so many seconds before now.
pub(crate) const SPAN_SECS: u64 = 7 * 24 * 3_600;
/// Messages that are appended at once.
const CHUNK: u64 = 2_000;
/// Facts in one record, as a busy worker gathers them.
const FACTS: usize = 100;

/// A number that depends on both and looks like chance.
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    mixed ^ mixed >> 29
}

/// The application of this number has half of the messages if it is 0.
pub(crate) fn application(number: u64) -> ApplicationId {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&mix(1, number).to_be_bytes());
    ApplicationId::from_bytes(bytes)
}

/// The endpoints of an application.
pub(crate) fn endpoints(application: u64) -> impl Iterator<Item = EndpointAt> {
    let first = u32::try_from(application).expect("few") * ENDPOINTS;
    (first..first + ENDPOINTS).map(|number| EndpointAt {
        number: EndpointNumber(number),
        partition: Partition(number % DELIVERY_PARTITIONS),
    })
}

/// Message number `n`, and for whom it is.
pub(crate) struct Told {
    pub(crate) application: u64,
    pub(crate) message: Message,
    pub(crate) endpoints: Vec<EndpointAt>,
}

/// Tells of messages by number; number `total` would be now.
#[derive(Clone, Copy)]
pub(crate) struct Teller {
    pub(crate) begun: Timestamp,
    /// So many messages there are.
    pub(crate) total: u64,
}

impl Teller {
    pub(crate) fn at(&self, n: u64) -> Timestamp {
        self.begun + Duration::from_micros(SPAN_SECS * 1_000_000 / self.total * n)
    }

    pub(crate) fn id(&self, n: u64) -> MessageId {
        let mut random = [0; 15];
        random[..8].copy_from_slice(&mix(2, n).to_be_bytes());
        MessageId::mint(self.at(n), random)
    }

    pub(crate) fn tell(&self, n: u64) -> Told {
        let chance = mix(3, n);
        let owner = if chance.is_multiple_of(2) { 0 } else { chance / 2 % APPLICATIONS };
        // The last kind is one of a thousand.
        let event_type = if (chance / 64).is_multiple_of(1_000) { 4 } else { (chance / 64 % 4) as usize };
        let channels =
            (chance / 4_096 % 4).checked_sub(1).map(|channel| CHANNELS[channel as usize].to_owned());
        let print = |kind: u8| Fingerprint::of(&[&[kind], &n.to_be_bytes()]);
        let message = Message {
            id: self.id(n),
            organization: OrganizationId::from_bytes([7; 20]),
            application: application(owner),
            event_type: EVENT_TYPES[event_type].to_owned(),
            event_id: (n.is_multiple_of(10)).then(|| format!("event-{n}")),
            channels: channels.into_iter().collect(),
            ordering_key: (n.is_multiple_of(3)).then(|| format!("customer {}", chance % 10_000)),
            tags: match n {
                n if n.is_multiple_of(7) => vec!["nightly".to_owned()],
                n if n % 2_000 == 1 => vec![RARE_TAG.to_owned()],
                _ => Vec::new(),
            },
            accepted_at: self.at(n),
            deliver_at: None,
            payload_expires_at: None,
            traceparent: None,
            identity: Identity { key: Some(print(1)), event_id: None, body: print(2), short_window: false },
            due_of: None,
            only_for: None,
        };
        // The first endpoint of an application wants everything, the others one of five each.
        let wants = |at: &EndpointAt| {
            at.number.0.is_multiple_of(ENDPOINTS)
                || mix(4, n ^ u64::from(at.number.0) << 40).is_multiple_of(5)
        };
        Told { application: owner, message, endpoints: endpoints(owner).filter(wants).collect() }
    }

    fn payload(n: u64) -> Bytes {
        let customer = mix(6, n) % CUSTOMERS;
        let text =
            format!("{{\"order\":{n},\"customer\":{{\"id\":{customer}}},\"lines\":[{{\"price\":100}}]}}");
        Bytes::from(text)
    }

    /// What became of it at this endpoint.
    pub(crate) fn fate(&self, n: u64, endpoint: EndpointNumber) -> Fate {
        let chance = mix(5, n ^ u64::from(endpoint.0) << 40) % 10_000;
        // Its second one fails most of what it gets.
        if endpoint.0 % ENDPOINTS == 1 && chance < 7_000 {
            return Fate { failures: vec![503; 5], end: End::Exhausted };
        }
        match chance {
            0..=1 => Fate { failures: vec![302; 3], end: End::Exhausted },
            2..=40 => Fate { failures: vec![500; 5], end: End::Exhausted },
            41..=60 => Fate { failures: vec![], end: End::Pending },
            61..=80 => Fate { failures: vec![429; 2], end: End::Pending },
            81..=90 => Fate { failures: vec![0], end: End::Cancelled },
            91..=600 => Fate {
                failures: vec![[500, 503, 429, 0][(chance % 4) as usize]; 1 + (chance % 3) as usize],
                end: End::Delivered,
            },
            _ => Fate { failures: vec![], end: End::Delivered },
        }
    }
}

/// Statuses of the attempts that failed, and what came then.
pub(crate) struct Fate {
    pub(crate) failures: Vec<u16>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Exhausted,
    Cancelled,
    Pending,
}

impl Fate {
    pub(crate) fn attempts(&self) -> u64 {
        self.failures.len() as u64 + u64::from(self.end == End::Delivered)
    }

    fn facts(&self, endpoint: EndpointNumber, offset: Offset, accepted_at: Timestamp) -> Vec<Fact> {
        let is_exhausted = self.end == End::Exhausted;
        let mut at = accepted_at + Duration::from_millis(3);
        let attempt = |number: usize, at: Timestamp, status: u16, due: Option<Timestamp>| {
            let is_delivered = status == 200;
            Fact::Attempted(Attempt {
                endpoint,
                offset,
                number: u32::try_from(number + 1).expect("few"),
                trigger: Trigger::Scheduled,
                at,
                duration: Duration::from_millis(12),
                outcome: if is_delivered { Outcome::Delivered } else { Outcome::Failed },
                status,
                error: (!is_delivered).then_some(if status == 0 {
                    AttemptError::Timeout
                } else {
                    AttemptError::Status
                }),
                response: if is_delivered {
                    Bytes::new()
                } else {
                    Bytes::from_static(b"{\"error\":\"try again later\"}")
                },
                due,
                deadline_used: Duration::ZERO,
            })
        };
        let mut facts = Vec::with_capacity(self.failures.len() + 1);
        for (number, &status) in self.failures.iter().enumerate() {
            let next = at + Duration::from_secs(5 << (2 * number));
            let is_last = is_exhausted && number + 1 == self.failures.len();
            facts.push(attempt(number, at, status, (!is_last).then_some(next)));
            at = next;
        }
        match self.end {
            End::Pending => {}
            End::Delivered => facts.push(attempt(self.failures.len(), at, 200, None)),
            End::Exhausted => {
                facts.push(Fact::Settled { endpoint, offset, reason: Settlement::Exhausted, at });
            }
            End::Cancelled => {
                facts.push(Fact::Settled { endpoint, offset, reason: Settlement::Cancelled, at });
            }
        }
        facts
    }
}

/// How many messages make so many attempts, or a few more.
pub(crate) fn messages_for(attempts: u64) -> u64 {
    let sample = 2_000.min(attempts);
    let teller = Teller { begun: Timestamp::ZERO, total: sample };
    let made: u64 = (0..sample).map(|n| attempts_of(&teller, n)).sum();
    attempts * sample * 102 / (made.max(1) * 100) + 1
}

pub(crate) fn attempts_of(teller: &Teller, n: u64) -> u64 {
    teller.tell(n).endpoints.iter().map(|at| teller.fate(n, at.number).attempts()).sum()
}

pub(crate) fn open(directory: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(Options::new(directory, MESSAGE_PARTITIONS, DELIVERY_PARTITIONS)).unwrap()
}

/// Writes all of it down; gives the number of attempts.
pub(crate) async fn write(log: &Arc<EmbeddedLog>, teller: &Teller) -> u64 {
    let mut writer = Writer::new(Arc::clone(log));
    writer.claim(teller.begun).await;
    let mut attempts = 0;
    for from in (0..teller.total).step_by(CHUNK as usize) {
        for n in from..teller.total.min(from + CHUNK) {
            attempts += writer.message(teller, n);
        }
        writer.flush().await;
    }
    attempts
}

/// Where each partition is, and what was said since the last flush.
struct Writer {
    log: Arc<EmbeddedLog>,
    /// By topic and partition: the next offset.
    next: [Vec<u64>; 3],
    records: [Vec<Vec<NewRecord>>; 3],
    facts: Vec<Vec<Fact>>,
    /// Source offset that was sent last, by source and delivery partition.
    previous: Vec<Vec<Option<Offset>>>,
}

const TOPICS: [Topic; 3] = [Topic::Messages, Topic::Deliveries, Topic::Attempts];
const MESSAGES: usize = 0;
const DELIVERIES: usize = 1;
const ATTEMPTS: usize = 2;

impl Writer {
    fn new(log: Arc<EmbeddedLog>) -> Self {
        let partitions = TOPICS.map(|topic| log.partitions(topic) as usize);
        Self {
            next: partitions.map(|count| vec![0; count]),
            records: partitions.map(|count| vec![Vec::new(); count]),
            facts: vec![Vec::new(); partitions[DELIVERIES]],
            previous: vec![vec![None; partitions[DELIVERIES]]; partitions[MESSAGES]],
            log,
        }
    }

    async fn claim(&mut self, at: Timestamp) {
        for partition in 0..self.facts.len() {
            self.append(ATTEMPTS, partition, AttemptRecord::Claim { owner: 1, at }.encode(), Bytes::new());
        }
        self.flush().await;
    }

    fn append(&mut self, topic: usize, partition: usize, head: Bytes, payload: Bytes) -> Offset {
        self.records[topic][partition].push(NewRecord { head, payload });
        let next = &mut self.next[topic][partition];
        *next += 1;
        Offset(*next - 1)
    }

    fn message(&mut self, teller: &Teller, n: u64) -> u64 {
        let Told { application, message, endpoints } = teller.tell(n);
        let from = (application % u64::from(MESSAGE_PARTITIONS)) as usize;
        let offset = self.append(MESSAGES, from, message.encode(), Teller::payload(n));
        let mut attempts = 0;
        for to in 0..self.facts.len() {
            let numbers = endpoints.iter().filter(|at| at.partition.0 as usize == to).map(|at| at.number);
            let numbers: Vec<EndpointNumber> = numbers.collect();
            if numbers.is_empty() {
                continue;
            }
            let source = Source {
                partition: Partition(from as u32),
                offset,
                session: 1 + from as u64,
                previous: self.previous[from][to].replace(offset),
                control: Offset::ZERO,
            };
            let delivery = Delivery::Routed {
                source,
                id: message.id,
                accepted_at: message.accepted_at,
                ordering_key: message.ordering_key_hash(),
                endpoints: numbers.clone(),
                content: Content::Reference,
                due_of: None,
            };
            let delivery = self.append(DELIVERIES, to, delivery.encode(), Bytes::new());
            for number in numbers {
                let fate = teller.fate(n, number);
                attempts += fate.attempts();
                self.facts[to].extend(fate.facts(number, delivery, message.accepted_at));
            }
        }
        attempts
    }

    async fn flush(&mut self) {
        for partition in 0..self.facts.len() {
            let facts = std::mem::take(&mut self.facts[partition]);
            for facts in facts.chunks(FACTS) {
                let record = AttemptRecord::Facts { epoch: Offset::ZERO, facts: facts.to_vec() };
                self.append(ATTEMPTS, partition, record.encode(), Bytes::new());
            }
        }
        let mut pending = Vec::new();
        for topic in 0..TOPICS.len() {
            for partition in 0..self.records[topic].len() {
                let records = std::mem::take(&mut self.records[topic][partition]);
                if records.is_empty() {
                    continue;
                }
                let first = self.next[topic][partition] - records.len() as u64;
                let at = Partition(partition as u32);
                let appended = self.log.append(TOPICS[topic], at, records, Sync::Lazy).await.unwrap();
                pending.push((first, appended));
            }
        }
        for (first, appended) in pending {
            assert_eq!(appended.await.unwrap().start, Offset(first), "offsets have no gaps here");
        }
    }
}
