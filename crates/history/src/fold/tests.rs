#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tables;

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Content, Fingerprint, Identity, MessageId, OrganizationId, Source as DeliverySource,
    Trigger,
};
use proptest::prelude::*;

use self::tables::Tables;
use super::*;

pub(crate) const PART: Partition = Partition(0);
const ENDPOINTS: u32 = 3;

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000) + Duration::from_micros(micros.cast_unsigned())
}

/// When the message at this offset was accepted.
fn accepted_at(offset: u64) -> Timestamp {
    at(i64::try_from(offset).unwrap() * 5_000)
}

fn message_id(offset: u64, time: Timestamp) -> MessageId {
    let mut random = [0; 15];
    random[..8].copy_from_slice(&offset.to_be_bytes());
    MessageId::mint(time, random)
}

pub(crate) fn message_at(offset: u64, time: Timestamp) -> Box<Message> {
    Box::new(Message {
        id: message_id(offset, time),
        organization: OrganizationId::from_bytes([1; 20]),
        application: ApplicationId::from_bytes([2; 20]),
        event_type: "invoice.paid".to_owned(),
        event_id: None,
        channels: vec!["a".to_owned()],
        ordering_key: None,
        tags: Vec::new(),
        accepted_at: time,
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity { key: None, event_id: None, body: Fingerprint([0; 16]), short_window: false },
        due_of: None,
        only_for: None,
    })
}

/// The message at the same offset of `messages`, for these endpoints.
pub(crate) fn routed_at(offset: u64, time: Timestamp, endpoints: &[u32]) -> Delivery {
    Delivery::Routed {
        source: DeliverySource {
            partition: PART,
            offset: Offset(offset),
            session: 1,
            previous: offset.checked_sub(1).map(Offset),
            control: Offset::ZERO,
        },
        id: message_id(offset, time),
        accepted_at: time,
        ordering_key: 0,
        endpoints: endpoints.iter().copied().map(EndpointNumber).collect(),
        content: Content::Reference,
        due_of: None,
    }
}

fn message(offset: u64) -> Box<Message> {
    message_at(offset, accepted_at(offset))
}

fn routed(offset: u64, endpoints: &[u32]) -> Delivery {
    routed_at(offset, accepted_at(offset), endpoints)
}

fn injected(of: u64, sequence: u64, endpoints: &[u32]) -> Delivery {
    Delivery::Injected {
        job: 9,
        sequence,
        id: message_id(of, accepted_at(of)),
        partition: PART,
        offset: Offset(of),
        ordering_key: 0,
        endpoints: endpoints.iter().copied().map(EndpointNumber).collect(),
        at: accepted_at(of),
        control: Offset::ZERO,
    }
}

pub(crate) fn attempt(endpoint: u32, offset: u64, number: u32, status: u16, time: i64) -> Fact {
    let delivered = (200..300).contains(&status);
    Fact::Attempted(Attempt {
        endpoint: EndpointNumber(endpoint),
        offset: Offset(offset),
        number,
        trigger: Trigger::Scheduled,
        at: at(time),
        duration: Duration::from_millis(3),
        outcome: if delivered { Outcome::Delivered } else { Outcome::Failed },
        status,
        error: None,
        response: Bytes::from_static(b"answered"),
        due: (!delivered).then(|| at(time + 1_000_000)),
        deadline_used: Duration::ZERO,
    })
}

fn settled(endpoint: u32, offset: u64, reason: Settlement, time: i64) -> Fact {
    Fact::Settled { endpoint: EndpointNumber(endpoint), offset: Offset(offset), reason, at: at(time) }
}

fn range(endpoint: u32, from: u64, to: u64, time: i64) -> Fact {
    Fact::SettledRange {
        endpoint: EndpointNumber(endpoint),
        from: Offset(from),
        to: Offset(to),
        reason: Settlement::Cancelled,
        at: at(time),
    }
}

fn answer_erased(attempt: &Attempt, time: i64) -> Fact {
    let Attempt { endpoint, offset, number, at: made_at, .. } = *attempt;
    Fact::AnswerErased { endpoint, offset, number, made_at, at: at(time) }
}

fn attempts_of(record: &AttemptRecord) -> impl Iterator<Item = &Attempt> {
    let facts = match record {
        AttemptRecord::Facts { facts, .. } => facts.as_slice(),
        AttemptRecord::Claim { .. } => &[],
    };
    facts.iter().filter_map(|fact| match fact {
        Fact::Attempted(attempt) => Some(attempt),
        _ => None,
    })
}

fn standing(tables: &Tables, endpoint: u32, offset: u64) -> Standing {
    tables.deliveries[&(EndpointNumber(endpoint), Offset(offset))].standing
}

/// Everything in one batch.
fn fold_all(deliveries: &[Delivery], attempts: &[AttemptRecord]) -> Tables {
    let mut tables = Tables::default();
    let mut fold = Fold::default();
    for (offset, delivery) in deliveries.iter().enumerate() {
        fold.message(PART, Offset(offset as u64), message(offset as u64));
        fold.delivery(PART, Offset(offset as u64), delivery);
    }
    tables.write(fold.take());
    for (offset, record) in attempts.iter().enumerate() {
        tables.fold_record(&mut fold, PART, Offset(offset as u64), record, usize::MAX);
    }
    tables.write(fold.take());
    tables
}

pub(crate) fn facts(epoch: u64, facts: Vec<Fact>) -> AttemptRecord {
    AttemptRecord::Facts { epoch: Offset(epoch), facts }
}

#[test]
fn a_delivery_goes_its_way() {
    let tables = fold_all(
        &[routed(0, &[0, 1]), routed(1, &[0])],
        &[
            facts(0, vec![attempt(0, 0, 1, 500, 10), attempt(1, 0, 1, 204, 11)]),
            facts(0, vec![attempt(0, 0, 2, 200, 2_000), settled(0, 1, Settlement::Rejected, 3_000)]),
        ],
    );
    assert_eq!(standing(&tables, 0, 0), Standing::Settled(Settlement::Delivered));
    assert_eq!(standing(&tables, 1, 0), Standing::Settled(Settlement::Delivered));
    assert_eq!(standing(&tables, 0, 1), Standing::Settled(Settlement::Rejected));
    assert_eq!(tables.attempts.len(), 3);
    assert_eq!(tables.attempts.values().filter(|attempt| attempt.again).count(), 1);
    tables.check();
}

#[test]
fn of_an_older_epoch_only_what_was_delivered_counts() {
    let claim = AttemptRecord::Claim { owner: 1, at: at(0) };
    let tables = fold_all(
        &[routed(0, &[0]), routed(1, &[0])],
        &[
            claim.clone(),
            claim,
            facts(
                0,
                vec![
                    settled(0, 0, Settlement::Exhausted, 5),
                    attempt(0, 1, 1, 200, 6),
                    attempt(0, 0, 1, 500, 7),
                ],
            ),
        ],
    );
    assert_eq!(standing(&tables, 0, 0), Standing::Pending);
    assert_eq!(standing(&tables, 0, 1), Standing::Settled(Settlement::Delivered));
}

#[test]
fn what_an_endpoint_received_it_received() {
    let tables = fold_all(
        &[routed(0, &[0]), routed(1, &[0])],
        &[facts(
            0,
            vec![range(0, 0, 2, 1), attempt(0, 0, 1, 200, 2), settled(0, 1, Settlement::Exhausted, 3)],
        )],
    );
    assert_eq!(standing(&tables, 0, 0), Standing::Settled(Settlement::Delivered));
    assert_eq!(standing(&tables, 0, 1), Standing::Settled(Settlement::Cancelled), "settled is final");
}

#[test]
fn repeats_and_gaps_are_refused_as_by_the_worker() {
    let tables = fold_all(&[routed(0, &[0]), routed(0, &[0]), routed(2, &[0])], &[]);
    assert_eq!(tables.deliveries.len(), 1);
}

#[test]
fn where_the_log_begins_in_the_middle_the_workers_decisions_count() {
    // The worker saw offsets 0 to 3, and of those the repeats at 1 and 3.
    let all = [
        routed(0, &[0]),
        routed(0, &[0]),
        routed(1, &[0]),
        routed(0, &[0]),
        routed(1, &[0]),
        routed(2, &[0]),
    ];
    let mut rule = IntakeRule::default();
    for (offset, delivery) in all.iter().enumerate().take(4) {
        rule.decide(Offset(offset as u64), delivery);
    }
    let mut checkpoint = WorkerCheckpoint { deliveries: Offset(4), ..WorkerCheckpoint::default() };
    rule.save(&mut checkpoint);

    let mut fold = Fold::default();
    fold.begin_behind(PART, checkpoint);
    let mut tables = Tables::default();
    for (offset, delivery) in all.iter().enumerate().skip(1) {
        fold.delivery(PART, Offset(offset as u64), delivery);
        tables.write(fold.take());
        fold = tables.restore();
    }
    let offsets: Vec<u64> = tables.deliveries.keys().map(|(_, offset)| offset.0).collect();
    assert_eq!(offsets, [2, 5]);
}

#[test]
fn of_several_deliveries_one_counts() {
    let deliveries = [routed(0, &[0]), routed(1, &[0]), injected(0, 1, &[0]), injected(1, 2, &[0])];
    let tables = fold_all(
        &deliveries,
        &[facts(
            0,
            vec![attempt(0, 0, 1, 200, 1), settled(0, 1, Settlement::Rejected, 2), attempt(0, 3, 1, 200, 9)],
        )],
    );
    let shadow = |offset| tables.deliveries[&(EndpointNumber(0), Offset(offset))].shadow;
    assert_eq!([shadow(0), shadow(2)], [Shadow::Counts, Shadow::Shadowed], "it was delivered the first time");
    assert_eq!(
        [shadow(1), shadow(3)],
        [Shadow::Shadowed, Shadow::Counts],
        "the last counts, and was delivered"
    );
    tables.check();
}

/// Whoever holds the partition, and whatever its epoch.
#[test]
fn dead_letters_are_purged_and_nothing_else_is() {
    let claim = AttemptRecord::Claim { owner: 1, at: at(0) };
    let tables = fold_all(
        &[routed(0, &[0]), routed(1, &[0]), routed(2, &[0])],
        &[
            claim.clone(),
            claim,
            facts(1, vec![settled(0, 0, Settlement::Exhausted, 5), attempt(0, 1, 1, 200, 6)]),
            facts(0, (0..3).map(|offset| settled(0, offset, Settlement::Purged, 7)).collect()),
            // It came after all.
            facts(1, vec![settled(0, 0, Settlement::Cancelled, 8)]),
        ],
    );
    assert_eq!(standing(&tables, 0, 0), Standing::Settled(Settlement::Purged));
    assert_eq!(standing(&tables, 0, 1), Standing::Settled(Settlement::Delivered));
    assert_eq!(standing(&tables, 0, 2), Standing::Pending);
    tables.check();
}

#[test]
fn an_erased_answer_is_gone_and_the_others_stay() {
    let told = [attempt(0, 0, 1, 500, 10), attempt(0, 0, 2, 500, 9_000_000)];
    let Fact::Attempted(first) = &told[0] else { unreachable!() };
    let erased = answer_erased(first, 10_000_000);
    let records = [facts(0, told.to_vec()), facts(0, vec![erased]), facts(0, vec![told[0].clone()])];
    let tables = fold_all(&[routed(0, &[0])], &records);
    let answers: Vec<_> =
        tables.attempts.values().map(|new| (new.attempt.number, new.attempt.response.is_empty())).collect();
    assert_eq!(answers, [(1, true), (2, false)], "also when it is told of again");
}

#[derive(Clone, Debug)]
enum Step {
    Attempt {
        endpoint: u32,
        offset: u64,
        delivered: bool,
    },
    Settle {
        endpoint: u32,
        offset: u64,
    },
    Purge {
        endpoint: u32,
        offset: u64,
    },
    /// What the attempt, of all so far, was answered.
    Erase {
        which: usize,
    },
    Range {
        endpoint: u32,
        from: u64,
        length: u64,
    },
    Claim,
    Zombie,
    Inject {
        endpoint: u32,
        of: u64,
    },
    Deliver {
        endpoints: Vec<u32>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = 0..ENDPOINTS;
    prop_oneof![
        4 => prop::collection::btree_set(0..ENDPOINTS, 1..=ENDPOINTS as usize)
            .prop_map(|endpoints| Step::Deliver { endpoints: endpoints.into_iter().collect() }),
        6 => (endpoint.clone(), any::<u64>(), any::<bool>())
            .prop_map(|(endpoint, offset, delivered)| Step::Attempt { endpoint, offset, delivered }),
        2 => (endpoint.clone(), any::<u64>()).prop_map(|(endpoint, offset)| Step::Settle { endpoint, offset }),
        2 => (endpoint.clone(), any::<u64>()).prop_map(|(endpoint, offset)| Step::Purge { endpoint, offset }),
        1 => any::<usize>().prop_map(|which| Step::Erase { which }),
        1 => (endpoint.clone(), any::<u64>(), 1..20_u64)
            .prop_map(|(endpoint, from, length)| Step::Range { endpoint, from, length }),
        1 => Just(Step::Claim),
        1 => Just(Step::Zombie),
        1 => (endpoint, any::<u64>()).prop_map(|(endpoint, of)| Step::Inject { endpoint, of }),
    ]
}

/// What a log would hold.
#[derive(Debug, Default)]
struct Recorded {
    deliveries: Vec<Delivery>,
    attempts: Vec<AttemptRecord>,
    /// Of each record of attempts: delivery records that stood before it.
    before: Vec<usize>,
}

fn record(steps: &[Step]) -> Recorded {
    let mut log = Recorded::default();
    let (mut source, mut epoch, mut time, mut sequence) = (0, 0, 0, 0);
    let mut numbers: BTreeMap<(u32, u64), u32> = BTreeMap::new();
    for step in steps {
        time += 1_500;
        let count = log.deliveries.len() as u64;
        let fact = match step {
            Step::Deliver { endpoints } => {
                log.deliveries.push(routed(source, endpoints));
                source += 1;
                continue;
            }
            Step::Inject { endpoint, of } if source > 0 => {
                sequence += 1;
                log.deliveries.push(injected(of % source, sequence, &[*endpoint]));
                continue;
            }
            Step::Claim => {
                epoch = log.attempts.len() as u64;
                log.before.push(log.deliveries.len());
                log.attempts.push(AttemptRecord::Claim { owner: 1, at: at(time) });
                continue;
            }
            _ if count == 0 => continue,
            Step::Attempt { endpoint, offset, delivered } => {
                let status = if *delivered { 200 } else { 503 };
                let number = numbers.entry((*endpoint, offset % count)).or_default();
                *number += 1;
                attempt(*endpoint, offset % count, *number, status, time)
            }
            Step::Settle { endpoint, offset } => {
                settled(*endpoint, offset % count, Settlement::Exhausted, time)
            }
            Step::Purge { endpoint, offset } => {
                log.before.push(log.deliveries.len());
                let purged = settled(*endpoint, offset % count, Settlement::Purged, time);
                log.attempts.push(facts(0, vec![purged.clone(), purged]));
                continue;
            }
            Step::Erase { which } => {
                let made: Vec<Attempt> = log.attempts.iter().flat_map(attempts_of).cloned().collect();
                let Some(attempt) = made.get(which % made.len().max(1)) else { continue };
                log.before.push(log.deliveries.len());
                log.attempts.push(facts(0, vec![answer_erased(attempt, time)]));
                continue;
            }
            Step::Range { endpoint, from, length } => {
                let from = from % count;
                range(*endpoint, from, (from + length).min(count), time)
            }
            Step::Zombie => {
                log.before.push(log.deliveries.len());
                log.attempts.push(facts(0, vec![settled(0, count - 1, Settlement::Rejected, time)]));
                continue;
            }
            Step::Inject { .. } => continue,
        };
        log.before.push(log.deliveries.len());
        log.attempts.push(facts(epoch, vec![fact.clone(), fact]));
    }
    log
}

proptest! {
    /// Whatever is in the log, wherever batches end, and wherever the process dies between them: the tables are those
    /// of one batch, and their counts add up.
    #[test]
    fn tables_are_a_function_of_the_log(
        steps in prop::collection::vec(step(), 0..80),
        cuts in prop::collection::vec((any::<bool>(), any::<bool>()), 200),
        leads in prop::collection::vec(0_usize..6, 200),
        range_step in 1_usize..5,
    ) {
        let log = record(&steps);
        let whole = fold_all(&log.deliveries, &log.attempts);
        whole.check();

        let mut tables = Tables::default();
        let mut fold = Fold::default();
        let (mut cuts, mut leads) = (cuts.into_iter(), leads.into_iter());
        let mut cut = |fold: &mut Fold, tables: &mut Tables| {
            let (ends, dies) = cuts.next().unwrap_or((false, false));
            if dies {
                // What was not written is folded again.
                *fold = tables.restore();
            } else if ends {
                tables.write(fold.take());
            }
        };
        loop {
            let delivered = usize::try_from(fold.position(Source::Deliveries, PART).0).unwrap();
            let attempted = usize::try_from(fold.position(Source::Attempts, PART).0).unwrap();
            let needed = log.before.get(attempted).copied();
            // Deliveries may be read ahead of facts.
            let ahead = needed.unwrap_or(log.deliveries.len()) + leads.next().unwrap_or(0);
            if delivered < log.deliveries.len() && delivered < ahead {
                let offset = Offset(delivered as u64);
                fold.message(PART, offset, message(offset.0));
                tables.fold_delivery(&mut fold, PART, offset, &log.deliveries[delivered]);
            } else if let Some(record) = log.attempts.get(attempted) {
                tables.fold_record(&mut fold, PART, Offset(attempted as u64), record, range_step);
            } else if delivered >= log.deliveries.len() {
                break;
            }
            cut(&mut fold, &mut tables);
        }
        tables.write(fold.take());
        tables.check();
        prop_assert_eq!(tables.content(), whole.content());
    }
}
