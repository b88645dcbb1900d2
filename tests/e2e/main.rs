//! End to end: the real binary, real sockets, real files. `cargo xtask test` runs everything here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod bad_input;
mod batch;
mod command_line;
mod deliver_at;
mod endpoint_ends;
mod engines;
mod erase;
mod first_message;
mod from_topic;
mod full_disk;
mod history;
mod history_api;
mod image;
mod jobs;
mod keys;
mod kill;
mod move_in;
mod official;
mod on_kafka;
mod operational;
mod operator;
mod options;
mod resend;
mod scaling;
mod secrets_and_headers;
mod secure_kafka;
mod throttle;
mod told;
mod topics_on_kafka;
mod usage;
