//! Claims: one holder at a time, and a drain before a partition moves.

use std::{collections::BTreeSet, time::Duration};

use fanfare_core::Partition;

use super::{Engine, PARTITIONS, in_time};
use crate::contract::{ClaimEvent, Claims, Group};

/// A lone member gains every partition.
pub async fn every_partition_is_gained(engine: &impl Engine) {
    let log = engine.open().await;
    for group in [Group::Router, Group::Delivery] {
        let mut claims = log.claim(group);
        let mut held = BTreeSet::new();
        while held.len() < PARTITIONS as usize {
            match in_time(claims.next()).await {
                ClaimEvent::Gained(partition) => assert!(held.insert(partition), "gained twice"),
                other => panic!("nobody else is there: {other:?}"),
            }
        }
    }
}

/// No partition has two holders, also while members come and go; who is asked to give one up keeps it until it says
/// so.
pub async fn partition_is_drained_before_it_moves(engine: &impl Engine) {
    let log = engine.open().await;
    let mut first = Member::new(log.claim(Group::Delivery), engine.settles_within());
    first.hear_all().await;
    assert_eq!(first.held.len(), PARTITIONS as usize);
    let other = engine.join(&log).await;
    let mut second = Member::new(other.claim(Group::Delivery), engine.settles_within());
    second.hear_all().await;
    assert!(second.held.is_empty(), "nothing is free before it is drained");
    first.hear_all().await;
    for partition in std::mem::take(&mut first.asked_for) {
        first.held.remove(&partition);
        first.claims.released(partition);
        second.hear_all().await;
        assert!(second.held.contains(&partition), "drained, so it moves");
        assert!(first.held.is_disjoint(&second.held), "one holder at a time");
    }
    drop(first);
    second.hear_all().await;
    assert_eq!(second.held.len(), PARTITIONS as usize, "what a member held is free when it is gone");
}

struct Member {
    claims: Box<dyn Claims>,
    held: BTreeSet<Partition>,
    asked_for: Vec<Partition>,
    patience: Duration,
}

impl Member {
    fn new(claims: Box<dyn Claims>, patience: Duration) -> Self {
        Self { claims, held: BTreeSet::new(), asked_for: Vec::new(), patience }
    }

    /// Takes events until none comes for a while.
    async fn hear_all(&mut self) {
        while let Ok(event) = tokio::time::timeout(self.patience, self.claims.next()).await {
            match event {
                ClaimEvent::Gained(partition) => assert!(self.held.insert(partition), "gained twice"),
                ClaimEvent::Release { partition, .. } => self.asked_for.push(partition),
                ClaimEvent::Lost(partition) => panic!("{partition} was taken before its time"),
            }
        }
    }
}
