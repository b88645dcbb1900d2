//! What is Kafka's own, on a real broker. Everything that all engines have in common is in `conformance`.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod topics;
