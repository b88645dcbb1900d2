#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fanfare_core::{
    Ordering, Timestamp,
    signature::{Signer, SigningKey},
};
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::{
    io::AsyncReadExt as _,
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    client::{self, Connection, Server},
    judge::{Verdict, judge},
    payload::NO_KEY,
    roof::signed_request,
    sequence::SequenceSet,
};

const RUN: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

/// A receiver and a hand that sends to it.
struct Bed {
    receiver: Receiver,
    keys: Vec<SigningKey>,
}

impl Bed {
    /// One endpoint of application 0 for each ordering.
    fn new(orderings: &[Ordering]) -> Self {
        let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let keys: Vec<_> =
            orderings.iter().map(|_| SigningKey::generate_symmetric(&fanfare_core::SystemEntropy)).collect();
        let endpoints = orderings.iter().zip(&keys).map(|(&ordering, key)| EndpointSpec {
            application: 0,
            ordering,
            secrets: vec![key.to_string()],
            behaviour: Behaviour::default(),
        });
        receiver.configure(&Spec { run: RUN, endpoints: endpoints.collect() }).unwrap();
        Self { receiver, keys }
    }

    fn request(endpoint: usize, stamp: &Stamp, key: &SigningKey) -> Request<http_body_util::Full<Bytes>> {
        let path: Uri = format!("/e/{endpoint}").parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("test"));
        signed_request(&Signer::new(vec![key.clone()]), &path, &headers, stamp, 300)
    }

    async fn exchange(
        &self,
        request: Request<http_body_util::Full<Bytes>>,
    ) -> Result<client::Answer, client::Error> {
        let mut connection = Connection::open(self.receiver.address()).await?;
        timeout(PATIENCE, connection.exchange(request)).await.expect("an answer in time")
    }

    async fn send(&self, endpoint: usize, stamp: &Stamp) -> StatusCode {
        let request = Self::request(endpoint, stamp, &self.keys[endpoint]);
        self.exchange(request).await.unwrap().status
    }

    /// What the receiver says of messages 0 to 9, all acknowledged.
    fn verdict(&self) -> Verdict {
        let report = self.receiver.report(&Query { endpoints: None, sequences: true });
        judge(&[(0..10).collect::<SequenceSet>()], &report)
    }
}

/// A message that was sent after all before it were acknowledged.
fn stamp(seq: u64) -> Stamp {
    Stamp {
        run: RUN,
        stream: 0,
        application: 0,
        key: NO_KEY,
        seq,
        floor: seq,
        key_seq: 0,
        key_floor: 0,
        at: Timestamp::from_micros(1),
    }
}

/// Message `seq`, of which every second one belongs to the same key.
fn keyed(seq: u64) -> Stamp {
    Stamp { key: (seq % 2) as u32, key_seq: seq / 2, key_floor: seq / 2, ..stamp(seq) }
}

#[tokio::test]
async fn what_is_right_is_clean() {
    let bed = Bed::new(&[Ordering::Strict, Ordering::Keyed, Ordering::Unordered]);
    for seq in 0..10 {
        for endpoint in 0..3 {
            assert_eq!(bed.send(endpoint, &stamp(seq)).await, StatusCode::OK);
        }
    }
    let verdict = bed.verdict();
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.expected, verdict.delivered, verdict.repeated), (30, 30, 0));
    let counters = bed.receiver.counters();
    assert_eq!((counters.received, counters.delivered_where_all_taken), (30, 30));
}

#[tokio::test]
async fn a_planted_loss_is_found() {
    let bed = Bed::new(&[Ordering::Strict]);
    for seq in (0..10).filter(|&seq| seq != 6) {
        bed.send(0, &stamp(seq)).await;
    }
    let verdict = bed.verdict();
    assert!(!verdict.is_clean());
    assert_eq!((verdict.lost, verdict.out_of_order, verdict.delivered), (1, 0, 9));
    assert_eq!(verdict.examples, ["message 6 of application 0 at endpoint 0: lost"]);
}

#[tokio::test]
async fn a_planted_swap_is_found_where_order_matters() {
    let order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9];
    for (ordering, message, found) in [
        (Ordering::Strict, stamp as fn(u64) -> Stamp, 1),
        (Ordering::Keyed, stamp, 1),
        (Ordering::Keyed, keyed, 0),
        (Ordering::Unordered, stamp, 0),
    ] {
        let bed = Bed::new(&[ordering]);
        for seq in order {
            bed.send(0, &message(seq)).await;
        }
        assert_eq!(bed.verdict().out_of_order, found, "{ordering:?}");
        assert_eq!(bed.verdict().is_clean(), found == 0);
    }
    // Within one key the swap counts again.
    let bed = Bed::new(&[Ordering::Keyed]);
    for seq in [0, 1, 4, 3, 2, 5, 6, 7, 8, 9] {
        bed.send(0, &keyed(seq)).await;
    }
    assert_eq!(bed.verdict().out_of_order, 1);
}

#[tokio::test]
async fn endpoints_that_saw_another_order_are_found_even_where_any_is_allowed() {
    let bed = Bed::new(&[Ordering::Strict, Ordering::Strict]);
    let at_once = |seq| Stamp { floor: 0, ..stamp(seq) };
    for seq in 0..10 {
        bed.send(0, &at_once(seq)).await;
        bed.send(1, &at_once(9 - seq)).await;
    }
    let verdict = bed.verdict();
    assert_eq!((verdict.out_of_order, verdict.disagreeing), (0, 1));
    assert!(!verdict.is_clean());
}

#[tokio::test]
async fn forgery_damage_and_strangers_are_found_and_not_taken() {
    let bed = Bed::new(&[Ordering::Strict, Ordering::Strict]);
    let other_endpoints = Bed::request(0, &stamp(0), &bed.keys[1]);
    assert_eq!(bed.exchange(other_endpoints).await.unwrap().status, StatusCode::UNAUTHORIZED);

    let mut changed = Bed::request(0, &stamp(0), &bed.keys[0]);
    let another = Bed::request(0, &stamp(1), &bed.keys[0]).into_body();
    *changed.body_mut() = another;
    assert_eq!(bed.exchange(changed).await.unwrap().status, StatusCode::UNAUTHORIZED);

    assert_eq!(bed.send(0, &Stamp { run: 1, ..stamp(0) }).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(bed.send(0, &Stamp { application: 1, ..stamp(0) }).await, StatusCode::UNPROCESSABLE_ENTITY);

    // Signed as it is, but not what the publisher wrote.
    let signer = Signer::new(vec![bed.keys[0].clone()]);
    let mut damaged = Bed::request(0, &stamp(0), &bed.keys[0]);
    let body = Bytes::from_static(b"{}");
    let now = SystemClock.now().as_secs();
    let signature = signer.signature_header("msg_1", now, &body);
    damaged.headers_mut().insert("webhook-id", HeaderValue::from_static("msg_1"));
    damaged.headers_mut().insert("webhook-timestamp", HeaderValue::from(now));
    damaged.headers_mut().insert("webhook-signature", HeaderValue::from_str(&signature).unwrap());
    *damaged.body_mut() = http_body_util::Full::new(body);
    assert_eq!(bed.exchange(damaged).await.unwrap().status, StatusCode::UNPROCESSABLE_ENTITY);

    let verdict = bed.verdict();
    assert_eq!((verdict.forged, verdict.foreign, verdict.misrouted, verdict.damaged), (2, 1, 1, 1));
    assert_eq!((verdict.received, verdict.is_clean()), (0, false));
}

#[tokio::test]
async fn repeats_and_retries_are_told_apart() {
    let bed = Bed::new(&[Ordering::Strict]);
    bed.receiver.behave(
        0,
        &Behaviour {
            answer: Answer::Status { status: 500, retry_after_secs: Some(7) },
            ..Behaviour::default()
        },
    );
    let refused = bed.exchange(Bed::request(0, &stamp(0), &bed.keys[0])).await.unwrap();
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(refused.headers[header::RETRY_AFTER], "7");
    bed.receiver.behave(0, &Behaviour::default());
    for seq in [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        bed.send(0, &stamp(seq)).await;
    }
    let verdict = bed.verdict();
    assert!(verdict.is_clean());
    assert_eq!((verdict.retried, verdict.repeated), (1, 1));
}

#[tokio::test]
async fn a_message_under_two_ids_is_found() {
    let bed = Bed::new(&[Ordering::Strict]);
    for id in ["msg_a", "msg_a", "msg_b"] {
        let mut request = Bed::request(0, &stamp(0), &bed.keys[0]);
        let mut body = Vec::new();
        crate::payload::write(&stamp(0), 300, &mut body);
        let now = SystemClock.now().as_secs();
        let signature = Signer::new(vec![bed.keys[0].clone()]).signature_header(id, now, &body);
        request.headers_mut().insert("webhook-id", HeaderValue::from_static(id));
        request.headers_mut().insert("webhook-timestamp", HeaderValue::from(now));
        request.headers_mut().insert("webhook-signature", HeaderValue::from_str(&signature).unwrap());
        assert_eq!(bed.exchange(request).await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(bed.verdict().second_ids, 1);
}

#[tokio::test]
async fn an_endpoint_goes_wrong_in_every_way() {
    let bed = Bed::new(&[Ordering::Unordered]);
    let behave = |answer| bed.receiver.behave(0, &Behaviour { answer, ..Behaviour::default() });
    let request = || Bed::request(0, &stamp(0), &bed.keys[0]);

    behave(Answer::Redirect { location: "http://10.0.0.1/".to_owned() });
    let redirect = bed.exchange(request()).await.unwrap();
    assert_eq!(
        (redirect.status, &redirect.headers[header::LOCATION]),
        (StatusCode::FOUND, &HeaderValue::from_static("http://10.0.0.1/"))
    );

    behave(Answer::Informational { count: 50 });
    assert_eq!(bed.exchange(request()).await.unwrap().status, StatusCode::OK);
    assert_eq!(informational_answers(&bed).await, 50);

    behave(Answer::Huge { bytes: 1 << 30 });
    assert!(matches!(bed.exchange(request()).await, Err(client::Error::BodySize)));
    behave(Answer::Reset);
    assert!(matches!(bed.exchange(request()).await, Err(client::Error::Http(_))));
    behave(Answer::Garbage);
    assert!(matches!(bed.exchange(request()).await, Err(client::Error::Http(_))));

    behave(Answer::Drip { interval_ms: 1 });
    let mut connection = Connection::open(bed.receiver.address()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), connection.exchange(request())).await.is_err());
    behave(Answer::Hang);
    let mut connection = Connection::open(bed.receiver.address()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), connection.exchange(request())).await.is_err());

    bed.receiver.behave(0, &Behaviour { latency_ms: 50, ..Behaviour::default() });
    let sent = Instant::now();
    assert_eq!(bed.exchange(request()).await.unwrap().status, StatusCode::OK);
    assert!(sent.elapsed() >= Duration::from_millis(50));
}

/// Sends the request by hand, because clients skip informational answers, and counts these.
async fn informational_answers(bed: &Bed) -> usize {
    let request = Bed::request(0, &stamp(0), &bed.keys[0]);
    let mut bytes =
        format!("POST /e/0 HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", 300).into_bytes();
    for (name, value) in request.headers() {
        bytes.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
    bytes.extend_from_slice(&body);
    let mut stream = TcpStream::connect(bed.receiver.address()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK"));
    answer.matches("HTTP/1.1 103").count()
}

#[tokio::test]
async fn a_closed_listener_refuses_and_can_be_opened_again() {
    let bed = Bed::new(&[Ordering::Strict]);
    let second = bed.receiver.open("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut kept = Connection::open(second).await.unwrap();
    let answer = kept.exchange(Bed::request(0, &stamp(0), &bed.keys[0])).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);

    bed.receiver.close(second).await;
    assert!(kept.exchange(Bed::request(0, &stamp(1), &bed.keys[0])).await.is_err());
    assert!(matches!(Connection::open(second).await, Err(client::Error::Connect(_))));
    assert_eq!(bed.receiver.open(second).unwrap(), second);
    let mut again = Connection::open(second).await.unwrap();
    let answer = again.exchange(Bed::request(0, &stamp(1), &bed.keys[0])).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn its_owner_can_do_all_that_over_http() {
    let bed = Bed::new(&[Ordering::Strict]);
    let owner = Server::at(bed.receiver.address());
    let change = BehaviourChange {
        endpoints: vec![0],
        behaviour: Behaviour {
            poison: vec![Poison { from: 3, to: 4, ..Poison::default() }],
            ..Behaviour::default()
        },
    };
    owner.call::<_, ()>(Method::POST, "/behaviour", Some(&change)).await.unwrap();
    assert_eq!(bed.send(0, &stamp(3)).await, StatusCode::BAD_REQUEST);
    assert_eq!(bed.send(0, &stamp(4)).await, StatusCode::OK);
    let missing = BehaviourChange { endpoints: vec![1], ..change };
    assert!(owner.call::<_, ()>(Method::POST, "/behaviour", Some(&missing)).await.is_err());

    let path = format!("/report{}", Query { endpoints: Some(vec![0]), sequences: true }.to_text());
    let report: Report = owner.call::<(), _>(Method::GET, &path, None).await.unwrap();
    let endpoint = &report.endpoints[0];
    assert_eq!((endpoint.received, endpoint.delivered, endpoint.takes_all), (2, 1, false));
    assert!(endpoint.delivered_sequences.contains(4) && !endpoint.delivered_sequences.contains(3));
    assert_eq!(report.latency.count, 2);
    owner.call::<(), ()>(Method::POST, "/reset", None).await.unwrap();
    assert_eq!(bed.receiver.report(&Query::default()).latency.count, 0);

    let change = ListenerChange { open: vec!["127.0.0.1:0".parse().unwrap()], close: Vec::new() };
    let opened: Vec<SocketAddr> = owner.call(Method::POST, "/listeners", Some(&change)).await.unwrap();
    assert!(Connection::open(opened[0]).await.is_ok());
    assert!(owner.call::<(), ()>(Method::GET, "/nowhere", None).await.is_err());
    assert_eq!(bed.receiver.counters().stray, 1);
}
