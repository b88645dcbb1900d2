//! A proxy before the server that takes one field out of its answers.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::fields::Field;

/// Listens as long as it lives.
pub(crate) struct Proxy {
    address: SocketAddr,
    taken: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Takes `field` out, or nothing.
    pub(crate) async fn start(server: SocketAddr, field: Option<Field>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let taken = Arc::new(AtomicU32::new(0));
        let accepting = tokio::spawn(accept(listener, server, field, Arc::clone(&taken)));
        Self { address, taken, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it found its field.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, field: Option<Field>, taken: Arc<AtomicU32>) {
    while let Ok((stream, _)) = listener.accept().await {
        let taken = Arc::clone(&taken);
        let service = service_fn(move |request| {
            let taken = Arc::clone(&taken);
            async move {
                let answer = pass_on(request, server, field, &taken).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|error| broken(&error)))
            }
        });
        // A client that goes away has what it came for.
        tokio::spawn(async move {
            drop(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn broken(error: &anyhow::Error) -> Response<Full<Bytes>> {
    let body = Full::from(format!("the proxy cannot pass it on: {error:#}"));
    Response::builder().status(502).body(body).expect("a status is all it needs")
}

async fn pass_on(
    request: Request<Incoming>,
    server: SocketAddr,
    field: Option<Field>,
    taken: &AtomicU32,
) -> Result<Response<Full<Bytes>>> {
    let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
    let (head, body) = request.into_parts();
    let body = Full::new(body.collect().await?.to_bytes());
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    let answer = sender.send_request(Request::from_parts(head, body)).await?;
    let (mut head, body) = answer.into_parts();
    let mut body = body.collect().await?.to_bytes();
    let field = field.filter(|field| {
        field.method == method && field.status == head.status.as_u16() && is_on(field.path, &path)
    });
    if let Some(field) = field {
        let mut json: Value = serde_json::from_slice(&body)?;
        let names: Vec<&str> = field.name.split('.').collect();
        taken.fetch_add(take(&mut json, &names), Ordering::Relaxed);
        body = Bytes::from(json.to_string());
    }
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(head, Full::new(body)))
}

fn is_on(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.trim_end_matches('/').split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == "*" || wanted == found => {}
            _ => return false,
        }
    }
}

/// Takes the field away wherever it stands; tells how often.
fn take(json: &mut Value, names: &[&str]) -> u32 {
    match (names, json) {
        ([name], Value::Object(object)) => u32::from(object.remove(*name).is_some()),
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().map(|item| take(item, rest)).sum(),
        ([name, rest @ ..], Value::Object(object)) => {
            object.get_mut(*name).map_or(0, |inner| take(inner, rest))
        }
        _ => 0,
    }
}
