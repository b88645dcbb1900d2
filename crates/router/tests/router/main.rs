//! The router on real and on simulated logs. What counts is what a delivery worker would take.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chaos;
mod embedded;
mod hindered;
mod oracle;
mod trouble;
mod world;
