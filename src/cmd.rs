//! The subcommands, one file each.

pub(crate) mod demo;
pub(crate) mod inspect;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod verify;
