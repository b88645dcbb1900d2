//! What monitors ask. These routes take no permit and no token, so that they answer when nothing else does.

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::ApiError;

/// What the process can say of itself.
#[derive(Clone)]
pub struct Probes {
    /// Whether requests can be served now; the error says why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// All metrics in the text format of Prometheus.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Probes {
    pub(crate) fn routes(self) -> Router {
        let Self { ready, metrics } = self;
        let health_ready = Arc::clone(&ready);
        Router::new()
            .route("/livez", get(async || axum::Json(json!({"status": "ok"}))))
            .route("/readyz", get(async move || readiness(&ready(), StatusCode::SERVICE_UNAVAILABLE)))
            .route(
                "/api/v1/health",
                get(async move || readiness(&health_ready(), StatusCode::INTERNAL_SERVER_ERROR)),
            )
            .route("/api/v1/health/ping", get(async || StatusCode::NO_CONTENT))
            .route("/metrics", get(async move || metrics_text(metrics())))
    }
}

fn readiness(ready: &Result<(), String>, status_when_not: StatusCode) -> Response {
    match ready {
        Ok(()) => axum::Json(json!({"status": "ok"})).into_response(),
        Err(reason) => ApiError::new(status_when_not, "not_ready", reason.clone()).into_response(),
    }
}

fn metrics_text(text: String) -> Response {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
