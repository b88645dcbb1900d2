//! The tables as PostgreSQL reads them.

use crate::store::SCHEMA;

/// Rows of `deliveries` are written again when they are settled: some room on each page keeps the new one beside the
/// old one. Tables that only grow are looked after before a fifth of them is new.
const UPKEEP: &str = "
ALTER TABLE deliveries SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE attempts SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE messages SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
";

/// What makes all tables but that of the lease.
pub(super) fn text() -> String {
    format!("{};{UPKEEP}", translated(SCHEMA))
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
