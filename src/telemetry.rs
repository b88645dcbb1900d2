//! Logs and metrics of the process.

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::Context as _;
use fanfare_log::embedded::{EmbeddedLog, Stats};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::EnvFilter;

/// Log lines go to standard error, as JSON unless a person is reading. `RUST_LOG` filters them.
pub(crate) fn start_logs(json: Option<bool>) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,opentelemetry=warn"));
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

/// Name, description, and how to read it.
type Figure<S> = (&'static str, &'static str, fn(&S) -> u64);

/// Shows what the embedded log counts itself.
pub(crate) fn observe_log(log: &Arc<EmbeddedLog>) {
    let counters: [Figure<Stats>; 5] = [
        ("fanfare_log_appended_records_total", "Records appended", |stats| stats.appended_records),
        ("fanfare_log_appended_bytes_total", "Heads and payloads appended", |stats| stats.appended_bytes),
        ("fanfare_log_written_bytes_total", "Bytes of the journal written", |stats| stats.written_bytes),
        ("fanfare_log_syncs_total", "Commit groups made durable", |stats| stats.syncs),
        ("fanfare_log_sync_failures_total", "Writes or syncs that failed", |stats| stats.sync_failures),
    ];
    let gauges: [Figure<Stats>; 3] = [
        ("fanfare_log_unsynced_bytes", "Bytes appended and not yet durable", |stats| stats.unsynced_bytes),
        ("fanfare_log_free_bytes", "Room left on the device", |stats| stats.free_bytes),
        ("fanfare_log_segments", "Files of the journal", |stats| stats.segments),
    ];
    show(log, EmbeddedLog::stats, &counters, &gauges);
    let sync_log = Arc::downgrade(log);
    let _ = opentelemetry::global::meter("fanfare_log")
        .f64_observable_counter("fanfare_log_sync_seconds_total")
        .with_description("Time spent writing and syncing commit groups")
        .with_unit("s")
        .with_callback(move |observer| {
            if let Some(log) = sync_log.upgrade() {
                #[allow(clippy::cast_precision_loss, reason = "exact for 285 years of syncing")]
                observer.observe(log.stats().sync_micros_total as f64 / 1e6, &[]);
            }
        })
        .build();
}

/// Shows what the log on Kafka counts itself.
#[cfg(feature = "kafka")]
pub(crate) fn observe_kafka(log: &Arc<fanfare_log::kafka::KafkaLog>) {
    use fanfare_log::kafka::{KafkaLog, Stats};

    let counters: [Figure<Stats>; 8] = [
        ("fanfare_log_appended_records_total", "Records appended", |stats| stats.appended_records),
        ("fanfare_log_appended_bytes_total", "Keys, heads and payloads appended", |stats| {
            stats.appended_bytes
        }),
        ("fanfare_log_failed_records_total", "Records not known to be durable", |stats| stats.failed_records),
        ("fanfare_log_sessions_broken_total", "Producers begun anew", |stats| stats.sessions_broken),
        ("fanfare_log_tail_reads_total", "Reads answered from memory", |stats| stats.tail_reads),
        ("fanfare_log_broker_reads_total", "Reads answered by brokers", |stats| stats.broker_reads),
        ("fanfare_log_sequential_reads_total", "Of these, reads that went on", |stats| {
            stats.sequential_reads
        }),
        ("fanfare_log_bounds_asked_total", "Questions for ends of partitions", |stats| stats.bounds_asked),
    ];
    let gauges: [Figure<Stats>; 4] = [
        ("fanfare_log_unsynced_bytes", "Bytes appended and not yet durable", |stats| stats.undurable_bytes),
        ("fanfare_log_tail_bytes", "Newest records in memory", |stats| stats.tail_bytes),
        ("fanfare_log_tails_followed", "Partitions whose newest records are followed", |stats| {
            stats.tails_followed
        }),
        ("fanfare_log_brokers_reachable", "1, or 0 while no broker answers", |stats| {
            u64::from(stats.is_reachable)
        }),
    ];
    show(log, KafkaLog::stats, &counters, &gauges);
}

/// A log that is gone shows nothing. The provider keeps the callbacks; the handles are of no further use.
fn show<L: Send + Sync + 'static, S: 'static>(
    log: &Arc<L>,
    stats: fn(&L) -> S,
    counters: &[Figure<S>],
    gauges: &[Figure<S>],
) {
    let meter = opentelemetry::global::meter("fanfare_log");
    let observing = |read: fn(&S) -> u64| {
        let log = Arc::downgrade(log);
        move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            if let Some(log) = log.upgrade() {
                observer.observe(read(&stats(&log)), &[]);
            }
        }
    };
    for (name, description, read) in counters {
        let counter = meter.u64_observable_counter(*name).with_description(*description);
        let _ = counter.with_callback(observing(*read)).build();
    }
    for (name, description, read) in gauges {
        let gauge = meter.u64_observable_gauge(*name).with_description(*description);
        let _ = gauge.with_callback(observing(*read)).build();
    }
}
