//! Databases of one test each, on a server that all tests of a process share.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use super::{
    Server, Settings,
    server::{self, MAINTENANCE},
};

/// An empty database, dropped with this value, whoever is still connected.
pub struct Database {
    server: &'static Server,
    name: String,
}

/// A fresh database on the server of this process, which is started at the first call and ends with the process.
/// Panics, and so fails the test, if there is none to be had.
///
/// Who stops, kills or freezes the server starts a [`Server`] instead.
pub fn database() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = shared();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server
        .run(MAINTENANCE, &format!("CREATE DATABASE {name}"))
        .unwrap_or_else(|error| panic!("no database for the test: {error:#}"));
    Database { server, name }
}

fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&Settings::default()).unwrap_or_else(|error| panic!("{error:#}")))
}

impl Database {
    /// Where a client finds it, with name and password.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Runs one statement as superuser and gives what it answers, a row a line. Panics where it fails.
    pub fn run(&self, statement: &str) -> String {
        self.server.run(&self.name, statement).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        if let Err(error) = server::run(self.server.installation(), &self.server.url(MAINTENANCE), &drop) {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_has_an_empty_database_that_goes_with_it() {
        let (one, other) = (database(), database());
        one.run("CREATE TABLE t ()");
        assert_eq!(other.run("SELECT count(*) FROM pg_class WHERE relname = 't'"), "0");
        let (server, name) = (one.server, one.name.clone());
        drop(one);
        let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        assert_eq!(server.run(MAINTENANCE, &left).unwrap(), "0");
    }
}
