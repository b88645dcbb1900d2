//! What the receiver answers to its owner.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{AnswerBody, Behaviour, Endpoint, Spec, State, empty};
use crate::client::{self, read_body};

/// Which endpoints to report, and how fully.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// `None`: all.
    pub endpoints: Option<Vec<usize>>,
    /// With the numbers of all messages received and delivered.
    pub sequences: bool,
}

/// Lets endpoints answer otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BehaviourChange {
    pub endpoints: Vec<usize>,
    pub behaviour: Behaviour,
}

/// Opens and closes listeners; the answer is the list of those opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerChange {
    pub open: Vec<SocketAddr>,
    pub close: Vec<SocketAddr>,
}

impl Query {
    /// As a query string, `?` included.
    pub fn to_text(&self) -> String {
        let sequences = self.sequences;
        let Some(endpoints) = &self.endpoints else { return format!("?sequences={sequences}") };
        let numbers: Vec<String> = endpoints.iter().map(usize::to_string).collect();
        format!("?sequences={sequences}&endpoints={}", numbers.join(","))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "sequences" => query.sequences = value.parse().context("sequences: true or false")?,
                "endpoints" => {
                    let numbers = value.split(',').map(str::parse).collect::<Result<_, _>>();
                    query.endpoints = Some(numbers.context("endpoints: numbers")?);
                }
                _ => anyhow::bail!("unknown parameter `{name}`"),
            }
        }
        Ok(query)
    }
}

pub(super) async fn answer(
    state: &std::sync::Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, client::Error> {
    let (head, body) = request.into_parts();
    let body = read_body(body).await?;
    let query = head.uri.query().unwrap_or("");
    let answered = match (&head.method, head.uri.path()) {
        (&Method::POST, "/configure") => configure(state, &body),
        (&Method::POST, "/behaviour") => behave(state, &body),
        (&Method::POST, "/reset") => {
            state.endpoints().iter().for_each(Endpoint::reset_latencies);
            Ok("null".into())
        }
        (&Method::POST, "/listeners") => change_listeners(state, &body).await,
        (&Method::GET, "/counters") => serde_json::to_string(&state.counters()).map_err(Into::into),
        (&Method::GET, "/report") => Query::parse(query)
            .and_then(|query| serde_json::to_string(&state.report(&query)).map_err(Into::into)),
        _ => {
            state.stray.fetch_add(1, Relaxed);
            return Ok(empty(StatusCode::NOT_FOUND));
        }
    };
    let (status, text) = match answered {
        Ok(json) => (StatusCode::OK, json),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, serde_json::json!(format!("{error:#}")).to_string()),
    };
    let mut response = Response::new(AnswerBody::Whole(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn configure(state: &State, body: &[u8]) -> anyhow::Result<String> {
    let spec: Spec = serde_json::from_slice(body)?;
    state.configure(&spec)?;
    Ok("null".into())
}

fn behave(state: &State, body: &[u8]) -> anyhow::Result<String> {
    let change: BehaviourChange = serde_json::from_slice(body)?;
    anyhow::ensure!(state.behave(&change.endpoints, &change.behaviour), "no such endpoint");
    Ok("null".into())
}

async fn change_listeners(state: &std::sync::Arc<State>, body: &[u8]) -> anyhow::Result<String> {
    let change: ListenerChange = serde_json::from_slice(body)?;
    for address in change.close {
        state.close(address).await;
    }
    let mut opened = Vec::new();
    for address in change.open {
        opened.push(state.open(address)?);
    }
    Ok(serde_json::to_string(&opened)?)
}
