//! A real Apache Kafka for tests: fetched once with Maven, run without containers.
//!
//! - [`Distribution`]: the program, in a directory that is kept between runs
//! - [`Cluster`]: one or more brokers that are also controllers, on ports of their own, with small heaps
//! - [`shared`]: one broker for all tests of a run; each test keeps to a prefix of its own
//! - [`background`]: a cluster that goes on after the program that started it
//!
//! A cluster's directory:
//!
//! ```text
//! broker-1/server.properties   what the broker is started with, written anew at each start
//! broker-1/log4j2.properties
//! broker-1/server.log          all that it prints, appended to at each start
//! broker-1/data/               its records
//! owner                        the process that uses the directory
//! ```

pub mod background;
mod broker;
mod cluster;
mod distribution;
mod probe;
mod properties;
mod security;
mod shared;

pub use broker::Broker;
pub use cluster::{Cluster, Settings};
pub use distribution::{Distribution, VERSION};
pub use security::Security;
pub use shared::{ADDRESS_VARIABLE, TOOLS_VARIABLE, shared, tools};
