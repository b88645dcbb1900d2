//! The tables as PostgreSQL reads them.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{StoreError, lease, told};
use crate::store::SCHEMA;

/// Whoever makes the tables holds this number for so long: two processes may start at once.
const MAKING: i64 = 0x66_61_6e_66_61_72_65;
/// Rows of `deliveries` are written again when they are settled: some room on each page keeps the new one beside the
/// old one. Tables that only grow are looked after before a fifth of them is new.
const UPKEEP: &str = "
ALTER TABLE deliveries SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE attempts SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE messages SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
";

/// Makes the tables that are missing, all in one transaction.
pub(super) async fn make(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(told)?;
    if encoding != "UTF8" {
        return Err(StoreError::Refused(format!("its encoding is to be UTF8, and it is {encoding}")));
    }
    let mut transaction = connection.begin().await.map_err(told)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(MAKING)
        .execute(&mut *transaction)
        .await
        .map_err(told)?;
    sqlx::raw_sql(lease::TABLE).execute(&mut *transaction).await.map_err(told)?;
    let is_made = sqlx::query_scalar("SELECT to_regclass('about') IS NOT NULL");
    if !is_made.fetch_one(&mut *transaction).await.map_err(told)? {
        let text = format!("{};{UPKEEP}", translated(SCHEMA));
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await.map_err(told)?;
    }
    transaction.commit().await.map_err(told)
}

/// What SQLite reads, for PostgreSQL. Texts are compared byte by byte, whatever the language of the database.
fn translated(schema: &str) -> String {
    let lines = schema.lines().map(|line| {
        let line = line.split("--").next().unwrap_or_default();
        line.replace(" INTEGER", " BIGINT")
            .replace(" BLOB", " BYTEA")
            .replace(" TEXT", " TEXT COLLATE \"C\"")
            .replace(" WITHOUT ROWID", "")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_postgres() {
        let schema = "CREATE TABLE t (\n a INTEGER NOT NULL PRIMARY KEY, -- TEXT; it is\n b TEXT,\n c BLOB\n) WITHOUT ROWID;";
        let expected =
            "CREATE TABLE t (\n a BIGINT NOT NULL PRIMARY KEY, \n b TEXT COLLATE \"C\",\n c BYTEA\n);";
        assert_eq!(translated(schema), expected);
    }
}
