//! An endpoint that keeps what it is sent, byte for byte, and answers as it is told.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

use super::wait;

/// Listens as long as it lives. Its endpoints are told apart by the path of their URL.
pub(crate) struct Recorder {
    base: String,
    receipts: Receipts,
    accepting: JoinHandle<()>,
}

/// One request that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) arrived: Instant,
    /// Just before the answer was written; none while there is none.
    pub(crate) answered: Option<(Instant, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(u16),
    /// With what came as the body.
    Echo(u16),
    /// The same, after a while.
    After(Duration, u16),
    /// No answer while the sender waits.
    Silence,
}

type Receipts = Arc<Mutex<Vec<Receipt>>>;
type Behaviour = Arc<dyn Fn(&Receipt) -> Reply + Send + Sync>;

impl Recorder {
    /// Answers every request with 204.
    pub(crate) async fn start() -> Self {
        Self::behaving(|_| Reply::Status(204)).await
    }

    pub(crate) async fn behaving(behaviour: impl Fn(&Receipt) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let receipts = Receipts::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&receipts), Arc::new(behaviour)));
        Self { base: format!("http://{address}"), receipts, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        lock(&self.receipts).clone()
    }

    /// Waits until there are at least `count` receipts.
    pub(crate) async fn received(&self, count: usize) -> Vec<Receipt> {
        wait::until(&format!("{count} receipts"), wait::PATIENCE, async || {
            let receipts = lock(&self.receipts);
            (receipts.len() >= count).then(|| receipts.clone())
        })
        .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receipt {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn is_success(&self) -> bool {
        self.answered.is_some_and(|(_, status)| (200..300).contains(&status))
    }
}

async fn accept(listener: TcpListener, receipts: Receipts, behaviour: Behaviour) {
    while let Ok((stream, _)) = listener.accept().await {
        let receipts = Arc::clone(&receipts);
        let behaviour = Arc::clone(&behaviour);
        let service =
            service_fn(move |request| record(request, Arc::clone(&receipts), Arc::clone(&behaviour)));
        // A sender that goes away in the middle is what some tests are about.
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn record(
    request: Request<Incoming>,
    receipts: Receipts,
    behaviour: Behaviour,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(answer(400));
    };
    let receipt = Receipt {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        arrived: Instant::now(),
        answered: None,
    };
    let reply = behaviour(&receipt);
    let came = receipt.body.clone();
    let index = {
        let mut receipts = lock(&receipts);
        receipts.push(receipt);
        receipts.len() - 1
    };
    match reply {
        Reply::Status(status) | Reply::After(_, status) => {
            if let Reply::After(delay, _) = reply {
                tokio::time::sleep(delay).await;
            }
            lock(&receipts)[index].answered = Some((Instant::now(), status));
            Ok(answer(status))
        }
        Reply::Echo(status) => {
            lock(&receipts)[index].answered = Some((Instant::now(), status));
            let mut answer = answer(status);
            *answer.body_mut() = Full::new(came);
            Ok(answer)
        }
        Reply::Silence => {
            // Longer than any timeout of a test, or until the sender closes the connection.
            tokio::time::sleep(Duration::from_mins(2)).await;
            Ok(answer(503))
        }
    }
}

fn answer(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).expect("a status is all it needs")
}

fn lock(receipts: &Receipts) -> std::sync::MutexGuard<'_, Vec<Receipt>> {
    receipts.lock().unwrap_or_else(PoisonError::into_inner)
}
