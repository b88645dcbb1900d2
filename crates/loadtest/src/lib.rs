//! Puts load on a Fanfare server and judges what comes out of it.
//!
//! - [`publisher`] sends self-describing messages ([`payload`]), as fast as they are answered or at a pace.
//! - [`receiver`] is the endpoints: it verifies every delivery and keeps, per endpoint, what arrived, in which
//!   order, how often and how late. It can also misbehave in every way that real endpoints do.
//! - [`judge`] compares both: what was lost, repeated, out of order, forged.
//! - [`roof`] is the yardstick: the same signed requests from a bare loop without a broker.
//! - [`case`] describes a run as data, [`run`] drives it against a server, [`bench`] puts runs and roofs side
//!   by side.
//! - [`trial`] holds the promises that are no speed: what a bad endpoint, a large backlog or too much load may
//!   cost.
//!
//! Invariants: the receiver judges order, repeats and forgery from payloads alone; losses are what the
//! publisher saw acknowledged and the receiver did not see. Nothing here shares code with the server except
//! the signatures of `fanfare_core`.

pub mod bench;
pub mod case;
pub mod client;
pub mod judge;
pub mod latency;
pub mod pacer;
pub mod payload;
pub mod process;
pub mod publisher;
pub mod receiver;
pub mod report;
pub mod roof;
pub mod run;
pub mod sequence;
pub mod trial;
