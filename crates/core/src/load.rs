//! Load figures of a delivery partition: what its worker says of it every second (table `load`).

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Offset, Timestamp,
    codec::{Malformed, Reader, Writer},
    lane::HeldBy,
};

const VERSION: u8 = 1;
const KIND_PARTITION: u8 = 1;

/// So many a second, in thousandths: small rates count, and equal rates are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

impl Rate {
    pub fn of(count: u64, time: Duration) -> Self {
        let micros = time.as_micros().max(1);
        Self(u64::try_from(u128::from(count) * 1_000_000_000 / micros).unwrap_or(u64::MAX))
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate of 2^53 thousandths does not occur")]
    pub fn per_sec(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

/// What keeps a worker from delivering more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Deliveries in flight: the endpoints' time to answer is what counts.
    Room,
    /// The processor.
    Processor,
}

impl Limit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Processor => "processor",
        }
    }
}

/// What a partition could deliver if there were enough to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub rate: Rate,
    pub limit: Limit,
}

/// The newest figures of one delivery partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLoad {
    pub at: Timestamp,
    /// Names the worker's process: so many different ones, so many workers live.
    pub owner: u128,
    /// Offset of the claim under which the worker holds the partition.
    pub epoch: Offset,
    /// Partitions that the process holds.
    pub partitions_held: u32,
    /// Delivery records below were looked at.
    pub tail: Offset,
    /// Deliveries that came for endpoints which can take them.
    pub arrival: Rate,
    pub delivered: Rate,
    /// `None` while nothing was delivered yet.
    pub capacity: Option<Capacity>,
    pub in_flight: u64,
    /// Due, and their endpoints can take them.
    pub workable: u64,
    /// Not settled, by what holds them; of each kind at most one.
    pub held: Vec<(HeldBy, u64)>,
    pub oldest_workable: Duration,
    /// When something that is held may be due.
    pub next_due: Option<Timestamp>,
}

impl PartitionLoad {
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::record(VERSION, KIND_PARTITION);
        w.timestamp(self.at);
        w.fixed(&self.owner.to_be_bytes());
        w.offset(self.epoch);
        w.uint(u64::from(self.partitions_held));
        w.offset(self.tail);
        w.uint(self.arrival.0);
        w.uint(self.delivered.0);
        w.option(self.capacity, |w, capacity| {
            w.uint(capacity.rate.0);
            w.u8(match capacity.limit {
                Limit::Room => 1,
                Limit::Processor => 2,
            });
        });
        w.uint(self.in_flight);
        w.uint(self.workable);
        w.list(&self.held, |w, &(by, count)| {
            w.u8(code(by));
            w.uint(count);
        });
        w.uint(u64::try_from(self.oldest_workable.as_micros()).unwrap_or(u64::MAX));
        w.option(self.next_due, Writer::timestamp);
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION)?;
        if kind != KIND_PARTITION {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        Ok(Self {
            at: r.timestamp("at")?,
            owner: u128::from_be_bytes(r.fixed("owner")?),
            epoch: r.offset("epoch")?,
            partitions_held: r.uint32("partitions_held")?,
            tail: r.offset("tail")?,
            arrival: Rate(r.uint("arrival")?),
            delivered: Rate(r.uint("delivered")?),
            capacity: r.option("capacity", |r| {
                Ok(Capacity { rate: Rate(r.uint("capacity")?), limit: read_limit(r)? })
            })?,
            in_flight: r.uint("in_flight")?,
            workable: r.uint("workable")?,
            held: r.list("held", |r| Ok((read_held_by(r)?, r.uint("held")?)))?,
            oldest_workable: Duration::from_micros(r.uint("oldest_workable")?),
            next_due: r.option("next_due", |r| r.timestamp("next_due"))?,
        })
    }
}

fn read_limit(r: &mut Reader<'_>) -> Result<Limit, Malformed> {
    match r.u8("limit")? {
        1 => Ok(Limit::Room),
        2 => Ok(Limit::Processor),
        other => Err(Malformed::Value { field: "limit", value: u64::from(other) }),
    }
}

const fn code(by: HeldBy) -> u8 {
    match by {
        HeldBy::Paused => 1,
        HeldBy::Circuit => 2,
        HeldBy::Ordering => 3,
        HeldBy::Retry => 4,
        HeldBy::Window => 5,
        HeldBy::Throttle => 6,
    }
}

fn read_held_by(r: &mut Reader<'_>) -> Result<HeldBy, Malformed> {
    let found = r.u8("held_by")?;
    let known = HeldBy::ALL.into_iter().find(|&by| code(by) == found);
    known.ok_or(Malformed::Value { field: "held_by", value: u64::from(found) })
}
