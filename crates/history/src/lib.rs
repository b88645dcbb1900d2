//! History: what `messages`, `deliveries` and `attempts` of the log say, as tables that can be queried.
//!
//! ```text
//! log ──▶ projector: reads all partitions, gathers a batch ──▶ fold: records to rows ──▶ store: one transaction
//!                                                                                          │
//! API ──▶ History: waits until what was acknowledged is here, reads rows, payloads from the log ◀┘
//! ```
//!
//! Invariants:
//! - The tables are a function of the log: dropped and made again they are the same.
//! - A batch and the positions behind it are one transaction: a kill repeats nothing and loses nothing.
//! - A delivery is folded behind its message, an attempt behind its delivery, as far as the log still has them.
//! - Nothing waits for history: it runs on a thread of its own, of lower priority, and never stops the process.

mod changes;
mod error;
mod expiry;
mod feed;
mod filter;
mod fold;
mod history;
mod hurry;
mod keys;
mod load;
mod meters;
mod page;
mod payloads;
mod projector;
mod queries;
mod rebuild;
mod retention;
mod rows;
mod service;
mod shared;
mod store;
mod unrouted;

pub use error::{OpenError, QueryError, StoreError};
pub use filter::{
    AttemptFilter, AttemptStatus, DeadLetterFilter, DeliveryFilter, MessageFilter, Pointer, StatusClass,
};
pub use history::{Erased, History, Options, Place, Reach, open};
pub use keys::{EndpointAt, MessageKey, delivery_id};
pub use page::{Page, Window};
pub use queries::{AttemptHour, Day, Missing, Payload, Reconciliation, Stats, TableDigest, Usage, Why};
pub use rebuild::{digest, rebuild};
pub use rows::{AttemptRow, DeliveryRow, MessageRow, Standing, Twin};
pub use service::Service;
