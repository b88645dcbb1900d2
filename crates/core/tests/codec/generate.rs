//! Strategies for every record type.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, AttemptRecord, ClaimEntry, Content, Delivery, EndpointNumber, Fact,
    Fingerprint, Identity, Message, MessageId, Offset, OrganizationId, Outcome, Partition, RouterCheckpoint,
    Settlement, Source, Timestamp, Trigger, WorkerCheckpoint,
    lane::HeldBy,
    load::{Capacity, Limit, PartitionLoad, Rate},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

const FEW: Range<usize> = 0..6;

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let who = (id(), id(), id(), ".{0,24}", option::of(".{0,24}"));
    let how = (vec(".{0,12}", FEW), option::of(".{0,24}"), vec(".{0,12}", FEW));
    let when = (timestamp(), option::of(timestamp()), option::of(timestamp()));
    let only_for = option::of(any::<u32>().prop_map(EndpointNumber));
    let rest = (option::of(".{0,55}"), identity(), option::of(offset()), only_for);
    (who, how, when, rest).prop_map(|(who, how, when, rest)| {
        let (id, organization, application, event_type, event_id) = who;
        let (channels, ordering_key, tags) = how;
        let (accepted_at, deliver_at, payload_expires_at) = when;
        let (traceparent, identity, due_of, only_for) = rest;
        Message {
            id: MessageId::from_bytes(id),
            organization: OrganizationId::from_bytes(organization),
            application: ApplicationId::from_bytes(application),
            event_type,
            event_id,
            channels,
            ordering_key,
            tags,
            accepted_at,
            deliver_at,
            payload_expires_at,
            traceparent,
            identity,
            due_of,
            only_for,
        }
    })
}

pub(crate) fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        (source(), message_id(), timestamp(), any::<u64>(), endpoints(), content(), option::of(offset()))
            .prop_map(|(source, id, accepted_at, ordering_key, endpoints, content, due_of)| {
                Delivery::Routed { source, id, accepted_at, ordering_key, endpoints, content, due_of }
            }),
        (source(), message_id(), message_id()).prop_map(|(source, id, first)| Delivery::Alias {
            source,
            id,
            first
        }),
        (source(), message_id(), message_id()).prop_map(|(source, id, first)| Delivery::Conflict {
            source,
            id,
            first
        }),
        injected(),
    ]
}

fn injected() -> impl Strategy<Value = Delivery> {
    let place = (any::<u64>(), any::<u64>(), message_id(), partition(), offset());
    (place, any::<u64>(), endpoints(), timestamp(), offset()).prop_map(
        |((job, sequence, id, partition, offset), ordering_key, endpoints, at, control)| Delivery::Injected {
            job,
            sequence,
            id,
            partition,
            offset,
            ordering_key,
            endpoints,
            at,
            control,
        },
    )
}

pub(crate) fn attempts() -> impl Strategy<Value = AttemptRecord> {
    prop_oneof![
        (any::<u128>(), timestamp()).prop_map(|(owner, at)| AttemptRecord::Claim { owner, at }),
        (offset(), vec(fact(), FEW)).prop_map(|(epoch, facts)| AttemptRecord::Facts { epoch, facts }),
    ]
}

pub(crate) fn router_checkpoint() -> impl Strategy<Value = RouterCheckpoint> {
    let last_sent = vec((partition(), offset()), FEW);
    let part = prop_oneof![Just((0, 1)), (1_u32..9, 2_u32..9)];
    (offset(), last_sent, vec(claim_entry(), FEW), vec((timestamp(), offset()), FEW), part).prop_map(
        |(position, last_sent, claims, held, part)| RouterCheckpoint {
            position,
            last_sent,
            claims,
            held,
            part,
        },
    )
}

pub(crate) fn worker_checkpoint() -> impl Strategy<Value = WorkerCheckpoint> {
    let highest_source = vec((partition(), offset()), FEW);
    let highest_sequence = vec((any::<u64>(), any::<u64>()), FEW);
    let refused = vec((offset(), offset()), FEW);
    let sessions = vec((any::<u32>().prop_map(Partition), any::<u64>()), FEW);
    (offset(), offset(), offset(), highest_source, sessions, highest_sequence, refused).prop_map(
        |(epoch, attempts, deliveries, highest_source, sessions, highest_sequence, refused)| {
            WorkerCheckpoint {
                epoch,
                attempts,
                deliveries,
                highest_source,
                sessions,
                highest_sequence,
                refused,
            }
        },
    )
}

pub(crate) fn partition_load() -> impl Strategy<Value = PartitionLoad> {
    let who = (timestamp(), any::<u128>(), offset(), any::<u32>(), offset());
    let limit = select(vec![Limit::Room, Limit::Processor]);
    let capacity = option::of((rate(), limit).prop_map(|(rate, limit)| Capacity { rate, limit }));
    let held = vec((select(HeldBy::ALL.to_vec()), any::<u64>()), FEW);
    let what = (any::<u64>(), any::<u64>(), held, micros(), option::of(timestamp()));
    (who, (rate(), rate(), capacity), what).prop_map(|(who, (arrival, delivered, capacity), what)| {
        let (at, owner, epoch, partitions_held, tail) = who;
        let (in_flight, workable, held, oldest_workable, next_due) = what;
        PartitionLoad {
            at,
            owner,
            epoch,
            partitions_held,
            tail,
            arrival,
            delivered,
            capacity,
            in_flight,
            workable,
            held,
            oldest_workable,
            next_due,
        }
    })
}

fn rate() -> impl Strategy<Value = Rate> {
    any::<u64>().prop_map(Rate)
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        attempt().prop_map(Fact::Attempted),
        (endpoint(), offset(), select(Settlement::ALL.to_vec()), timestamp())
            .prop_map(|(endpoint, offset, reason, at)| Fact::Settled { endpoint, offset, reason, at }),
        (endpoint(), offset(), offset(), select(Settlement::ALL.to_vec()), timestamp()).prop_map(
            |(endpoint, from, to, reason, at)| Fact::SettledRange { endpoint, from, to, reason, at }
        ),
        (endpoint(), offset(), any::<u32>(), timestamp(), timestamp()).prop_map(
            |(endpoint, offset, number, made_at, at)| Fact::AnswerErased {
                endpoint,
                offset,
                number,
                made_at,
                at
            }
        ),
    ]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let what = (endpoint(), offset(), any::<u32>(), any::<bool>(), timestamp(), micros());
    let how = (any::<bool>(), any::<u16>(), option::of(select(AttemptError::ALL.to_vec())), bytes());
    (what, how, option::of(timestamp()), micros()).prop_map(|(what, how, due, deadline_used)| {
        let (endpoint, offset, number, manual, at, duration) = what;
        let (delivered, status, error, response) = how;
        Attempt {
            endpoint,
            offset,
            number,
            trigger: if manual { Trigger::Manual } else { Trigger::Scheduled },
            at,
            duration,
            outcome: if delivered { Outcome::Delivered } else { Outcome::Failed },
            status,
            error,
            response,
            due,
            deadline_used,
        }
    })
}

fn source() -> impl Strategy<Value = Source> {
    (partition(), offset(), any::<u64>(), option::of(offset()), offset()).prop_map(
        |(partition, offset, session, previous, control)| Source {
            partition,
            offset,
            session,
            previous,
            control,
        },
    )
}

fn identity() -> impl Strategy<Value = Identity> {
    (option::of(fingerprint()), option::of(fingerprint()), fingerprint(), any::<bool>())
        .prop_map(|(key, event_id, body, short_window)| Identity { key, event_id, body, short_window })
}

fn claim_entry() -> impl Strategy<Value = ClaimEntry> {
    (fingerprint(), fingerprint(), message_id(), offset(), timestamp())
        .prop_map(|(claim, body, id, offset, expires_at)| ClaimEntry { claim, body, id, offset, expires_at })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![Just(Content::Reference), bytes().prop_map(|head| Content::Inline { head })]
}

fn endpoints() -> impl Strategy<Value = Vec<EndpointNumber>> {
    vec(endpoint(), FEW).prop_map(|mut numbers| {
        numbers.sort_unstable();
        numbers
    })
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![0..1_000_u64, 0..u64::MAX].prop_map(Offset)
}

fn partition() -> impl Strategy<Value = Partition> {
    any::<u32>().prop_map(Partition)
}

fn endpoint() -> impl Strategy<Value = EndpointNumber> {
    any::<u32>().prop_map(EndpointNumber)
}

fn micros() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 16]>().prop_map(Fingerprint)
}

fn id() -> impl Strategy<Value = [u8; 20]> {
    any::<[u8; 20]>()
}

fn message_id() -> impl Strategy<Value = MessageId> {
    id().prop_map(MessageId::from_bytes)
}
