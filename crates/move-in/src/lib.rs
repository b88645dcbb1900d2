//! Moving in: copies what is set up at a Svix-compatible server to a Fanfare server, over HTTP alone.
//!
//! [`run`] reads the source page by page, looks each thing up at the target, and writes what differs. What is to be
//! written is decided by pure functions ([`plan`]).
//!
//! Invariants: the source is only read. What is equal is not written, so a run that was cut off is simply started again,
//! and a second one writes nothing. Nothing is removed from the target. Memory does not grow with the number of things.
//! One thing that cannot be copied does not stop the others.

mod client;
mod compare;
mod connection;
mod error;
mod limits;
mod mover;
mod pages;
mod plan;
mod report;
mod server;

pub use client::Patience;
pub use error::Error;
pub use mover::{Options, run};
pub use report::{Counts, Ended, Item, Kind, NotCopied, Summary, Told};
pub use server::{BadToken, BadUrl, Server, Side, Token};
