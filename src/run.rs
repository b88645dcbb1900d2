//! Wires the roles of a process together and takes them apart again.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use fanfare_control::{Control, MainSecret, default_organization};
use fanfare_core::{Clock, Entropy, KnownClaims, SystemClock, SystemEntropy, guard::Guard, limits};
use fanfare_delivery::load::Board;
use fanfare_http::{Gate, Listener, Memory, Probes, Route, Routes, Surface};
use fanfare_ingest::Rates;
use fanfare_log::{Log, Topic};
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Engine, start_from_topic},
    process,
    retry::Retry,
    scaling,
    settings::{self, Roles, Settings},
    telemetry,
};

/// Requests in flight may take this long when the process stops.
const HTTP_DRAIN: Duration = Duration::from_secs(5);

/// What was on its way may become durable for so long when the process stops. Where the log does not answer, the next
/// start finds what a crash would have left.
const WRITE_DOWN: Duration = Duration::from_secs(5);

/// History may finish its transaction for so long when the process stops.
const HISTORY_DRAIN: Duration = Duration::from_secs(1);

/// Runs the roles of the process until it is asked to stop.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    // Heard from the beginning: the first process of a container gets no signal that it does not listen for, and one
    // that says that it is ready may be asked to stop at once.
    let mut asked = pin!(process::asked_to_stop()?);
    let running = tokio::select! {
        running = start(settings) => running?,
        // Nothing was accepted yet.
        () = &mut asked => return Ok(()),
    };
    running.until(asked).await
}

/// The tasks of a process.
struct Running {
    engine: Engine,
    /// Ends what carries messages on.
    stop: CancellationToken,
    /// Ends what takes messages in.
    http_stop: CancellationToken,
    router: JoinHandle<Result<(), fanfare_router::Error>>,
    delivery: Option<JoinHandle<()>>,
    from_topic: Option<JoinHandle<()>>,
    http: JoinHandle<()>,
    history: Option<Projecting>,
    eraser: JoinHandle<()>,
}

/// The thread that keeps history, and how it is told to end.
struct Projecting {
    history: fanfare_history::History,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

async fn start(mut settings: Settings) -> anyhow::Result<Running> {
    let metrics = telemetry::start_metrics()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);

    // The port first: whoever starts a second server learns it before anything is touched.
    let listener = Listener::bind(settings.listen)?;
    let address = listener.address();
    let http_stop = CancellationToken::new();
    // Who probes learns at once that it is alive.
    let surface = Surface::starting(&metrics);
    let http = tokio::spawn(listener.serve(surface.clone(), http_stop.clone(), HTTP_DRAIN));
    let mut retry = Retry::within(settings.kafka.as_ref().map_or(Duration::ZERO, |kafka| kafka.wait));
    let engine = Engine::open(&settings, &mut retry).await?;
    let log = engine.log();
    // Where the log takes less than was configured, opening it has said so.
    settings.body_bytes = settings.body_bytes.min(engine.body_bytes());
    let main_secret = match &settings.main_secret_file {
        Some(path) => MainSecret::from_file(path)?,
        None => MainSecret::load_or_create(&settings::main_secret_path(&settings.data_dir), &*entropy)?,
    };
    let options = fanfare_control::Options {
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        main_secret,
        allow_http: settings.allow_http,
        message_partitions: settings.message_partitions,
        delivery_partitions: settings.delivery_partitions,
        policy: settings.policy.clone(),
    };
    let control = open_control(&log, &options, &mut retry).await?;

    let stop = CancellationToken::new();
    let router = fanfare_router::Service::new(fanfare_router::Options {
        log: Arc::clone(&log),
        control: control.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        // Where partitions come and go, what a former owner left behind is of no use.
        dedup_dir: (!engine.is_shared()).then(|| settings.data_dir.join("dedup")),
        inline: engine.is_shared(),
    });
    // Another process may route the partition: there the routers alone decide.
    let known_claims = (!engine.is_shared()).then(|| Arc::new(router.handle()) as Arc<dyn KnownClaims>);
    // One process that has all partitions tells itself; a table would cost a sync every second.
    let board = if engine.is_shared() { Board::Table(Arc::clone(&log)) } else { Board::in_memory() };
    let delivery = delivery(&settings, &log, &control, (&clock, &entropy), &board)?;
    let scaling =
        scaling::start(settings.scaling, Arc::clone(&log), board, Arc::clone(&clock), stop.child_token());
    let gate = Gate::new(control.clone(), Arc::clone(&clock), Memory::default());
    let ingest = fanfare_ingest::Ingest::new(fanfare_ingest::Options {
        log: Arc::clone(&log),
        known_claims,
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        retention: settings.retention,
    });
    let eraser = tokio::spawn(fanfare_control::Eraser::new(Arc::clone(&log), control.clone()).run());
    let (history, projecting) = history(&settings, &log, &control, &clock).await?.unzip();
    // Where others may work on the log, an erasure is theirs too before it is answered.
    let lease =
        if engine.is_shared() { limits::CONTROL_LEASE + limits::CONTROL_LEASE / 10 } else { Duration::ZERO };
    let routes = routes(&settings, gate, (&log, &entropy), (ingest.clone(), history), (scaling, lease));

    let roles = settings.roles;
    let idle = stop.child_token();
    let router = if roles.router {
        tokio::spawn(router.run(stop.child_token()))
    } else {
        tokio::spawn(async move {
            idle.cancelled().await;
            Ok(())
        })
    };
    let delivery = roles.delivery.then(|| tokio::spawn(delivery.run(stop.child_token())));
    let from_topic = start_from_topic(&settings, &engine, control.clone(), ingest, http_stop.clone()).await?;
    surface.begin(routes, Probes { ready: ready(&engine, &control, roles), metrics });
    announce(&settings, address, &control, &*clock);
    Ok(Running { engine, stop, http_stop, router, delivery, from_topic, http, history: projecting, eraser })
}

impl Running {
    /// Until it is asked to stop, or cannot go on.
    async fn until(mut self, asked: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut broken = None;
        let mut routed = tokio::select! {
            () = asked => None,
            ended = &mut self.router => Some(ended),
            panic = panicked(&mut self.delivery) => {
                broken = Some(format!("delivery ended: {panic}"));
                None
            }
            panic = panicked(&mut self.from_topic) => {
                broken = Some(format!("taking in the topic's records ended: {panic}"));
                None
            }
            cause = self.engine.broken() => {
                broken = Some(cause);
                None
            }
        };
        // Nothing more comes in, then what is in goes on to where it is safe.
        self.http_stop.cancel();
        let _ = self.http.await;
        self.eraser.abort();
        let ending = async {
            if let Some(from_topic) = self.from_topic {
                let _ = from_topic.await;
            }
            self.stop.cancel();
            if let Some(delivery) = self.delivery {
                let _ = delivery.await;
            }
            if routed.is_none() {
                routed = Some(self.router.await);
            }
        };
        if timeout(WRITE_DOWN, ending).await.is_err() {
            tracing::warn!(
                "the log does not answer; what was on its way is not written down, and may be sent once more"
            );
        }
        if let Some(history) = self.history {
            history.end().await;
        }
        self.engine.close().await;
        if let Some(cause) = broken {
            bail!(cause);
        }
        match routed {
            Some(routed) => routed.context("the router panicked")?.context("routing failed"),
            None => Ok(()),
        }
    }
}

/// Never resolves, unless the task panics: without it the process would seem to do its work.
async fn panicked(task: &mut Option<JoinHandle<()>>) -> JoinError {
    if let Some(running) = task {
        let ended = running.await;
        *task = None;
        if let Err(panic) = ended {
            return panic;
        }
    }
    pending().await
}

impl Projecting {
    /// Lets it write down what happened last. What it does not write now, the next start does.
    async fn end(self) {
        drop(timeout(HISTORY_DRAIN, self.history.passed(fanfare_history::Reach::Everything)).await);
        self.stop.cancel();
        let deadline = Instant::now() + HISTORY_DRAIN;
        while !self.thread.is_finished() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        self.history.close().await;
    }
}

/// Where the process answers for it, what is in the log can be looked up.
async fn history(
    settings: &Settings,
    log: &Arc<dyn Log>,
    control: &Control,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<(fanfare_history::History, Projecting)>> {
    let Some(place) = settings.history.clone().filter(|_| settings.roles.api) else { return Ok(None) };
    let installation = control.view().installation().context("control has no first record")?.id;
    let (history, service) = fanfare_history::open(fanfare_history::Options {
        log: Arc::clone(log),
        clock: Arc::clone(clock),
        place,
        installation,
        retention: settings.retention,
    })
    .await?;
    let hidden = control.clone();
    let history = history.hiding(Arc::new(move |message: &fanfare_history::MessageRow| {
        let fanfare_history::MessageKey { partition, offset } = message.key;
        hidden.view().is_erased_of(message.application, partition, offset)
    }));
    // On its own: it goes on while what is on its way is written down.
    let stop = CancellationToken::new();
    let thread = service.start(stop.clone())?;
    Ok(Some((history.clone(), Projecting { history, stop, thread })))
}

fn delivery(
    settings: &Settings,
    log: &Arc<dyn Log>,
    control: &Control,
    (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
    board: &Board,
) -> anyhow::Result<fanfare_delivery::Service<fanfare_delivery::send::Http>> {
    let transport = fanfare_delivery::send::Http::new(fanfare_delivery::send::Options {
        allowed: settings.allow_networks.clone(),
        allow_loopback: settings.dev,
        allow_http: settings.allow_http,
        prefixes: settings.prefixes.clone(),
        ..fanfare_delivery::send::Options::default()
    })?;
    Ok(fanfare_delivery::Service::new(
        fanfare_delivery::Options {
            log: Arc::clone(log),
            control: control.clone(),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            retention: settings.retention,
            disable_after: settings.disable_after,
            in_flight: settings.in_flight,
            drain: limits::DRAIN,
            board: board.clone(),
            drain_target: settings.scaling.drain_target,
            processor_time: Some(process::processor_time),
        },
        transport,
    ))
}

/// A cluster may not be ready for what was just made there.
async fn open_control(
    log: &Arc<dyn Log>,
    options: &fanfare_control::Options,
    retry: &mut Retry,
) -> anyhow::Result<Control> {
    loop {
        match Control::open(Arc::clone(log), options.clone()).await {
            Err(error) if error.is_retryable() && retry.again(&error).await => {}
            opened => return Ok(opened?),
        }
    }
}

fn routes(
    settings: &Settings,
    gate: Gate,
    (log, entropy): (&Arc<dyn Log>, &Arc<dyn Entropy>),
    (ingest, history): (fanfare_ingest::Ingest, Option<fanfare_history::History>),
    (scaling, lease): (scaling::Scaling, Duration),
) -> Routes {
    let shared = scaling::Shared { gate: gate.clone(), scaling };
    let mut routes = scaling::routes().with_state(shared);
    if settings.roles.ingest {
        let rates = Rates::new(settings.token_publish_rate, settings.application_publish_rate);
        let body_bytes = settings.body_bytes;
        let state = fanfare_ingest::State {
            gate: gate.clone(),
            ingest,
            rates: Arc::new(rates),
            body_bytes,
            deliver_ahead: settings.retention / 2,
        };
        routes = routes.merge(fanfare_ingest::routes().with_state(state));
    }
    if settings.roles.api {
        routes = routes.merge(fanfare_api::routes().with_state(fanfare_api::State {
            gate,
            entropy: Arc::clone(entropy),
            guard: Arc::new(Guard::new(settings.allow_networks.clone(), settings.dev)),
            log: Arc::clone(log),
            messages: Arc::new(fanfare_api::MessagesInLog(Arc::clone(log))),
            history,
            lease,
        }));
    }
    let all = all_routes();
    assert!(routes.list().iter().all(|route| all.contains(route)), "a route is missing in the list");
    routes
}

/// The list of all routes that a process may have.
pub(crate) fn all_routes() -> Vec<Route> {
    [
        &Probes::list()[..],
        scaling::routes().list(),
        fanfare_ingest::routes().list(),
        fanfare_api::routes().list(),
    ]
    .concat()
}

/// Whether the process can do the work of its roles.
fn ready(
    engine: &Engine,
    control: &Control,
    roles: Roles,
) -> Arc<dyn Fn() -> Result<(), String> + Send + Sync> {
    let (engine, log, control) = (engine.clone(), engine.log(), control.clone());
    Arc::new(move || {
        engine.ready(roles)?;
        if let Some(cause) = control.stopped() {
            return Err(cause);
        }
        if (roles.ingest || roles.api) && !log.has_room(Topic::Messages) {
            return Err("no room left for messages".to_owned());
        }
        Ok(())
    })
}

/// Says where the broker is, and in development how to talk to it.
fn announce(settings: &Settings, address: std::net::SocketAddr, control: &Control, clock: &dyn Clock) {
    println!("listening on http://{address}");
    if settings.dev {
        let token = control.tokens().mint_organization(default_organization(), clock.now());
        println!("token: {token}");
        println!(
            "try: curl -s http://{address}/api/v1/app -H 'authorization: Bearer {token}' -H 'content-type: application/json' -d '{{\"name\":\"first\",\"uid\":\"first\"}}'"
        );
    }
}
