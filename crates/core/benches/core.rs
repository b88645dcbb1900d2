//! What core costs per message on the hot path.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::{
    ApplicationId, Content, Delivery, EndpointNumber, Fingerprint, Identity, Message, MessageId, Offset,
    OrganizationId, Partition, Source, SystemEntropy, Timestamp,
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

criterion_group!(benches, codec, signature);
criterion_main!(benches);
