//! What should arrive, from `messages` alone; and what does arrive, by the rule of a delivery worker. Both are
//! written without the router's code.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fanfare_core::{
    ClaimEntry, Content, Delivery, EndpointNumber, Fingerprint, Message, MessageId, Offset, Partition,
    RouterCheckpoint, limits,
};
use fanfare_log::{Log, LogRecord, Topic};

use crate::world::{DELIVERY_PARTITIONS, MESSAGE_PARTITIONS, Wanting};

/// A message: `messages` partition and offset.
pub(crate) type Place = (Partition, Offset);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// In the order in which they come, per `messages` partition.
    pub(crate) arrived: BTreeMap<(EndpointNumber, Partition), Vec<Offset>>,
    pub(crate) aliases: BTreeMap<Place, (MessageId, MessageId)>,
    pub(crate) conflicts: BTreeMap<Place, (MessageId, MessageId)>,
    /// Their time has not come.
    pub(crate) waiting: BTreeSet<Place>,
}

/// How it came to that.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    pub(crate) repeats: usize,
    pub(crate) gaps: usize,
    /// Records that name none before them.
    pub(crate) unchained: usize,
    pub(crate) records: usize,
    /// Of those taken, with their payload beside them.
    pub(crate) inlined: usize,
    pub(crate) sessions: BTreeSet<u64>,
}

pub(crate) async fn read_all(log: &dyn Log, topic: Topic, partition: Partition) -> Vec<LogRecord> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let (mut from, mut records) = (bounds.start, Vec::new());
    while from < bounds.end {
        let batch = log.fetch(topic, partition, from, 1 << 20).await.unwrap();
        assert!(batch.next > from, "a read goes on");
        from = batch.next;
        records.extend(batch.records);
    }
    records
}

/// Takes every delivery partition from its start, as a worker's tail does.
pub(crate) async fn take(log: &dyn Log) -> Seen {
    let mut seen = Seen::default();
    for partition in (0..DELIVERY_PARTITIONS).map(Partition) {
        let mut highest: HashMap<Partition, Offset> = HashMap::new();
        for record in read_all(log, Topic::Deliveries, partition).await {
            let delivery = Delivery::decode(&record.head).unwrap();
            let source = *delivery.source().unwrap();
            seen.records += 1;
            seen.unchained += usize::from(source.previous.is_none());
            seen.sessions.insert(source.session);
            let before = highest.get(&source.partition).copied();
            if before.is_some_and(|highest| source.offset <= highest) {
                seen.repeats += 1;
                continue;
            }
            if source.previous.is_some_and(|previous| before.is_none_or(|highest| previous > highest)) {
                seen.gaps += 1;
                continue;
            }
            highest.insert(source.partition, source.offset);
            let place = (source.partition, source.offset);
            match delivery {
                Delivery::Routed { endpoints, content, due_of, .. } => {
                    assert!(!endpoints.is_empty());
                    assert!(due_of.is_none_or(|original| original < source.offset));
                    seen.inlined += usize::from(matches!(content, Content::Inline { .. }));
                    for endpoint in endpoints {
                        seen.outcome.arrived.entry((endpoint, place.0)).or_default().push(place.1);
                    }
                }
                Delivery::Alias { id, first, .. } => {
                    assert_eq!(partition.0, place.0.0 % DELIVERY_PARTITIONS);
                    seen.outcome.aliases.insert(place, (id, first));
                }
                Delivery::Conflict { id, first, .. } => {
                    assert_eq!(partition.0, place.0.0 % DELIVERY_PARTITIONS);
                    seen.outcome.conflicts.insert(place, (id, first));
                }
                Delivery::Injected { .. } => panic!("the router injects nothing"),
            }
        }
    }
    seen
}

/// What should come of everything in `messages`, for endpoints that existed before all of it.
pub(crate) async fn expect(log: &dyn Log, endpoints: &[Wanting]) -> Outcome {
    let mut outcome = Outcome::default();
    for partition in (0..MESSAGE_PARTITIONS).map(Partition) {
        let mut claims: HashMap<Fingerprint, ClaimEntry> = HashMap::new();
        for record in read_all(log, Topic::Messages, partition).await {
            let message = Message::decode(&record.head).unwrap();
            let place = (partition, record.offset);
            let wanting = endpoints.iter().filter(|endpoint| wants(endpoint, &message));
            if let Some(original) = message.due_of {
                assert!(message.deliver_at.unwrap() <= message.accepted_at, "before its time");
                if outcome.waiting.remove(&(partition, original)) {
                    for endpoint in wanting {
                        outcome.arrived.entry((endpoint.number, partition)).or_default().push(record.offset);
                    }
                }
                continue;
            }
            let identity = message.identity;
            let live = |claim: Option<Fingerprint>| {
                let found = claims.get(&claim?)?;
                (message.accepted_at < found.expires_at).then_some(*found)
            };
            let found: Vec<_> = live(identity.key).into_iter().chain(live(identity.event_id)).collect();
            let Some(first) = found.first() else {
                let short =
                    [limits::DEDUP_WINDOW, limits::DEDUP_WINDOW_SHORT][usize::from(identity.short_window)];
                for (claim, window) in [(identity.key, short), (identity.event_id, limits::DEDUP_WINDOW)] {
                    let Some(claim) = claim else { continue };
                    let expires_at = message.accepted_at + window;
                    let entry = ClaimEntry {
                        claim,
                        body: identity.body,
                        id: message.id,
                        offset: record.offset,
                        expires_at,
                    };
                    claims.insert(claim, entry);
                }
                if message.deliver_at.is_some_and(|at| at > message.accepted_at) {
                    outcome.waiting.insert(place);
                    continue;
                }
                for endpoint in wanting {
                    outcome.arrived.entry((endpoint.number, partition)).or_default().push(record.offset);
                }
                continue;
            };
            let one_message = found.iter().all(|entry| entry.id == first.id);
            let under_its_own_key = identity.key.is_none() || live(identity.key).is_some();
            let twins = (message.id, first.id);
            if one_message && under_its_own_key && first.body == identity.body {
                outcome.aliases.insert(place, twins);
            } else {
                outcome.conflicts.insert(place, twins);
            }
        }
    }
    outcome
}

fn wants(endpoint: &Wanting, message: &Message) -> bool {
    let channel = endpoint.channel.as_ref();
    endpoint.application == message.application
        && channel.is_none_or(|channel| message.channels.contains(channel))
}

/// The newest checkpoint of a partition.
pub(crate) async fn checkpoint(log: &dyn Log, partition: Partition) -> Option<RouterCheckpoint> {
    let records = read_all(log, Topic::Dedup, partition).await;
    let checkpoints = records.iter().map(|record| RouterCheckpoint::decode(&record.head).unwrap());
    checkpoints.max_by_key(|checkpoint| checkpoint.position)
}
