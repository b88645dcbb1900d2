//! Reads of the history, over a log that the test itself writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;
mod told;

mod attempts;
mod dead_letters;
mod endpoints;
mod messages;
mod reconciliation;
mod trouble;
