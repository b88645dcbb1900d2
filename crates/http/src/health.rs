//! What monitors ask. These routes take no permit and no token, so that they answer when nothing else does.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::{ApiError, Route, Routes};

/// What the process can say of itself.
#[derive(Clone)]
pub struct Probes {
    /// Whether requests can be served now; the error says why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// All metrics in the text format of Prometheus.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Probes {
    pub(crate) fn routes(self) -> Routes {
        let Self { ready, metrics } = self;
        let health_ready = Arc::clone(&ready);
        Routes::new()
            .anyone(Method::GET, "/livez", async || axum::Json(json!({"status": "ok"})))
            .anyone(Method::GET, "/readyz", async move || {
                readiness(&ready(), StatusCode::SERVICE_UNAVAILABLE)
            })
            .anyone(Method::GET, "/api/v1/health", async move || {
                readiness(&health_ready(), StatusCode::INTERNAL_SERVER_ERROR)
            })
            .anyone(Method::GET, "/api/v1/health/ping", async || StatusCode::NO_CONTENT)
            .anyone(Method::GET, "/metrics", async move || metrics_text(metrics()))
    }

    /// The list of these routes.
    pub fn list() -> Vec<Route> {
        let silent = Self { ready: Arc::new(|| Ok(())), metrics: Arc::new(String::new) };
        silent.routes().list().to_vec()
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
