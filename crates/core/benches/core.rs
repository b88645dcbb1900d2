//! What core costs per message on the hot path.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::{
    ApplicationId, Content, Delivery, EndpointNumber, Fingerprint, Identity, Message, MessageId, Offset,
    Ordering, OrganizationId, Partition, Policy, Source, SystemEntropy, Timestamp, Trigger,
    lane::{Failure, FailureKind, Finished, Lane, Poll},
    signature::{Signer, SigningKey, verify},
};

fn message() -> Message {
    let digest = |text: &str| Fingerprint::of(&[text.as_bytes()]);
    Message {
        id: MessageId::from_bytes([1; 20]),
        organization: OrganizationId::from_bytes([2; 20]),
        application: ApplicationId::from_bytes([3; 20]),
        event_type: "invoice.paid".to_owned(),
        event_id: Some("evt_0123456789".to_owned()),
        channels: Vec::new(),
        ordering_key: Some("customer-42".to_owned()),
        tags: Vec::new(),
        accepted_at: Timestamp::from_secs(1_700_000_000),
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity {
            key: Some(digest("key")),
            event_id: Some(digest("event")),
            body: digest("body"),
            short_window: false,
        },
        due_of: None,
        only_for: None,
    }
}

fn codec(criterion: &mut Criterion) {
    let message = message();
    let head = message.encode();
    let delivery = Delivery::Routed {
        source: Source {
            partition: Partition(3),
            offset: Offset(1 << 30),
            session: 7,
            previous: Some(Offset((1 << 30) - 1)),
            control: Offset(1_000),
        },
        id: message.id,
        accepted_at: message.accepted_at,
        ordering_key: message.ordering_key_hash(),
        endpoints: (0..64).map(|number| EndpointNumber(1_000 + 16 * number)).collect(),
        content: Content::Reference,
        due_of: None,
    };
    let record: Bytes = delivery.encode();

    let mut group = criterion.benchmark_group("codec");
    group.bench_function("message_encode", |b| b.iter(|| black_box(&message).encode()));
    group.bench_function("message_decode", |b| b.iter(|| Message::decode(black_box(&head))));
    group.bench_function("delivery_64_endpoints_encode", |b| b.iter(|| black_box(&delivery).encode()));
    group.bench_function("delivery_64_endpoints_decode", |b| b.iter(|| Delivery::decode(black_box(&record))));
    group.finish();
}

fn signature(criterion: &mut Criterion) {
    let id = message().id.to_string();
    let (at, payload) = (1_700_000_000, vec![b'x'; 1_024]);
    let mut group = criterion.benchmark_group("signature");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    for (name, key) in [
        ("v1_1k", SigningKey::generate_symmetric(&SystemEntropy)),
        ("v1a_1k", SigningKey::generate_ed25519(&SystemEntropy)),
    ] {
        let keys = [key.verifying_key()];
        let signer = Signer::new(vec![key]);
        let header = signer.signature_header(&id, at, &payload);
        group.bench_function(format!("sign_{name}"), |b| {
            b.iter(|| signer.signature_header(black_box(&id), at, black_box(&payload)));
        });
        group.bench_function(format!("verify_{name}"), |b| {
            let now = Timestamp::from_secs(at);
            b.iter(|| verify(&keys, &id, "1700000000", black_box(&header), black_box(&payload), now));
        });
    }
    group.finish();
}

/// Deliveries taken through a lane from push to settlement, a window at a time.
fn lane(criterion: &mut Criterion) {
    const DELIVERIES: u64 = 1_000;
    let now = Timestamp::from_secs(1_700_000_000);
    let failed = Finished::Failed(Failure { kind: FailureKind::Ordinary, retry_after: None });
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(DELIVERIES));
    for (name, ordering) in
        [("strict", Ordering::Strict), ("keyed", Ordering::Keyed), ("unordered", Ordering::Unordered)]
    {
        let policy = Policy { ordering, max_in_flight: 16, ..Policy::default() };
        group.bench_function(format!("{name}_delivered"), |b| {
            b.iter(|| {
                let mut lane = Lane::new(policy.clone(), Offset::ZERO, now);
                (0..DELIVERIES).for_each(|offset| lane.push(Offset(offset), Trigger::Scheduled));
                run(&mut lane, now, Finished::Delivered)
            });
        });
    }
    let policy = Policy { ordering: Ordering::Unordered, max_in_flight: 16, ..Policy::default() };
    let mut behind = Lane::new(policy.clone(), Offset::ZERO, now);
    (0..DELIVERIES).for_each(|offset| behind.push(Offset(offset), Trigger::Scheduled));
    run(&mut behind, now, failed);
    group.bench_function("snapshot_and_restore", |b| {
        b.iter(|| Lane::restore(&black_box(&behind).snapshot(now), policy.clone(), now));
    });
    group.finish();
}

/// Starts what may start and finishes it with `outcome`, until the lane waits.
fn run(lane: &mut Lane, now: Timestamp, outcome: Finished) -> u64 {
    let mut settled = Vec::new();
    let mut in_flight = Vec::new();
    loop {
        match lane.poll(now, &mut settled) {
            Poll::Start(start) => in_flight.push(start.offset),
            Poll::NeedKey(offset) => lane.offer_key(offset, offset.0 % 100),
            Poll::Wait(_) if in_flight.is_empty() => return lane.unsettled(),
            Poll::Wait(_) => {
                for offset in in_flight.drain(..) {
                    lane.finished(offset, outcome, now, 7, &mut settled);
                }
            }
        }
    }
}

criterion_group!(benches, codec, signature, lane);
criterion_main!(benches);
