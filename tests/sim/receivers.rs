//! The endpoints, and the network before them. How an endpoint behaves follows from the seed and its number alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{AttemptError, EndpointNumber};
use fanfare_delivery::send::{Answer, Request, Transport};
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    history::History,
    plan::{Cast, Plan},
    random::Random,
    story::Arrival,
};

/// How an endpoint refuses.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Status(u16),
    /// With `Retry-After`.
    Later(u16, Duration),
    /// Nothing ever comes back.
    Timeout,
    /// Nobody is there.
    Connect,
    /// The connection breaks before the answer.
    Disconnected,
    /// It takes the message; the answer is lost.
    AnswerLost,
}

#[derive(Clone, Debug)]
struct Behaviour {
    /// Each way, in milliseconds.
    latency: std::ops::Range<u64>,
    /// Refuses so many per cent of the messages when they come first.
    flaky: u64,
    poison: Option<Poison>,
    /// Takes nothing from the first to the second moment.
    outages: Vec<(Duration, Duration, Refusal)>,
}

/// What an endpoint never takes.
#[derive(Clone, Copy, Debug)]
enum Poison {
    /// One message in so many.
    OneIn(u64),
    /// This one.
    Publish(u32),
}

const POISON_BELOW: u32 = 80;

pub(crate) struct Receivers {
    seed: u64,
    cast: Cast,
    trouble_for: Duration,
    history: Arc<History>,
    /// In microseconds; everything is well from here on.
    healed_at: AtomicU64,
    random: Mutex<Random>,
}

impl Receivers {
    pub(crate) fn new(plan: &Plan, history: Arc<History>) -> Self {
        let &Plan { seed, cast, trouble_for, .. } = plan;
        let random = Mutex::new(Random::of(seed, "receivers", 0));
        Self { seed, cast, trouble_for, history, healed_at: AtomicU64::new(u64::MAX), random }
    }

    pub(crate) fn heal(&self) {
        self.history.note(format_args!("endpoints heal"));
        let now = u64::try_from(self.history.now().as_micros()).unwrap();
        self.healed_at.store(now, Ordering::Relaxed);
    }

    fn is_healed(&self) -> bool {
        u128::from(self.healed_at.load(Ordering::Relaxed)) <= self.history.now().as_micros()
    }

    pub(crate) fn is_poison(&self, endpoint: EndpointNumber, publish: u32) -> bool {
        match self.behaviour(endpoint).poison {
            None => false,
            Some(Poison::Publish(only)) => publish == only,
            // Each holds an ordered lane up until it is parked: there are only so many.
            Some(Poison::OneIn(one_in)) => {
                publish < POISON_BELOW && self.of(endpoint, "poison", u64::from(publish)).below(one_in) == 0
            }
        }
    }

    fn of(&self, endpoint: EndpointNumber, purpose: &str, number: u64) -> Random {
        Random::of(self.seed ^ (u64::from(endpoint.0) << 40), purpose, number)
    }

    fn behaviour(&self, endpoint: EndpointNumber) -> Behaviour {
        match self.cast {
            Cast::Drawn => self.drawn(endpoint),
            Cast::KillTest => self.of_kill_test(endpoint),
        }
    }

    fn of_kill_test(&self, endpoint: EndpointNumber) -> Behaviour {
        let mut behaviour = Behaviour { latency: 1..5, flaky: 0, poison: None, outages: Vec::new() };
        match endpoint.0 % 4 {
            0 => {}
            1 => behaviour.flaky = 3,
            2 => behaviour.outages.push((Duration::ZERO, self.trouble_for, Refusal::Connect)),
            _ => behaviour.poison = Some(Poison::Publish(20)),
        }
        behaviour
    }

    fn drawn(&self, endpoint: EndpointNumber) -> Behaviour {
        let mut random = self.of(endpoint, "behaviour", 0);
        let latency = random.pick(&[(1, 3), (1, 10), (5, 30), (50, 300)]);
        let until = u64::try_from(self.trouble_for.as_millis()).unwrap();
        let flaky = random.percent(40);
        let poison = random.percent(30).then(|| Poison::OneIn(6 + random.below(10)));
        // Not both: a message refused once, and again by an outage that begins just then, looks like poison.
        let outages = if !flaky && random.percent(75) { 1 + random.below(2) } else { 0 };
        let outages = (0..outages).map(|_| {
            let from = random.millis(0..until);
            let longest = if random.percent(50) { 2_000 } else { 60_000 };
            let lasts = random.millis(100..longest);
            (from, from + lasts, refusal(&mut random))
        });
        Behaviour {
            latency: latency.0..latency.1,
            flaky: if flaky { 25 } else { 0 },
            poison,
            outages: outages.collect(),
        }
    }

    /// Whether a message is refused that arrives now for the `times`-th time, from 0.
    fn refuses(
        &self,
        behaviour: &Behaviour,
        endpoint: EndpointNumber,
        publish: u32,
        times: usize,
    ) -> Option<Refusal> {
        let now = self.history.now();
        if !self.is_healed()
            && let Some((_, _, refusal)) =
                behaviour.outages.iter().find(|(from, to, _)| (*from..*to).contains(&now))
        {
            return Some(*refusal);
        }
        if self.is_poison(endpoint, publish) {
            return Some(Refusal::Status(if self.cast == Cast::KillTest { 400 } else { 500 }));
        }
        let mut random = self.of(endpoint, "flaky", u64::from(publish));
        let unlucky = random.percent(behaviour.flaky) && times == 0;
        (!self.is_healed() && unlucky).then(|| refusal(&mut random))
    }
}

fn refusal(random: &mut Random) -> Refusal {
    match random.below(10) {
        0 => Refusal::Later(503, random.millis(1_000..5_000)),
        1 => Refusal::Later(429, random.millis(1_000..5_000)),
        2 => Refusal::Timeout,
        3 => Refusal::Connect,
        4 => Refusal::Disconnected,
        5 => Refusal::AnswerLost,
        6 => Refusal::Status(503),
        _ => Refusal::Status(500),
    }
}

/// The way from one process to the endpoints. Nothing more leaves a process that is dead.
pub(crate) struct Network {
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) dead: CancellationToken,
}

/// The payload of a publish.
pub(crate) fn payload(publish: u32) -> Bytes {
    format!("{{\"publish\":{publish}}}").into()
}

pub(crate) fn publish_in(payload: &[u8]) -> u32 {
    let text = std::str::from_utf8(payload).expect("payloads are text");
    let number = text.strip_prefix("{\"publish\":").and_then(|rest| rest.strip_suffix('}'));
    number.and_then(|number| number.parse().ok()).expect("payloads arrive as they were sent")
}

impl Transport for Network {
    async fn send(&self, request: Request) -> Answer {
        let Receivers { history, random, .. } = &*self.receivers;
        let endpoint = request.target.number();
        let publish = publish_in(&request.payload);
        let behaviour = self.receivers.behaviour(endpoint);
        let [there, back] = {
            let mut random = random.lock();
            [random.millis(behaviour.latency.clone()), random.millis(behaviour.latency.clone())]
        };
        let began = history.now();
        sleep(there).await;
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        let times = history.has_arrived(endpoint, publish);
        let refused = self.receivers.refuses(&behaviour, endpoint, publish, times);
        let done_at = history.now() + back;
        history.arrived(Arrival {
            sent: began,
            at: history.now(),
            endpoint,
            id: request.id,
            publish,
            answered: refused.is_none().then_some(done_at),
        });
        let (wait, status, error, retry_after) = match refused {
            None => (back, 200, None, None),
            Some(Refusal::Status(status)) => (back, status, Some(AttemptError::Status), None),
            Some(Refusal::Later(status, after)) => (back, status, Some(AttemptError::Status), Some(after)),
            Some(Refusal::Timeout) => (request.target.timeout(), 0, Some(AttemptError::Timeout), None),
            Some(Refusal::Connect) => (Duration::ZERO, 0, Some(AttemptError::Connect), None),
            Some(Refusal::Disconnected | Refusal::AnswerLost) => {
                (back, 0, Some(AttemptError::Disconnected), None)
            }
        };
        sleep(wait).await;
        Answer {
            status,
            error,
            retry_after,
            body: Bytes::new(),
            duration: history.now().checked_sub(began).unwrap(),
        }
    }

    fn forget(&self, _endpoint: EndpointNumber) {}
}
