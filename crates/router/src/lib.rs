//! Routing: each message once to the delivery partitions of the endpoints that want it.
//!
//! ```text
//! messages ──▶ read a batch ──▶ apply `control` to its end ──▶ repeats? ──▶ who wants it? ──▶ deliveries
//!                                                                 │
//!                          checkpoint: position and claims ◀──────┴── once the appends are durable
//! ```
//!
//! Invariants, argued in docs/internals/routing.md:
//! - A message's delivery records, repeats of a restarted router included, form one chain per delivery partition:
//!   a worker sees each gap and each repeat.
//! - A checkpoint never covers a message whose appends are not durable, and holds the claims of all it covers.
//! - Whether a message is a repeat is a function of the log alone, and only a *lower* offset makes it one.
//! - An endpoint whose creation was answered before a message was sent is matched against it.

mod bulk;
mod chain;
pub mod dedup;
mod error;
mod handle;
mod held;
mod maintenance;
mod meters;
mod partition;
mod progress;
mod recover;
mod route;
mod service;
mod verdict;

pub use bulk::load_claims;
pub use error::{Error, SessionError};
pub use handle::Handle;
pub use service::{Options, Service};

use service::Router;
