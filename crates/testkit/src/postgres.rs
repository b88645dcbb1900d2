//! A real PostgreSQL for tests: the one of the machine's packages, run beside whatever else runs there.
//!
//! - [`Server`]: a server with data and a port of its own, which can be stopped, killed, frozen and started again
//! - [`database`]: a fresh database on the one server that all tests of a process share
//!
//! PostgreSQL refuses to run as root, so where tests do, the server runs as `postgres` or as `nobody`. It takes a name
//! and a password, as a database in earnest does.
//!
//! A server's directory:
//!
//! ```text
//! server.log   all that it prints, appended to at each start
//! data/        its databases
//! owner        the process that uses the directory
//! ```

mod database;
mod installation;
mod server;

pub use database::{Database, database};
pub use server::{Server, Settings};
