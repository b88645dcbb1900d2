//! The worker of one delivery partition: it owns all its lanes; no locks.
//!
//! One loop: take what the tail brings, start what lanes allow, enter what came back, and now and then write down
//! where things stand. Nothing in it waits for an endpoint; it waits for the log only where going on would outrun
//! what can be recorded. [`intake`] takes in, [`attempts`] sends and enters, [`catch_up`] reads for lanes behind.

mod attempts;
mod cadence;
mod catch_up;
mod checkpoint;
mod ending;
mod intake;
mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fanfare_core::{
    EndpointNumber, IntakeRule, Offset, Partition, Timestamp,
    lane::Start,
    planted::{Fault, planted},
};
use fanfare_log::{BoxFuture, Sync, Topic};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};

use self::{
    catch_up::Run,
    intake::{Untaken, read_tail},
};
use crate::{
    facts::FactLog,
    flight::Landed,
    load,
    recover::{self, RecoverError},
    send::Transport,
    service::{Order, Shared},
    slot::{Slot, Slots},
    steady::Steady,
    turns::Turns,
    window::Window,
};

/// Why a worker ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Drained,
    Abandoned,
    /// Somebody else claimed the partition.
    Superseded,
    Failed(String),
    /// What the log holds is not understood; somebody has to act.
    Unknown(String),
}

/// What waits for a delivery record that is not in memory.
enum Wanted {
    Start(EndpointNumber, Start),
    Key(EndpointNumber),
}

/// See the module's documentation.
pub(crate) struct Worker<T: Transport> {
    shared: Arc<Shared<T>>,
    partition: Partition,
    epoch: Offset,
    steady: Steady,
    /// When it took over.
    since: Timestamp,
    slots: Slots,
    rule: IntakeRule,
    /// Delivery records below were looked at.
    tail: Offset,
    /// Facts below were followed.
    followed: Offset,
    window: Window,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    probes_in_flight: usize,
    budget: usize,
    /// Lanes that could start something but for the budget.
    turns: Turns,
    timers: BTreeSet<(Timestamp, EndpointNumber)>,
    wanted: BTreeMap<Offset, Vec<Wanted>>,
    /// Lanes behind, by their next.
    behind: BTreeSet<(Offset, EndpointNumber)>,
    reads: FuturesUnordered<BoxFuture<'static, Run>>,
    reading_wanted: bool,
    scanning: bool,
    last_read: Offset,
    last_scan: Offset,
    /// Delivery records below the tail that are not understood.
    unknown: BTreeSet<Offset>,
    facts: FactLog,
    checkpoint: checkpoint::State,
    sweep: sweep::State,
    load: load::Meter,
}

/// Landed attempts and tail batches taken per turn of the loop before it looks round.
const PER_TURN: usize = 16;
/// Timers further away than this are looked at again then.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

impl<T: Transport> Worker<T> {
    /// Claims the partition and recovers its lanes.
    pub(crate) async fn take_over(
        shared: Arc<Shared<T>>,
        partition: Partition,
    ) -> Result<Self, RecoverError> {
        let steady = Steady::start(&*shared.options.clock);
        let log = Arc::clone(&shared.options.log);
        let epoch = recover::claim(&*log, partition, shared.owner, shared.options.clock.now()).await?;
        let mut recovered =
            recover::recover(&*log, &shared.options.control, partition, epoch, steady.now()).await?;
        if recovered.unseen > 0 {
            shared.meters.losses.add(1);
            tracing::error!(
                %partition, records = recovered.unseen, to = %recovered.deliveries,
                "deliveries were lost in storage: they left the log before any worker saw them; raise the retention, or keep \
                 workers running"
            );
        }
        let since = steady.now();
        for slot in recovered.slots.values_mut() {
            slot.lane.resume(since, shared.options.entropy.u64());
        }
        let behind = recovered.slots.iter().filter(|(_, slot)| slot.behind);
        let behind = behind.map(|(&number, slot)| (slot.lane.next(), number)).collect();
        let unsettled: u64 = recovered.slots.values().map(Slot::backlog).sum();
        tracing::info!(%partition, %epoch, lanes = recovered.slots.len(), unsettled, "partition taken over");
        Ok(Self {
            budget: shared.room.first_share(),
            partition,
            epoch,
            steady,
            since,
            rule: recovered.rule,
            tail: recovered.deliveries,
            followed: recovered.attempts,
            window: Window::one_of(log.partitions(Topic::Deliveries)),
            flights: FuturesUnordered::new(),
            probes_in_flight: 0,
            turns: recovered.slots.iter().map(|(&number, slot)| (slot.application, number)).collect(),
            slots: recovered.slots,
            timers: BTreeSet::new(),
            wanted: BTreeMap::new(),
            behind,
            reads: FuturesUnordered::new(),
            reading_wanted: false,
            scanning: false,
            last_read: Offset::ZERO,
            last_scan: Offset::ZERO,
            unknown: BTreeSet::new(),
            facts: FactLog::new(log, partition, epoch),
            checkpoint: checkpoint::State::new(partition, recovered.stale_keys),
            sweep: sweep::State::new(partition),
            load: load::Meter::new(),
            shared,
        })
    }

    /// Works until it is told to stop, fails, or sees a newer claim.
    pub(crate) async fn run(mut self, orders: &mut watch::Receiver<Order>) -> Ending {
        for slot in self.slots.values_mut() {
            slot.queued = true;
        }
        let tail_log = Arc::clone(&self.shared.options.log);
        let partition = self.partition;
        let mut tail = read_tail(Arc::clone(&tail_log), partition, self.tail);
        loop {
            self.give_turns();
            self.schedule_reads();
            let wake = self.wake_at();
            tokio::select! {
                biased;
                order = Order::other_than_work(orders) => {
                    return match order {
                        Order::Drain(within) => self.drain(within).await,
                        Order::Work | Order::Abandon => {
                            self.part().await;
                            Ending::Abandoned
                        }
                    };
                }
                () = tokio::time::sleep_until(wake) => {
                    if let Err(ending) = self.on_time().await {
                        self.part().await;
                        return ending;
                    }
                }
                Some(landed) = self.flights.next() => {
                    self.landed(&landed);
                    if self.land_others() {
                        // Partitions with much to do must not keep a publish waiting.
                        tokio::task::yield_now().await;
                    }
                }
                batch = &mut tail => {
                    let taken = match batch {
                        Ok(batch) => self.take(batch).await,
                        Err(error) => Err(error.into()),
                    };
                    tail = match taken {
                        Ok(()) => read_tail(Arc::clone(&tail_log), partition, self.tail),
                        Err(Untaken::Unknown(error)) => self.stand(&error),
                        Err(Untaken::Other(error)) => return Ending::Failed(error),
                    };
                }
                Some(run) = self.reads.next() => self.took_run(run),
                result = self.facts.durable() => {
                    if let Err(error) = result {
                        return Ending::Failed(error.to_string());
                    }
                }
                result = self.checkpoint.written() => {
                    if let Err(error) = result {
                        return Ending::Failed(error.to_string());
                    }
                }
            }
        }
    }

    /// Enters what came back meanwhile, before anything else is asked for; whether there may be still more.
    fn land_others(&mut self) -> bool {
        for _ in 0..PER_TURN {
            match self.flights.next().now_or_never() {
                Some(Some(landed)) => self.landed(&landed),
                _ => return false,
            }
        }
        true
    }

    /// Lanes that waited for room in the budget, one start each in turn.
    fn give_turns(&mut self) {
        for _ in 0..self.turns.len() {
            if self.flights.len() >= self.budget || !self.facts.has_room() {
                return;
            }
            let Some(number) = self.turns.pop() else { return };
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.queued = false;
            }
            self.advance(number);
        }
    }

    fn set_timer(&mut self, number: EndpointNumber, wake: Option<Timestamp>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if slot.wake == wake {
            return;
        }
        if let Some(old) = slot.wake.take() {
            self.timers.remove(&(old, number));
        }
        let now = self.steady.now();
        let lost = |wake: &Timestamp| planted(Fault::TimerLost) && wake.since(now) > Duration::from_secs(1);
        if let Some(wake) = wake.filter(|wake| !lost(wake)) {
            slot.wake = Some(wake);
            self.timers.insert((wake, number));
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let timer = self.timers.first().map(|&(at, _)| self.steady.instant(at));
        let all = [timer, self.facts.due(), Some(self.checkpoint.due()), Some(self.sweep.due())];
        let wake = all.into_iter().flatten().min().unwrap_or(now + LONGEST_SLEEP);
        wake.min(now + LONGEST_SLEEP)
    }

    async fn on_time(&mut self) -> Result<(), Ending> {
        let now = self.steady.now();
        while let Some(&(at, number)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.wake = None;
            }
            self.advance(number);
        }
        let instant = Instant::now();
        if self.facts.due().is_some_and(|due| due <= instant) {
            self.facts.flush(Sync::Lazy).await.map_err(|error| Ending::Failed(error.to_string()))?;
        }
        if self.checkpoint.due() <= instant {
            self.follow().await?;
            self.write_checkpoint().await.map_err(|error| Ending::Failed(error.to_string()))?;
        }
        if self.sweep.due() <= instant {
            self.follow().await?;
            self.sweep().await;
        }
        Ok(())
    }
}
