//! A small HTTP client: one connection, kept, opened again when it breaks.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::wait::PATIENCE;

/// Where the server of an installation listens now.
#[derive(Clone, Default)]
pub(crate) struct Address(Arc<Mutex<Option<SocketAddr>>>);

pub(crate) struct Client {
    address: Address,
    token: Option<String>,
    connection: tokio::sync::Mutex<Option<SendRequest<Full<Bytes>>>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Address {
    pub(crate) fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Nobody listens there any more; another process may get the port.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn get(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    pub(crate) fn new(address: Address, token: Option<String>) -> Self {
        Self { address, token, connection: tokio::sync::Mutex::default() }
    }

    /// The same client on a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.address.clone(), self.token.clone())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], &body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[], &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    /// A server that is up must answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    /// Sends a request that the server may not live to answer.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "fanfare.test");
        if !headers.iter().any(|(name, _)| *name == "content-type") && !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.context("no answer in time")?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        connection.ready().await?;
        let answer = match connection.try_send_request(request).await {
            Ok(answer) => answer,
            // The server closed an idle connection just now: nothing of the request was written.
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    connection = self.connect().await?;
                    connection.send_request(request).await?
                }
                None => return Err(error.into_error().into()),
            },
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        // Not kept after a failure.
        *kept = Some(connection);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let address = self.address.get().context("no server was started yet")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with an error when the server dies, which the sender is told too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// What the tests do over and over.
impl Client {
    /// Creates an application and gives its id.
    pub(crate) async fn application(&self, name: &str) -> String {
        self.post("/api/v1/app", &serde_json::json!({ "name": name })).await.id(201)
    }

    /// Creates an endpoint and gives its id. `options` are further fields.
    pub(crate) async fn endpoint(&self, application: &str, url: &str, options: &Value) -> String {
        let mut body = options.clone();
        body["url"] = url.into();
        self.post(&format!("/api/v1/app/{application}/endpoint"), &body).await.id(201)
    }

    /// The secret that the endpoint's deliveries are signed with.
    pub(crate) async fn secret(&self, application: &str, endpoint: &str) -> String {
        let path = format!("/api/v1/app/{application}/endpoint/{endpoint}/secret");
        let secret = self.get(&path).await.json(200);
        secret["key"].as_str().expect("a secret has a key").to_owned()
    }

    /// The sum of a metric's samples that have this label; 0 if there are none.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> u64 {
        let metrics = self.get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let is_its = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        };
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
        let values = metrics.lines().filter(is_its).map(value);
        values.map(|value| value.unwrap_or_else(|| panic!("no number of {name} in {metrics}"))).sum()
    }

    pub(crate) async fn publish(&self, application: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send("POST", &format!("/api/v1/app/{application}/msg"), headers, body).await
    }
}

impl Answer {
    /// The body of an answer that must have this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }

    pub(crate) fn id(&self, status: u16) -> String {
        let body = self.json(status);
        body["id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
