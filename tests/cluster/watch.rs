//! What the processes say while they run: rebalances, takeovers, drains that were cut short, trouble.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

use super::{load::Unsettled, process::Name, scene::LOADED};
use crate::support::log::Log;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Members hear of one rebalance within so long.
const ONE_REBALANCE: Duration = Duration::from_millis(400);

/// The logs of all processes that ever ran.
#[derive(Default)]
pub(crate) struct Watch {
    logs: Mutex<Vec<(Name, Log, usize)>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) rebalances: Vec<Rebalance>,
    pub(crate) takeovers: u64,
    /// Sessions of routers.
    pub(crate) sessions: u64,
    /// Partitions that were handed back before they were drained.
    pub(crate) cut_short: Vec<(Instant, Name)>,
    /// Workers that were superseded, and claim again.
    pub(crate) restarts: Vec<String>,
    /// Workers, and sessions of routers, that could not go on.
    pub(crate) failures: Vec<(Instant, String)>,
    pub(crate) errors: Vec<String>,
}

/// Partitions of a group moved.
#[derive(Clone, Debug)]
pub(crate) struct Rebalance {
    pub(crate) group: &'static str,
    pub(crate) at: Instant,
    /// Deliveries accepted and not received.
    pub(crate) unsettled: u64,
}

impl Watch {
    pub(crate) fn add(&self, name: Name, log: Log) {
        self.logs.lock().push((name, log, 0));
    }

    /// Looks until it is aborted.
    pub(crate) fn begin(self: &Arc<Self>, unsettled: Unsettled) -> JoinHandle<()> {
        let watch = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                watch.look(unsettled.count());
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }

    pub(crate) fn look(&self, unsettled: u64) {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        for (name, log, read) in self.logs.lock().iter_mut() {
            let lines = log.lines();
            for line in &lines[*read..] {
                seen.note(*name, line, now, unsettled);
            }
            *read = lines.len();
        }
    }

    pub(crate) fn seen(&self) -> parking_lot::MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

impl Seen {
    pub(crate) fn loaded_rebalances(&self) -> usize {
        self.rebalances.iter().filter(|rebalance| rebalance.unsettled >= LOADED).count()
    }

    /// Prints what there was.
    pub(crate) fn tell(&self) {
        println!(
            "{} rebalances, {} of them with {LOADED} deliveries unsettled; {} takeovers; {} sessions of routers; \
             {} drains cut short; {} workers claimed again; {} failures",
            self.rebalances.len(),
            self.loaded_rebalances(),
            self.takeovers,
            self.sessions,
            self.cut_short.len(),
            self.restarts.len(),
            self.failures.len(),
        );
        let failures = self.failures.iter().map(|(_, line)| line);
        for line in self.restarts.iter().take(5).chain(failures.take(5)) {
            println!("  {line}");
        }
    }

    fn note(&mut self, name: Name, line: &str, at: Instant, unsettled: u64) {
        if line.contains("taking over again") || line.contains("starting again from the checkpoint") {
            self.failures.push((at, format!("{name}: {line}")));
        }
        let is_new = |rebalances: &[Rebalance], group| {
            let last = rebalances.iter().rev().find(|rebalance| rebalance.group == group);
            last.is_none_or(|last| at > last.at + ONE_REBALANCE)
        };
        if line.contains("partitions gained") {
            let group = if line.contains("deliveries") { "delivery" } else { "router" };
            if is_new(&self.rebalances, group) {
                self.rebalances.push(Rebalance { group, at, unsettled });
            }
        } else if line.contains("partition taken over") {
            self.takeovers += 1;
        } else if line.contains("handed back before they were drained")
            || line.contains("drain is over before")
        {
            self.cut_short.push((at, name));
        } else if line.contains("claiming again") {
            self.restarts.push(format!("{name}: {line}"));
        } else if line.contains(r#""message":"routing""#) {
            self.sessions += 1;
        } else if line.contains(r#""level":"ERROR""#) || line.contains("panicked at") {
            self.errors.push(format!("{name}: {line}"));
        }
    }
}
