//! Who holds which partition of a group, within one process or one simulated cluster.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fanfare_core::Partition;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::contract::{BoxFuture, ClaimEvent, Claims};

/// How partitions are spread over members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// The member that came first holds all.
    First,
    /// As evenly as it goes.
    Even,
}

/// One group.
pub(crate) struct Coordinator {
    state: Mutex<State>,
    changed: Notify,
    spread: Spread,
    /// How long a member may drain before a partition is taken from it.
    drain: Duration,
}

struct State {
    owners: Vec<Owner>,
    members: Vec<Member>,
    next_member: u64,
    /// Turns the even spread.
    rotation: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Held(u64),
    /// Asked to give up, taken away at the time.
    Releasing(u64, Instant),
}

struct Member {
    id: u64,
    events: VecDeque<ClaimEvent>,
    /// Until then it hears nothing, and is given nothing.
    isolated_until: Option<Instant>,
}

impl Coordinator {
    pub(crate) fn new(partitions: u32, spread: Spread, drain: Duration) -> Arc<Self> {
        let owners = vec![Owner::Nobody; partitions as usize];
        let state = State { owners, members: Vec::new(), next_member: 0, rotation: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), spread, drain })
    }

    pub(crate) fn join(self: &Arc<Self>) -> GroupClaims {
        let id = {
            let mut state = self.state.lock();
            let id = state.next_member;
            state.next_member += 1;
            state.members.push(Member { id, events: VecDeque::new(), isolated_until: None });
            state.rebalance(self.spread, self.drain);
            id
        };
        self.changed.notify_waiters();
        GroupClaims { coordinator: self.clone(), member: id }
    }

    /// A member cannot be reached: its partitions are free at once, and it hears so only after a while. Then it is
    /// a member again.
    pub(crate) fn isolate(&self, member: u64, hears_after: Duration) {
        {
            let mut state = self.state.lock();
            let lost = state.free_all_of(member);
            if let Some(member) = state.members.iter_mut().find(|known| known.id == member) {
                // What it lost before and has not heard of yet, it has to hear all the same.
                member.events.retain(|event| matches!(event, ClaimEvent::Lost(_)));
                member.events.extend(lost.into_iter().map(ClaimEvent::Lost));
                member.isolated_until = Some(Instant::now() + hears_after);
            }
            state.rebalance(self.spread, self.drain);
        }
        self.changed.notify_waiters();
    }

    /// Spreads the partitions differently.
    pub(crate) fn shake(&self) {
        {
            let mut state = self.state.lock();
            state.rotation += 1;
            state.rebalance(self.spread, self.drain);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn leave(&self, member: u64) {
        {
            let mut state = self.state.lock();
            state.free_all_of(member);
            state.members.retain(|known| known.id != member);
            state.rebalance(self.spread, self.drain);
        }
        self.changed.notify_waiters();
    }
}

/// A membership.
pub(crate) struct GroupClaims {
    coordinator: Arc<Coordinator>,
    member: u64,
}

impl GroupClaims {
    pub(crate) fn member(&self) -> u64 {
        self.member
    }

    async fn next_event(&self) -> ClaimEvent {
        let coordinator = &self.coordinator;
        loop {
            let mut changed = std::pin::pin!(coordinator.changed.notified());
            changed.as_mut().enable();
            let deadline = {
                let mut state = coordinator.state.lock();
                if state.take_overdue(Instant::now()) {
                    state.rebalance(coordinator.spread, coordinator.drain);
                    coordinator.changed.notify_waiters();
                }
                match state.hear(self.member) {
                    Heard::Event(event) => return event,
                    Heard::Nothing => {}
                    Heard::BackAgain => {
                        state.rebalance(coordinator.spread, coordinator.drain);
                        coordinator.changed.notify_waiters();
                    }
                }
                state.next_deadline()
            };
            match deadline {
                // Woken or overdue, everything is looked at again.
                Some(deadline) => drop(tokio::time::timeout_at(deadline, changed).await),
                None => changed.await,
            }
        }
    }
}

impl Claims for GroupClaims {
    fn next(&mut self) -> BoxFuture<'_, ClaimEvent> {
        Box::pin(self.next_event())
    }

    fn released(&mut self, partition: Partition) {
        {
            let mut state = self.coordinator.state.lock();
            let Some(owner) = state.owners.get_mut(partition.0 as usize) else { return };
            if !matches!(owner, Owner::Releasing(member, _) if *member == self.member) {
                return;
            }
            *owner = Owner::Nobody;
            state.rebalance(self.coordinator.spread, self.coordinator.drain);
        }
        self.coordinator.changed.notify_waiters();
    }
}

impl Drop for GroupClaims {
    fn drop(&mut self) {
        self.coordinator.leave(self.member);
    }
}

enum Heard {
    Event(ClaimEvent),
    Nothing,
    /// All that was lost meanwhile is known: it takes part again.
    BackAgain,
}

impl State {
    /// Moves partitions to whom they should belong; what is held elsewhere is asked for first.
    fn rebalance(&mut self, spread: Spread, drain: Duration) {
        let reachable = self.members.iter().filter(|member| member.isolated_until.is_none());
        let members: Vec<u64> = reachable.map(|member| member.id).collect();
        for index in 0..self.owners.len() {
            let target = match (spread, members.len()) {
                (_, 0) => None,
                (Spread::First, _) => Some(members[0]),
                (Spread::Even, count) => Some(members[(index + self.rotation) % count]),
            };
            let partition = Partition(u32::try_from(index).expect("partitions are counted in 32 bits"));
            match (self.owners[index], target) {
                (Owner::Nobody, Some(target)) => {
                    self.owners[index] = Owner::Held(target);
                    self.tell(target, ClaimEvent::Gained(partition));
                }
                (Owner::Held(owner), Some(target)) if owner != target => {
                    self.owners[index] = Owner::Releasing(owner, Instant::now() + drain);
                    self.tell(owner, ClaimEvent::Release { partition, within: drain });
                }
                _ => {}
            }
        }
    }

    fn take_overdue(&mut self, now: Instant) -> bool {
        let mut taken = false;
        for index in 0..self.owners.len() {
            if let Owner::Releasing(owner, deadline) = self.owners[index]
                && deadline <= now
            {
                let partition = Partition(u32::try_from(index).expect("partitions are counted in 32 bits"));
                self.owners[index] = Owner::Nobody;
                self.tell(owner, ClaimEvent::Lost(partition));
                taken = true;
            }
        }
        taken
    }

    fn hear(&mut self, member: u64) -> Heard {
        let Some(own) = self.members.iter_mut().find(|known| known.id == member) else {
            return Heard::Nothing;
        };
        match own.isolated_until {
            Some(until) if Instant::now() < until => return Heard::Nothing,
            Some(_) if own.events.is_empty() => {
                own.isolated_until = None;
                return Heard::BackAgain;
            }
            Some(_) | None => {}
        }
        own.events.pop_front().map_or(Heard::Nothing, Heard::Event)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let releases = self.owners.iter().filter_map(|owner| match owner {
            Owner::Releasing(_, deadline) => Some(*deadline),
            Owner::Nobody | Owner::Held(_) => None,
        });
        let isolated = self.members.iter().filter_map(|member| member.isolated_until);
        releases.chain(isolated).filter(|deadline| *deadline > Instant::now()).min()
    }

    /// Gives what it held.
    fn free_all_of(&mut self, member: u64) -> Vec<Partition> {
        let mut freed = Vec::new();
        for (owner, partition) in self.owners.iter_mut().zip(0..) {
            if matches!(owner, Owner::Held(id) | Owner::Releasing(id, _) if *id == member) {
                *owner = Owner::Nobody;
                freed.push(Partition(partition));
            }
        }
        freed
    }

    fn tell(&mut self, member: u64, event: ClaimEvent) {
        if let Some(member) = self.members.iter_mut().find(|known| known.id == member) {
            member.events.push_back(event);
        }
    }
}
