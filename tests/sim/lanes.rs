//! Invariant 4: a lane as recovery makes it from its snapshot and the facts since is the fold of all facts that count.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_control::Control;
use fanfare_core::{Clock, EndpointNumber, Fact, Offset, Outcome, Partition, Policy};
use fanfare_delivery::inspect;
use fanfare_log::{Log, Topic};

use crate::{
    history::History,
    receivers::publish_in,
    story::{Records, partitions},
};

/// What is unsettled of an endpoint below the `next` of its lane, and how often each delivery was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsettled {
    count: u64,
    lowest: Option<Offset>,
    tried: BTreeMap<Offset, u32>,
}

/// Compares every lane with the fold.
pub(crate) async fn compare(
    log: &dyn Log,
    control: &Control,
    clock: &dyn Clock,
    policy: &Policy,
    history: &History,
) {
    let Ok(records) = Records::read(log, publish_in).await else { return };
    let settlements = records.settlements();
    for partition in partitions(log, Topic::Deliveries) {
        let query = inspect::Query {
            endpoint: None,
            attempts: 0,
            items: usize::MAX,
            policy: policy.clone(),
            now: clock.now(),
        };
        let state = {
            let view = control.view().clone();
            inspect::partition(log, &view, partition, &query).await
        };
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                return history
                    .broken(format!("lanes of partition {partition} cannot be recovered: {error}"));
            }
        };
        let folded =
            fold(&records, partition, |endpoint, offset| settlements.contains_key(&(endpoint, offset)));
        for endpoint in folded.keys().chain(state.lanes.keys()) {
            let folded = folded.get(endpoint).cloned().unwrap_or_default();
            let (is, should) = match state.lanes.get(endpoint) {
                Some(lane) => (of_lane(lane), folded.seen_in(lane)),
                None => (Unsettled::default(), folded.all()),
            };
            if is != should {
                history.broken(format!(
                    "a lane after recovery equals the fold: endpoint {endpoint} of {partition} is {is:?}, folded {should:?}"
                ));
            }
        }
    }
}

fn of_lane(lane: &inspect::LaneState) -> Unsettled {
    let tried: BTreeMap<Offset, u32> =
        lane.retries.iter().map(|retry| (retry.offset, retry.attempts)).collect();
    // Facts that came before their records are known, too.
    let count = lane.pending - tried.range(lane.next..).count() as u64;
    Unsettled { count, lowest: (count > 0).then_some(lane.cursor), tried }
}

/// Deliveries that no fact that counts has settled.
#[derive(Clone, Debug, Default)]
struct Folded {
    unsettled: BTreeSet<Offset>,
    tried: BTreeMap<Offset, u32>,
}

impl Folded {
    fn all(self) -> Unsettled {
        let Self { unsettled, tried } = self;
        Unsettled { count: unsettled.len() as u64, lowest: unsettled.first().copied(), tried }
    }

    /// A lane behind has not looked at all of it.
    fn seen_in(mut self, lane: &inspect::LaneState) -> Unsettled {
        if lane.behind > 0 {
            self.unsettled.split_off(&lane.next);
        }
        self.all()
    }
}

fn fold(
    records: &Records,
    partition: Partition,
    is_settled: impl Fn(EndpointNumber, Offset) -> bool,
) -> BTreeMap<EndpointNumber, Folded> {
    let mut lanes: BTreeMap<EndpointNumber, Folded> = BTreeMap::new();
    let all = records.routed().chain(records.injected());
    for (record, _, endpoints) in all.filter(|(record, ..)| record.partition == partition) {
        for endpoint in endpoints.iter().filter(|endpoint| !is_settled(**endpoint, record.offset)) {
            lanes.entry(*endpoint).or_default().unsettled.insert(record.offset);
        }
    }
    for (of, fact, counts) in &records.facts {
        let Fact::Attempted(attempt) = fact else { continue };
        let failed = attempt.outcome == Outcome::Failed && *counts && *of == partition;
        if failed && !is_settled(attempt.endpoint, attempt.offset) {
            let tried = &mut lanes.entry(attempt.endpoint).or_default().tried;
            let number = tried.entry(attempt.offset).or_default();
            *number = (*number).max(attempt.number);
        }
    }
    lanes
}
