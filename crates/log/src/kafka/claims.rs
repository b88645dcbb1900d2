//! Claims: Kafka's groups say who holds which partition.
//!
//! A member is a consumer that never fetches: it subscribes to the group's topic, and its partitions stay paused. The
//! protocol is the cooperative one, so that partitions which stay where they are go on undisturbed; members are
//! dynamic, so that one that leaves is missed at once. A partition is handed back only after it was drained, or after
//! the drain's time: librdkafka asks, and is answered later.

mod member;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use fanfare_core::Partition;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::member::Membership;
use super::{
    client::{self, Link},
    fetch::millis,
    options::Options,
    place::{Layout, Source},
};
use crate::contract::{BoxFuture, ClaimEvent, Claims, Group, Topic};

/// A member that is not polled for so long has lost its partitions.
const POLL_MS: u64 = 60_000;
/// How often librdkafka tells where a member stands with its group.
const STANDING_EVERY: Duration = Duration::from_millis(500);

/// A membership of this process.
struct Joined {
    group: Group,
    shared: Weak<Shared>,
    has_ended: watch::Receiver<bool>,
}

/// The members of this process.
pub(super) struct Members {
    options: Options,
    layout: Arc<Layout>,
    link: Arc<Link>,
    joined: Mutex<Vec<Joined>>,
}

impl Members {
    pub(super) fn new(options: &Options, layout: &Arc<Layout>, link: &Arc<Link>) -> Self {
        let (layout, link) = (Arc::clone(layout), Arc::clone(link));
        Self { options: options.clone(), layout, link, joined: Mutex::default() }
    }

    pub(super) fn join(&self, group: Group) -> Member {
        let (topic, name) = match group {
            Group::Router => (Topic::Messages, "router"),
            Group::Delivery => (Topic::Deliveries, "delivery"),
        };
        let source = Source::Topic(topic);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            partitions: self.layout.partitions(source),
            drain: self.options.drain,
        });
        let (ended, has_ended) = watch::channel(false);
        {
            let mut joined = self.joined.lock();
            joined.retain(|joined| !*joined.has_ended.borrow());
            joined.push(Joined { group, shared: Arc::downgrade(&shared), has_ended });
        }
        let membership = Membership {
            config: config(&self.options, name),
            topic: self.layout.name(source).to_owned(),
            link: Arc::clone(&self.link),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name(format!("fanfare-kafka-{name}"));
        let spawned = thread.spawn(move || {
            membership.run();
            // The log may be gone.
            let _ = ended.send(true);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, group = name, "cannot start a thread: nothing is claimed");
        }
        Member { shared }
    }

    /// Whether the brokers have this process as a member of a group, with partitions or without.
    pub(super) fn is_member(&self, group: Group) -> bool {
        let joined = self.joined.lock();
        let shared =
            joined.iter().filter(|joined| joined.group == group).find_map(|joined| joined.shared.upgrade());
        shared.is_some_and(|shared| shared.state.lock().is_member)
    }

    /// All leave their groups. Resolves when they are gone.
    pub(super) async fn leave(&self) {
        let joined = std::mem::take(&mut *self.joined.lock());
        for Joined { shared, .. } in &joined {
            if let Some(shared) = shared.upgrade() {
                shared.leave();
            }
        }
        for Joined { mut has_ended, .. } in joined {
            // An error: its thread is gone, which is as good.
            let _ = has_ended.wait_for(|ended| *ended).await;
        }
    }
}

/// A membership in a group.
pub(super) struct Member {
    shared: Arc<Shared>,
}

impl Claims for Member {
    fn next(&mut self) -> BoxFuture<'_, ClaimEvent> {
        Box::pin(async {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                if let Some(event) = self.shared.state.lock().events.pop_front() {
                    return event;
                }
                changed.await;
            }
        })
    }

    fn released(&mut self, partition: Partition) {
        self.shared.released(partition);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

/// What a member and its thread share.
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Of the topic; there is no work in others, should somebody have added them.
    partitions: u32,
    drain: Duration,
}

#[derive(Default)]
struct State {
    events: VecDeque<ClaimEvent>,
    held: BTreeSet<Partition>,
    giving_up: Option<GivingUp>,
    left: bool,
    /// The group has counted it in, and has not lost it since.
    is_member: bool,
}

/// What the group wants back, all at the same time.
#[derive(Debug)]
struct GivingUp {
    /// All of it.
    wanted: BTreeSet<Partition>,
    /// Not drained yet.
    open: BTreeSet<Partition>,
    deadline: Instant,
}

impl Shared {
    fn has_left(&self) -> bool {
        self.state.lock().left
    }

    fn leave(&self) {
        self.state.lock().left = true;
    }

    fn gained(&self, partitions: impl IntoIterator<Item = Partition>) {
        {
            let mut state = self.state.lock();
            for partition in partitions.into_iter().filter(|partition| partition.0 < self.partitions) {
                if state.held.insert(partition) {
                    state.events.push_back(ClaimEvent::Gained(partition));
                }
            }
        }
        self.changed.notify_waiters();
    }

    /// They are somebody else's.
    fn lost(&self, partitions: impl IntoIterator<Item = Partition>) {
        {
            let mut state = self.state.lock();
            for partition in partitions {
                state.lose(partition);
            }
        }
        self.changed.notify_waiters();
    }

    /// Everything is lost. What the group asked for is still to be handed back.
    fn lost_all(&self) {
        let held = {
            let mut state = self.state.lock();
            state.is_member = false;
            state.held.clone()
        };
        self.lost(held);
    }

    fn counted_in(&self) {
        self.state.lock().is_member = true;
    }

    /// Nothing is asked for any more.
    fn begin_anew(&self) {
        self.lost_all();
        self.state.lock().giving_up = None;
    }

    /// The group wants partitions back, when they are drained.
    fn give_up(&self, partitions: impl IntoIterator<Item = Partition>) {
        {
            let mut state = self.state.lock();
            let within = self.drain;
            let mut giving_up = state.giving_up.take().unwrap_or_else(|| GivingUp {
                wanted: BTreeSet::new(),
                open: BTreeSet::new(),
                deadline: Instant::now() + within,
            });
            for partition in partitions {
                giving_up.wanted.insert(partition);
                if state.held.contains(&partition) && giving_up.open.insert(partition) {
                    state.events.push_back(ClaimEvent::Release { partition, within });
                }
            }
            state.giving_up = Some(giving_up);
        }
        self.changed.notify_waiters();
    }

    fn released(&self, partition: Partition) {
        let mut state = self.state.lock();
        if let Some(giving_up) = &mut state.giving_up
            && giving_up.open.remove(&partition)
        {
            state.held.remove(&partition);
        }
    }

    fn is_giving_up(&self) -> bool {
        self.state.lock().giving_up.is_some()
    }

    /// What may be handed back now, drained or not.
    fn take_given_up(&self) -> Option<BTreeSet<Partition>> {
        let given_up = {
            let mut state = self.state.lock();
            let left = state.left;
            let due = |giving_up: &mut GivingUp| {
                left || giving_up.open.is_empty() || giving_up.deadline <= Instant::now()
            };
            let given_up = state.giving_up.take_if(due)?;
            if !given_up.open.is_empty() && !left {
                tracing::warn!(partitions = ?given_up.open, "partitions were handed back before they were drained");
            }
            for partition in &given_up.open {
                state.lose(*partition);
            }
            given_up.wanted
        };
        self.changed.notify_waiters();
        Some(given_up)
    }
}

impl State {
    fn lose(&mut self, partition: Partition) {
        if let Some(giving_up) = &mut self.giving_up {
            giving_up.open.remove(&partition);
        }
        if !self.held.remove(&partition) {
            return;
        }
        // What was not heard yet need not be heard any more.
        let gained = ClaimEvent::Gained(partition);
        let is_known = !self.events.contains(&gained);
        let about = |event: &ClaimEvent| match event {
            ClaimEvent::Gained(about)
            | ClaimEvent::Lost(about)
            | ClaimEvent::Release { partition: about, .. } => *about == partition,
        };
        // A loss before that gain has to be heard all the same.
        let was_lost = self.events.contains(&ClaimEvent::Lost(partition));
        self.events.retain(|event| !about(event));
        if is_known || was_lost {
            self.events.push_back(ClaimEvent::Lost(partition));
        }
    }
}

fn config(options: &Options, group: &str) -> rdkafka::ClientConfig {
    let mut config = client::reader_config(options);
    config.remove("group.instance.id");
    config.set("group.protocol", "classic");
    // A cluster may allow others only; the epochs guard what a member does that is taken for dead.
    client::set_default(&mut config, "session.timeout.ms", &millis(options.session_timeout));
    client::set_default(&mut config, "heartbeat.interval.ms", &millis(options.heartbeat));
    // No member is polled less often than it is heard of.
    let session: u64 = config.get("session.timeout.ms").and_then(|session| session.parse().ok()).unwrap_or(0);
    client::set_default(&mut config, "max.poll.interval.ms", &session.max(POLL_MS).to_string());
    config
        .set("statistics.interval.ms", millis(STANDING_EVERY))
        .set("group.id", format!("{}{group}", options.prefix))
        .set("partition.assignment.strategy", "cooperative-sticky")
        // Should a record come in before a partition is paused.
        .set("fetch.message.max.bytes", "1");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(drain: Duration) -> Shared {
        Shared { state: Mutex::default(), changed: Notify::new(), partitions: 4, drain }
    }

    fn heard(shared: &Shared) -> Vec<ClaimEvent> {
        shared.state.lock().events.drain(..).collect()
    }

    const P: [Partition; 3] = [Partition(0), Partition(1), Partition(2)];

    #[test]
    fn handed_back_when_all_that_is_wanted_is_drained() {
        let shared = shared(Duration::from_secs(10));
        shared.gained(P);
        assert_eq!(heard(&shared), P.map(ClaimEvent::Gained));
        shared.give_up([P[0], P[2]]);
        let within = Duration::from_secs(10);
        let asked = [P[0], P[2]].map(|partition| ClaimEvent::Release { partition, within });
        assert_eq!(heard(&shared), asked);
        assert_eq!(shared.take_given_up(), None);
        shared.released(P[1]);
        shared.released(P[0]);
        assert_eq!(shared.take_given_up(), None, "one is left, and nobody wants partition 1 back");
        shared.released(P[2]);
        assert_eq!(shared.take_given_up(), Some(BTreeSet::from([P[0], P[2]])));
        assert_eq!(heard(&shared), []);
        shared.lost_all();
        assert_eq!(heard(&shared), [ClaimEvent::Lost(P[1])]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_drain_in_time_loses() {
        let shared = shared(Duration::from_secs(1));
        shared.gained(P);
        shared.give_up([P[0], P[1]]);
        shared.released(P[1]);
        assert_eq!(heard(&shared).len(), 5);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(shared.take_given_up(), Some(BTreeSet::from([P[0], P[1]])));
        assert_eq!(heard(&shared), [ClaimEvent::Lost(P[0])]);
    }

    #[test]
    fn what_is_lost_while_it_drains_is_handed_back_at_once() {
        let shared = shared(Duration::from_secs(10));
        shared.gained([P[0], P[1]]);
        shared.give_up([P[0]]);
        heard(&shared);
        shared.lost_all();
        assert_eq!(shared.take_given_up(), Some(BTreeSet::from([P[0]])));
        assert_eq!(heard(&shared), [ClaimEvent::Lost(P[0]), ClaimEvent::Lost(P[1])]);
    }

    #[test]
    fn what_came_and_went_unheard_is_not_told() {
        let shared = shared(Duration::ZERO);
        shared.gained([P[0]]);
        shared.lost([P[0]]);
        assert_eq!(heard(&shared), []);
        shared.gained([P[0]]);
        assert_eq!(heard(&shared), [ClaimEvent::Gained(P[0])]);
        for _ in 0..3 {
            shared.lost([P[0]]);
            shared.gained([P[0]]);
        }
        assert_eq!(heard(&shared), [ClaimEvent::Lost(P[0]), ClaimEvent::Gained(P[0])]);
    }

    #[test]
    fn partitions_that_somebody_added_are_left_alone() {
        let shared = shared(Duration::ZERO);
        shared.gained([Partition(3), Partition(4)]);
        assert_eq!(heard(&shared), [ClaimEvent::Gained(Partition(3))]);
        shared.give_up([Partition(4)]);
        assert_eq!(shared.take_given_up(), Some(BTreeSet::from([Partition(4)])), "nobody has to drain it");
    }
}
