//! The accept loop: from a port to requests.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use fanfare_core::limits;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    Peer, Surface,
    patient::{LetIn, Patient},
};

/// Connections the kernel may hold ready for us.
const BACKLOG: u32 = 4_096;

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    connections: usize,
}

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", reason(.error))]
pub struct BindError {
    pub address: SocketAddr,
    pub error: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use; stop what uses it or choose another port".into(),
        io::ErrorKind::PermissionDenied => "permission denied; choose a port above 1023".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ => error.to_string(),
    }
}

impl Listener {
    /// Binds the port; connections wait in the kernel until [`Self::serve`].
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A port in TIME_WAIT after a restart is free; one that somebody listens on is not.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let tcp = socket.listen(BACKLOG)?;
            let address = tcp.local_addr()?;
            Ok(Self { tcp, address, connections: limits::CONNECTIONS })
        };
        bind().map_err(|error| BindError { address, error })
    }

    /// Serves at most this many connections at once; more wait in the kernel.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then takes no more connections, finishes the requests in flight for at most `drain`,
    /// and returns.
    pub async fn serve(self, surface: Surface, stop: CancellationToken, drain: Duration) {
        let room = Arc::new(Semaphore::new(self.connections));
        let _pace = AbortOnDropHandle::new(tokio::spawn(surface.turns().keep_pace()));
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        let serve = {
            let (tasks, stop, abort) = (tasks.clone(), stop.clone(), abort.clone());
            let runtime = Handle::current();
            move |stream, permit| {
                let serving = connection(stream, permit, surface.clone(), stop.clone(), abort.clone());
                drop(tasks.spawn_on(serving, &runtime));
            }
        };
        accept_on_thread(self.tcp, room, stop, serve).await;
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "requests still in flight were cut off");
            abort.cancel();
            tasks.wait().await;
        }
    }
}

/// Hands connections to `serve` until `stop`. On a thread of its own: where thousands come at once while the runtime is
/// busy, the kernel's queue overflows, and whoever is dropped from it comes again a second later.
async fn accept_on_thread(
    tcp: TcpListener,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    serve: impl Fn(std::net::TcpStream, OwnedSemaphorePermit) + Send + 'static,
) {
    let accepting = move || -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tcp = tcp.into_std()?;
        runtime.block_on(async move {
            let tcp = TcpListener::from_std(tcp)?;
            while let Some((stream, permit)) = next_connection(&tcp, &room, &stop).await {
                // It belongs to this runtime until it is taken out.
                match stream.into_std() {
                    Ok(stream) => serve(stream, permit),
                    Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
                }
            }
            Ok(())
        })
    };
    let (ended, has_ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("fanfare-accept".to_owned());
    let spawned = thread.spawn(move || {
        // Whoever serves may be gone.
        let _ = ended.send(accepting());
    });
    let result = match spawned {
        Ok(_) => has_ended.await.unwrap_or(Ok(())),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::error!(%error, "no connections are accepted: restart the process");
    }
}

/// The next connection with room for it, or nothing once `stop` was called.
async fn next_connection(
    tcp: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = stop.run_until_cancelled(Arc::clone(room).acquire_owned()).await?;
    let permit = permit.expect("the semaphore is never closed");
    let mut exhausted = false;
    loop {
        match stop.run_until_cancelled(tcp.accept()).await? {
            Ok((stream, _)) => return Some((stream, permit)),
            // The client gave up before we took it.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !exhausted {
                    tracing::error!(%error, "cannot accept connections; trying on");
                    exhausted = true;
                }
                stop.run_until_cancelled(sleep(limits::ACCEPT_PAUSE)).await?;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(
    stream: std::net::TcpStream,
    _permit: OwnedSemaphorePermit,
    surface: Surface,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let peer = stream.peer_addr().ok().map(|address| Peer(address.ip().to_canonical()));
    // Answers are one small write; waiting for more of it only delays them.
    let _ = stream.set_nodelay(true);
    let let_in = LetIn::default();
    let stream = Patient::new(stream, surface.turns(), let_in.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (surface, let_in) = (surface.clone(), let_in.clone());
        // An idle connection holds no room for a request.
        Box::pin(async move {
            let mut request = request.map(Body::new);
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let answer = surface.answer(request).await;
            let_in.answered();
            Ok::<_, std::convert::Infallible>(answer)
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIMEOUT)
        .max_buf_size(limits::REQUEST_HEADER_BYTES);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => Some(served),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            abort.run_until_cancelled(serving).await
        }
    };
    if let Some(Err(error)) = served {
        tracing::debug!(%error, "connection ended");
    }
}
