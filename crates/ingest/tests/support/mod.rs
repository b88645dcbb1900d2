//! One process with ingest, without sockets.

pub(crate) mod memory_log;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use fanfare_control::{
    Application, ApplicationSettings, Control, MainSecret, Options as ControlOptions, default_organization,
};
use fanfare_core::{
    ClaimEntry, Clock as _, Fingerprint, KnownClaims, Message, Offset, Partition, Policy, SystemClock,
    SystemEntropy, Timestamp, limits,
};
use fanfare_http::{Gate, Memory, Probes, Surface};
use fanfare_ingest::{Ingest, Options, Rates, State, routes};
use fanfare_log::{Log, LogRecord, Topic};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;

use memory_log::MemoryLog;

/// A router that has nothing in its table and has routed nothing.
#[derive(Default)]
pub(crate) struct Router {
    /// It does not catch up with the start.
    pub(crate) behind: AtomicBool,
    /// Messages that wait for their time.
    pub(crate) held: AtomicUsize,
}

impl KnownClaims for Router {
    fn caught_up<'a>(&'a self, _: Partition, _: Offset) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {
            if self.behind.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        })
    }

    fn lookup(&self, _: Partition, _: Fingerprint, _: Timestamp) -> Option<ClaimEntry> {
        None
    }

    fn routed(&self, _: Partition) -> Offset {
        Offset::ZERO
    }

    fn held(&self, _: Partition) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Over a log of the kind `L`.
pub(crate) struct Process<L = MemoryLog> {
    pub(crate) log: Arc<L>,
    pub(crate) router: Arc<Router>,
    pub(crate) control: Control,
    pub(crate) ingest: Ingest,
    pub(crate) surface: Surface,
    /// Of the organization.
    pub(crate) token: String,
    pub(crate) application: Arc<Application>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn id(&self) -> String {
        assert_eq!(self.status, 202, "{}", self.text);
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

impl Process {
    pub(crate) async fn start() -> Arc<Self> {
        Arc::new(Self::over(MemoryLog::new()).await)
    }

    /// The records of `messages`.
    pub(crate) fn records(&self) -> Vec<LogRecord> {
        self.log.records(Topic::Messages)
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.records().iter().map(|record| Message::decode(&record.head).unwrap()).collect()
    }

    /// Waits until so many messages are appended.
    pub(crate) async fn appended(&self, count: usize) {
        tokio::time::timeout(std::time::Duration::from_secs(5), async {
            while self.records().len() < count {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("nothing is appended");
    }
}

impl<L: Log> Process<L> {
    /// With one application, uid `shop`.
    pub(crate) async fn over(log: Arc<L>) -> Self {
        let options = ControlOptions {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            main_secret: MainSecret::from_bytes([7; 32]),
            allow_http: false,
            message_partitions: log.partitions(Topic::Messages),
            delivery_partitions: log.partitions(Topic::Deliveries),
            policy: Policy::default(),
        };
        let control = Control::open(Arc::clone(&log) as _, options).await.unwrap();
        let gate = Gate::new(control.clone(), Arc::new(SystemClock), Memory::default());
        let router = Arc::new(Router::default());
        let ingest = Ingest::new(Options {
            log: Arc::clone(&log) as _,
            known_claims: Some(Arc::clone(&router) as _),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            retention: limits::RETENTION,
        });
        let probes = Probes { ready: Arc::new(|| Ok(())), metrics: Arc::new(String::new) };
        let rates = Arc::new(Rates::new(None, None));
        let state = State {
            gate,
            ingest: ingest.clone(),
            rates,
            body_bytes: limits::BODY_BYTES,
            deliver_ahead: Duration::from_hours(1),
        };
        let surface = Surface::new(routes().with_state(state), probes);
        let token = control.tokens().mint_organization(default_organization(), SystemClock.now());
        let settings =
            ApplicationSettings { name: "Shop".into(), uid: Some("shop".into()), ..Default::default() };
        // Over a log that was written before it exists already.
        let _ = control.submit(control.new_application(default_organization(), settings), None).await;
        let application = control.view().application(default_organization(), "shop").unwrap();
        Self { log, router, control, ingest, surface, token, application }
    }

    pub(crate) async fn publish(&self, body: impl Into<Body>, headers: &[(&str, &str)]) -> Answer {
        self.post("/api/v1/app/shop/msg", body, headers).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(self.surface.answer(request.body(body.into()).unwrap()).await).await
    }
}

pub(crate) async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}
