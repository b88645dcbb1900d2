//! What stands around the routes: everything that holds for every request, whoever answers it.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task,
};

use axum::{Router, body::Body, response::IntoResponse};
use fanfare_core::limits;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::timeout;
use tower::Service;

use crate::{ApiError, Probes, Routes, turns::Turns};

/// The routes of the process with what holds for all of them: a trailing slash is trimmed before routing,
/// unknown routes and methods answer as every error does, CORS is open, a request has a deadline, and a panic
/// costs one request its answer and nothing else.
#[derive(Clone)]
pub struct Surface {
    starting: Router,
    router: Arc<OnceLock<Router>>,
    /// Requests that may be answered at once.
    turns: Arc<Turns>,
}

impl Surface {
    /// Puts `routes` beside the health routes.
    pub fn new(routes: Routes, probes: Probes) -> Self {
        let surface = Self::starting(&probes.metrics);
        surface.begin(routes, probes);
        surface
    }

    /// Only the health routes, of a process that is alive and not ready; everything else is refused until
    /// [`Self::begin`].
    pub fn starting(metrics: &Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        let ready = Arc::new(|| Err(STARTING.to_owned()));
        let probes = Probes { ready, metrics: Arc::clone(metrics) };
        let starting =
            probes.routes().into_router().fallback(async || ApiError::unavailable("not_ready", STARTING));
        Self { starting, router: Arc::default(), turns: Arc::new(Turns::new()) }
    }

    /// Serves `routes` beside the health routes from now on. The first call counts.
    pub fn begin(&self, routes: Routes, probes: Probes) {
        let all = routes.merge(probes.routes()).into_router();
        let _ = self.router.set(all.fallback(unknown_route).method_not_allowed_fallback(wrong_method));
    }

    /// Turns of the requests that are being answered.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        Arc::clone(&self.turns)
    }

    /// Answers one request.
    pub async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let prefers_problem = accepts_problem(request.headers());
        let mut response = if is_preflight(&request) {
            preflight(request.headers())
        } else {
            trim_trailing_slash(request.uri_mut());
            self.route(request).await
        };
        if prefers_problem && let Some(error) = response.extensions_mut().remove::<ApiError>() {
            response = error.into_problem();
        }
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    async fn route(&self, request: Request<Body>) -> Response<Body> {
        // The other half it may have waited on its connection.
        let turn = timeout(limits::INGEST_WAIT / 2, self.turns.take());
        let _turn = if is_probe(request.uri().path()) {
            None
        } else if let Ok(turn) = turn.await {
            Some(turn)
        } else {
            let detail = "too many requests at once; send it again later";
            return ApiError::unavailable("overloaded", detail).into_response();
        };
        // Those that wait for their turn are many: they hold no room for what comes after it.
        Box::pin(self.in_turn(request)).await
    }

    async fn in_turn(&self, request: Request<Body>) -> Response<Body> {
        let mut router = self.router.get().unwrap_or(&self.starting).clone();
        let routed = router.call(request);
        match timeout(limits::REQUEST_TIMEOUT, AssertUnwindSafe(routed).catch_unwind()).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_)) => {
                tracing::error!("a request panicked");
                ApiError::internal().into_response()
            }
            Err(_) => ApiError::unavailable("timeout", "the request took too long").into_response(),
        }
    }
}

impl Service<Request<Body>> for Surface {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let surface = self.clone();
        Box::pin(async move { Ok(surface.answer(request).await) })
    }
}

const STARTING: &str = "the process is starting; its log says what it waits for";

const PROBES: [&[u8]; 4] = [b"/livez", b"/readyz", b"/metrics", b"/api/v1/health"];

/// Health routes wait for nothing.
fn is_probe(path: &str) -> bool {
    begins_with_probe(path.as_bytes())
}

/// The same of the bytes in which a path begins.
pub(crate) fn begins_with_probe(path: &[u8]) -> bool {
    PROBES.iter().any(|probe| path.starts_with(probe))
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no route {method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} does not take {method}; the header `allow` names what it takes", uri.path()),
    )
}

/// Clients and proxies add slashes; no route ends in one.
fn trim_trailing_slash(uri: &mut Uri) {
    let path = uri.path();
    if path.len() < 2 || !path.ends_with('/') {
        return;
    }
    let path = match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    if let Ok(trimmed) = Uri::from_parts(parts) {
        *uri = trimmed;
    }
}

fn accepts_problem(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted.filter_map(|value| value.to_str().ok()).any(|value| value.contains("application/problem+json"))
}

fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Tokens travel in a header that scripts must set themselves, so any origin may ask.
fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
    set(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(HeaderValue::from_static("*")));
    set(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
