//! Many processes on real Kafka: started, stopped, killed, frozen and replaced under load. See
//! docs/internals/ownership.md for what has to hold, and why.
//!
//! The form that every change has to pass takes a few minutes. Long forms:
//!
//! ```sh
//! FANFARE_ACTIONS=50 FANFARE_SEED=1 cargo test --test cluster chaos -- --nocapture
//! FANFARE_LONG=1 cargo test --test cluster rolling -- --nocapture     # asserts the seconds that are promised
//! FANFARE_ROUNDS=1000 cargo test --test cluster control -- --nocapture
//! cargo test --test cluster brokers -- --ignored --nocapture          # three brokers, killed in turn
//! cargo xtask sim --planted --on-kafka                                # guards taken out, each has to be noticed
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "the end-to-end tests use all of it")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(not(feature = "planted"))]
mod actions;
#[cfg(not(feature = "planted"))]
mod brokers;
#[cfg(not(feature = "planted"))]
mod chaos;
#[cfg(not(feature = "planted"))]
mod control;
#[cfg(feature = "planted")]
mod directed;
mod endpoints;
mod installation;
mod judge;
mod load;
#[cfg(feature = "planted")]
mod planted;
mod process;
#[cfg(not(feature = "planted"))]
mod rolling;
mod scene;
mod watch;

use std::env;

use tokio::sync::{Mutex, MutexGuard};

/// One test at a time: each loads the whole machine.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A number from the environment.
fn setting(variable: &str, otherwise: u64) -> u64 {
    let Ok(value) = env::var(variable) else { return otherwise };
    value.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}"))
}
