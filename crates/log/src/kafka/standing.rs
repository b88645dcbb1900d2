//! Whether the log can be worked on, looked at again and again while it is.
//!
//! - A broker that was away is asked until one answers: a process that has nothing to do would not find out.
//! - Topics are compared with what they were at the start. Offsets of one that was made anew mean other records, so that
//!   whoever goes on would pass over new ones, or take them for old.

use std::sync::{Arc, Weak};

use fanfare_core::Partition;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{KafkaLog, OpenError, limits, place::Place, topics};
use crate::contract::{Group, Log as _, Topic};

/// Why nobody may work on the log any more, once that is so.
#[derive(Debug)]
pub(super) struct Broken(watch::Sender<Option<String>>);

impl Broken {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    fn told(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

impl KafkaLog {
    /// Whether what needs these groups can be done now; the error says why not.
    pub fn ready(&self, groups: &[Group]) -> Result<(), String> {
        if let Some(cause) = self.broken.told() {
            return Err(cause);
        }
        if !self.link.is_reachable() {
            return Err(self.link.unavailable("no broker answers"));
        }
        match groups.iter().find(|group| !self.members.is_member(**group)) {
            Some(Group::Router) => Err("not yet a member of the group of routers".to_owned()),
            Some(Group::Delivery) => Err("not yet a member of the group of delivery workers".to_owned()),
            None => Ok(()),
        }
    }

    /// Resolves when the log cannot be worked on any more, whatever comes: with what an operator has to be told.
    pub async fn broken(&self) -> String {
        let mut broken = self.broken.0.subscribe();
        match broken.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().expect("it was waited for"),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Looks as long as somebody has the log.
pub(super) async fn watch(log: Weak<KafkaLog>) {
    let mut looked_at = Instant::now();
    let mut suspected = false;
    loop {
        sleep(if suspected { limits::LOOK_TWICE } else { limits::LOOK_LINK }).await;
        let Some(log) = log.upgrade() else { return };
        if !log.link.is_reachable() {
            // Whoever asks notes an answer.
            drop(log.ends.ask(Place::topic(Topic::Control, Partition(0))).await);
            continue;
        }
        if suspected || looked_at.elapsed() >= limits::LOOK_TOPICS {
            looked_at = Instant::now();
            match changed(&log).await {
                // Brokers that begin know less than they will.
                Some(_) if !suspected => suspected = true,
                Some(cause) => {
                    log.broken.0.send_replace(Some(cause));
                    return;
                }
                None => suspected = false,
            }
        }
    }
}

async fn changed(log: &Arc<KafkaLog>) -> Option<String> {
    match topics::changed(&log.options, log.incarnations()).await {
        Ok(report) if report.is_usable() => None,
        Ok(report) => {
            let causes = report.of(topics::Level::Error).map(str::to_owned).collect();
            Some(OpenError::Unusable { brokers: log.options.brokers.clone(), causes }.to_string())
        }
        Err(error) => {
            tracing::debug!(%error, "the topics cannot be looked at now");
            None
        }
    }
}
