//! What happened, as producers, endpoints and the log saw it: all that the invariants ([`super::invariants`]) judge.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use fanfare_core::{
    ApplicationId, AttemptRecord, Delivery, EndpointNumber, Fact, Message, MessageId, Offset, Ordering,
    Outcome, Partition, Settlement, Source,
};
use fanfare_log::{Log, LogRecord, ReadError, Topic};

/// Times are since the beginning of the run.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each says that one thing happened in the run")]
pub(crate) struct Story {
    /// By the number that each payload carries.
    pub(crate) publishes: BTreeMap<u32, Publish>,
    pub(crate) subscribers: BTreeMap<EndpointNumber, Subscriber>,
    /// In order.
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) records: Records,
    /// Messages that an endpoint never takes.
    pub(crate) poison: BTreeSet<(EndpointNumber, u32)>,
    /// Moments at which a process ended without writing down what it had just done.
    pub(crate) cuts: Vec<Duration>,
    /// Each claim of a delivery partition: partition, epoch, since when it was durable.
    pub(crate) claims: Vec<(Partition, Offset, Duration)>,
    /// Each append of facts: partition, epoch, when.
    pub(crate) fact_appends: Vec<(Partition, Offset, Duration)>,
    /// One process takes and routes everything: its answers are exact.
    pub(crate) one_authority: bool,
    /// No clock ever stepped.
    pub(crate) clocks_even: bool,
    /// Only cuts can have kept a fact from the log.
    pub(crate) log_took_all: bool,
    /// No append failed with unknown outcome.
    pub(crate) appends_certain: bool,
    /// From here on every endpoint takes what is not poison.
    pub(crate) healed_at: Duration,
}

/// One message as its producer sees it, however often it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) application: ApplicationId,
    pub(crate) key: Option<String>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) channel: Option<String>,
    /// First.
    pub(crate) sent_at: Duration,
    /// Each 202.
    pub(crate) accepted: Vec<(Duration, MessageId)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) application: ApplicationId,
    pub(crate) ordering: Ordering,
    pub(crate) park_after: Option<Duration>,
    /// Attempts a second.
    pub(crate) rate: Option<NonZeroU32>,
    pub(crate) channels: Option<Vec<String>>,
    /// When its creation was answered, if it was.
    pub(crate) known_at: Option<Duration>,
}

/// A request that reached an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) sent: Duration,
    pub(crate) at: Duration,
    pub(crate) endpoint: EndpointNumber,
    pub(crate) id: MessageId,
    /// What its payload says.
    pub(crate) publish: u32,
    /// It was taken, and 2xx sent back by then.
    pub(crate) answered: Option<Duration>,
}

impl Subscriber {
    pub(crate) fn wants(&self, publish: &Publish) -> bool {
        let wanted =
            |channels: &Vec<String>| publish.channel.iter().any(|channel| channels.contains(channel));
        self.application == publish.application && self.channels.as_ref().is_none_or(wanted)
    }

    /// Which messages keep their order among each other; `None`: none do.
    pub(crate) fn sequence(&self, publish: &Publish) -> Option<String> {
        match self.ordering {
            Ordering::Strict => Some(String::new()),
            Ordering::Keyed => Some(publish.ordering_key.clone().unwrap_or_default()),
            Ordering::Unordered => None,
        }
    }
}

/// The topics, read from their beginning.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) messages: Vec<MessageRecord>,
    pub(crate) deliveries: Vec<DeliveryRecord>,
    /// In order per partition; with whether they count.
    pub(crate) facts: Vec<(Partition, Fact, bool)>,
}

#[derive(Debug)]
pub(crate) struct MessageRecord {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) id: MessageId,
    pub(crate) publish: u32,
}

#[derive(Debug)]
pub(crate) struct DeliveryRecord {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) delivery: Delivery,
    /// Whether a worker has to take it.
    pub(crate) counts: bool,
}

/// What the routers have to make of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Alias(MessageId),
    Conflict(MessageId),
}

impl Records {
    pub(crate) async fn read(log: &dyn Log, number_of: impl Fn(&[u8]) -> u32) -> Result<Self, ReadError> {
        let mut records = Self::default();
        for partition in partitions(log, Topic::Messages) {
            for record in read_all(log, Topic::Messages, partition).await? {
                let message = Message::decode(&record.head).expect("the log holds messages");
                let publish = number_of(&record.payload.expect("nothing was wiped"));
                records.messages.push(MessageRecord {
                    partition,
                    offset: record.offset,
                    id: message.id,
                    publish,
                });
            }
        }
        for partition in partitions(log, Topic::Deliveries) {
            let mut rule = Rule::default();
            for record in read_all(log, Topic::Deliveries, partition).await? {
                let delivery = Delivery::decode(&record.head).expect("the log holds deliveries");
                let counts = rule.counts(&delivery);
                records.deliveries.push(DeliveryRecord {
                    partition,
                    offset: record.offset,
                    delivery,
                    counts,
                });
            }
            let mut newest_claim = Offset::ZERO;
            for record in read_all(log, Topic::Attempts, partition).await? {
                match AttemptRecord::decode(&record.head).expect("the log holds attempts") {
                    AttemptRecord::Claim { .. } => newest_claim = record.offset,
                    AttemptRecord::Facts { epoch, facts } => {
                        let counts = |fact: &Fact| epoch >= newest_claim || is_delivered(fact);
                        records.facts.extend(facts.into_iter().map(|fact| {
                            let counts = counts(&fact);
                            (partition, fact, counts)
                        }));
                    }
                }
            }
        }
        Ok(records)
    }

    /// By place in `messages`. Windows are longer than any run.
    pub(crate) fn verdicts(
        &self,
        publishes: &BTreeMap<u32, Publish>,
    ) -> BTreeMap<(Partition, Offset), Verdict> {
        let mut first: BTreeMap<(ApplicationId, &str), (u32, MessageId)> = BTreeMap::new();
        let mut verdicts = BTreeMap::new();
        for message in &self.messages {
            let publish = &publishes[&message.publish];
            let known = publish.key.as_deref().and_then(|key| {
                let place = (publish.application, key);
                let known = first.get(&place).copied();
                first.entry(place).or_insert((message.publish, message.id));
                known
            });
            let verdict = match known {
                None => Verdict::New,
                Some((number, id)) if number == message.publish => Verdict::Alias(id),
                Some((_, id)) => Verdict::Conflict(id),
            };
            verdicts.insert((message.partition, message.offset), verdict);
        }
        verdicts
    }

    /// Delivery records that have to be taken and name endpoints.
    pub(crate) fn routed(&self) -> impl Iterator<Item = (&DeliveryRecord, MessageId, &[EndpointNumber])> {
        self.deliveries.iter().filter(|record| record.counts).filter_map(|record| match &record.delivery {
            Delivery::Routed { id, endpoints, .. } => Some((record, *id, endpoints.as_slice())),
            _ => None,
        })
    }

    /// The same of those that were injected.
    pub(crate) fn injected(&self) -> impl Iterator<Item = (&DeliveryRecord, MessageId, &[EndpointNumber])> {
        self.deliveries.iter().filter(|record| record.counts).filter_map(|record| match &record.delivery {
            Delivery::Injected { id, endpoints, .. } => Some((record, *id, endpoints.as_slice())),
            _ => None,
        })
    }

    /// How deliveries ended, by endpoint and delivery record.
    pub(crate) fn settlements(&self) -> BTreeMap<(EndpointNumber, Offset), Settlement> {
        let mut settled = BTreeMap::new();
        for (partition, fact, _) in self.facts.iter().filter(|(_, _, counts)| *counts) {
            match fact {
                Fact::Attempted(attempt) if attempt.outcome == Outcome::Delivered => {
                    settled.insert((attempt.endpoint, attempt.offset), Settlement::Delivered);
                }
                Fact::Attempted(_)
                | Fact::AnswerErased { .. }
                | Fact::Settled { reason: Settlement::Purged, .. } => {}
                Fact::Settled { endpoint, offset, reason, .. } => {
                    settled.entry((*endpoint, *offset)).or_insert(*reason);
                }
                Fact::SettledRange { endpoint, from, to, reason, .. } => {
                    for (record, _, endpoints) in self.routed().chain(self.injected()) {
                        let within = record.partition == *partition && (*from..*to).contains(&record.offset);
                        if within && endpoints.contains(endpoint) {
                            settled.entry((*endpoint, record.offset)).or_insert(*reason);
                        }
                    }
                }
            }
        }
        settled
    }

    pub(crate) fn publish_of(&self) -> BTreeMap<MessageId, u32> {
        self.messages.iter().map(|message| (message.id, message.publish)).collect()
    }
}

fn is_delivered(fact: &Fact) -> bool {
    matches!(fact, Fact::Attempted(attempt) if attempt.outcome == Outcome::Delivered)
}

/// Design §4, written a second time: which records of one delivery partition count.
#[derive(Default)]
struct Rule {
    sources: BTreeMap<Partition, (Option<Offset>, BTreeSet<u64>)>,
    /// The last of each job.
    jobs: BTreeMap<u64, u64>,
}

impl Rule {
    fn counts(&mut self, delivery: &Delivery) -> bool {
        match delivery {
            Delivery::Routed { source, .. }
            | Delivery::Alias { source, .. }
            | Delivery::Conflict { source, .. } => self.continues(source),
            Delivery::Injected { job, sequence, .. } => {
                let rises = self.jobs.get(job).is_none_or(|last| sequence > last);
                if rises {
                    self.jobs.insert(*job, *sequence);
                }
                rises
            }
        }
    }

    fn continues(&mut self, source: &Source) -> bool {
        let (highest, sessions) = self.sources.entry(source.partition).or_default();
        let begins = sessions.insert(source.session);
        let rises = highest.is_none_or(|highest| source.offset > highest);
        let joins = match (*highest, source.previous) {
            (Some(highest), Some(previous)) => previous <= highest,
            _ => true,
        };
        let counts = rises && (joins || begins);
        if counts {
            *highest = Some(source.offset);
        }
        counts
    }
}

pub(crate) fn partitions(log: &dyn Log, topic: Topic) -> impl Iterator<Item = Partition> {
    (0..log.partitions(topic)).map(Partition)
}

async fn read_all(log: &dyn Log, topic: Topic, partition: Partition) -> Result<Vec<LogRecord>, ReadError> {
    let bounds = log.bounds(topic, partition).await?;
    let mut records = Vec::new();
    let mut from = bounds.start;
    while from < bounds.end {
        let batch = log.fetch(topic, partition, from, 1 << 20).await?;
        records.extend(batch.records);
        if batch.next <= from {
            break;
        }
        from = batch.next;
    }
    Ok(records)
}
