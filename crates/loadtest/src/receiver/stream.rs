//! The receiver's side of a TCP connection, which can be told to answer with something that is no answer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

const NONE: u32 = 0;
const RESET: u32 = 1;
const GARBAGE: u32 = 2;
/// From here on: informational answers, their number is what is above.
const INFORMATIONAL: u32 = 3;

const INFORMATIONAL_ANSWER: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
const GARBAGE_BYTES: &[u8] = b"\x16\x03\x01\0\xa5 this is not HTTP \xff\xfe\0\r\n\r\n\r\n";

/// What the next write of a connection does in place of, or before, its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault {
    next: Arc<AtomicU32>,
}

impl Fault {
    pub(super) fn reset(&self) {
        self.next.store(RESET, Relaxed);
    }

    pub(super) fn garbage(&self) {
        self.next.store(GARBAGE, Relaxed);
    }

    pub(super) fn informational(&self, count: u32) {
        self.next.store(INFORMATIONAL.saturating_add(count), Relaxed);
    }
}

pub(super) struct Stream {
    tcp: TcpStream,
    fault: Fault,
    /// Still to be written because of the fault.
    unwritten: Option<Bytes>,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, fault: Fault) -> Self {
        Self { tcp, fault, unwritten: None }
    }

    /// Does what the fault asks for. An error ends the connection.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fault = self.fault.next.load(Relaxed);
        if fault == NONE {
            return Poll::Ready(Ok(()));
        }
        if fault == RESET {
            self.tcp.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let Self { tcp, unwritten, .. } = self;
        let unwritten = unwritten.get_or_insert_with(|| match fault {
            GARBAGE => Bytes::from_static(GARBAGE_BYTES),
            _ => Bytes::from(INFORMATIONAL_ANSWER.repeat((fault - INFORMATIONAL) as usize)),
        });
        while !unwritten.is_empty() {
            let written = ready!(Pin::new(&mut *tcp).poll_write(cx, unwritten))?;
            unwritten.advance(written);
        }
        if fault == GARBAGE {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.unwritten = None;
        self.fault.next.store(NONE, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_fault(cx))?;
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_fault(cx))?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
