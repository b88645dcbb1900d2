//! The official Rust SDK: one tour for its two newest majors.

mod check;
mod newest;
mod previous;

pub(crate) use newest::tour::tour as newest;
pub(crate) use previous::tour::tour as previous;

/// Of the server, and of one tour of it.
pub(crate) struct Visit {
    pub(crate) url: String,
    pub(crate) token: String,
    /// Begins all names of the tour.
    pub(crate) name: String,
}
