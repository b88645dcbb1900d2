//! What the end-to-end tests stand on: the real binary as a process, a small HTTP client, a recorder of what
//! is delivered. Everything is on loopback, in temporary directories, on ports that the system picks.
//!
//! No test sleeps for something to happen: it waits until it has, with a deadline ([`wait`]).

pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod installation;
pub(crate) mod judge;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod recorder;
pub(crate) mod server;
pub(crate) mod wait;

pub(crate) use client::{Answer, Client};
pub(crate) use engine::{Engine, on_every_engine};
pub(crate) use installation::Installation;
pub(crate) use recorder::{Receipt, Recorder, Reply};
pub(crate) use server::Server;
