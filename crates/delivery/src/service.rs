//! The delivery role of a process: one worker task per claimed partition.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use fanfare_control::Control;
use fanfare_core::{
    Clock, Entropy, Partition,
    planted::{Fault, planted},
};
use fanfare_log::{ClaimEvent, Group, Log, Topic};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    contents::Contents,
    jobs,
    load::{Board, Processor, Room},
    meters::Meters,
    operational,
    partition::{Ending, Worker},
    send::Transport,
};

/// How a process delivers.
#[derive(Clone)]
pub struct Options {
    pub log: Arc<dyn Log>,
    pub control: Control,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Messages are kept this long; at 90 % of it what is unsettled becomes a dead letter.
    pub retention: Duration,
    /// An endpoint that fails for longer, without one success, is disabled; `None`: never.
    pub disable_after: Option<Duration>,
    /// Deliveries in flight at once, over all partitions.
    pub in_flight: usize,
    /// How long a partition that is given up may finish what is in flight.
    pub drain: Duration,
    /// Where load figures are shown.
    pub board: Board,
    /// A backlog is to be gone after this; what is workable of it is reckoned by this.
    pub drain_target: Duration,
    /// Processor time that the process has used; without it the processor is never taken for the limit.
    pub processor_time: Option<fn() -> Duration>,
}

/// What all partitions of the process share.
pub(crate) struct Shared<T> {
    pub(crate) options: Options,
    pub(crate) transport: T,
    pub(crate) contents: Contents,
    pub(crate) meters: Meters,
    pub(crate) room: Room,
    pub(crate) processor: Processor,
    /// Names this process in its claims.
    pub(crate) owner: u128,
}

/// What a partition is told by its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Work,
    /// Finish what is in flight, write it down, end.
    Drain(Duration),
    /// It is somebody else's: end at once.
    Abandon,
}

impl Order {
    /// Waits until there is something to do but work. A service that is gone wants nothing finished.
    pub(crate) async fn other_than_work(orders: &mut watch::Receiver<Self>) -> Self {
        orders.wait_for(|order| *order != Self::Work).await.map_or(Self::Abandon, |order| *order)
    }
}

/// Runs the workers of the partitions that this process holds.
pub struct Service<T> {
    shared: Arc<Shared<T>>,
}

/// After a failure a partition is taken over again after this, doubling.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// After this it looks whether an operator has mended what was not understood.
const RESTART_UNKNOWN: Duration = Duration::from_mins(1);

impl<T: Transport> Service<T> {
    pub fn new(options: Options, transport: T) -> Self {
        let owner = u128::from_ne_bytes(options.entropy.bytes());
        let contents = Contents::new(Arc::clone(&options.log));
        let room = Room::new(options.in_flight, options.log.partitions(Topic::Deliveries));
        let processor = Processor::new(options.processor_time);
        let shared = Shared { options, transport, contents, meters: Meters::new(), room, processor, owner };
        Self { shared: Arc::new(shared) }
    }

    /// Claims partitions and delivers until `shutdown`; then drains.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut claims = self.shared.options.log.claim(Group::Delivery);
        let mut held: BTreeMap<Partition, Held> = BTreeMap::new();
        let mut workers = JoinSet::new();
        let control = self.shared.options.control.clone();
        let mut tidying = pin!(self.shared.contents.tidy(move || control.view().erasures_revision()));
        loop {
            self.shared.room.holds(held.len());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = &mut tidying => {}
                event = claims.next() => match event {
                    ClaimEvent::Gained(partition) => match held.get_mut(&partition) {
                        Some(held) => held.gained_again = true,
                        None => drop(held.insert(partition, self.work(&mut workers, partition))),
                    },
                    ClaimEvent::Release { partition, within } => match held.get_mut(&partition) {
                        Some(held) => {
                            held.end(Order::Drain(within.min(self.shared.options.drain)));
                            if planted(Fault::ReleasedBeforeDrain) {
                                claims.released(partition);
                            }
                        }
                        None => claims.released(partition),
                    },
                    ClaimEvent::Lost(partition) => {
                        if let Some(held) = held.get_mut(&partition)
                            && !planted(Fault::EpochIgnored)
                        {
                            held.end(Order::Abandon);
                        }
                    }
                },
                Some(ended) = workers.join_next() => {
                    let partition = ended.expect("a worker does not panic");
                    claims.released(partition);
                    if held.remove(&partition).is_some_and(|held| held.gained_again) {
                        held.insert(partition, self.work(&mut workers, partition));
                    }
                }
            }
        }
        for held in held.values_mut() {
            held.end(Order::Drain(self.shared.options.drain));
        }
        while workers.join_next().await.is_some() {}
    }

    fn work(&self, workers: &mut JoinSet<Partition>, partition: Partition) -> Held {
        let (orders, receiver) = watch::channel(Order::Work);
        let shared = Arc::clone(&self.shared);
        workers.spawn(async move {
            // A task of its own: what it reads must not hold up deliveries.
            let jobs = tokio::spawn(jobs::run(Arc::clone(&shared), partition));
            let _jobs = AbortOnDropHandle::new(jobs);
            let telling = tokio::spawn(operational::run(Arc::clone(&shared), partition));
            let _telling = AbortOnDropHandle::new(telling);
            supervise(shared, partition, receiver).await
        });
        Held { orders, gained_again: false }
    }
}

/// A partition whose worker has not ended yet.
struct Held {
    orders: watch::Sender<Order>,
    /// Given up and gained again before the worker had ended.
    gained_again: bool,
}

impl Held {
    fn end(&mut self, order: Order) {
        self.gained_again = false;
        self.orders.send_replace(order);
    }
}

/// Takes the partition over again whenever its worker failed or saw a newer claim while the partition is still ours.
async fn supervise<T: Transport>(
    shared: Arc<Shared<T>>,
    partition: Partition,
    mut orders: watch::Receiver<Order>,
) -> Partition {
    let mut pause = RESTART_FIRST;
    loop {
        let started = tokio::time::Instant::now();
        let taken = tokio::select! {
            biased;
            _ = Order::other_than_work(&mut orders) => return partition,
            taken = Worker::take_over(Arc::clone(&shared), partition) => taken,
        };
        let ending = match taken {
            Ok(worker) => worker.run(&mut orders).await,
            Err(error) if error.is_unknown() => Ending::Unknown(error.to_string()),
            Err(error) => Ending::Failed(error.to_string()),
        };
        if started.elapsed() > RESTART_MAX {
            pause = RESTART_FIRST;
        }
        match ending {
            Ending::Drained | Ending::Abandoned => return partition,
            Ending::Superseded => tracing::info!(%partition, "a newer claim was seen; claiming again"),
            Ending::Failed(error) => tracing::warn!(%partition, error, "worker failed; taking over again"),
            Ending::Unknown(error) => {
                tracing::error!(%partition, error, "what the log holds is not understood; nothing is delivered");
                pause = RESTART_UNKNOWN;
            }
        }
        tokio::select! {
            biased;
            _ = Order::other_than_work(&mut orders) => return partition,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RESTART_MAX);
    }
}
