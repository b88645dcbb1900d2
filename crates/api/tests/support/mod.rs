//! One process with the control plane's routes, without sockets.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use fanfare_api::{MessagesInLog, State, routes};
use fanfare_control::{Control, MainSecret, Options, default_organization};
use fanfare_core::{Clock, Offset, Partition, Policy, SystemClock, SystemEntropy, Timestamp, guard::Guard};
use fanfare_history::Place;
use fanfare_http::{Gate, Memory, Peer, Probes, Surface};
use fanfare_log::{
    Log, Topic,
    embedded::{self, EmbeddedLog},
    sim::{SimCluster, SimOptions},
};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Process {
    pub(crate) log: Arc<dyn Log>,
    directory: Option<Arc<TempDir>>,
    /// Ends the history, if there is one.
    _history: DropGuard,
    pub(crate) control: Control,
    pub(crate) surface: Surface,
    /// For everything of the default organization.
    pub(crate) token: String,
    pub(crate) clock: Arc<SetClock>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// The machine's clock, put forward by hand.
#[derive(Default)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Process {
    pub(crate) async fn start(dev: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let log = EmbeddedLog::open(embedded::Options::new(directory.path(), 4, 4)).unwrap();
        Self::on(log, Some(Arc::new(directory)), dev, false).await
    }

    /// With a history.
    pub(crate) async fn remembering() -> Self {
        let directory = TempDir::new().unwrap();
        let log = EmbeddedLog::open(embedded::Options::new(directory.path(), 4, 4)).unwrap();
        Self::on(log, Some(Arc::new(directory)), true, true).await
    }

    /// The tables of the history.
    pub(crate) fn tables(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join("history.sqlite")
    }

    /// Another one of the same installation.
    pub(crate) async fn another(&self) -> Self {
        Self::on(Arc::clone(&self.log), self.directory.clone(), false, false).await
    }

    /// In memory, without threads: time can be paused.
    pub(crate) async fn in_memory() -> Self {
        Self::on(SimCluster::new(SimOptions::new(1, 4, 4)).join(), None, false, false).await
    }

    async fn on(log: Arc<dyn Log>, directory: Option<Arc<TempDir>>, dev: bool, remembering: bool) -> Self {
        let clock = Arc::new(SetClock::default());
        let options = Options {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SystemEntropy),
            main_secret: MainSecret::from_bytes([7; 32]),
            allow_http: dev,
            message_partitions: log.partitions(Topic::Messages),
            delivery_partitions: log.partitions(Topic::Deliveries),
            policy: Policy::default(),
        };
        let control = Control::open(Arc::clone(&log), options).await.unwrap();
        let gate = Gate::new(control.clone(), Arc::clone(&clock) as _, Memory::default());
        let stop = CancellationToken::new();
        let history = if remembering {
            let place = Place::Sqlite(directory.as_ref().unwrap().path().join("history.sqlite"));
            let options = fanfare_history::Options {
                log: Arc::clone(&log),
                clock: Arc::clone(&clock) as _,
                place,
                installation: control.view().installation().unwrap().id,
                retention: Duration::from_hours(90 * 24),
            };
            let (history, service) = fanfare_history::open(options).await.unwrap();
            service.start(stop.clone()).unwrap();
            Some(history)
        } else {
            None
        };
        let state = State {
            gate,
            entropy: Arc::new(SystemEntropy),
            guard: Arc::new(Guard::new(Vec::new(), dev)),
            lease: Duration::ZERO,
            log: Arc::clone(&log),
            messages: Arc::new(MessagesInLog(Arc::clone(&log))),
            history,
        };
        let probes = Probes { ready: Arc::new(|| Ok(())), metrics: Arc::new(String::new) };
        let token = control.tokens().mint_organization(default_organization(), clock.now());
        let surface = Surface::new(routes().with_state(state), probes);
        Self { log, directory, _history: stop.drop_guard(), control, surface, token, clock }
    }

    /// Sends it with this token.
    pub(crate) async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Answer {
        let authorization = format!("Bearer {token}");
        self.send(method, path, body, &[("authorization", &authorization)]).await
    }

    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.send_as(token, Method::GET, path, None).await
    }

    pub(crate) async fn post_as(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send_as(token, Method::POST, path, Some(&body.to_string())).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_owned()));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer([192, 0, 2, 7].into()));
        let response = self.surface.answer(request).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(&body.to_string()), &[]).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(&body.to_string()), &[]).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(&body.to_string()), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.send(Method::DELETE, path, None, &[]).await.status
    }

    /// How far `control` is written.
    pub(crate) async fn written(&self) -> Offset {
        self.log.bounds(Topic::Control, Partition(0)).await.unwrap().end
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}
