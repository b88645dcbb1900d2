//! Keys and event ids of messages between their publish and their routing.
//!
//! The router's table decides what is a repeat; but it learns of a message only when it routes it. Until then the
//! claim stands here. So a claim is looked for here first and in the router's table second: what leaves here
//! is there already. A publish that finds neither holds its place here while it looks, so that its twin waits.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fanfare_core::{
    ClaimEntry, Fingerprint, Identity, KnownClaims, MessageId, Offset, Partition, Timestamp, limits,
    planted::{Fault, planted},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::idempotency::key_window;

/// Without a router in the process nobody says when a claim is known elsewhere: so many of the newest stay.
const KEPT_WITHOUT_ROUTER: usize = 4_096;

/// The claims of all partitions.
pub(crate) struct Claims {
    partitions: Box<[Mutex<Table>]>,
    known: Option<Arc<dyn KnownClaims>>,
    /// Over all partitions.
    count: AtomicUsize,
}

#[derive(Default)]
struct Table {
    slots: HashMap<Fingerprint, Slot>,
    /// Durable claims in the order in which they became so.
    durable: VecDeque<(Offset, Fingerprint)>,
}

struct Slot {
    claimed: Claimed,
    state: State,
}

enum State {
    /// Not durable yet; its twins wait.
    Pending(Vec<oneshot::Sender<()>>),
    Durable(Offset),
}

/// The message that a claim stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) id: MessageId,
    pub(crate) accepted_at: Timestamp,
    body: Fingerprint,
    expires_at: Timestamp,
}

/// What a publish turned out to be.
pub(crate) enum Verdict {
    /// Nothing stands against it; its claims are held.
    New(Reservation),
    /// The same as this one.
    Repeat(Claimed),
    Conflict(Conflict),
}

/// What is known of a publish now.
pub(crate) enum Claiming {
    Decided(Verdict),
    /// A twin's append is not decided; ask again when this resolves.
    Undecided(oneshot::Receiver<()>),
}

/// Which claim stands for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The key was used for a message with another body.
    Key(MessageId),
    /// The event id was used for another message, or under another key.
    EventId(MessageId),
    /// Each stands for a message of its own.
    Both { key: MessageId, event_id: MessageId },
}

/// More claims wait for the router than the process may remember.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// The claims of one publish, held until its append is decided. Dropping it gives them up.
pub(crate) struct Reservation {
    claims: Arc<Claims>,
    partition: Partition,
    prints: Prints,
    durable_at: Option<Offset>,
}

type Prints = [Option<Fingerprint>; 2];

/// What the first look found.
enum Look {
    /// Its place is held now.
    Reserved,
    /// Somebody's append is not decided; ask again when this resolves.
    Undecided(oneshot::Receiver<()>),
    Found(FoundPair),
}

#[derive(Clone, Copy, Default)]
struct FoundPair {
    key: Option<Claimed>,
    event_id: Option<Claimed>,
}

impl Claims {
    pub(crate) fn new(partitions: u32, known: Option<Arc<dyn KnownClaims>>) -> Self {
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Self { partitions, known, count: AtomicUsize::new(0) }
    }

    pub(crate) fn known(&self) -> Option<&Arc<dyn KnownClaims>> {
        self.known.as_ref()
    }

    /// Decides what a publish is, and holds its claims if it is new. Waits for twins whose append is not decided.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        partition: Partition,
        identity: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Verdict, TooMany> {
        loop {
            match self.claim_now(partition, identity, id, now)? {
                Claiming::Decided(verdict) => return Ok(verdict),
                Claiming::Undecided(decided) => drop(decided.await),
            }
        }
    }

    /// The same without waiting: for those who hold claims while they ask for others.
    pub(crate) fn claim_now(
        self: &Arc<Self>,
        partition: Partition,
        identity: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Claiming, TooMany> {
        let (reservation, mut found) = match self.look(partition, identity, id, now)? {
            Look::Undecided(decided) => return Ok(Claiming::Undecided(decided)),
            Look::Found(found) => (None, found),
            Look::Reserved => {
                let prints = [identity.key, identity.event_id];
                let held = Reservation { claims: Arc::clone(self), partition, prints, durable_at: None };
                (Some(held), FoundPair::default())
            }
        };
        // The table may read a disk: not under the lock.
        found.key = found.key.or_else(|| self.ask(partition, identity.key, key_window(identity), now));
        found.event_id =
            found.event_id.or_else(|| self.ask(partition, identity.event_id, limits::DEDUP_WINDOW, now));
        Ok(Claiming::Decided(match (decide(identity, found), reservation) {
            (Some(verdict), _) => verdict,
            (None, Some(reservation)) => Verdict::New(reservation),
            (None, None) => unreachable!("whatever was found decides"),
        }))
    }

    fn ask(
        &self,
        partition: Partition,
        claim: Option<Fingerprint>,
        window: std::time::Duration,
        now: Timestamp,
    ) -> Option<Claimed> {
        let ClaimEntry { body, id, expires_at, .. } = self.known.as_ref()?.lookup(partition, claim?, now)?;
        Some(Claimed { id, accepted_at: expires_at - window, body, expires_at })
    }

    fn look(
        &self,
        partition: Partition,
        identity: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Look, TooMany> {
        let mut table = self.partitions[partition.0 as usize].lock();
        self.prune(partition, &mut table);
        let prints = [identity.key, identity.event_id];
        for print in prints.into_iter().flatten() {
            if let Some(Slot { state: State::Pending(twins), .. }) = table.slots.get_mut(&print) {
                let (decided, wait) = oneshot::channel();
                twins.push(decided);
                return Ok(Look::Undecided(wait));
            }
        }
        let live = |print: Option<Fingerprint>| {
            let slot = table.slots.get(&print?)?;
            (slot.claimed.expires_at > now).then_some(slot.claimed)
        };
        let found = FoundPair { key: live(identity.key), event_id: live(identity.event_id) };
        if found.key.is_some() || found.event_id.is_some() {
            return Ok(Look::Found(found));
        }
        let windows = [key_window(identity), limits::DEDUP_WINDOW];
        if self.count.load(Ordering::Relaxed) + prints.len() > limits::CLAIMS_IN_FLIGHT {
            return Err(TooMany);
        }
        for (print, window) in prints.into_iter().zip(windows) {
            let Some(print) = print else { continue };
            let claimed = Claimed { id, accepted_at: now, body: identity.body, expires_at: now + window };
            let slot = Slot { claimed, state: State::Pending(Vec::new()) };
            // A lapsed claim of the same name may stand there; its entry in `durable` then removes nothing.
            if table.slots.insert(print, slot).is_none() {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Look::Reserved)
    }

    /// Forgets what the router knows by now.
    fn prune(&self, partition: Partition, table: &mut Table) {
        let routed = self.known.as_ref().map(|known| known.routed(partition));
        while let Some(&(offset, print)) = table.durable.front() {
            let forget = match routed {
                Some(routed) => offset < routed || planted(Fault::ClaimReleasedAtAppend),
                None => table.durable.len() > KEPT_WITHOUT_ROUTER,
            };
            if !forget {
                return;
            }
            table.durable.pop_front();
            if let hash_map::Entry::Occupied(slot) = table.slots.entry(print)
                && matches!(slot.get().state, State::Durable(at) if at == offset)
            {
                slot.remove();
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// The rule for what was found; `None` when nothing was.
fn decide(identity: &Identity, found: FoundPair) -> Option<Verdict> {
    let conflict = match (found.key, found.event_id) {
        (None, None) => return None,
        (Some(key), Some(event_id)) if key.id != event_id.id => {
            Conflict::Both { key: key.id, event_id: event_id.id }
        }
        (Some(key), _) if key.body == identity.body => return Some(Verdict::Repeat(key)),
        (Some(key), _) => Conflict::Key(key.id),
        (None, Some(first)) if identity.key.is_none() && first.body == identity.body => {
            return Some(Verdict::Repeat(first));
        }
        (None, Some(first)) => Conflict::EventId(first.id),
    };
    Some(Verdict::Conflict(conflict))
}

impl Reservation {
    /// The message is durable at `offset`: its claims stand until the router knows it.
    pub(crate) fn durable(mut self, offset: Offset) {
        self.durable_at = Some(offset);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let table = &mut *self.claims.partitions[self.partition.0 as usize].lock();
        for print in self.prints.into_iter().flatten() {
            let hash_map::Entry::Occupied(mut slot) = table.slots.entry(print) else { continue };
            let waiting = if let Some(offset) = self.durable_at {
                table.durable.push_back((offset, print));
                std::mem::replace(&mut slot.get_mut().state, State::Durable(offset))
            } else {
                self.claims.count.fetch_sub(1, Ordering::Relaxed);
                slot.remove().state
            };
            let State::Pending(twins) = waiting else { unreachable!("only its reservation decides a claim") };
            for twin in twins {
                let _ = twin.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
