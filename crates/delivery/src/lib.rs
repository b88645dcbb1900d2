//! Delivery: brings messages to endpoints, in order per endpoint, at least once.
//!
//! A worker task owns a partition of `deliveries` with all its lanes (`partition`). It takes records from the log,
//! starts what the lanes allow (`flight`, [`send`]), appends what came of it (`facts`), and takes a partition over
//! from what the log holds (`recover`). Beside it the partition's jobs inject what is to be sent again (`jobs`), and
//! whoever wants to know is told what happens there (`operational`).
//!
//! Invariants: design.md §9, 1, 2, 4 and 5. Nothing is sent whose outcome could not be recorded; a table is never
//! ahead of the log; every loop, queue and cache has a bound in `fanfare_core::limits` or beside its use.

mod contents;
mod echo;
mod facts;
mod flight;
pub mod inspect;
mod jobs;
pub mod load;
mod meters;
mod operational;
mod partition;
mod recover;
pub mod send;
mod service;
mod slot;
mod steady;
mod turns;
mod window;

pub use recover::RecoverError;
pub use service::{Options, Service};
