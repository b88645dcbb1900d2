//! Integration tests of the crate, one binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod send;
