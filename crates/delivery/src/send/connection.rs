//! One HTTP/1.1 connection. It has no task of its own: whoever uses it drives it, so that a request costs no
//! switch between tasks and an idle connection is nothing but memory.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use ::http::{HeaderMap, Response};
use bytes::{Bytes, BytesMut};
use fanfare_core::{AttemptError, limits};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{headers::Message, pool::Slot};

const KEEP_ALIVE: &str = "keep-alive";

type Driver = http1::Connection<TokioIo<Metered>, Full<Bytes>>;

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    allowance: Arc<Allowance>,
    answers: u32,
    /// How long it may be idle: our limit, or what the endpoint announced if that is less.
    keep_for: Duration,
    _slot: Slot,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Not a byte of the message was written.
    Unsent(Box<Message>),
    Broken(AttemptError),
}

impl Failed {
    pub(super) fn error(&self) -> AttemptError {
        match self {
            Self::Unsent(_) => AttemptError::Disconnected,
            Self::Broken(error) => *error,
        }
    }
}

impl Connection {
    /// Speaks HTTP over `stream`. Nothing is sent yet.
    pub(super) async fn open(stream: Stream, keep_for: Duration, slot: Slot) -> Result<Self, AttemptError> {
        let allowance = Arc::new(Allowance::default());
        let metered = Metered { stream, allowance: Arc::clone(&allowance) };
        let (sender, driver) = http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(limits::RESPONSE_HEADER_BYTES)
            .handshake(TokioIo::new(metered))
            .await
            .map_err(|_| AttemptError::Disconnected)?;
        Ok(Self { sender, driver: Some(driver), allowance, answers: 0, keep_for, _slot: slot })
    }

    /// Whether it has answered before: the other side may then have closed it at any time.
    pub(super) fn is_reused(&self) -> bool {
        self.answers > 0
    }

    pub(super) fn keep_for(&self) -> Duration {
        self.keep_for
    }

    /// Sends `message` and waits for the answer's head.
    pub(super) async fn exchange(&mut self, message: Message) -> Result<Response<Incoming>, Failed> {
        self.allowance.renew();
        let answer = {
            let mut answer = pin!(self.sender.try_send_request(message));
            std::future::poll_fn(|cx| {
                drive(&mut self.driver, cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        match answer {
            Ok(answer) => {
                self.answers = self.answers.saturating_add(1);
                self.heed(answer.headers());
                Ok(answer)
            }
            Err(mut error) => Err(match error.take_message() {
                Some(message) => Failed::Unsent(Box::new(message)),
                None => Failed::Broken(self.classify(&error.into_error())),
            }),
        }
    }

    /// Reads the answer's body into `kept`, of which only the beginning stays. Returns whether it was read to
    /// its end; past `limits::RESPONSE_BYTES` it is not.
    pub(super) async fn read_body(
        &mut self,
        mut body: Incoming,
        kept: &mut BytesMut,
    ) -> Result<bool, AttemptError> {
        let mut read = 0;
        while !body.is_end_stream() {
            let frame = std::future::poll_fn(|cx| {
                // Asking comes first: the driver reads only what somebody wants.
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    return Poll::Ready(frame);
                }
                drive(&mut self.driver, cx);
                Pin::new(&mut body).poll_frame(cx)
            })
            .await;
            let data = match frame {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) if self.allowance.is_spent() => return Ok(false),
                Some(Err(error)) => return Err(self.classify(&error)),
            };
            let room = limits::RESPONSE_KEPT_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..data.len().min(room)]);
            read += data.len();
            if read >= limits::RESPONSE_BYTES {
                return Ok(body.is_end_stream());
            }
        }
        Ok(true)
    }

    /// Lets the connection come to rest after an answer; whether it can take another message.
    pub(super) fn rest(&mut self) -> bool {
        // Nobody is to be woken for an idle connection: what happens to it is seen when it is used again.
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready() && !self.keep_for.is_zero()
    }

    /// `Keep-Alive: timeout=5` is kept to, with a second to spare for the way.
    fn heed(&mut self, headers: &HeaderMap) {
        let Some(announced) = headers.get(KEEP_ALIVE).and_then(|value| value.to_str().ok()) else { return };
        let seconds = announced.split(',').find_map(|part| part.trim().strip_prefix("timeout="));
        if let Some(seconds) = seconds.and_then(|text| text.parse::<u64>().ok()) {
            self.keep_for = self.keep_for.min(Duration::from_secs(seconds.saturating_sub(1)));
        }
    }

    fn classify(&self, error: &hyper::Error) -> AttemptError {
        if error.is_parse() || self.allowance.is_spent() {
            AttemptError::BadAnswer
        } else {
            AttemptError::Disconnected
        }
    }
}

/// Dropping an ended driver answers everything that still waits for it.
fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// How much may be read for one answer, whatever it consists of: informational answers, head, framing, body.
#[derive(Default)]
struct Allowance(AtomicUsize);

impl Allowance {
    fn renew(&self) {
        self.0.store(limits::RESPONSE_HEADER_BYTES + limits::RESPONSE_BYTES, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn spend(&self, bytes: usize) {
        // Only the connection's user spends and renews, never two at a time.
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// What a connection runs over.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Metered {
    stream: Stream,
    allowance: Arc<Allowance>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.allowance.is_spent() {
            return Poll::Ready(Err(io::Error::other("the answer is too long")));
        }
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        })?;
        self.allowance.spend(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
