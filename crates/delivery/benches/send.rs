//! What the transport costs per request, beside a bare hyper connection that does the same: sign 1 KB, post
//! it, read the answer. Client on one thread, receiver on another, both in this process.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::{
    EndpointNumber, MessageId, SystemEntropy, Timestamp,
    signature::{Signer, SigningKey},
};
use fanfare_delivery::send::{Http, Options, Request, Target, TargetSettings, Transport as _};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    time::Instant,
};

const AT: Timestamp = Timestamp::from_secs(1_700_000_000);

fn signer() -> Signer {
    Signer::new(vec![SigningKey::generate_symmetric(&SystemEntropy)])
}

fn payload() -> Bytes {
    Bytes::from(vec![b'x'; 1_024])
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Reads each request to its end and answers `ok`, on a thread of its own.
fn receiver() -> SocketAddr {
    let (address, known) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        current_thread().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let answer = service_fn(|request: hyper::Request<Incoming>| async {
                request.into_body().collect().await.unwrap();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            });
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
    });
    known.recv().unwrap()
}

async fn send_by_transport(http: Arc<Http>, target: Arc<Target>, requests: u64) {
    for number in 0..requests {
        let mut random = [0; 15];
        random[..8].copy_from_slice(&number.to_be_bytes());
        let id = MessageId::mint(AT, random);
        let request =
            Request { target: Arc::clone(&target), id, at: AT, payload: payload(), traceparent: None };
        let answer = http.send(request).await;
        assert_eq!(answer.status, 200);
    }
}

async fn send_bare(address: SocketAddr, requests: u64) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let signer = signer();
    let host = address.to_string();
    for number in 0..requests {
        let mut random = [0; 15];
        random[..8].copy_from_slice(&number.to_be_bytes());
        let id = MessageId::mint(AT, random).to_string();
        let payload = payload();
        let request = hyper::Request::post("/hook")
            .header("host", &host)
            .header("content-type", "application/json")
            .header("user-agent", "bare")
            .header("webhook-id", &id)
            .header("webhook-timestamp", AT.as_secs())
            .header("webhook-signature", signer.signature_header(&id, AT.as_secs(), &payload))
            .body(Full::new(payload))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
}

fn targets(address: SocketAddr, count: u32) -> Vec<Arc<Target>> {
    let target = |number| {
        Target::new(TargetSettings {
            number: EndpointNumber(number),
            revision: 1,
            url: &format!("http://{address}/hook"),
            headers: &BTreeMap::new(),
            timeout: Duration::from_secs(15),
            signer: signer(),
            max_connections: 32,
        })
    };
    (0..count).map(|number| Arc::new(target(number).unwrap())).collect()
}

fn send(criterion: &mut Criterion) {
    let address = receiver();
    let runtime = current_thread();
    let mut group = criterion.benchmark_group("send_1_kb");
    group.throughput(Throughput::Elements(1));
    for connections in [1, 32] {
        let targets = targets(address, connections);
        let each = |requests: u64| requests.div_ceil(u64::from(connections));
        group.bench_function(BenchmarkId::new("transport", connections), |bencher| {
            bencher.iter_custom(|requests| {
                runtime.block_on(async {
                    let options = Options { allow_loopback: true, allow_http: true, ..Options::default() };
                    let http = Arc::new(Http::new(options).unwrap());
                    let started = Instant::now();
                    join_all(targets.iter().map(|target| {
                        tokio::spawn(send_by_transport(Arc::clone(&http), Arc::clone(target), each(requests)))
                    }))
                    .await;
                    started.elapsed()
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare", connections), |bencher| {
            bencher.iter_custom(|requests| {
                runtime.block_on(async {
                    let started = Instant::now();
                    join_all((0..connections).map(|_| tokio::spawn(send_bare(address, each(requests)))))
                        .await;
                    started.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, send);
criterion_main!(benches);
