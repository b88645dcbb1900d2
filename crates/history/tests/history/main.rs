//! History on a real embedded log: records go in, answers come out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod expiry;
mod faults;
mod lists;
mod shared;
mod tables;
mod world;
