#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{convert::Infallible, net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, time::timeout};

use super::*;
use crate::{
    client::read_body,
    payload::{NO_KEY, Stamp},
};

/// A stand-in for the server: answers as it is told and remembers what it accepted.
struct Stub {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Taken {
    path: String,
    idempotency_key: Option<String>,
    ordering_key: Option<String>,
    stamp: Stamp,
}

/// The status of the request with this number.
type Answers = fn(u64) -> StatusCode;

impl Stub {
    async fn start(address: SocketAddr, answers: Answers) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(AtomicU64::new(0));
        let taken_here = Arc::clone(&taken);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (taken, requests) = (Arc::clone(&taken_here), Arc::clone(&requests));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let number = requests.fetch_add(1, Relaxed);
                        answer(request, answers(number), number, Arc::clone(&taken))
                    });
                    http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.ok();
                });
            }
        });
        Self { address, taken, accepting }
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    async fn stop(self) {
        self.accepting.abort();
        self.accepting.await.unwrap_err();
    }
}

async fn answer(
    request: Request<Incoming>,
    status: StatusCode,
    number: u64,
    taken: Arc<Mutex<Vec<Taken>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = read_body(body).await.unwrap();
    assert_eq!(head.headers["authorization"], "Bearer token");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["eventType"], "load.test");
    if status == StatusCode::ACCEPTED {
        let at = body.windows(9).position(|window| window == b"{\"hash\":\"").unwrap();
        taken.lock().unwrap().push(Taken {
            path: head.uri.path().to_owned(),
            idempotency_key: head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned()),
            ordering_key: json["orderingKey"].as_str().map(str::to_owned),
            stamp: payload::read(&body[at..body.len() - 1]).unwrap(),
        });
    }
    let answer = format!(r#"{{"eventId":null,"id":"msg_{number}","payload":{{}}}}"#);
    let mut response = Response::builder().status(status);
    if number.is_multiple_of(2) {
        response = response.header("retry-after", "1");
    }
    Ok(response.body(Full::new(Bytes::from(answer))).unwrap())
}

async fn options(stub: &Stub, applications: usize) -> Options {
    let url = format!("http://{}", stub.address);
    let server = client::Server::resolve(&url, Some("token".to_owned())).await.unwrap();
    let applications = (0..applications).map(|number| format!("app{number}")).collect();
    Options { messages: Some(100), ..Options::new(server, 5, applications) }
}

async fn publish(options: Options) -> Published {
    timeout(Duration::from_mins(1), Publisher::start(options).finish()).await.unwrap()
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn closed_loop_publishes_so_many_and_remembers_them() {
    let stub = Stub::start(ANY, |_| StatusCode::ACCEPTED).await;
    let options = Options { connections: 4, keep_ids: true, payload_bytes: 500, ..options(&stub, 2).await };
    let published = publish(options).await;
    assert_eq!(published.counts, Counts { accepted: 100, connects: 4, ..Counts::default() });
    assert_eq!(published.latency.count, 100);
    let numbers: u64 = published.accepted.iter().map(SequenceSet::len).sum();
    assert_eq!((numbers, published.acknowledged.len()), (100, 100));
    let taken = stub.taken();
    assert!(
        taken.iter().all(|taken| taken.path == format!("/api/v1/app/app{}/msg", taken.stamp.application))
    );
    assert!(taken.iter().all(|taken| taken.stamp.key == NO_KEY && taken.idempotency_key.is_none()));
    // The ids are those that the server gave.
    for acknowledged in &published.acknowledged {
        let number: usize = acknowledged.id.strip_prefix("msg_").unwrap().parse().unwrap();
        assert!(number < 100);
    }
}

#[tokio::test]
async fn sequential_publishing_keeps_the_order_of_every_key() {
    let stub = Stub::start(ANY, |_| StatusCode::ACCEPTED).await;
    let options = Options { connections: 8, keys: 5, sequential: true, ..options(&stub, 3).await };
    publish(options).await;
    let mut next = std::collections::HashMap::new();
    for Taken { stamp, ordering_key, .. } in stub.taken() {
        assert_eq!(ordering_key, Some(format!("key-{}", stamp.key)));
        let next = next.entry((stamp.application, stamp.key)).or_insert(0);
        assert_eq!((stamp.key_seq, stamp.key_floor), (*next, *next));
        *next += 1;
    }
    assert_eq!(next.len(), 15);
}

#[tokio::test]
async fn one_connection_tells_the_order_of_an_application() {
    let stub = Stub::start(ANY, |_| StatusCode::ACCEPTED).await;
    publish(options(&stub, 1).await).await;
    for (number, taken) in (0..).zip(stub.taken()) {
        assert_eq!((taken.stamp.seq, taken.stamp.floor), (number, number));
    }
}

#[tokio::test]
async fn refusals_are_counted_and_not_taken_for_accepted() {
    let stub = Stub::start(ANY, |number| match number % 10 {
        0 | 1 => StatusCode::SERVICE_UNAVAILABLE,
        2 => StatusCode::BAD_REQUEST,
        _ => StatusCode::ACCEPTED,
    })
    .await;
    let published = publish(options(&stub, 1).await).await;
    let expected = Counts {
        accepted: 70,
        shed: 20,
        shed_without_retry_after: 10,
        other: 10,
        connects: 1,
        ..Counts::default()
    };
    assert_eq!(published.counts, expected);
    let taken: SequenceSet = stub.taken().iter().map(|taken| taken.stamp.seq).collect();
    assert_eq!(taken, published.accepted[0]);
    assert_eq!(published.shed_latency.count, 20);
    assert!(published.complaint.unwrap().starts_with("400"));
}

#[tokio::test]
async fn repeating_outlives_the_server() {
    let stub = Stub::start(ANY, |number| match number % 3 {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::ACCEPTED,
    })
    .await;
    let address = stub.address;
    let options = Options { connections: 4, repeat: true, messages: Some(60), ..options(&stub, 1).await };
    let running = Publisher::start(options);
    while stub.taken().len() < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = stub.taken();
    stub.stop().await;
    let stub = Stub::start(address, |_| StatusCode::ACCEPTED).await;
    let published = timeout(Duration::from_mins(1), running.finish()).await.unwrap();
    assert_eq!((published.counts.accepted, published.counts.unknown), (60, 0));
    assert!(published.counts.connects > 4);

    let mut keys = std::collections::HashMap::new();
    for taken in before.iter().chain(&stub.taken()) {
        let key = keys.entry(taken.stamp.seq).or_insert_with(|| taken.idempotency_key.clone().unwrap());
        assert_eq!(taken.idempotency_key.as_ref(), Some(&*key), "a repeat has the key of the first");
    }
    assert_eq!(published.accepted[0], (0..60).collect());
    assert_eq!(keys.len(), 60);
}

#[tokio::test]
async fn without_repeating_a_lost_answer_is_unknown() {
    let stub = Stub::start(ANY, |_| StatusCode::ACCEPTED).await;
    let options = Options { patience: Duration::from_millis(50), ..options(&stub, 1).await };
    let running = Publisher::start(Options { messages: None, ..options });
    while stub.taken().len() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stub.stop().await;
    while running.counts().unknown == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.stop();
    let published = timeout(Duration::from_mins(1), running.finish()).await.unwrap();
    assert!(published.counts.unknown >= 1 && published.complaint.is_some());
}

#[tokio::test]
async fn open_loop_keeps_its_pace() {
    let stub = Stub::start(ANY, |_| StatusCode::ACCEPTED).await;
    let options = Options { connections: 4, rate: Some(500.0), ..options(&stub, 1).await };
    let published = publish(options).await;
    assert_eq!(published.counts.accepted, 100);
    assert!(published.elapsed >= Duration::from_millis(198), "{:?}", published.elapsed);
    let mut due: Vec<i64> = stub.taken().iter().map(|taken| taken.stamp.at.as_micros()).collect();
    due.sort_unstable();
    assert_eq!(due[99] - due[0], 99 * 2_000, "latency counts from when a message was due");
}
