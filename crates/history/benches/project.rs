//! How fast history projects, and how fast lists are over what it projected.
//!
//! ```sh
//! cargo bench -p fanfare-history                        # 300,000 attempts
//! FANFARE_ATTEMPTS=10000000 cargo bench -p fanfare-history
//! ```
//!
//! A log is filled as ingest, routers and workers would (4 partitions, 100 endpoints, a message to one endpoint; one of a
//! hundred fails once, one of a thousand for good), then projected at once, then asked.
#![allow(clippy::cast_possible_truncation, reason = "numbers of a made-up past are small")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, AttemptRecord, Content, Delivery, EndpointNumber, Fact,
    Fingerprint, Identity, InstallationId, Message, MessageId, Offset, OrganizationId, Outcome, Partition,
    Settlement, Source, SystemClock, Timestamp, Trigger,
};
use fanfare_history::{
    AttemptFilter, AttemptStatus, DeadLetterFilter, DeliveryFilter, EndpointAt, History, MessageFilter,
    Options, Place, Standing, StatusClass, Window,
};
use fanfare_log::{
    Log, NewRecord, Sync, Topic,
    embedded::{EmbeddedLog, Options as LogOptions},
};
use tokio::time::Instant;

const PARTITIONS: u32 = 4;
const ENDPOINTS: u32 = 100;
const FACTS_PER_RECORD: u64 = 64;
const TYPES: [&str; 10] =
    ["a.made", "a.paid", "a.sent", "a.lost", "b.made", "b.paid", "b.sent", "b.lost", "c.made", "c.paid"];
const QUERIES: u64 = 400;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let attempts: u64 = std::env::var("FANFARE_ATTEMPTS").map_or(300_000, |text| text.parse().unwrap());
    let directory =
        tempfile::tempdir_in(std::env::var("FANFARE_SCRATCH").unwrap_or_else(|_| "/var/tmp".to_owned()));
    let directory = directory.unwrap();
    let log =
        EmbeddedLog::open(LogOptions::new(directory.path().join("data"), PARTITIONS, PARTITIONS)).unwrap();
    fill(&*log, attempts).await;

    let place = std::env::var("FANFARE_POSTGRES")
        .map_or_else(|_| Place::Sqlite(directory.path().join("history.sqlite")), Place::Postgres);
    let options = Options {
        log: Arc::clone(&log) as Arc<dyn Log>,
        clock: Arc::new(SystemClock),
        place: place.clone(),
        installation: InstallationId::from_bytes([1; 20]),
        retention: Duration::from_hours(24 * 365 * 100),
    };
    let begun = Instant::now();
    fanfare_history::rebuild(options.clone(), |_, _| {}).await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "to be read by people")]
    let per_second = attempts as f64 / seconds;
    println!(
        "projected {attempts} attempts, each with its message and delivery, in {seconds:.1} s: {per_second:.0}/s"
    );
    if matches!(place, Place::Sqlite(_)) {
        println!("tables: {} MB", size_of(&directory.path().join("history.sqlite")) >> 20);
    }
    let (history, _service) = fanfare_history::open(options).await.unwrap();
    ask(&history, attempts).await;
    log.close().await;
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn application() -> ApplicationId {
    ApplicationId::from_bytes([3; 20])
}

/// 5,000 messages a second.
fn time_of(number: u64) -> Timestamp {
    Timestamp::from_secs(1_790_000_000) + Duration::from_micros(number * 200)
}

fn partition_of(number: u64) -> Partition {
    Partition(u32::try_from(number % u64::from(PARTITIONS)).unwrap())
}

fn endpoint_of(number: u64) -> EndpointAt {
    let partition = partition_of(number);
    let place = u32::try_from(number / u64::from(PARTITIONS) % u64::from(ENDPOINTS / PARTITIONS)).unwrap();
    EndpointAt { number: EndpointNumber(place * PARTITIONS + partition.0), partition }
}

fn id_of(number: u64) -> MessageId {
    let mut random = [7; 15];
    random[..8].copy_from_slice(&number.to_be_bytes());
    MessageId::mint(time_of(number), random)
}

async fn fill(log: &dyn Log, attempts: u64) {
    let mut made = 0;
    let mut number = 0;
    let mut facts: Vec<Vec<Fact>> = vec![Vec::new(); PARTITIONS as usize];
    while made < attempts {
        let last = number + 4_000;
        let (mut messages, mut deliveries) =
            (vec![Vec::new(); PARTITIONS as usize], vec![Vec::new(); PARTITIONS as usize]);
        while number < last {
            let index = partition_of(number).0 as usize;
            messages[index].push(NewRecord {
                head: message(number).encode(),
                payload: Bytes::from_static(b"{\"n\":1}"),
            });
            deliveries[index].push(NewRecord::head(delivery(number).encode()));
            made += attempts_of(number, &mut facts[index]);
            number += 1;
        }
        let mut pending = Vec::new();
        for (topic, records) in [(Topic::Messages, messages), (Topic::Deliveries, deliveries)] {
            for (partition, records) in (0..).map(Partition).zip(records) {
                pending.push(log.append(topic, partition, records, Sync::Lazy).await.unwrap());
            }
        }
        for (partition, facts) in (0..).map(Partition).zip(&mut facts) {
            let facts = std::mem::take(facts);
            let records = facts.chunks(FACTS_PER_RECORD as usize).map(|facts| {
                NewRecord::head(AttemptRecord::Facts { epoch: Offset::ZERO, facts: facts.to_vec() }.encode())
            });
            pending
                .push(log.append(Topic::Attempts, partition, records.collect(), Sync::Lazy).await.unwrap());
        }
        for pending in pending {
            pending.await.unwrap();
        }
    }
}

fn offset_of(number: u64) -> Offset {
    Offset(number / u64::from(PARTITIONS))
}

fn message(number: u64) -> Message {
    Message {
        id: id_of(number),
        organization: OrganizationId::from_bytes([1; 20]),
        application: application(),
        event_type: TYPES[usize::try_from(number % 11 % 10).unwrap()].to_owned(),
        event_id: None,
        channels: if number.is_multiple_of(20) { vec!["rare".to_owned()] } else { Vec::new() },
        ordering_key: None,
        tags: Vec::new(),
        accepted_at: time_of(number),
        deliver_at: None,
        payload_expires_at: None,
        traceparent: None,
        identity: Identity { key: None, event_id: None, body: Fingerprint([0; 16]), short_window: false },
        due_of: None,
        only_for: None,
    }
}

fn delivery(number: u64) -> Delivery {
    let offset = offset_of(number);
    Delivery::Routed {
        source: Source {
            partition: partition_of(number),
            offset,
            session: 1,
            previous: offset.0.checked_sub(1).map(Offset),
            control: Offset::ZERO,
        },
        id: id_of(number),
        accepted_at: time_of(number),
        ordering_key: 0,
        endpoints: vec![endpoint_of(number).number],
        content: Content::Reference,
        due_of: None,
    }
}

fn attempts_of(number: u64, facts: &mut Vec<Fact>) -> u64 {
    let (endpoint, offset) = (endpoint_of(number).number, offset_of(number));
    let at = time_of(number) + Duration::from_millis(20);
    let attempt = |tries: u32, status: u16| {
        let delivered = status == 200;
        let at = at + Duration::from_secs(u64::from(tries) * 5);
        Fact::Attempted(Attempt {
            endpoint,
            offset,
            number: tries,
            trigger: Trigger::Scheduled,
            at,
            duration: Duration::from_millis(4),
            outcome: if delivered { Outcome::Delivered } else { Outcome::Failed },
            status,
            error: (!delivered).then_some(AttemptError::Status),
            response: Bytes::from_static(b"{\"ok\":true}"),
            due: (!delivered && tries < 2).then(|| at + Duration::from_secs(5)),
            deadline_used: Duration::ZERO,
        })
    };
    let reason = Settlement::Rejected;
    match number {
        number if number % 1_009 == 0 => {
            facts.extend([attempt(1, 500), attempt(2, 422), Fact::Settled { endpoint, offset, reason, at }]);
            2
        }
        number if number % 101 == 0 => {
            facts.extend([attempt(1, 503), attempt(2, 200)]);
            2
        }
        _ => {
            facts.push(attempt(1, 200));
            1
        }
    }
}

/// Random lists, pages at both ends and in the middle.
async fn ask(history: &History, attempts: u64) {
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut taken: Vec<(Duration, &str)> = Vec::new();
    for _ in 0..QUERIES {
        let number = random(attempts);
        let endpoint = endpoint_of(number);
        let page = [None, Some(number), Some(0)][usize::try_from(random(3)).unwrap()];
        let descending = random(2) == 0;
        let message = MessageFilter {
            event_types: if random(3) == 0 {
                vec![TYPES[usize::try_from(random(10)).unwrap()].to_owned()]
            } else {
                Vec::new()
            },
            channel: (random(6) == 0).then(|| "rare".to_owned()),
            ..MessageFilter::default()
        };
        let begun = Instant::now();
        let what = match random(6) {
            0 => {
                let mark = page.map(|number| id_of(number).to_string());
                let window = Window::new(50, mark.as_deref(), descending);
                history.messages(application(), &message, &window).await.unwrap();
                "messages"
            }
            1 => {
                let filter = DeliveryFilter {
                    message,
                    standings: if random(2) == 0 {
                        vec![Standing::Settled(Settlement::Rejected)]
                    } else {
                        Vec::new()
                    },
                    class: None,
                };
                history
                    .deliveries_of_endpoint(endpoint, &filter, &Window::new(50, None, descending))
                    .await
                    .unwrap();
                "deliveries"
            }
            2 => {
                let filter = DeadLetterFilter { message, ..DeadLetterFilter::default() };
                let all: Vec<EndpointAt> = (0..u64::from(ENDPOINTS)).map(endpoint_of).collect();
                history.dead_letters(&all, &filter, &Window::new(50, None, descending)).await.unwrap();
                "dead letters"
            }
            3 => {
                let id = id_of(number).to_string();
                let found = history.message(application(), &id).await.unwrap().unwrap();
                history
                    .attempts_of_message(
                        &found,
                        &AttemptFilter::default(),
                        &Window::new(50, None, descending),
                    )
                    .await
                    .unwrap();
                "attempts of a message"
            }
            _ => {
                let mark = page.map(|number| {
                    fanfare_core::attempt_id(time_of(number), endpoint.number, Offset::ZERO, 1).to_string()
                });
                let filter = AttemptFilter {
                    message,
                    statuses: match random(3) {
                        0 => Vec::new(),
                        1 => vec![AttemptStatus::Failed],
                        _ => vec![AttemptStatus::Retrying],
                    },
                    class: if random(3) == 0 { StatusClass::new(400) } else { None },
                    ..AttemptFilter::default()
                };
                let window = Window::new(50, mark.as_deref(), descending);
                history.attempts_of_endpoint(endpoint, &filter, &window).await.unwrap();
                "attempts of an endpoint"
            }
        };
        taken.push((begun.elapsed(), what));
    }
    taken.sort();
    let at = |share: usize| taken[taken.len() * share / 100].0;
    println!("{QUERIES} random lists: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
    for (duration, what) in taken.iter().rev().take(5) {
        println!("  slowest: {duration:?} {what}");
    }
}
