//! The roof: how fast the same signed requests go from a bare loop, without any broker, to the receiver.
//!
//! Each connection has one request in flight, signs it, and reads its answer. It is driven by one task, so
//! there is nothing to save between the loop and the socket.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use fanfare_core::{
    Clock as _, Entropy, Ordering, SystemClock, SystemEntropy,
    signature::{Signer, SigningKey},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    client::{Connection, Server},
    latency::{Latencies, Summary},
    pacer::Pacer,
    payload::{self, NO_KEY, Stamp},
    process,
    receiver::{Behaviour, Counters, EndpointSpec, Report, Spec},
};

const USER_AGENT: &str = concat!("Fanfare/", env!("CARGO_PKG_VERSION"));
static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Runs in another process if the figure is to mean anything.
    pub receiver: SocketAddr,
    /// Each sends to an endpoint of its own.
    pub connections: usize,
    pub payload_bytes: usize,
    /// Requests per second; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// Ends after so many requests …
    pub requests: Option<u64>,
    /// … or after this time.
    pub duration: Duration,
}

/// How fast it went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Roof {
    pub connections: usize,
    /// Counted by the receiver, after it verified them.
    pub requests: u64,
    pub requests_per_second: f64,
    /// CPU time of this process and of the receiver's, in steps of 10 ms.
    pub sender_cpu_us_per_request: f64,
    pub receiver_cpu_us_per_request: f64,
    /// From when a request was due until the receiver had it: comparable with a broker's.
    pub receipt_latency: Summary,
    /// From when a request was due until its answer.
    pub answer_latency: Summary,
}

struct Shared {
    options: Options,
    run: u64,
    pacer: Option<Pacer>,
    begun: AtomicU64,
    stopped: AtomicBool,
}

/// Configures the receiver for itself, sends, and reports.
pub async fn run(options: Options) -> anyhow::Result<Roof> {
    let receiver = Server::at(options.receiver);
    let run = <dyn Entropy>::u64(&SystemEntropy);
    let keys: Vec<_> =
        (0..options.connections).map(|_| SigningKey::generate_symmetric(&SystemEntropy)).collect();
    let endpoint = |(application, key): (u32, &SigningKey)| EndpointSpec {
        application,
        ordering: Ordering::Strict,
        secrets: vec![key.to_string()],
        behaviour: Behaviour::default(),
    };
    let spec = Spec { run, endpoints: (0..).zip(&keys).map(endpoint).collect() };
    receiver.call::<_, ()>(Method::POST, "/configure", Some(&spec)).await?;

    let pacer = options.rate.map(Pacer::start);
    let (begun, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Arc::new(Shared { options, run, pacer, begun, stopped });
    let before: Counters = receiver.call::<(), _>(Method::GET, "/counters", None).await?;
    let cpu_before = process::own_cpu();
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for (number, key) in (0_u32..).zip(keys) {
        loops.spawn(send_all(Arc::clone(&shared), number, Signer::new(vec![key])));
    }
    let ender = Arc::clone(&shared);
    let ender = tokio::spawn(async move {
        sleep(ender.options.duration).await;
        ender.stop();
    });
    let mut latencies = Latencies::default();
    while let Some(ended) = loops.join_next().await {
        latencies.add(&ended??);
    }
    ender.abort();
    let elapsed = started.elapsed().as_secs_f64();
    let sender_cpu = process::own_cpu().saturating_sub(cpu_before);
    let after: Counters = receiver.call::<(), _>(Method::GET, "/counters", None).await?;
    let report: Report = receiver.call::<(), _>(Method::GET, "/report", None).await?;
    if report.endpoints.iter().any(|endpoint| endpoint.out_of_order + endpoint.forged + endpoint.damaged > 0)
    {
        bail!("the receiver does not agree with what the roof sent");
    }
    let requests = after.received - before.received;
    let each = |micros: f64| micros / as_f64(requests.max(1));
    Ok(Roof {
        connections: shared.options.connections,
        requests,
        requests_per_second: as_f64(requests) / elapsed,
        sender_cpu_us_per_request: each(sender_cpu.as_secs_f64() * 1e6),
        receiver_cpu_us_per_request: each(as_f64(after.cpu_us - before.cpu_us)),
        receipt_latency: report.latency,
        answer_latency: latencies.summary(),
    })
}

/// One connection: the whole of the yardstick.
async fn send_all(shared: Arc<Shared>, number: u32, signer: Signer) -> anyhow::Result<Latencies> {
    let options = &shared.options;
    let path: Uri = format!("/e/{number}").parse()?;
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(&options.receiver.to_string())?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let mut latencies = Latencies::default();
    let mut connection = Connection::open(options.receiver).await?;
    for seq in 0.. {
        let due = match &shared.pacer {
            Some(pacer) => match pacer.turn().await {
                Some(due) => due,
                None => break,
            },
            None => SystemClock.now(),
        };
        if !shared.goes_on() {
            shared.stop();
            break;
        }
        let stamp = Stamp {
            run: shared.run,
            stream: number,
            application: number,
            key: NO_KEY,
            seq,
            floor: seq,
            key_seq: 0,
            key_floor: 0,
            at: due,
        };
        let request = signed_request(&signer, &path, &headers, &stamp, options.payload_bytes);
        let answer = connection.exchange(request).await.context("the receiver went away")?;
        if answer.status != StatusCode::OK {
            bail!("the receiver answered {}", answer.status);
        }
        latencies.record(SystemClock.now().since(due));
    }
    Ok(latencies)
}

/// A request as a broker would send it.
pub(crate) fn signed_request(
    signer: &Signer,
    path: &Uri,
    headers: &HeaderMap,
    stamp: &Stamp,
    payload_bytes: usize,
) -> Request<Full<Bytes>> {
    let mut body = Vec::with_capacity(payload_bytes);
    payload::write(stamp, payload_bytes, &mut body);
    // As long as a real id, and another one for every message.
    let id = format!("msg_{:016x}{:03x}{:08x}", stamp.run, stamp.application & 0xfff, stamp.seq);
    let timestamp = SystemClock.now().as_secs();
    let signature = signer.signature_header(&id, timestamp, &body);
    let text = |text: String| HeaderValue::try_from(text).expect("ids and signatures are visible ASCII");

    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.clone();
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(WEBHOOK_ID.clone(), text(id));
    request.headers_mut().insert(WEBHOOK_TIMESTAMP.clone(), HeaderValue::from(timestamp));
    request.headers_mut().insert(WEBHOOK_SIGNATURE.clone(), text(signature));
    request
}

impl Shared {
    fn goes_on(&self) -> bool {
        let within = |requests| self.begun.fetch_add(1, Relaxed) < requests;
        !self.stopped.load(Relaxed) && self.options.requests.is_none_or(within)
    }

    fn stop(&self) {
        self.stopped.store(true, Relaxed);
        if let Some(pacer) = &self.pacer {
            pacer.end();
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::receiver::Receiver;

    #[tokio::test]
    async fn every_request_is_verified_and_counted() {
        for rate in [None, Some(1_000.0)] {
            let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let options = Options {
                receiver: receiver.address(),
                connections: 3,
                payload_bytes: 1_024,
                rate,
                requests: Some(200),
                duration: Duration::from_mins(1),
            };
            let roof = run(options).await.unwrap();
            assert_eq!(
                (roof.requests, roof.answer_latency.count, roof.receipt_latency.count),
                (200, 200, 200)
            );
            assert!(roof.requests_per_second > 0.0);
        }
    }
}
