//! What tests and `cargo xtask` stand on beside Rust: a real Apache Kafka, fetched once and started at will, and a
//! real PostgreSQL of the machine's own packages.
//!
//! - [`files`]: whether something is still to be found on the disk
//! - [`kafka`]: clusters of one or more brokers that can be stopped, killed, frozen and started again
//! - [`postgres`]: servers of the same kind, with a database for each test
//! - [`process`]: processes that die with the one that started them, and such that are found again later
//!
//! Everything here blocks: from async code call it in `tokio::task::spawn_blocking`, or accept that a thread waits.
//! Nothing here is part of the product; only tests and `xtask` may depend on it (`cargo xtask layers`).

mod directory;
pub mod files;
pub mod kafka;
mod ports;
pub mod postgres;
pub mod process;
mod wait;
