//! Endpoints that take what comes, remember when it came, and answer when they are told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    routing::post,
    serve::ListenerExt as _,
};
use fanfare_loadtest::{payload, sequence::SequenceSet};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::judge::Arrival;

/// How an endpoint behaves, and which messages it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) application: usize,
    pub(crate) ordering: &'static str,
    /// From the request to its answer.
    pub(crate) takes: Duration,
}

pub(crate) struct Endpoints {
    base: String,
    state: Arc<Received>,
    serving: JoinHandle<()>,
}

/// What all endpoints got.
#[derive(Default)]
struct Received {
    endpoints: Vec<(Wanted, Mutex<Memory>)>,
    /// First deliveries over all endpoints.
    delivered: AtomicU64,
    damaged: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Memory {
    arrivals: Vec<Arrival>,
    delivered: SequenceSet,
}

impl Endpoints {
    pub(crate) async fn start(wanted: Vec<Wanted>) -> Self {
        let endpoints = wanted.into_iter().map(|wanted| (wanted, Mutex::default())).collect();
        let state = Arc::new(Received { endpoints, ..Received::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        // Answers are one small write; waiting for more of it only delays them.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let routes = Router::new().route("/{endpoint}", post(receive)).with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Self { base, state, serving }
    }

    pub(crate) fn url(&self, endpoint: usize) -> String {
        format!("{}/{endpoint}", self.base)
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.state.endpoints.iter().map(|(wanted, _)| wanted)
    }

    /// First deliveries over all endpoints.
    pub(crate) fn delivered(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn arrivals(&self, endpoint: usize) -> Vec<Arrival> {
        self.state.endpoints[endpoint].1.lock().arrivals.clone()
    }

    pub(crate) fn damaged(&self) -> Vec<String> {
        self.state.damaged.lock().clone()
    }

    /// What was acknowledged in each application and did not arrive yet, by endpoint.
    pub(crate) fn missing(&self, acknowledged: &[SequenceSet]) -> Vec<(usize, Vec<u64>)> {
        let of = |(wanted, memory): &(Wanted, Mutex<Memory>)| -> Vec<u64> {
            let memory = memory.lock();
            acknowledged[wanted.application].iter().filter(|seq| !memory.delivered.contains(*seq)).collect()
        };
        let missing = self.state.endpoints.iter().map(of).enumerate();
        missing.filter(|(_, missing)| !missing.is_empty()).collect()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(state): State<Arc<Received>>, Path(endpoint): Path<usize>, body: Bytes) -> StatusCode {
    let Some((wanted, memory)) = state.endpoints.get(endpoint) else { return StatusCode::NOT_FOUND };
    let stamp = match payload::read(&body) {
        Ok(stamp) if stamp.application as usize == wanted.application => stamp,
        read => {
            state.damaged.lock().push(format!("endpoint {endpoint}: {read:?}"));
            return StatusCode::BAD_REQUEST;
        }
    };
    let arrival = Arrival { stamp, at: Instant::now(), answered: None };
    let index = {
        let mut memory = memory.lock();
        memory.arrivals.push(arrival);
        memory.arrivals.len() - 1
    };
    sleep(wanted.takes).await;
    let mut memory = memory.lock();
    memory.arrivals[index].answered = Some(Instant::now());
    if memory.delivered.insert(stamp.seq) {
        state.delivered.fetch_add(1, Ordering::Relaxed);
    }
    StatusCode::NO_CONTENT
}
