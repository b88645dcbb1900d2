//! The endpoints of a load test: an HTTP server that verifies and remembers every delivery.
//!
//! Endpoint `n` is at `/e/<n>`. Beside them the server answers its owner:
//!
//! | request | does |
//! |---|---|
//! | `POST /configure` with a [`Spec`] | starts afresh with these endpoints |
//! | `POST /behaviour` with [`BehaviourChange`] | lets endpoints answer otherwise from now on |
//! | `POST /reset` | forgets latencies (after warming up) |
//! | `GET /counters` | [`Counters`] |
//! | `GET /report?endpoints=0,3&sequences=true` | [`Report`] of these or all endpoints |
//! | `POST /listeners` with [`ListenerChange`] | opens and closes further addresses (a closed one refuses) |

mod admin;
mod behaviour;
mod body;
mod endpoint;
mod report;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_core::{Clock as _, SystemClock, signature::KeyError};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

pub use self::{
    admin::{BehaviourChange, ListenerChange, Query},
    behaviour::{Answer, Behaviour, Poison},
    endpoint::EndpointSpec,
    report::{Counters, EndpointReport, Report},
};
use self::{
    body::AnswerBody,
    endpoint::{Decision, Endpoint},
    stream::{Fault, Stream},
};
use crate::{client::read_body, latency::Latencies, payload::Stamp, process};

/// "Never answers" ends after this.
const HANG: Duration = Duration::from_hours(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The endpoints of a run; their numbers are their places.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Messages of other runs are counted as foreign.
    pub run: u64,
    pub endpoints: Vec<EndpointSpec>,
}

/// A running receiver. Its listeners end when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    endpoints: RwLock<Arc<Vec<Endpoint>>>,
    stray: AtomicU64,
    /// Each accepts on its address and owns the connections made to it.
    listeners: Mutex<HashMap<SocketAddr, JoinHandle<()>>>,
}

impl Receiver {
    /// Listens at `address` (port 0: any free one), without endpoints yet.
    /// Call it on a runtime: that is where it runs.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let address = state.open(address)?;
        Ok(Self { address, state })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of an endpoint.
    pub fn url(&self, endpoint: usize) -> String {
        format!("http://{}/e/{endpoint}", self.address)
    }

    /// Forgets everything and starts with these endpoints.
    pub fn configure(&self, spec: &Spec) -> Result<(), KeyError> {
        self.state.configure(spec)
    }

    /// Lets an endpoint answer otherwise from now on; false if there is no such endpoint.
    pub fn behave(&self, endpoint: usize, behaviour: &Behaviour) -> bool {
        self.state.behave(&[endpoint], behaviour)
    }

    pub fn counters(&self) -> Counters {
        self.state.counters()
    }

    pub fn report(&self, query: &Query) -> Report {
        self.state.report(query)
    }

    /// Forgets latencies.
    pub fn reset_latencies(&self) {
        self.state.endpoints().iter().for_each(Endpoint::reset_latencies);
    }

    /// Listens at one more address, for the same endpoints.
    pub fn open(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.state.open(address)
    }

    /// Ends the listener at `address` and cuts its connections: the next one is refused.
    pub async fn close(&self, address: SocketAddr) {
        self.state.close(address).await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut listeners = self.state.listeners.lock().expect("no holder panics");
        listeners.drain().for_each(|(_, listener)| listener.abort());
    }
}

impl State {
    fn endpoints(&self) -> Arc<Vec<Endpoint>> {
        Arc::clone(&self.endpoints.read().expect("no holder panics"))
    }

    fn configure(&self, spec: &Spec) -> Result<(), KeyError> {
        let mut ids: HashMap<u32, Arc<Mutex<Vec<u32>>>> = HashMap::new();
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        for endpoint in &spec.endpoints {
            let ids = Arc::clone(ids.entry(endpoint.application).or_default());
            endpoints.push(Endpoint::new(endpoint, spec.run, ids)?);
        }
        self.stray.store(0, Relaxed);
        *self.endpoints.write().expect("no holder panics") = Arc::new(endpoints);
        Ok(())
    }

    fn behave(&self, numbers: &[usize], behaviour: &Behaviour) -> bool {
        let endpoints = self.endpoints();
        if numbers.iter().any(|&number| number >= endpoints.len()) {
            return false;
        }
        for &number in numbers {
            endpoints[number].behave(behaviour.clone());
        }
        true
    }

    fn counters(&self) -> Counters {
        let mut counters = Counters {
            at: SystemClock.now(),
            stray: self.stray.load(Relaxed),
            cpu_us: u64::try_from(process::own_cpu().as_micros()).unwrap_or(u64::MAX),
            ..Counters::default()
        };
        for endpoint in self.endpoints().iter() {
            let (received, delivered, where_all_taken) = endpoint.counts();
            counters.received += received;
            counters.delivered += delivered;
            counters.delivered_where_all_taken += where_all_taken;
        }
        counters
    }

    fn report(&self, query: &Query) -> Report {
        let endpoints = self.endpoints();
        let mut latencies = Latencies::default();
        let mut reports = Vec::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            if query.endpoints.as_ref().is_none_or(|wanted| wanted.contains(&number)) {
                endpoint.add_latencies(&mut latencies);
                reports.push(endpoint.report(number, query.sequences));
            }
        }
        Report { stray: self.stray.load(Relaxed), latency: latencies.summary(), endpoints: reports }
    }

    fn open(self: &Arc<Self>, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::clone(self)));
        self.listeners.lock().expect("no holder panics").insert(address, task);
        Ok(address)
    }

    async fn close(&self, address: SocketAddr) {
        let listener = self.listeners.lock().expect("no holder panics").remove(&address);
        if let Some(listener) = listener {
            listener.abort();
            // Its end is the abort; when it is over the sockets are closed.
            listener.await.ok();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((tcp, _)) = listener.accept() => { connections.spawn(serve(tcp, Arc::clone(&state))); }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(tcp: TcpStream, state: Arc<State>) {
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let fault = Fault::default();
    let stream = TokioIo::new(Stream::new(tcp, fault.clone()));
    let service = service_fn(|request| handle(request, &state, &fault));
    let mut server = http1::Builder::new();
    server.auto_date_header(false).header_read_timeout(None);
    // Connections end in every way there is; what arrived on them is recorded already.
    server.serve_connection(stream, service).await.ok();
}

async fn handle(
    request: Request<Incoming>,
    state: &Arc<State>,
    fault: &Fault,
) -> Result<Response<AnswerBody>, crate::client::Error> {
    let number = request.uri().path().strip_prefix("/e/").and_then(|number| number.parse::<usize>().ok());
    let Some(number) = number else {
        return admin::answer(state, request).await;
    };
    let (head, body) = request.into_parts();
    let body = read_body(body).await?;
    let endpoints = state.endpoints();
    let Some(endpoint) = endpoints.get(number) else {
        state.stray.fetch_add(1, Relaxed);
        return Ok(empty(StatusCode::NOT_FOUND));
    };
    match endpoint.take(&head.headers, &body, SystemClock.now()) {
        Decision::Deliver => Ok(Response::new(AnswerBody::EMPTY)),
        Decision::Forged => Ok(empty(StatusCode::UNAUTHORIZED)),
        Decision::Unknown => Ok(empty(StatusCode::UNPROCESSABLE_ENTITY)),
        Decision::Answer { stamp, answer, latency_ms } => {
            if latency_ms > 0 {
                sleep(Duration::from_millis(latency_ms)).await;
            }
            Ok(misbehave(endpoint, &stamp, answer, fault).await)
        }
    }
}

async fn misbehave(
    endpoint: &Endpoint,
    stamp: &Stamp,
    answer: Answer,
    fault: &Fault,
) -> Response<AnswerBody> {
    if answer.is_success() {
        endpoint.answered(stamp);
    }
    match answer {
        Answer::Ok => empty(StatusCode::OK),
        Answer::Status { status, retry_after_secs } => {
            let mut response =
                empty(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
            if let Some(secs) = retry_after_secs {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
            }
            response
        }
        Answer::Redirect { location } => {
            let mut response = empty(StatusCode::FOUND);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Answer::Hang => {
            sleep(HANG).await;
            empty(StatusCode::GATEWAY_TIMEOUT)
        }
        Answer::Reset => {
            fault.reset();
            empty(StatusCode::OK)
        }
        Answer::Garbage => {
            fault.garbage();
            empty(StatusCode::OK)
        }
        Answer::Informational { count } => {
            fault.informational(count);
            empty(StatusCode::OK)
        }
        Answer::Huge { bytes } => Response::new(AnswerBody::Zeros(bytes)),
        Answer::Drip { interval_ms } => Response::new(AnswerBody::drip(Duration::from_millis(interval_ms))),
    }
}

fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::EMPTY);
    *response.status_mut() = status;
    response
}
