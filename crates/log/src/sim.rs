//! An engine in memory that behaves and misbehaves like Kafka: offsets with gaps, durability that comes later and in
//! no order between partitions, claims that come and go, appends whose outcome nobody knows. The same seed gives the same, on a paused
//! current-thread runtime.
//!
//! A [`SimCluster`] is what lasts; each process has its own [`SimLog`] on it, which can crash. There are no tasks:
//! everything follows from the time at which a record becomes durable, which is drawn when it is appended.

mod cluster;
mod partition;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition, limits};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use self::cluster::{Room, Shared};
pub use self::cluster::{SimCluster, SimOptions};
use crate::{
    claims::{Coordinator, GroupClaims},
    contract::{
        AppendError, Batch, Bounds, BoxFuture, ClaimEvent, Claims, Group, Log, NewRecord, Pending, ReadError,
        Sync, Table, Topic,
    },
};

/// Where a process takes part, so that its crash ends that.
type Memberships = Arc<Mutex<Vec<(Arc<Coordinator>, u64)>>>;

/// One process's handle on a [`SimCluster`].
pub struct SimLog {
    shared: Arc<Shared>,
    process: u64,
    memberships: Memberships,
}

impl SimLog {
    /// The process dies: of its records that are not durable yet, a random beginning per partition survives; its
    /// claims are free. Every later call on this handle gives `Closed`.
    pub fn crash(&self) {
        self.shared.state.lock().crash(self.process, Instant::now());
        for (coordinator, member) in self.memberships.lock().drain(..) {
            coordinator.leave(member);
        }
        self.shared.changed.notify_waiters();
    }

    /// The process loses its claims and hears so only after a while: until then it goes on as if they were its own.
    pub fn isolate(&self, hears_after: Duration) {
        for (coordinator, member) in &*self.memberships.lock() {
            coordinator.isolate(*member, hears_after);
        }
    }

    fn closed() -> String {
        "the process crashed".to_owned()
    }

    async fn append_records(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> Result<Pending, AppendError> {
        let size_bytes: usize = records.iter().map(NewRecord::size_bytes).sum();
        if size_bytes > limits::UNSYNCED_BYTES {
            return Err(AppendError::TooLarge { size_bytes, limit_bytes: limits::UNSYNCED_BYTES });
        }
        loop {
            let room = self.shared.state.lock().room_at(self.process, size_bytes, Instant::now());
            match room {
                Room::Now => break,
                Room::At(until) => sleep_until(until).await,
                Room::Never => return Err(AppendError::Closed(Self::closed())),
            }
        }
        let outcome =
            self.shared.state.lock().append(self.process, topic, partition, records, Instant::now());
        self.shared.changed.notify_waiters();
        let shared = self.shared.clone();
        let process = self.process;
        Ok(Box::pin(async move {
            sleep_until(outcome.at).await;
            if !shared.state.lock().is_alive(process) {
                return Err(AppendError::Closed(Self::closed()));
            }
            shared.changed.notify_waiters();
            outcome.result
        }))
    }

    async fn put_entries(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
        at: Option<Instant>,
    ) -> Result<(), AppendError> {
        let at = at.ok_or_else(|| AppendError::Closed(Self::closed()))?;
        // A crash between the two leaves a beginning, as on Kafka.
        let (first, rest_at) = self.shared.state.lock().cut_put(entries.len(), at);
        let mut entries = entries;
        let rest = entries.split_off(first);
        for (at, part) in [(at, entries), (rest_at, rest)] {
            sleep_until(at).await;
            if !self.shared.state.lock().put(self.process, table, partition, part) {
                return Err(AppendError::Closed(Self::closed()));
            }
        }
        Ok(())
    }
}

impl Log for SimLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.options.partitions(topic)
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        _sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        Box::pin(self.append_records(topic, partition, records))
    }

    fn has_room(&self, _topic: Topic) -> bool {
        true
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        let state = self.shared.state.lock();
        let result = if state.is_alive(self.process) {
            Ok(state.partition(topic, partition).bounds(Instant::now()))
        } else {
            Err(ReadError::Closed(Self::closed()))
        };
        Box::pin(std::future::ready(result))
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        let state = self.shared.state.lock();
        let result = if state.is_alive(self.process) {
            state.partition(topic, partition).fetch(from, max_bytes, Instant::now())
        } else {
            Err(ReadError::Closed(Self::closed()))
        };
        Box::pin(std::future::ready(result))
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                let next = {
                    let state = self.shared.state.lock();
                    if !state.is_alive(self.process) {
                        return Err(ReadError::Closed(Self::closed()));
                    }
                    let partition = state.partition(topic, partition);
                    if partition.is_readable(from, Instant::now()) {
                        return Ok(());
                    }
                    partition.next_durable(Instant::now())
                };
                match next {
                    // Durable or changed, it is looked at again.
                    Some(next) => drop(tokio::time::timeout_at(next, changed).await),
                    None => changed.await,
                }
            }
        })
    }

    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        let at = self.shared.state.lock().put_at(self.process, Instant::now());
        Box::pin(self.put_entries(table, partition, entries, at))
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        let entries = self.shared.state.lock().scan(table, partition);
        Box::pin(std::future::ready(Ok(entries)))
    }

    fn claim(&self, group: Group) -> Box<dyn Claims> {
        let coordinator = self.shared.coordinator(group);
        let claims = coordinator.join();
        self.memberships.lock().push((coordinator.clone(), claims.member()));
        Box::new(SimClaims { claims, memberships: self.memberships.clone() })
    }
}

/// A membership that a crash of its process ends.
struct SimClaims {
    claims: GroupClaims,
    memberships: Memberships,
}

impl Claims for SimClaims {
    fn next(&mut self) -> BoxFuture<'_, ClaimEvent> {
        self.claims.next()
    }

    fn released(&mut self, partition: Partition) {
        self.claims.released(partition);
    }
}

impl Drop for SimClaims {
    fn drop(&mut self) {
        let member = self.claims.member();
        self.memberships.lock().retain(|(_, known)| *known != member);
    }
}
