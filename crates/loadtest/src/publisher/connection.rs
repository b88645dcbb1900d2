//! One publishing connection, from its first message to its last.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use fanfare_core::{Clock as _, SystemClock, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::{Instant, sleep, timeout};

use super::{Shared, ledger::Entry};
use crate::{
    client::{Answer, Connection},
    latency::Latencies,
    payload::{self, NO_KEY, Stamp},
};

/// Event type of every message.
pub(crate) const EVENT_TYPE: &str = "load.test";
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A connection and what it measured.
pub(super) struct Line {
    shared: Arc<Shared>,
    number: usize,
    /// Of how many.
    lines: usize,
    paths: Vec<Uri>,
    headers: HeaderMap,
    connection: Option<Connection>,
    pub(super) latencies: Latencies,
    pub(super) shed_latencies: Latencies,
    pub(super) complaint: Option<String>,
}

/// How one message ended.
enum End {
    Acknowledged(String),
    Refused,
    /// It may have been accepted.
    Unknown,
}

impl Line {
    pub(super) fn new(shared: Arc<Shared>, number: usize, lines: usize) -> Self {
        Self {
            shared,
            number,
            lines,
            paths: Vec::new(),
            headers: HeaderMap::new(),
            connection: None,
            latencies: Latencies::default(),
            shed_latencies: Latencies::default(),
            complaint: None,
        }
    }

    pub(super) async fn run(mut self) -> Self {
        if let Err(error) = self.prepare() {
            self.complaint = Some(format!("{error:#}"));
            return self;
        }
        let shared = Arc::clone(&self.shared);
        // Connecting is not what is measured.
        self.connect(Instant::now() + shared.options.patience).await;
        for turn in 0.. {
            let due = match &shared.pacer {
                Some(pacer) => match pacer.turn().await {
                    Some(due) => due,
                    None => break,
                },
                None => SystemClock.now(),
            };
            if shared.next().is_none() {
                shared.stop();
                break;
            }
            let (application, key) = self.place(turn);
            let ledger = &shared.ledgers[application];
            let entry = ledger.begin(key);
            let id = match self.publish(application, &entry, due).await {
                End::Acknowledged(id) => Some(id),
                End::Refused => None,
                End::Unknown => {
                    shared.counts.unknown.fetch_add(1, Relaxed);
                    None
                }
            };
            ledger.finish(shared.options.first_application + index(application), &entry, id.as_deref());
        }
        self
    }

    /// Application and key of this connection's message number `turn`.
    fn place(&self, turn: usize) -> (usize, u32) {
        let options = &self.shared.options;
        let applications = options.applications.len();
        // Sequential: the pairs of application and key are dealt out to the connections. Otherwise every
        // connection goes through all of them, from a place of its own.
        let pairs = applications * options.keys.max(1) as usize;
        let pair = if options.sequential {
            let own = (pairs - self.number).div_ceil(self.lines);
            self.number + turn % own * self.lines
        } else {
            (self.number + turn) % pairs
        };
        let key = if options.keys == 0 { NO_KEY } else { index(pair / applications) };
        (pair % applications, key)
    }

    /// Brings one message to an end.
    async fn publish(&mut self, application: usize, entry: &Entry, due: Timestamp) -> End {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let body = self.body(application, entry, due);
        let give_up = Instant::now() + options.patience;
        let mut pause = FIRST_PAUSE;
        let mut end = End::Refused;
        loop {
            let sent = SystemClock.now();
            let request = self.request(application, entry, body.clone());
            let answered = self.exchange(request, give_up).await;
            let now = SystemClock.now();
            match answered {
                Some(answer) if answer.status == StatusCode::ACCEPTED => {
                    shared.counts.accepted.fetch_add(1, Relaxed);
                    self.latencies.record(now.since(due));
                    let id = if options.keep_ids { id_in(&answer.body) } else { Some(String::new()) };
                    return End::Acknowledged(id.unwrap_or_default());
                }
                Some(answer) => {
                    self.count_refusal(&answer, now.since(sent));
                    if !answer.status.is_server_error() {
                        return end;
                    }
                    if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                        end = End::Unknown;
                    }
                }
                None => {
                    shared.counts.errors.fetch_add(1, Relaxed);
                    end = End::Unknown;
                }
            }
            if !options.repeat || Instant::now() >= give_up {
                return end;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request and its answer; `None` and no connection any more if there is none.
    async fn exchange(&mut self, request: Request<Full<Bytes>>, give_up: Instant) -> Option<Answer> {
        let is_open = match &mut self.connection {
            Some(connection) => connection.is_open().await,
            None => false,
        };
        if !is_open {
            self.connect(give_up).await;
        }
        let connection = self.connection.as_mut()?;
        let error = match timeout(self.shared.options.answer_timeout, connection.exchange(request)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.connection = None;
        self.complaint = Some(error);
        None
    }

    /// Tries to connect until `give_up`, or until publishing ends if nothing has to be brought to an end.
    async fn connect(&mut self, give_up: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut pause = FIRST_PAUSE;
        loop {
            match Connection::open(shared.options.server.address).await {
                Ok(connection) => {
                    shared.counts.connects.fetch_add(1, Relaxed);
                    self.connection = Some(connection);
                    return;
                }
                Err(error) => self.complaint = Some(error.to_string()),
            }
            let stopped = shared.stopped.load(Relaxed) && !shared.options.repeat;
            if stopped || Instant::now() >= give_up {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn count_refusal(&mut self, answer: &Answer, waited: Duration) {
        let counts = &self.shared.counts;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            counts.shed.fetch_add(1, Relaxed);
            self.shed_latencies.record(waited);
            if !answer.headers.contains_key(header::RETRY_AFTER) {
                counts.shed_without_retry_after.fetch_add(1, Relaxed);
            }
            return;
        }
        counts.other.fetch_add(1, Relaxed);
        self.complaint = Some(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }

    /// What is the same in all requests.
    fn prepare(&mut self) -> anyhow::Result<()> {
        let options = &self.shared.options;
        for application in &options.applications {
            let path = format!("/api/v1/app/{application}/msg");
            self.paths.push(path.parse().with_context(|| format!("`{application}` is no id"))?);
        }
        self.headers.insert(header::HOST, HeaderValue::from_str(&options.server.authority)?);
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = options.server.token() {
            self.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}"))?);
        }
        Ok(())
    }

    fn request(&self, application: usize, entry: &Entry, body: Bytes) -> Request<Full<Bytes>> {
        let options = &self.shared.options;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.paths[application].clone();
        *request.headers_mut() = self.headers.clone();
        if options.idempotency || options.repeat {
            let application = options.first_application + index(application);
            let key = format!("load-{:016x}-{application}-{}", options.run, entry.seq);
            let key = HeaderValue::from_str(&key).expect("letters, digits and hyphens");
            request.headers_mut().insert(IDEMPOTENCY_KEY.clone(), key);
        }
        request
    }

    fn body(&self, application: usize, entry: &Entry, due: Timestamp) -> Bytes {
        let options = &self.shared.options;
        let stamp = Stamp {
            run: options.run,
            stream: index(self.number),
            application: options.first_application + index(application),
            key: entry.key,
            seq: entry.seq,
            floor: entry.floor,
            key_seq: entry.key_seq,
            key_floor: entry.key_floor,
            at: due,
        };
        let mut body = Vec::with_capacity(options.payload_bytes + 128);
        body.extend_from_slice(b"{\"eventType\":\"");
        body.extend_from_slice(EVENT_TYPE.as_bytes());
        body.push(b'"');
        if entry.key != NO_KEY {
            body.extend_from_slice(format!(",\"orderingKey\":\"key-{}\"", entry.key).as_bytes());
        }
        body.extend_from_slice(b",\"payload\":");
        payload::write(&stamp, options.payload_bytes, &mut body);
        body.push(b'}');
        Bytes::from(body)
    }
}

/// The message id in a 202.
fn id_in(answer: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct MessageOut {
        id: String,
    }
    serde_json::from_slice(answer).ok().map(|message: MessageOut| message.id)
}

/// Applications, keys and connections are numbered by 32 bits in payloads.
fn index(of: usize) -> u32 {
    u32::try_from(of).expect("fewer than 2^32")
}
