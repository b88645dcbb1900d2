//! Requests to one of the two servers: sent again while it makes sense, answers told apart.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::{Clock as _, SystemClock, retry_after};
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::{
    connection::{Answer, Connection, Trouble},
    error::Error,
    limits,
    server::{Server, Side, Token},
};

const AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How often, and after which pauses, a request is sent again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The first among them.
    pub tries: u32,
    /// Doubled for each further one.
    pub first: Duration,
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: limits::TRIES, first: limits::WAIT_FIRST, longest: limits::WAIT_LONGEST }
    }
}

impl Patience {
    /// The pause after so many tries.
    fn pause(&self, tried: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(tried.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

/// Talks to one server, on one connection that is kept.
pub(crate) struct Client {
    side: Side,
    server: Server,
    token: Token,
    tls: TlsConnector,
    patience: Patience,
    connection: Option<Connection>,
    /// Whoever was never reached is not waited for: the URL may be wrong.
    was_reached: bool,
}

/// One request.
struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Bytes,
    key: Option<&'a str>,
}

impl Client {
    pub(crate) fn new(
        side: Side,
        server: Server,
        token: Token,
        tls: TlsConnector,
        patience: Patience,
    ) -> Self {
        Self { side, server, token, tls, patience, connection: None, was_reached: false }
    }

    /// What a GET of something that must be there answers.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value, Error> {
        let call = Call { method: Method::GET, path, body: Bytes::new(), key: None };
        let answer = self.call(&call).await?;
        self.json(&answer)
    }

    /// The same; `None` if it is not there.
    pub(crate) async fn find(&mut self, path: &str) -> Result<Option<Value>, Error> {
        match self.get(path).await {
            Err(Error::Answer { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Writes. Carried out twice it must be the same as once, or have a key.
    pub(crate) async fn write(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<(), Error> {
        assert_eq!(self.side, Side::Target, "the source is only read");
        let call = Call { method, path, body: body.to_string().into(), key };
        self.call(&call).await.map(drop)
    }

    /// What it says is not what a server with Svix's API says.
    pub(crate) fn not_compatible(&self, why: impl Into<String>) -> Error {
        Error::NotCompatible { side: self.side, server: self.server.to_string(), why: why.into() }
    }

    fn json(&self, answer: &Answer) -> Result<Value, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.not_compatible(format!("an answer is not JSON: {error}")))
    }

    async fn call(&mut self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut tried = 0;
        loop {
            let outcome = self.send(call).await;
            tried += 1;
            let is_last = tried >= self.patience.tries;
            let pause = match outcome {
                Ok(answer) if !may_do_better(answer.status) => return self.judged(call, answer),
                Ok(answer) if is_last => return Err(self.exhausted(call, &answer)),
                Ok(answer) => self.asked_pause(&answer)?.unwrap_or_else(|| self.patience.pause(tried)),
                Err(Trouble::TooLong) => {
                    let path = call.path.to_owned();
                    return Err(Error::TooLong { side: self.side, path, bytes: limits::BODY_BYTES });
                }
                Err(trouble) if !self.was_reached => {
                    return Err(Error::Unreachable {
                        side: self.side,
                        server: self.server.to_string(),
                        trouble,
                    });
                }
                Err(trouble) if is_last => {
                    return Err(Error::Lost { side: self.side, server: self.server.to_string(), trouble });
                }
                Err(_) => self.patience.pause(tried),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Once.
    async fn send(&mut self, call: &Call<'_>) -> Result<Answer, Trouble> {
        let kept = self.connection.take().filter(|connection| !connection.is_closed());
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(&self.server, &self.tls).await?,
        };
        let answer = connection.exchange(self.request(call)).await?;
        self.was_reached = true;
        // Not kept after a failure.
        self.connection = Some(connection);
        Ok(answer)
    }

    fn request(&self, call: &Call<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.server.base, call.path))
            .header(header::HOST, &self.server.authority)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, self.token.authorization());
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        request.body(Full::new(call.body.clone())).expect("paths are escaped and keys are made here")
    }

    /// The pause that the server asks for, if it does.
    fn asked_pause(&self, answer: &Answer) -> Result<Option<Duration>, Error> {
        let asked = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = asked.and_then(|value| retry_after::parse(value, SystemClock.now()));
        match pause {
            Some(pause) if pause > limits::RETRY_AFTER_MAX => {
                Err(Error::Later { side: self.side, server: self.server.to_string(), secs: pause.as_secs() })
            }
            pause => Ok(pause),
        }
    }

    /// It was tried often enough. A defect that one request meets says nothing of the others.
    fn exhausted(&self, call: &Call<'_>, answer: &Answer) -> Error {
        if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
            return self.refusal(call, answer);
        }
        Error::Busy { side: self.side, server: self.server.to_string(), status: answer.status }
    }

    fn judged(&self, call: &Call<'_>, answer: Answer) -> Result<Answer, Error> {
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let (side, server) = (self.side, self.server.to_string());
        if status.is_redirection() {
            let to = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            return Err(Error::Redirected { side, server, to: shortened(to.unwrap_or("nowhere")) });
        }
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            let (method, path) = (call.method.clone(), call.path.to_owned());
            return Err(Error::Token { side, server, status, method, path, said: said(&answer.body) });
        }
        Err(self.refusal(call, &answer))
    }

    fn refusal(&self, call: &Call<'_>, answer: &Answer) -> Error {
        Error::Answer {
            side: self.side,
            status: answer.status,
            method: call.method.clone(),
            path: call.path.to_owned(),
            said: said(&answer.body),
        }
    }
}

/// Whether the same request may be answered otherwise in a while.
fn may_do_better(status: StatusCode) -> bool {
    let for_ever = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    let in_a_while = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    in_a_while.contains(&status) || (status.is_server_error() && !for_ever.contains(&status))
}

/// What the body of an error says, as one line: its `detail`, a text or a list of fields; else all of it.
fn said(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match &parsed["detail"] {
        Value::String(detail) => detail.clone(),
        Value::Array(fields) => fields.iter().map(field).collect::<Vec<_>>().join("; "),
        _ => String::from_utf8_lossy(&body[..body.len().min(4 * limits::SAID_CHARACTERS)]).into_owned(),
    };
    shortened(&text)
}

fn field(error: &Value) -> String {
    let place = error["loc"].as_array().map(Vec::as_slice).unwrap_or_default();
    // `body` says nothing.
    let place: Vec<&str> = place.iter().skip(1).filter_map(Value::as_str).collect();
    format!("{}: {}", place.join("."), error["msg"].as_str().unwrap_or_default())
}

/// On one line, and without what a terminal would take for orders.
fn shortened(text: &str) -> String {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or("nothing").to_owned();
    let line = words.fold(first, |line, word| line + " " + word);
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = line.chars().take(limits::SAID_CHARACTERS).map(plain).collect();
    if line.chars().nth(limits::SAID_CHARACTERS).is_some() {
        short.push('…');
    }
    short
}
