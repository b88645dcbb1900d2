//! The control plane from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod embedded;
mod memory;
