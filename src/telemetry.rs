//! Logs and metrics of the process.

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::Context as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::EnvFilter;

/// Log lines go to standard error, as JSON unless a person is reading. `RUST_LOG` filters them.
pub(crate) fn start_logs(json: Option<bool>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json.unwrap_or_else(|| !std::io::stderr().is_terminal()) {
        builder.json().flatten_event(true).with_current_span(false).init();
    } else {
        builder.with_target(false).init();
    }
}

/// The meters of all crates, readable as text. Call it before anything that counts is made.
pub(crate) fn start_metrics() -> anyhow::Result<Arc<dyn Fn() -> String + Send + Sync>> {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // Names are complete as they are.
        .without_units()
        .without_counter_suffixes()
        .without_target_info()
        .build()
        .context("metrics cannot be set up")?;
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    opentelemetry::global::set_meter_provider(provider);
    Ok(Arc::new(move || {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| format!("# {error}\n"))
    }))
}
