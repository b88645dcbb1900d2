//! Receivers that do what a test says, byte by byte.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{
    EndpointNumber, MessageId, Timestamp,
    signature::{Signer, SigningKey},
};
use fanfare_delivery::send::{Http, Options, Request, Target, TargetSettings};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// 2023-11-14T22:13:20Z.
pub(crate) const AT: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Of a target: what a request that must not end by itself takes.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(400);

pub(crate) fn key() -> SigningKey {
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
}

pub(crate) fn options() -> Options {
    Options { allow_loopback: true, allow_http: true, ..Options::default() }
}

pub(crate) fn http() -> Http {
    Http::new(options()).unwrap()
}

pub(crate) fn settings<'a>(url: &'a str, headers: &'a BTreeMap<String, String>) -> TargetSettings<'a> {
    TargetSettings {
        number: EndpointNumber(7),
        revision: 1,
        url,
        headers,
        // Enough for a machine that is busy with other tests.
        timeout: Duration::from_secs(10),
        signer: Signer::new(vec![key()]),
        max_connections: 4,
    }
}

pub(crate) fn target(url: &str) -> Target {
    Target::new(settings(url, &BTreeMap::new())).unwrap()
}

/// A target whose requests are given up soon.
pub(crate) fn impatient(url: &str) -> Target {
    Target::new(TargetSettings { timeout: TIMEOUT, ..settings(url, &BTreeMap::new()) }).unwrap()
}

pub(crate) fn request(target: impl Into<Arc<Target>>) -> Request {
    Request {
        target: target.into(),
        id: MessageId::mint(AT, [9; 15]),
        at: AT,
        payload: Bytes::from_static(b"{\"a\":1}"),
        traceparent: None,
    }
}

/// A request as it came.
pub(crate) struct Received {
    /// Request line and headers, without the blank line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Reads one request; `None` once the other side has closed.
pub(crate) async fn read_request<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().trim_end().to_owned();
    let mut received = Received { head, body: Vec::new() };
    let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).await.ok()?;
    Some(received)
}

/// Answers every request on a connection with the same bytes.
pub(crate) async fn answer_all<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    answer: &str,
    seen: &mpsc::UnboundedSender<Received>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let _ = seen.send(request);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A listener on loopback and what it got.
pub(crate) struct Receiver {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: mpsc::UnboundedReceiver<Received>,
}

impl Receiver {
    pub(crate) async fn answering(answer: &'static str) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let receiver = Self::handling(move |stream, _| {
            let sender = sender.clone();
            async move { answer_all(stream, answer, &sender).await }
        })
        .await;
        Self { seen, ..receiver }
    }

    /// `handle` is given each connection and its number, from 0.
    pub(crate) async fn handling<F, H>(handle: H) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        H: Fn(TcpStream, usize) -> F + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(handle(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, accepted, seen: mpsc::unbounded_channel().1 }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) async fn next(&mut self) -> Received {
        self.seen.recv().await.unwrap()
    }
}
