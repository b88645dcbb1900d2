//! Reads of the history, over a log that the test itself writes.

#[path = "../support/mod.rs"]
mod support;
mod told;

mod attempts;
mod dead_letters;
mod endpoints;
mod messages;
mod reconciliation;
mod trouble;
