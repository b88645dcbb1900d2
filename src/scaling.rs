//! The scaling hint on every node: made from the figures of all workers while somebody asks for it, shown as JSON and
//! as gauges.
//!
//! Nobody computes it for others. Each node reads the same figures; what the last numbers were, which a number that
//! goes down depends on, each remembers for itself.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::extract::{FromRef, State};
use fanfare_core::{
    Clock, Partition, Timestamp, limits,
    scaling::{self, Hint, Observed, Settings},
};
use fanfare_delivery::load::Board;
use fanfare_http::{ApiError, Gate, Routes, Who};
use fanfare_log::Log;
use opentelemetry::{KeyValue, global, metrics::AsyncInstrument};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Who asks waits for a hint that is no older.
const NEW: Duration = Duration::from_secs(2);
/// Gauges show none that is older: the figures cannot be read.
const SHOWN: Duration = limits::LOAD_FRESH;

/// Asks for the hint.
#[derive(Clone)]
pub(crate) struct Scaling(Arc<Inner>);

struct Inner {
    settings: Settings,
    log: Arc<dyn Log>,
    board: Board,
    clock: Arc<dyn Clock>,
    asked: Notify,
    asked_at: Mutex<Option<Instant>>,
    newest: watch::Sender<Option<Made>>,
}

/// A hint and what it was made from.
#[derive(Clone)]
struct Made {
    since: Instant,
    at: Timestamp,
    hint: Hint,
    partitions: Arc<Vec<Observed>>,
}

/// Makes hints until `stop`, while somebody asks for them.
pub(crate) fn start(
    settings: Settings,
    log: Arc<dyn Log>,
    board: Board,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Scaling {
    let inner = Arc::new(Inner {
        settings,
        log,
        board,
        clock,
        asked: Notify::new(),
        asked_at: Mutex::new(None),
        newest: watch::Sender::new(None),
    });
    show_gauges(&inner);
    let made = Arc::clone(&inner);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = made.make_hints() => {}
        }
    });
    Scaling(inner)
}

impl Inner {
    async fn make_hints(&self) {
        loop {
            let asked = self.asked.notified();
            if self.is_asked() {
                // Asked or not, it is time then.
                let _ = timeout(limits::SCALING_EVERY, asked).await;
            } else {
                asked.await;
            }
            if let Err(error) = self.make().await {
                tracing::debug!(%error, "load figures cannot be read");
            }
            sleep(limits::SCALING_PAUSE).await;
        }
    }

    async fn make(&self) -> Result<(), fanfare_log::ReadError> {
        let partitions = self.board.observe(&*self.log, self.clock.now()).await?;
        let at = self.clock.now();
        let previous = self.newest.borrow().as_ref().map(|made| made.hint.previous);
        let hint = scaling::hint(&self.settings, &partitions, previous.as_ref(), at);
        let made = Made { since: Instant::now(), at, hint, partitions: Arc::new(partitions) };
        self.newest.send_replace(Some(made));
        Ok(())
    }

    fn is_asked(&self) -> bool {
        self.asked_at.lock().is_some_and(|at| at.elapsed() < limits::SCALING_ASKED)
    }

    fn ask(&self) {
        *self.asked_at.lock() = Some(Instant::now());
        self.asked.notify_one();
    }
}

/// What the route needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) scaling: Scaling,
}

impl FromRef<Shared> for Gate {
    fn from_ref(shared: &Shared) -> Self {
        shared.gate.clone()
    }
}

/// `GET /api/v1/scaling`, on every node whatever its roles.
pub(crate) fn routes() -> Routes<Shared> {
    Routes::new().get("/api/v1/scaling", Who::Organization, show)
}

async fn show(
    State(Shared { scaling: Scaling(inner), .. }): State<Shared>,
) -> Result<axum::Json<Value>, ApiError> {
    let mut newest = inner.newest.subscribe();
    inner.ask();
    let is_new = |made: &Option<Made>| made.as_ref().is_some_and(|made| made.since.elapsed() < NEW);
    let made = timeout(limits::SCALING_WAIT, newest.wait_for(is_new)).await;
    let made = made.ok().and_then(Result::ok).and_then(|made| made.clone());
    let made = made.ok_or_else(|| {
        ApiError::unavailable("log_unavailable", "the load figures cannot be read now; ask again later")
    })?;
    Ok(axum::Json(body(&inner.settings, &made)))
}

fn body(settings: &Settings, made: &Made) -> Value {
    let figures = &made.hint.figures;
    let mut held_by = serde_json::Map::new();
    let fresh = made.partitions.iter().filter_map(|one| one.fresh(made.at));
    for (by, count) in fresh.flat_map(|load| load.held.iter()) {
        let sum = held_by.get(by.as_str()).and_then(Value::as_u64).unwrap_or(0);
        held_by.insert(by.as_str().to_owned(), sum.saturating_add(*count).into());
    }
    let unknown = |watch: &str| {
        json!({
            "desiredWorkers": null,
            "reason": format!("this role tells no load figures yet; watch {watch}"),
        })
    };
    let partitions = (0..).map(Partition).zip(made.partitions.iter());
    json!({
        "at": made.at.to_string(),
        "drainTargetSecs": settings.drain_target.as_secs(),
        "minWorkers": settings.min_workers,
        "roles": {
            "delivery": {
                "desiredWorkers": made.hint.desired,
                "reason": made.hint.reason,
                "figures": {
                    "liveWorkers": figures.live_workers,
                    "partitions": figures.partitions,
                    "unownedPartitions": figures.unowned_partitions,
                    "arrivalPerSec": figures.arrival_per_sec,
                    "deliveredPerSec": figures.delivered_per_sec,
                    "capacityPerWorkerPerSec": figures.capacity_per_sec,
                    "inFlight": figures.in_flight,
                    "workableBacklog": figures.workable,
                    "unownedBacklog": figures.unowned,
                    "heldBacklog": figures.held,
                    "heldBy": held_by,
                    "neededWorkers": figures.needed,
                    "neededByBusiestPartition": figures.needed_by_busiest,
                },
                "partitions": partitions.map(|(number, one)| partition(number, one, made.at)).collect::<Vec<_>>(),
            },
            "router": unknown("fanfare_router_lag_seconds"),
            "ingest": unknown("fanfare_ingest_append_duration_seconds"),
        },
    })
}

fn partition(number: Partition, one: &Observed, at: Timestamp) -> Value {
    let Some(load) = one.fresh(at) else {
        return json!({"partition": number.0, "worker": null, "unseenBacklog": one.unseen});
    };
    json!({
        "partition": number.0,
        "worker": format!("{:032x}", load.owner),
        "at": load.at.to_string(),
        "arrivalPerSec": load.arrival.per_sec(),
        "deliveredPerSec": load.delivered.per_sec(),
        "capacityPerSec": load.capacity.map(|capacity| capacity.rate.per_sec()),
        "limit": load.capacity.map(|capacity| capacity.limit.as_str()),
        "inFlight": load.in_flight,
        "workableBacklog": load.workable,
        "heldBacklog": load.held.iter().map(|(_, count)| count).sum::<u64>(),
        "oldestWorkableSecs": load.oldest_workable.as_secs_f64(),
        "nextDue": load.next_due.map(|due| due.to_string()),
    })
}

/// Name, description, and how to read it; nothing where it is not known.
type Figure = (&'static str, &'static str, fn(&Hint) -> Option<f64>);

/// A scrape asks for the hint: the first one finds none, later ones a recent one.
fn show_gauges(inner: &Arc<Inner>) {
    let meter = global::meter("fanfare");
    let figures: [Figure; 7] = [
        ("fanfare_scaling_desired_workers", "Workers that the load needs", |hint| Some(hint.desired.into())),
        ("fanfare_scaling_live_workers", "Workers whose figures count", |hint| {
            Some(hint.figures.live_workers.into())
        }),
        ("fanfare_scaling_workable_messages", "Deliveries due that an endpoint can take", |hint| {
            Some(as_float(hint.figures.workable))
        }),
        ("fanfare_scaling_held_messages", "Deliveries that ask for no worker", |hint| {
            Some(as_float(hint.figures.held))
        }),
        ("fanfare_scaling_arrival_per_second", "Deliveries that come", |hint| {
            Some(hint.figures.arrival_per_sec)
        }),
        ("fanfare_scaling_capacity_per_second", "Deliveries that one worker can make", |hint| {
            hint.figures.capacity_per_sec
        }),
        ("fanfare_scaling_unowned_partitions", "Partitions without a worker", |hint| {
            Some(hint.figures.unowned_partitions.into())
        }),
    ];
    for (name, description, read) in figures {
        let inner = Arc::downgrade(inner);
        let observe = move |observer: &dyn AsyncInstrument<f64>| observe(&inner, observer, read);
        // The provider keeps the callback; the handle is of no further use.
        let _ = meter.f64_observable_gauge(name).with_description(description).with_callback(observe).build();
    }
}

fn observe(inner: &Weak<Inner>, observer: &dyn AsyncInstrument<f64>, read: fn(&Hint) -> Option<f64>) {
    let Some(inner) = inner.upgrade() else { return };
    inner.ask();
    let newest = inner.newest.borrow();
    if let Some(made) = newest.as_ref().filter(|made| made.since.elapsed() < SHOWN)
        && let Some(value) = read(&made.hint)
    {
        observer.observe(value, &[KeyValue::new("role", "delivery")]);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a backlog of 2^53 does not occur")]
fn as_float(count: u64) -> f64 {
    count as f64
}
