//! Jobs: what was asked to be sent again to an endpoint is injected into its partition of `deliveries`, by whoever holds
//! that partition.
//!
//! A job reads nothing but the log: what became of the endpoint's deliveries ([`outcomes`]) says which messages are meant
//! ([`select`]), and what it injected already says how far it came ([`runner`]). So it goes on after a crash with no more
//! than its order in `control`, and two that carry it on at the same time, because one of them does not know yet that it was
//! replaced, write the same records under the same numbers, of which the tail takes each once
//! ([`fanfare_core::IntakeRule`]): a message's offset is its number in the job.
//!
//! Live traffic comes first by the lanes' rule. That a job also takes no memory from it is seen to here: it waits while
//! [`limits::JOB_OUTSTANDING`] of its messages are not settled.

mod outcomes;
mod runner;
mod select;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fanfare_control::{Job, JobState};
use fanfare_core::{EndpointId, JobId, Partition, limits};
use tokio::task::JoinSet;

use crate::service::Shared;

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Carries on the jobs of a partition's endpoints. Never ends.
pub(crate) async fn run<T: Send + Sync + 'static>(shared: Arc<Shared<T>>, partition: Partition) {
    let mut running: BTreeMap<EndpointId, JobId> = BTreeMap::new();
    let mut tasks: JoinSet<EndpointId> = JoinSet::new();
    loop {
        while let Some(ended) = tasks.try_join_next() {
            let endpoint = ended.expect("a job does not panic");
            running.remove(&endpoint);
        }
        let (waiting, held) = waiting(&shared, partition);
        // Those that stand, because their endpoints are disabled, take no place from others.
        let mut at_work = running.keys().filter(|endpoint| !held.contains(endpoint)).count();
        for job in waiting {
            let Some(endpoint) = job.endpoint else { continue };
            if at_work < limits::JOBS_AT_ONCE && !running.contains_key(&endpoint) {
                at_work += 1;
                running.insert(endpoint, job.id);
                let (shared, id) = (Arc::clone(&shared), job.id);
                tasks.spawn(async move {
                    runner::carry_on(&shared, partition, id).await;
                    endpoint
                });
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Jobs of endpoints that somebody has to carry on here, the oldest first; and which of the endpoints are disabled.
fn waiting<T>(shared: &Shared<T>, partition: Partition) -> (Vec<Arc<Job>>, BTreeSet<EndpointId>) {
    let view = shared.options.control.view();
    let mut held = BTreeSet::new();
    let mut is_here = |job: &&Arc<Job>| {
        let Some(id) = job.endpoint else { return false };
        match view.endpoint(job.application, &id.to_string()) {
            Some(endpoint) => {
                if endpoint.settings.disabled {
                    held.insert(id);
                }
                endpoint.partition == partition
            }
            // Nobody holds what is gone: the first partition ends its jobs.
            None => partition == Partition(0),
        }
    };
    let open = view.open_jobs().filter(|job| job.state == JobState::Running);
    let waiting = open.filter(|job| is_here(job)).map(Arc::clone).collect();
    (waiting, held)
}
