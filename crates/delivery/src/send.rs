//! Requests that leave: one signed POST per attempt, and what came of it.
//!
//! Constraints
//! - An endpoint is a stranger: it may refuse, stall, stream without end or speak nonsense. Everything it can
//!   make us read, hold or wait for is bounded (`limits`), so that it costs only itself.
//! - An address is checked after names are resolved, and that very address is connected to (`guard`).
//! - A request is repeated on another connection only if nothing of it was written. All else is reported, and the
//!   lane decides.
//! - Redirects are answers like any other; nothing but the endpoint's own address is ever contacted.
//!
//! ```text
//! Http::send ─▶ turn at the endpoint ─▶ kept connection, or: slot ─▶ resolve ─▶ guard ─▶ connect ─▶ TLS
//!            ─▶ headers and signature ─▶ status line ─▶ body up to its cap ─▶ keep the connection ─▶ Answer
//! ```

mod connection;
mod dial;
mod headers;
mod http;
mod meters;
mod pool;
mod resolve;
mod target;

use std::{sync::Arc, time::Duration};

use ::http::HeaderValue;
use bytes::Bytes;
use fanfare_core::{AttemptError, EndpointNumber, MessageId, Timestamp};

pub use self::{
    headers::HeaderPrefix,
    http::{Http, Options, StartError},
    target::{Target, TargetError, TargetSettings},
};

/// Brings requests to endpoints. Any number of sends may be under way at once; dropping the future of one
/// breaks it off.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` and waits for the outcome, at most as long as its target allows.
    fn send(&self, request: Request) -> impl Future<Output = Answer> + Send;

    /// Drops the idle connections of an endpoint that nothing will be sent to soon.
    fn forget(&self, endpoint: EndpointNumber);
}

/// One attempt to be made.
#[derive(Clone, Debug)]
pub struct Request {
    pub target: Arc<Target>,
    pub id: MessageId,
    /// The wall-clock time that is signed.
    pub at: Timestamp,
    pub payload: Bytes,
    /// W3C trace context, passed on as it came.
    pub traceparent: Option<HeaderValue>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, or 0 where none came. It is also set where the answer broke off after it.
    pub status: u16,
    /// `None` if and only if the message was delivered.
    pub error: Option<AttemptError>,
    /// How long the endpoint asks to be left alone; only from an answer that is not 2xx.
    pub retry_after: Option<Duration>,
    /// The beginning of the answer's body, at most `limits::RESPONSE_KEPT_BYTES`.
    pub body: Bytes,
    pub duration: Duration,
}
