//! The delivery role of a process: one worker task per claimed partition.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fanfare_control::Control;
use fanfare_core::{Clock, Entropy, Partition, limits};
use fanfare_log::{ClaimEvent, Group, Log};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    contents::Contents,
    meters::Meters,
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
    /// Deliveries in flight at once, over all partitions.
    pub in_flight: usize,
    /// How long a partition that is given up may finish what is in flight.
    pub drain: Duration,
}

/// What all partitions of the process share.
pub(crate) struct Shared<T> {
    pub(crate) options: Options,
    pub(crate) transport: T,
    pub(crate) contents: Contents,
    pub(crate) meters: Meters,
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

impl<T: Transport> Service<T> {
    pub fn new(options: Options, transport: T) -> Self {
        let owner = u128::from_ne_bytes(options.entropy.bytes());
        let contents = Contents::new(Arc::clone(&options.log));
        let shared = Shared { options, transport, contents, meters: Meters::new(), owner };
        Self { shared: Arc::new(shared) }
    }

    /// Claims partitions and delivers until `shutdown`; then drains.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut claims = self.shared.options.log.claim(Group::Delivery);
        let mut orders: HashMap<Partition, watch::Sender<Order>> = HashMap::new();
        let mut workers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                event = claims.next() => match event {
                    ClaimEvent::Gained(partition) => {
                        let (sender, receiver) = watch::channel(Order::Work);
                        orders.insert(partition, sender);
                        workers.spawn(supervise(Arc::clone(&self.shared), partition, receiver));
                    }
                    ClaimEvent::Release { partition, within } => {
                        give(&orders, partition, Order::Drain(within.min(self.shared.options.drain)));
                    }
                    ClaimEvent::Lost(partition) => give(&orders, partition, Order::Abandon),
                },
                Some(ended) = workers.join_next() => {
                    let partition = ended.expect("a worker does not panic");
                    orders.remove(&partition);
                    claims.released(partition);
                }
            }
        }
        for sender in orders.values() {
            // A worker that has ended needs no order.
            let _ = sender.send(Order::Drain(self.shared.options.drain));
        }
        while workers.join_next().await.is_some() {}
    }
}

fn give(orders: &HashMap<Partition, watch::Sender<Order>>, partition: Partition, order: Order) {
    if let Some(sender) = orders.get(&partition) {
        // A worker that has ended needs no order.
        let _ = sender.send(order);
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
        let ending = match Worker::take_over(Arc::clone(&shared), partition).await {
            Ok(worker) => worker.run(&mut orders).await,
            Err(error) => Ending::Failed(error.to_string()),
        };
        match ending {
            Ending::Drained | Ending::Abandoned => return partition,
            Ending::Superseded => tracing::info!(%partition, "a newer claim was seen; claiming again"),
            Ending::Failed(error) => tracing::warn!(%partition, error, "worker failed; taking over again"),
        }
        if started.elapsed() > RESTART_MAX {
            pause = RESTART_FIRST;
        }
        tokio::select! {
            biased;
            _ = Order::other_than_work(&mut orders) => return partition,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RESTART_MAX);
    }
}

/// Deliveries in flight in one partition, of the process's [`limits::IN_FLIGHT`].
pub(crate) fn budget<T>(shared: &Shared<T>) -> usize {
    let partitions = shared.options.log.partitions(fanfare_log::Topic::Deliveries).max(1) as usize;
    (shared.options.in_flight / partitions).clamp(1, limits::IN_FLIGHT)
}
