//! The subcommands, one file each.

pub(crate) mod demo;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod move_in;
pub(crate) mod routes;
pub(crate) mod serve;
pub(crate) mod token;
#[cfg(feature = "kafka")]
pub(crate) mod topics;
pub(crate) mod verify;
