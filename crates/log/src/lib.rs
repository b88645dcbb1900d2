//! The log: the only truth, and the only way in which processes talk.
//!
//! [`Log`]'s doc comment is the contract; `conformance` holds every engine to it.
//!
//! - [`embedded`]: one journal in a data directory, for one process
//! - `kafka` (cargo feature): Apache Kafka, for any number of processes
//! - [`sim`]: in memory, behaves and misbehaves like Kafka, for simulation and tests
//! - [`disk`]: the seam between it and the disk, and a disk that breaks on demand

mod by_time;
mod claims;
pub mod conformance;
mod contract;
pub mod disk;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod random;
pub mod sim;
mod wipe;

pub use by_time::first_after;
pub use contract::{
    AppendError, Batch, Bounds, BoxFuture, ClaimEvent, Claims, Group, Log, LogRecord, NewRecord, Pending,
    ReadError, Sync, Table, Topic,
};
pub use wipe::{WipeError, can_wipe, wipe_left};
