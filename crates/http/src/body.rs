//! Reading a request's body within the process's memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::limits;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::ApiError;

/// What a request costs beside its body.
const REQUEST_OVERHEAD_BYTES: usize = 1 << 10;

/// The bytes that all bodies of the process may take at once. Who finds no room waits in turn.
#[derive(Clone, Debug)]
pub struct Memory {
    room: Arc<Semaphore>,
    total_bytes: usize,
    wait: Duration,
}

/// Room for one body; given back when dropped.
#[derive(Debug)]
pub struct MemoryPermit(OwnedSemaphorePermit);

impl Memory {
    /// Room for `total_bytes`; who waits longer than `wait` is shed.
    pub fn new(total_bytes: usize, wait: Duration) -> Self {
        let total_bytes = total_bytes.clamp(REQUEST_OVERHEAD_BYTES, u32::MAX as usize);
        Self { room: Arc::new(Semaphore::new(total_bytes)), total_bytes, wait }
    }

    /// Room for what a request needs beside its body, such as an answer that is large.
    pub async fn reserve(&self, bytes: usize) -> Result<MemoryPermit, ApiError> {
        let wanted = bytes.saturating_add(REQUEST_OVERHEAD_BYTES).min(self.total_bytes);
        let wanted = u32::try_from(wanted).expect("the total fits 32 bits");
        let room = Arc::clone(&self.room);
        match timeout(self.wait, room.acquire_many_owned(wanted)).await {
            Ok(permit) => Ok(MemoryPermit(permit.expect("the semaphore is never closed"))),
            Err(_) => {
                Err(ApiError::unavailable("overloaded", "no memory for the body now; send it again later"))
            }
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(limits::INGEST_BYTES_IN_MEMORY, limits::INGEST_WAIT)
    }
}

impl MemoryPermit {
    /// Gives back what is not needed after all.
    pub fn shrink_to(&mut self, bytes: usize) {
        let kept = bytes.saturating_add(REQUEST_OVERHEAD_BYTES);
        let surplus = self.0.num_permits().saturating_sub(kept);
        drop(self.0.split(surplus));
    }
}

/// A JSON answer that holds its room in memory until it is sent: a client that does not read it takes room from other
/// requests, not from the machine.
pub fn holding_answer(json: Vec<u8>, permit: Arc<MemoryPermit>) -> axum::body::Body {
    axum::body::Body::new(Holding { bytes: Some(Bytes::from(json)), _permit: permit })
}

struct Holding {
    bytes: Option<Bytes>,
    _permit: Arc<MemoryPermit>,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// A body in memory with the room it takes there.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    pub permit: MemoryPermit,
}

/// Reads a whole body of at most `limit_bytes` into one piece. Refuses with 413 what is declared to be larger, with 503 when there is no room for it, with 408 when it comes too slowly.
pub async fn read_body(
    body: axum::body::Body,
    limit_bytes: usize,
    memory: &Memory,
) -> Result<Body, ApiError> {
    let declared = body.size_hint().exact();
    let expected = match declared.map(usize::try_from) {
        Some(Ok(bytes)) if bytes <= limit_bytes => Some(bytes),
        Some(_) => {
            discard(body).await;
            return Err(ApiError::too_large(limit_bytes));
        }
        None => None,
    };
    let mut permit = memory.reserve(expected.unwrap_or(limit_bytes)).await?;
    let read = timeout(limits::BODY_TIMEOUT, collect(body, expected.unwrap_or(0), limit_bytes));
    let Ok(bytes) = read.await else {
        return Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the body did not arrive within {} seconds", limits::BODY_TIMEOUT.as_secs()),
        ));
    };
    let bytes = bytes?;
    permit.shrink_to(bytes.len());
    Ok(Body { bytes, permit })
}

/// Lets a body that is refused come and go, as far as a client may be expected to send one: who is still writing when the
/// connection closes may never see the answer.
async fn discard(mut body: axum::body::Body) {
    let mut read = 0;
    let reading = async {
        while read < limits::BODY_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Time that is up, too, only means that enough was read.
    let _ = timeout(limits::DISCARD_TIMEOUT, reading).await;
}

/// Copies the pieces together: a piece kept as it came would keep the connection's whole read buffer alive.
async fn collect(mut body: axum::body::Body, capacity: usize, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::with_capacity(capacity);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit_bytes {
            return Err(ApiError::too_large(limit_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from(bytes))
}
