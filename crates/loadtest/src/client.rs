//! HTTP out: one connection with one request in flight, driven by the task that uses it.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

/// Bodies longer than this are refused, by us as a client and by the receiver.
pub const BODY_BYTES: usize = 16 << 20;
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("a body is longer than {BODY_BYTES} bytes")]
    BodySize,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A connection that is kept alive. It is driven by whoever waits for an answer, so that a request costs no
/// switch between tasks.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection is over: only when it is gone does a waiting sender learn of it.
    driver: Option<Pin<Box<Driver>>>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)) })
    }

    /// Sends `request` and reads its whole answer.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let Self { sender, driver } = self;
        let mut exchange = pin!(async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = read_body(body).await?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        });
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(answer) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                if !has_ended(driver, cx) {
                    return Poll::Pending;
                }
                // The exchange has all that the connection had to say, or learns that there will be nothing.
            }
        })
        .await
    }

    /// Whether another request can be sent; notices what the other side did while nobody asked.
    pub async fn is_open(&mut self) -> bool {
        let Self { sender, driver } = self;
        poll_fn(|cx| {
            has_ended(driver, cx);
            Poll::Ready(driver.is_some() && !sender.is_closed())
        })
        .await
    }
}

/// Drives the connection; true if it ended just now.
fn has_ended(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) -> bool {
    let ends = driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready());
    if ends {
        *driver = None;
    }
    ends
}

/// A whole body; no copy if it came in one piece.
pub async fn read_body(mut body: Incoming) -> Result<Bytes, Error> {
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + pieces.len() + data.len() > BODY_BYTES {
            return Err(Error::BodySize);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = data;
            continue;
        }
        if pieces.is_empty() {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&data);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// Where requests go: the base of a server's URL, `http://host:port`.
#[derive(Clone, Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// For the header `host`.
    pub authority: String,
    token: Option<String>,
}

impl Server {
    /// `url` is `http://host[:port]`; `token` goes out as the bearer.
    pub async fn resolve(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        let authority = uri.authority().with_context(|| format!("`{url}` has no host"))?;
        if uri.scheme_str() != Some("http") {
            bail!("`{url}`: only http:// is supported");
        }
        let port = authority.port_u16().unwrap_or(80);
        let host = authority.host().trim_matches(['[', ']']);
        let address =
            tokio::net::lookup_host((host, port)).await?.next().context("the name has no address")?;
        Ok(Self { address, authority: authority.to_string(), token })
    }

    pub fn at(address: SocketAddr) -> Self {
        Self { address, authority: address.to_string(), token: None }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// One request on a connection of its own; anything but 2xx is an error with the server's words.
    pub async fn call<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        input: Option<&I>,
    ) -> anyhow::Result<O> {
        let connecting = timeout(CONTROL_TIMEOUT, Connection::open(self.address));
        let connection =
            connecting.await.with_context(|| format!("{method} {path}: cannot connect in time"))?;
        let mut connection = connection.with_context(|| format!("{method} {path}"))?;
        self.call_on(&mut connection, method, path, input).await
    }

    /// As [`Server::call`], on a connection that is kept.
    pub async fn call_on<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        connection: &mut Connection,
        method: Method,
        path: &str,
        input: Option<&I>,
    ) -> anyhow::Result<O> {
        let body = self.body(connection, &method, path, input).await?;
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).with_context(|| format!("{method} {path}: unexpected answer"))
    }

    /// The body of what a GET gives, whatever it is.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let connecting = timeout(CONTROL_TIMEOUT, Connection::open(self.address));
        let mut connection =
            connecting.await.with_context(|| format!("{path}: cannot connect in time"))??;
        let body = self.body::<()>(&mut connection, &Method::GET, path, None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn body<I: Serialize + ?Sized>(
        &self,
        connection: &mut Connection,
        method: &Method,
        path: &str,
        input: Option<&I>,
    ) -> anyhow::Result<Bytes> {
        let request = self.request(method.clone(), path, input)?;
        let answer = timeout(CONTROL_TIMEOUT, connection.exchange(request))
            .await
            .with_context(|| format!("{method} {path}: no answer"))?
            .with_context(|| format!("{method} {path}"))?;
        if !answer.status.is_success() {
            bail!("{method} {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer.body)
    }

    fn request<I: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        input: Option<&I>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let body = match input {
            Some(input) => serde_json::to_vec(input)?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}
