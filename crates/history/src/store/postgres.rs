//! PostgreSQL: a database that processes may share.
