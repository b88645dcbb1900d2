//! Where a test keeps its tables: every test is on each database.

use std::path::Path;

use fanfare_history::Place;
use fanfare_testkit::postgres::{Database, database};
use sqlx::ConnectOptions as _;
use tokio::task::spawn_blocking;

pub(crate) enum Tables {
    /// In the directory of the log.
    Sqlite,
    /// Of its own.
    Postgres(Database),
}

impl Tables {
    pub(crate) async fn postgres() -> Self {
        Self::Postgres(spawn_blocking(database).await.unwrap())
    }

    pub(crate) fn place(&self, directory: &Path) -> Place {
        match self {
            Self::Sqlite => Place::Sqlite(directory.join("history.sqlite")),
            Self::Postgres(database) => Place::Postgres(database.url()),
        }
    }

    /// What nobody but a test would do.
    pub(crate) async fn run(&self, directory: &Path, statement: &'static str) {
        match self {
            Self::Sqlite => {
                let options = sqlx::sqlite::SqliteConnectOptions::new();
                let mut connection =
                    options.filename(directory.join("history.sqlite")).connect().await.unwrap();
                sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
            }
            Self::Postgres(database) => {
                database.run(statement);
            }
        }
    }
}

/// Instantiates test functions, each of which takes its tables, once for every database, in modules called as they are.
macro_rules! on_every_database {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    Box::pin(super::$test(crate::tables::Tables::Sqlite)).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    Box::pin(super::$test(crate::tables::Tables::postgres().await)).await;
                }
            )+
        }
    };
}

pub(crate) use on_every_database;
