//! What comes at the tail: each delivery record is decided once, and shown to the lanes it names.
//!
//! A record that this program does not understand, because a newer one wrote it, is never passed over: what stands
//! before it goes on, what stands behind it waits for a program that does.

use std::{collections::hash_map::Entry, sync::Arc, time::Duration};

use fanfare_core::{Delivery, EndpointNumber, Intake, Offset, Partition, Settlement, Trigger};
use fanfare_log::{Batch, BoxFuture, Log, ReadError, Topic};

use super::Worker;
use crate::{recover, send::Transport, slot::Slot};

/// Tail records of one read.
const TAIL_BYTES: usize = 256 << 10;
/// Between two tries to read the tail.
const TAIL_RETRY: Duration = Duration::from_secs(1);

/// Why records at the tail were not taken.
#[derive(Debug)]
pub(super) enum Untaken {
    /// The one at the tail.
    Unknown(String),
    Other(String),
}

impl From<ReadError> for Untaken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(_) => Self::Unknown(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl<T: Transport> Worker<T> {
    /// New delivery records, in order.
    pub(super) async fn take(&mut self, batch: Batch) -> Result<(), Untaken> {
        let mut touched = Vec::new();
        let taken = self.take_records(batch, &mut touched).await;
        for number in touched {
            self.advance(number);
        }
        taken
    }

    /// Each is decided once and shown to the lanes it names.
    async fn take_records(&mut self, batch: Batch, touched: &mut Vec<EndpointNumber>) -> Result<(), Untaken> {
        for record in batch.records {
            let delivery = match Delivery::decode(&record.head) {
                Ok(delivery) => Arc::new(delivery),
                Err(error) => return Err(Untaken::Unknown(error.to_string())),
            };
            self.tail = record.offset.next();
            match self.rule.decide(record.offset, &delivery) {
                Intake::Take => {}
                Intake::TakeAfterLoss => {
                    self.shared.meters.losses.add(1);
                    tracing::error!(partition = %self.partition, offset = %record.offset,
                        "delivery records before this one were lost in storage");
                }
                Intake::Repeat => {
                    self.shared.meters.repeats.add(1);
                    continue;
                }
                Intake::Gap => {
                    self.shared.meters.gaps.add(1);
                    continue;
                }
            }
            // An endpoint unknown where its writer stood is deleted, not new.
            if delivery.control() > self.shared.options.control.position() {
                let applied = self.shared.options.control.applied(delivery.control()).await;
                applied.map_err(|error| Untaken::Other(error.to_string()))?;
            }
            if matches!(*delivery, Delivery::Conflict { .. }) {
                self.shared.meters.settled(Settlement::IdempotencyConflict, 1);
            }
            self.window.insert(record.offset, Arc::clone(&delivery));
            for &number in delivery.endpoints() {
                if self.show(number, record.offset, delivery.trigger()) {
                    touched.push(number);
                }
            }
        }
        self.tail = self.tail.max(batch.next);
        Ok(())
    }

    /// Shows a live record to a lane; true if the lane took it.
    fn show(&mut self, number: EndpointNumber, offset: Offset, trigger: Trigger) -> bool {
        let Some(slot) = self.find_slot(number, offset) else {
            self.settle_fact(number, offset, Settlement::Cancelled);
            return false;
        };
        slot.dirty = true;
        slot.arrived = slot.arrived.saturating_add(1);
        if slot.behind {
            // Records it knows from before a restart are seen again by the tail.
            slot.above += u64::from(offset >= slot.lane.next());
        } else if slot.lane.has_room() {
            slot.lane.push(offset, trigger);
            return true;
        } else {
            slot.lane.pass(offset);
            slot.behind = true;
            slot.above = 1;
            let next = slot.lane.next();
            self.behind.insert((next, number));
        }
        false
    }

    /// An endpoint's slot, or a new one that looks at records from `next` on; `None` if there is no such endpoint.
    /// Its lane is in line with the endpoint: a change that was answered before a message was sent holds for it.
    pub(super) fn find_slot(&mut self, number: EndpointNumber, next: Offset) -> Option<&mut Slot> {
        let control = &self.shared.options.control;
        match self.slots.entry(number) {
            Entry::Occupied(slot) => {
                let slot = slot.into_mut();
                slot.follow(number, control, &self.steady);
                Some(slot)
            }
            Entry::Vacant(place) => {
                let mut slot = recover::new_slot(control, number, next, self.steady.now())?;
                // The owner before this one may have sent to it a moment before.
                slot.lane.throttle_from(self.since);
                Some(place.insert(slot))
            }
        }
    }

    /// Nothing more comes from the tail.
    pub(super) fn stand(&self, error: &str) -> BoxFuture<'static, Result<Batch, ReadError>> {
        tracing::error!(partition = %self.partition, offset = %self.tail, error,
            "deliveries from here on are not understood, and wait");
        Box::pin(std::future::pending())
    }

    /// Lanes that come to this record stay there.
    pub(super) fn stand_at(&mut self, offset: Offset, error: &str) {
        if self.unknown.insert(offset) {
            tracing::error!(partition = %self.partition, %offset, error,
                "a delivery is not understood; lanes wait before it");
        }
    }
}

/// Waits for records at the tail and reads them.
pub(super) fn read_tail(
    log: Arc<dyn Log>,
    partition: Partition,
    from: Offset,
) -> BoxFuture<'static, Result<Batch, ReadError>> {
    Box::pin(async move {
        loop {
            let read = async {
                log.wait(Topic::Deliveries, partition, from).await?;
                log.fetch(Topic::Deliveries, partition, from, TAIL_BYTES).await
            };
            match read.await {
                Ok(batch) if batch.next > from => return Ok(batch),
                Ok(_) => {}
                // What was read before goes out meanwhile.
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%partition, %error, "deliveries cannot be read now; trying on");
                    tokio::time::sleep(TAIL_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    })
}
