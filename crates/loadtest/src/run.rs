//! Drives a case against a server: sets up applications and endpoints, publishes, waits until everything is
//! delivered, and judges.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use fanfare_core::{Entropy, SystemEntropy, Timestamp, signature::SigningKey};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    case::Case,
    client::Server,
    judge::{Verdict, judge},
    latency::Summary,
    process::{self, Usage},
    publisher::{self, Counts, Published, Publisher},
    receiver::{Behaviour, BehaviourChange, Counters, EndpointReport, EndpointSpec, Query, Report, Spec},
};

/// How often counters and memory are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the server's metrics are.
const METRICS_EVERY: Duration = Duration::from_secs(1);
const HISTORY_LAG: &str = "fanfare_history_lag_seconds";

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Parties {
    pub server: Server,
    /// The server's process, to measure what it uses.
    pub server_pid: Option<u32>,
    /// A receiver, best in a process of its own.
    pub receiver: SocketAddr,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub publish: Counts,
    pub published_per_second: f64,
    /// From when a message was due until its 202, warming up included.
    pub publish_latency: Summary,
    /// From sending until a 503.
    pub shed_latency: Summary,
    pub complaint: Option<String>,
    /// Deliveries from the end of warming up to the last one, as the receiver counted them.
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    /// The same, but only until publishing ended.
    pub deliveries_per_second_while_publishing: f64,
    /// From when a message was due until its first arrival, after warming up; endpoints that take all.
    pub latency: Summary,
    /// In the time of `deliveries`; 0 if the process is not known.
    pub server_cpu_us_per_delivery: f64,
    pub receiver_cpu_us_per_delivery: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes_peak: u64,
    /// The largest that was seen, once a second; none where the server keeps no history.
    pub history_lag_secs: Option<f64>,
    /// Whether everything was delivered in time.
    pub drained: bool,
    /// Over the endpoints that take everything.
    pub verdict: Verdict,
    /// The other endpoints.
    pub misbehaving: Vec<EndpointReport>,
    /// Requests to the receiver that went to no endpoint.
    pub stray: u64,
}

/// Runs `case` from beginning to end.
pub async fn run(case: &Case, parties: &Parties) -> anyhow::Result<Outcome> {
    let receiver = Server::at(parties.receiver);
    let run = <dyn Entropy>::u64(&SystemEntropy);
    let applications = set_up(case, parties, run).await?;

    let resident_bytes_before = usage(parties).resident_bytes;
    let mut publishing = tokio::spawn(Publisher::start(options(case, parties, run, applications)).finish());
    let mut watch = Watch {
        parties,
        receiver: &receiver,
        resident_bytes_peak: 0,
        history_lag_secs: None,
        metrics_due: Instant::now(),
    };
    watch.pass(Duration::from_secs_f64(case.warm_up_secs)).await;
    receiver.call::<(), ()>(Method::POST, "/reset", None).await?;
    let start = watch.mark().await?;
    let published = loop {
        tokio::select! {
            published = &mut publishing => break published?,
            () = watch.pass(LOOK_EVERY) => {}
        }
    };
    let publish_end = watch.mark().await?;
    let deadline = Instant::now() + Duration::from_secs_f64(case.drain_secs);
    let (verdict, drained) = drain(case, &published, &mut watch, deadline).await?;
    let end = watch.mark().await?;
    let Watch { resident_bytes_peak, history_lag_secs, .. } = watch;

    let report: Report = receiver.call::<(), _>(Method::GET, "/report", None).await?;
    let well: Vec<usize> = report
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.takes_all)
        .map(|endpoint| endpoint.number)
        .collect();
    let last = report.endpoints.iter().filter_map(|endpoint| endpoint.last_at).max();
    let last = last.filter(|_| drained).unwrap_or(end.counters.at).max(start.counters.at);
    let of_well = report_of(&receiver, &Query { endpoints: Some(well), sequences: false }).await?;
    let deliveries = end.counters.delivered - start.counters.delivered;
    let cpu_each = |cpu_us: f64| cpu_us / as_f64(deliveries.max(1));
    let while_publishing = publish_end.counters.delivered - start.counters.delivered;
    Ok(Outcome {
        publish: published.counts,
        published_per_second: as_f64(published.counts.accepted) / published.elapsed.as_secs_f64(),
        publish_latency: published.latency,
        shed_latency: published.shed_latency,
        complaint: published.complaint,
        deliveries,
        deliveries_per_second: per_second(deliveries, start.counters.at, last),
        deliveries_per_second_while_publishing: per_second(
            while_publishing,
            start.counters.at,
            publish_end.counters.at,
        ),
        latency: of_well.latency,
        server_cpu_us_per_delivery: cpu_each(
            end.usage.cpu.saturating_sub(start.usage.cpu).as_secs_f64() * 1e6,
        ),
        receiver_cpu_us_per_delivery: cpu_each(as_f64(end.counters.cpu_us - start.counters.cpu_us)),
        resident_bytes_before,
        resident_bytes_peak,
        history_lag_secs,
        drained,
        verdict,
        misbehaving: report.endpoints.into_iter().filter(|endpoint| !endpoint.takes_all).collect(),
        stray: report.stray,
    })
}

/// Looks at the receiver and at the server's process.
struct Watch<'a> {
    parties: &'a Parties,
    receiver: &'a Server,
    resident_bytes_peak: u64,
    history_lag_secs: Option<f64>,
    metrics_due: Instant,
}

/// A moment of a run.
struct Mark {
    counters: Counters,
    usage: Usage,
}

impl Watch<'_> {
    async fn mark(&mut self) -> anyhow::Result<Mark> {
        let counters = self.receiver.call::<(), _>(Method::GET, "/counters", None).await?;
        Ok(Mark { counters, usage: self.look() })
    }

    fn look(&mut self) -> Usage {
        let usage = usage(self.parties);
        self.resident_bytes_peak = self.resident_bytes_peak.max(usage.resident_bytes);
        usage
    }

    /// Lets time pass, with an eye on memory and on history.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
            self.look();
            if Instant::now() >= self.metrics_due {
                self.metrics_due = Instant::now() + METRICS_EVERY;
                self.look_at_history().await;
            }
        }
    }

    /// A server that does not answer now is asked again.
    async fn look_at_history(&mut self) {
        let Ok(metrics) = self.parties.server.text("/metrics").await else { return };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let lags = metrics.lines().filter(|line| line.starts_with(HISTORY_LAG)).filter_map(value);
        self.history_lag_secs = lags.chain(self.history_lag_secs).reduce(f64::max);
    }
}

/// Waits until every acknowledged message was delivered to every endpoint that takes all, and judges those.
async fn drain(
    case: &Case,
    published: &Published,
    watch: &mut Watch<'_>,
    deadline: Instant,
) -> anyhow::Result<(Verdict, bool)> {
    let of_endpoint = |number: usize| published.accepted[number / case.endpoints_per_application].len();
    let misbehaving = |number: &usize| {
        case.faults.iter().any(|fault| fault.endpoints.contains(number) && !fault.behaviour.takes_all())
    };
    let well: Vec<usize> = (0..case.endpoints()).filter(|number| !misbehaving(number)).collect();
    let expected: u64 = well.iter().map(|&number| of_endpoint(number)).sum();
    let query = Query { endpoints: Some(well), sequences: true };
    loop {
        let late = Instant::now() >= deadline;
        if late || watch.mark().await?.counters.delivered_where_all_taken >= expected {
            let report = report_of(watch.receiver, &query).await?;
            let verdict = judge(&published.accepted, &report);
            let drained = verdict.lost + verdict.undelivered == 0;
            if late || drained {
                return Ok((verdict, drained));
            }
        }
        watch.pass(LOOK_EVERY).await;
    }
}

/// Creates applications and endpoints and tells the receiver what to expect; gives the applications' ids.
async fn set_up(case: &Case, parties: &Parties, run: u64) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
    }
    let server = &parties.server;
    let mut spec = Spec { run, endpoints: Vec::new() };
    let mut applications = Vec::new();
    let mut wanted = Vec::new();
    for index in 0..case.applications {
        let body = json!({ "name": format!("load {index}"), "uid": format!("load-{run:016x}-{index}") });
        let application: Created = server.call(Method::POST, "/api/v1/app", Some(&body)).await?;
        for _ in 0..case.endpoints_per_application {
            let secret = SigningKey::generate_symmetric(&SystemEntropy).to_string();
            let url = format!("http://{}/e/{}", parties.receiver, spec.endpoints.len());
            let mut body = serde_json::to_value(&case.endpoint)?;
            body["url"] = json!(url);
            body["secret"] = json!(secret);
            body["ordering"] = json!(case.ordering);
            wanted.push((application.id.clone(), body));
            spec.endpoints.push(EndpointSpec {
                application: u32::try_from(index).context("too many applications")?,
                ordering: case.ordering,
                secrets: vec![secret],
                behaviour: Behaviour::default(),
            });
        }
        applications.push(application.id);
    }
    let receiver = Server::at(parties.receiver);
    receiver.call::<_, ()>(Method::POST, "/configure", Some(&spec)).await?;
    for fault in &case.faults {
        let change =
            BehaviourChange { endpoints: fault.endpoints.clone(), behaviour: fault.behaviour.clone() };
        receiver.call::<_, ()>(Method::POST, "/behaviour", Some(&change)).await?;
    }
    for (application, body) in wanted {
        let path = format!("/api/v1/app/{application}/endpoint");
        server.call::<_, Created>(Method::POST, &path, Some(&body)).await?;
    }
    Ok(applications)
}

fn options(case: &Case, parties: &Parties, run: u64, applications: Vec<String>) -> publisher::Options {
    let wanted = &case.publisher;
    publisher::Options {
        connections: wanted.connections,
        payload_bytes: case.payload_bytes,
        keys: wanted.keys,
        sequential: wanted.sequential,
        rate: wanted.rate,
        messages: wanted.messages,
        duration: Some(Duration::from_secs_f64(case.warm_up_secs + case.duration_secs)),
        repeat: wanted.repeat,
        ..publisher::Options::new(parties.server.clone(), run, applications)
    }
}

async fn report_of(receiver: &Server, query: &Query) -> anyhow::Result<Report> {
    receiver.call::<(), _>(Method::GET, &format!("/report{}", query.to_text()), None).await
}

fn usage(parties: &Parties) -> Usage {
    parties.server_pid.and_then(process::usage).unwrap_or_default()
}

fn per_second(count: u64, from: Timestamp, to: Timestamp) -> f64 {
    let secs = to.since(from).as_secs_f64();
    if secs > 0.0 { as_f64(count) / secs } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
