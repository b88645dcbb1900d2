//! An endpoint on this machine that keeps what it is sent.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderMap, HeaderName};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// So long it takes for an answer: an attempt that took no time could not be told from one of which nobody says.
pub(crate) const TAKES_MS: u64 = 10;

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
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    deliveries: Mutex<Vec<Delivery>>,
    /// Whether it answers 500.
    refuses: AtomicBool,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let kept = Arc::<Kept>::default();
        let keeping = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keeping = Arc::clone(&keeping);
                std::thread::spawn(move || serve(stream, &keeping));
            }
        });
        Ok(Self { url, kept })
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.kept.refuses.store(refuses, Ordering::SeqCst);
    }

    /// The deliveries of a message, as soon as there are so many.
    pub(crate) async fn of(&self, message: &str, count: usize) -> Result<Vec<Delivery>> {
        let its = self.wait(|delivery| delivery.header("webhook-id") == message, count).await?;
        ensure!(its.len() >= count, "{} deliveries of {message}, not {count}", its.len());
        Ok(its)
    }

    /// What operational webhooks say of an endpoint, as soon as the first one comes.
    pub(crate) async fn told(&self, endpoint_uid: &str) -> Result<Delivery> {
        let says = |delivery: &Delivery| {
            let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
            body["data"]["endpointUid"] == endpoint_uid
        };
        let told = self.wait(says, 1).await?;
        told.into_iter().next().with_context(|| format!("nothing is told of {endpoint_uid}"))
    }

    /// Those that are so, as soon as there are so many.
    async fn wait(&self, is_so: impl Fn(&Delivery) -> bool, count: usize) -> Result<Vec<Delivery>> {
        let look = async || {
            let all = self.kept.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
            anyhow::Ok(all.iter().filter(|delivery| is_so(delivery)).cloned().collect::<Vec<Delivery>>())
        };
        as_soon_as(look, |its: &Vec<Delivery>| its.len() >= count).await
    }
}

/// What is asked for, as soon as it is there, or as it is in the end.
pub(crate) async fn as_soon_as<T>(
    ask: impl AsyncFn() -> Result<T>,
    is_there: impl Fn(&T) -> bool,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = ask().await?;
        if is_there(&found) || Instant::now() > deadline {
            return Ok(found);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: TcpStream, kept: &Kept) {
    let mut reader = BufReader::new(&stream);
    while let Ok(delivery) = read(&mut reader) {
        let refuses = kept.refuses.load(Ordering::SeqCst);
        kept.deliveries.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
        std::thread::sleep(Duration::from_millis(TAKES_MS));
        let answer: &[u8] = if refuses {
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 7\r\n\r\nrefused"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntaken"
        };
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
