//! The transport that sends over the network.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use ::http::{StatusCode, header::RETRY_AFTER};
use bytes::BytesMut;
use fanfare_core::{AttemptError, EndpointNumber, guard::Guard, limits, retry_after};
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, HeaderPrefix, Request, Transport,
    connection::{Connection, Failed},
    dial::Dialer,
    headers,
    meters::Meters,
    pool::Pool,
    resolve::Resolver,
    target::Target,
};

/// How often idle connections are looked through, in parts of the time they may be idle.
const SWEEPS_PER_IDLE: u32 = 4;

/// What an installation decides about requests that leave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Special addresses that may be sent to all the same.
    pub allowed: Vec<IpNet>,
    /// For development: 127.0.0.0/8 and `::1` may be sent to.
    pub allow_loopback: bool,
    /// Without TLS.
    pub allow_http: bool,
    pub prefixes: Vec<HeaderPrefix>,
    /// Trusted beside the public certificate authorities.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Open connections in all.
    pub connections: usize,
    pub connection_idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            allow_loopback: false,
            allow_http: false,
            prefixes: vec![HeaderPrefix::WEBHOOK],
            extra_roots: Vec::new(),
            connections: limits::CONNECTIONS_OUT,
            connection_idle: limits::CONNECTION_IDLE,
        }
    }
}

/// Why requests cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("names cannot be resolved: {0}")]
    Resolver(#[from] hickory_resolver::net::NetError),
}

/// Sends requests over the network.
pub struct Http {
    dialer: Dialer,
    pool: Arc<Pool>,
    prefixes: Vec<HeaderPrefix>,
    connection_idle: Duration,
    meters: Meters,
}

/// What is known of an answer so far; it stays when the request is broken off.
#[derive(Default)]
struct Progress {
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    body: BytesMut,
}

impl Http {
    /// Starts the task that closes idle connections; call it within a runtime.
    pub fn new(options: Options) -> Result<Self, StartError> {
        let meters = Meters::new();
        let pool = Arc::new(Pool::new(options.connections, meters.connections.clone()));
        tokio::spawn(sweep(Arc::downgrade(&pool), options.connection_idle / SWEEPS_PER_IDLE));
        Ok(Self {
            dialer: Dialer::new(
                Guard::new(options.allowed, options.allow_loopback),
                options.allow_http,
                Resolver::from_system()?,
                options.extra_roots,
            )?,
            pool,
            prefixes: options.prefixes,
            connection_idle: options.connection_idle,
            meters,
        })
    }

    /// One request from start to end; its errors are those of the way, not of the status.
    async fn attempt(
        &self,
        request: &Request,
        started: Instant,
        progress: &mut Progress,
    ) -> Result<(), AttemptError> {
        let target = &request.target;
        let _turn = target.kept.turn().await;
        let mut message = headers::message(request, &self.prefixes);
        loop {
            let mut connection = match target.kept.take(started) {
                Some(kept) => kept,
                None => Box::pin(self.connect(target, started)).await?,
            };
            match connection.exchange(message).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    progress.status = Some(head.status);
                    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    progress.retry_after =
                        retry_after.and_then(|value| retry_after::parse(value, request.at));
                    if connection.read_body(body, &mut progress.body).await? && connection.rest() {
                        self.pool.keep(target, connection, Instant::now());
                    }
                    return Ok(());
                }
                // The other side closed it while it was idle.
                Err(Failed::Unsent(unsent)) if connection.is_reused() => message = *unsent,
                Err(failed) => return Err(failed.error()),
            }
        }
    }

    /// A new connection, by the end of the request at the latest: then the step that took too long is named.
    async fn connect(&self, target: &Arc<Target>, started: Instant) -> Result<Box<Connection>, AttemptError> {
        let slot = self.pool.slot(target).await;
        let deadline = (Instant::now() + limits::CONNECT_TIMEOUT).min(started + target.timeout);
        let stream = self.dialer.dial(&target.origin, deadline).await?;
        Connection::open(stream, self.connection_idle, slot).await.map(Box::new)
    }
}

impl Transport for Http {
    async fn send(&self, request: Request) -> Answer {
        let started = Instant::now();
        let mut progress = Progress::default();
        let deadline = started + request.target.timeout;
        let result = {
            let attempt = pin!(self.attempt(&request, started, &mut progress));
            timeout_at(deadline, attempt).await.unwrap_or(Err(AttemptError::Timeout))
        };
        let answer = progress.into_answer(result, started.elapsed());
        self.meters.record(answer.error, answer.duration);
        answer
    }

    fn forget(&self, endpoint: EndpointNumber) {
        self.pool.forget(endpoint);
    }
}

impl Progress {
    fn into_answer(self, result: Result<(), AttemptError>, duration: Duration) -> Answer {
        let (error, retry_after) = match self.status {
            Some(status) if status.is_success() => (result.err(), None),
            // That status is the outcome, however the rest of the answer came.
            Some(_) => (Some(AttemptError::Status), self.retry_after),
            None => (result.err(), None),
        };
        Answer {
            status: self.status.map_or(0, |status| status.as_u16()),
            error,
            retry_after,
            body: self.body.freeze(),
            duration,
        }
    }
}

async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep(Instant::now());
    }
}
