//! The way in: a publish becomes a durable message, once, or is refused.
//!
//! [`Ingest::accept`] is the whole way of a message: its turn, its claims, one append. `http` is a thin layer
//! above it, and `batch` one for many at once; `publish` knows the body's form. [`Ingest::accept_in_order`] takes many, one append for a run of them;
//! `from_topic` is above that: records of a topic on Kafka.
//!
//! Invariants: an id is given out only when its message is durable; the payload's bytes are those of the
//! request; a key or event id whose message is not routed yet is found in `claims`, one that is, in the
//! router's table, and there is no moment between. Memory is bounded: bodies by [`fanfare_http::Memory`], turns
//! and claims by `fanfare_core::limits`.

mod accept;
mod batch;
mod claims;
mod example;
#[cfg(feature = "kafka")]
pub mod from_topic;
mod http;
mod idempotency;
mod in_order;
mod metrics;
mod publish;
mod rate;
mod trace;

pub use accept::{AcceptError, Accepted, Ingest, Options, Publish};
pub use http::{State, routes};
pub use in_order::Append;
pub use publish::MessageIn;
pub use rate::Rates;
