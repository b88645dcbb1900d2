//! SQLite: a file beside the log.
