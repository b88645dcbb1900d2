//! A connection that leaves a request in the kernel while too many others are being answered: what waits there costs
//! no memory of ours.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use fanfare_core::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use crate::turns::Turns;

/// Whether the request being read or answered has been let in; cleared once it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct LetIn(Arc<AtomicBool>);

impl LetIn {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, let_in: bool) {
        self.0.store(let_in, Ordering::Relaxed);
    }

    /// The next request has to wait again.
    pub(crate) fn answered(&self) {
        self.set(false);
    }
}

pub(crate) struct Patient {
    stream: TcpStream,
    turns: Arc<Turns>,
    let_in: LetIn,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Enough of a request to tell a health check.
const PEEKED_BYTES: usize = 24;

impl Patient {
    pub(crate) fn new(stream: TcpStream, turns: Arc<Turns>, let_in: LetIn) -> Self {
        Self { stream, turns, let_in, waiting: None }
    }

    /// Ready once there is something to read and a turn for it, or when it has waited for so long that it has to be
    /// refused. The turn itself is taken when the request is known.
    fn poll_let_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            ready!(self.stream.poll_read_ready(cx))?;
            if self.turns.are_free() || self.is_health_check(cx) {
                return Poll::Ready(Ok(()));
            }
            let turns = Arc::clone(&self.turns);
            // In the order in which they came; given back at once.
            self.waiting =
                Some(Box::pin(async move { drop(timeout(limits::INGEST_WAIT / 2, turns.take()).await) }));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(Ok(()))
    }

    fn is_health_check(&self, cx: &mut Context<'_>) -> bool {
        let mut bytes = [0; PEEKED_BYTES];
        let mut peeked = ReadBuf::new(&mut bytes);
        match self.stream.poll_peek(cx, &mut peeked) {
            Poll::Ready(Ok(length)) => {
                let start = &peeked.filled()[..length];
                let path = start.strip_prefix(b"GET ").or_else(|| start.strip_prefix(b"HEAD "));
                path.is_some_and(crate::surface::begins_with_probe)
            }
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.let_in.is_set() {
            ready!(this.poll_let_in(cx))?;
            this.let_in.set(true);
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
