//! What stands before a server and lets requests through, or does not. Each must come in one piece, without a body.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Forward,
    /// The connection ends without an answer.
    Break,
    Answer(&'static str),
    /// No answer ever.
    Stall,
}

pub(super) struct Proxy {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// `act` is told how many requests came before.
    pub(super) async fn start(server: SocketAddr, act: fn(usize) -> Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let asked = Arc::clone(&counted);
                // Either side may go away.
                tokio::spawn(async move { drop(pass(client, server, &asked, act).await) });
            }
        });
        Self { address, asked, accepting }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    asked: &AtomicUsize,
    act: fn(usize) -> Act,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                assert!(request[..read].ends_with(b"\r\n\r\n"), "a request came in pieces");
                match act(asked.fetch_add(1, Ordering::SeqCst)) {
                    Act::Forward => server.write_all(&request[..read]).await?,
                    Act::Break => return Ok(()),
                    Act::Answer(text) => client.write_all(text.as_bytes()).await?,
                    Act::Stall => std::future::pending().await,
                }
            }
            read = server.read(&mut answer) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&answer[..read]).await?;
            }
        }
    }
}
