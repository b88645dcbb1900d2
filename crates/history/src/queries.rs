//! Questions that the tables answer.

mod attempts;
mod condition;
mod dead_letters;
mod deliveries;
mod digest;
mod list;
mod messages;
mod reconcile;
mod rows;
mod stats;
mod usage;

pub use digest::TableDigest;
pub(crate) use digest::digest;
pub use messages::Payload;
pub use reconcile::{Missing, Reconciliation, Why};
pub use stats::{AttemptHour, Stats};
pub use usage::{Day, Usage};
