//! An endpoint on this machine that keeps what it is sent.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderMap, HeaderName};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const POLL: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Delivery {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let kept = Arc::clone(&deliveries);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Ok(Self { url, deliveries })
    }

    /// The deliveries of a message, as soon as there are so many.
    pub(crate) async fn of(&self, message: &str, count: usize) -> Result<Vec<Delivery>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let its: Vec<Delivery> =
                all.into_iter().filter(|delivery| delivery.header("webhook-id") == message).collect();
            if its.len() >= count {
                return Ok(its);
            }
            ensure!(Instant::now() < deadline, "{} deliveries of {message}, not {count}", its.len());
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: TcpStream, kept: &Mutex<Vec<Delivery>>) {
    let mut reader = BufReader::new(&stream);
    while let Ok(delivery) = read(&mut reader) {
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntaken";
        if (&stream).write_all(answer).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Result<Delivery> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("POST "), "it ended");
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(HeaderName::try_from(name)?, value.trim().parse()?);
    }
    let length = headers.get("content-length").context("it says its length")?.to_str()?.parse()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Delivery { headers, body })
}
