//! End to end: the real binary, real sockets, real files. `cargo xtask test` runs everything here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod command_line;
mod engines;
mod first_message;
mod full_disk;
mod image;
mod kafka_topics;
mod keys;
mod kill;
mod official;
mod on_kafka;
mod operator;
mod options;
mod secure_kafka;
