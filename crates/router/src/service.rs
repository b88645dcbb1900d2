//! The router as a component: which partitions are routed here, and by whom.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use fanfare_control::Control;
use fanfare_core::{Clock, Entropy, Partition, limits};
use fanfare_log::{ClaimEvent, Claims, Group, Log, Topic};
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    handle::{Handle, Slot},
    meters::Meters,
    partition::{close_table, route_partition},
};

/// What a router needs.
pub struct Options {
    pub log: Arc<dyn Log>,
    pub control: Control,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Where claims are kept beside memory; a cache of the topic `dedup`. `None`: in memory only, without bound.
    pub dedup_dir: Option<PathBuf>,
    /// Small payloads are copied beside their delivery records. Of use where `messages` are read over a network.
    pub inline: bool,
}

/// What all partitions of a router share.
pub(crate) struct Router {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) control: Control,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) dedup_dir: Option<PathBuf>,
    /// Ends for good when a log does not take payloads beside delivery records.
    pub(crate) inline: AtomicBool,
    pub(crate) meters: Meters,
    handle: Handle,
}

impl Router {
    pub(crate) fn slot(&self, partition: Partition) -> &Slot {
        &self.handle.slots[partition.0 as usize]
    }
}

/// Routes the partitions of `messages` that this process claims.
pub struct Service {
    router: Arc<Router>,
}

impl Service {
    pub fn new(options: Options) -> Self {
        let Options { log, control, clock, entropy, dedup_dir, inline } = options;
        let handle = Handle::new(log.partitions(Topic::Messages));
        let (inline, meters) = (AtomicBool::new(inline), Meters::new());
        Self { router: Arc::new(Router { log, control, clock, entropy, dedup_dir, inline, meters, handle }) }
    }

    pub fn handle(&self) -> Handle {
        self.router.handle.clone()
    }

    /// Routes until `shutdown`; then finishes what it began, for at most [`limits::DRAIN`]. An error says that a
    /// partition cannot be routed any more.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut claims = self.router.log.claim(Group::Router);
        let mut tasks = Tasks::default();
        loop {
            let overstay = tasks.first_to_overstay();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = tasks.set.join_next_with_id() => {
                    self.ended(&mut tasks, &mut *claims, ended).await?;
                }
                event = claims.next() => match event {
                    ClaimEvent::Gained(partition) => tasks.start(&self.router, partition),
                    ClaimEvent::Release { partition, within } => {
                        if !tasks.release(partition, Instant::now() + within) {
                            claims.released(partition);
                        }
                    }
                    ClaimEvent::Lost(partition) => tasks.abort(partition),
                },
                partition = after(overstay) => tasks.abort(partition),
            }
        }

        let deadline = Instant::now() + limits::DRAIN;
        tasks.running.values_mut().for_each(|running| running.drain.cancel());
        while let Ok(Some(ended)) = timeout_at(deadline, tasks.set.join_next_with_id()).await {
            self.ended(&mut tasks, &mut *claims, ended).await?;
        }
        // What is left was cut short: the next session begins at the last durable checkpoint.
        tasks.set.shutdown().await;
        Ok(())
    }

    async fn ended(
        &self,
        tasks: &mut Tasks,
        claims: &mut dyn Claims,
        ended: Result<(Id, Result<(), Error>), JoinError>,
    ) -> Result<(), Error> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let partition = tasks.partitions.remove(&id).expect("every task has its partition");
        let running = tasks.running.remove(&partition).expect("a partition stays until its task has ended");
        close_table(&self.router, partition).await;
        match ended {
            Ok((_, Err(error))) => return Err(error),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Drained, or aborted because the partition was taken away.
            Ok((_, Ok(()))) | Err(_) => {}
        }
        if running.release_by.is_some() {
            claims.released(partition);
        }
        if running.gained_again {
            tasks.start(&self.router, partition);
        }
        Ok(())
    }
}

/// The tasks, one per partition.
#[derive(Default)]
struct Tasks {
    set: JoinSet<Result<(), Error>>,
    running: HashMap<Partition, Running>,
    partitions: HashMap<Id, Partition>,
}

struct Running {
    drain: CancellationToken,
    abort: AbortHandle,
    /// Set while it drains because somebody else wants the partition.
    release_by: Option<Instant>,
    /// Lost and gained again before the task had ended.
    gained_again: bool,
}

impl Tasks {
    fn start(&mut self, router: &Arc<Router>, partition: Partition) {
        if let Some(running) = self.running.get_mut(&partition) {
            running.gained_again = true;
            return;
        }
        let drain = CancellationToken::new();
        let abort = self.set.spawn(route_partition(Arc::clone(router), partition, drain.clone()));
        self.partitions.insert(abort.id(), partition);
        self.running.insert(partition, Running { drain, abort, release_by: None, gained_again: false });
    }

    /// False if the partition is not routed here.
    fn release(&mut self, partition: Partition, by: Instant) -> bool {
        let Some(running) = self.running.get_mut(&partition) else { return false };
        running.release_by = Some(by);
        running.gained_again = false;
        running.drain.cancel();
        true
    }

    /// It is somebody else's already: writes nothing more.
    fn abort(&mut self, partition: Partition) {
        if let Some(running) = self.running.get_mut(&partition) {
            running.release_by = None;
            running.gained_again = false;
            running.abort.abort();
        }
    }

    /// Which partition has to be given up first, drained or not, and when.
    fn first_to_overstay(&self) -> Option<(Instant, Partition)> {
        let release_by = |running: &Running| running.release_by;
        self.running.iter().filter_map(|(&partition, running)| Some((release_by(running)?, partition))).min()
    }
}

async fn after(overstay: Option<(Instant, Partition)>) -> Partition {
    match overstay {
        Some((by, partition)) => {
            tokio::time::sleep_until(by).await;
            partition
        }
        None => std::future::pending().await,
    }
}
