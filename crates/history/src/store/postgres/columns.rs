//! Values on their way to PostgreSQL and back.

use bytes::Bytes;
use sqlx::{
    AssertSqlSafe, Column as _, Postgres, Row as _, TypeInfo as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{StoreError, told};
use crate::store::{Kind, Row, Target, Value};

/// PostgreSQL takes no NUL within a text, and an ordering key may have one. This stands before what replaces it; it is
/// no character, and where it comes all the same it is replaced too.
const MARK: char = '\u{10ffff}';
const MARKED_NUL: &str = "\u{10ffff}0";
const MARKED_MARK: &str = "\u{10ffff}1";

type Asked = Query<'static, Postgres, PgArguments>;

/// One column of many rows. An array for each makes one statement of any number of rows.
enum Column {
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Int => Self::Ints(Vec::with_capacity(rows)),
            Kind::Text => Self::Texts(Vec::with_capacity(rows)),
            Kind::Bytes => Self::Bytes(Vec::with_capacity(rows)),
        }
    }

    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Ints(column), Value::Int(value)) => column.push(Some(value)),
            (Self::Ints(column), Value::Null(_)) => column.push(None),
            (Self::Texts(column), Value::Text(value)) => column.push(Some(kept(value))),
            (Self::Texts(column), Value::Null(_)) => column.push(None),
            (Self::Bytes(column), Value::Bytes(value)) => column.push(Some(value.into())),
            (Self::Bytes(column), Value::Null(_)) => column.push(None),
            (_, value) => unreachable!("{value:?} in a column of another kind"),
        }
    }

    fn bind(self, query: Asked) -> Asked {
        match self {
            Self::Ints(column) => query.bind(column),
            Self::Texts(column) => query.bind(column),
            Self::Bytes(column) => query.bind(column),
        }
    }
}

/// A statement that inserts all of these rows.
pub(super) fn insert(into: &Target, values: Vec<Value>) -> Asked {
    let width = into.columns.len();
    let rows = values.len() / width;
    debug_assert_eq!(rows * width, values.len(), "whole rows");
    let mut columns: Vec<Column> = into.columns.iter().map(|(_, kind)| Column::new(*kind, rows)).collect();
    for (place, value) in values.into_iter().enumerate() {
        columns[place % width].push(value);
    }
    let query = sqlx::query(AssertSqlSafe(insertion(into)));
    columns.into_iter().fold(query, |query, column| column.bind(query))
}

fn insertion(into: &Target) -> String {
    let names: Vec<&str> = into.columns.iter().map(|(name, _)| *name).collect();
    let arrays = into.columns.iter().enumerate().map(|(place, (_, kind))| {
        let kind = match kind {
            Kind::Int => "BIGINT",
            Kind::Text => "TEXT",
            Kind::Bytes => "BYTEA",
        };
        format!("${}::{kind}[]", place + 1)
    });
    let arrays: Vec<String> = arrays.collect();
    let Target { table, on_conflict, .. } = into;
    let (names, arrays) = (names.join(", "), arrays.join(", "));
    format!("INSERT INTO {table} ({names}) SELECT * FROM UNNEST({arrays}) {on_conflict}")
}

/// Gives a statement its values.
pub(super) fn bind(query: Asked, values: Vec<Value>) -> Asked {
    values.into_iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(kept(value)),
        Value::Bytes(value) => query.bind(Vec::from(value)),
        Value::Null(Kind::Int) => query.bind(None::<i64>),
        Value::Null(Kind::Text) => query.bind(None::<String>),
        Value::Null(Kind::Bytes) => query.bind(None::<Vec<u8>>),
    })
}

pub(super) fn row(row: &PgRow) -> Result<Row, StoreError> {
    (0..row.len()).map(|place| value(row, place)).collect::<Result<_, _>>().map(Row)
}

fn value(row: &PgRow, place: usize) -> Result<Value, StoreError> {
    let kind = row.column(place).type_info().name();
    let value = match kind {
        "INT8" => row.try_get::<Option<i64>, _>(place).map(int),
        "INT4" => row.try_get::<Option<i32>, _>(place).map(int),
        "INT2" => row.try_get::<Option<i16>, _>(place).map(int),
        "BOOL" => row.try_get::<Option<bool>, _>(place).map(int),
        "TEXT" | "VARCHAR" => {
            let text = row.try_get::<Option<String>, _>(place);
            text.map(|text| text.map_or(Value::Null(Kind::Text), |text| Value::Text(given(text))))
        }
        "BYTEA" => {
            let bytes = row.try_get::<Option<Vec<u8>>, _>(place);
            bytes
                .map(|bytes| bytes.map_or(Value::Null(Kind::Bytes), |bytes| Value::Bytes(Bytes::from(bytes))))
        }
        other => return Err(StoreError::Refused(format!("a column of type {other} was asked for"))),
    };
    value.map_err(told)
}

fn int(value: Option<impl Into<i64>>) -> Value {
    value.map_or(Value::Null(Kind::Int), |value| Value::Int(value.into()))
}

/// A text as it is kept.
fn kept(text: String) -> String {
    if !text.contains(['\0', MARK]) {
        return text;
    }
    text.replace(MARK, MARKED_MARK).replace('\0', MARKED_NUL)
}

/// A text as it was given.
fn given(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    text.replace(MARKED_NUL, "\0").replace(MARKED_MARK, "\u{10ffff}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_kept_and_comes_back() {
        let texts = [
            "",
            "plain",
            "\0",
            "a\0b\0",
            "\u{10ffff}",
            "\u{10ffff}0",
            "\u{10ffff}1\0",
            "\0\u{10ffff}\u{10ffff}",
        ];
        for text in texts {
            assert!(!kept(text.to_owned()).contains('\0'));
            assert_eq!(given(kept(text.to_owned())), text);
        }
    }

    #[test]
    fn rows_go_in_by_columns() {
        let target = Target {
            table: "t",
            columns: &[("a", Kind::Int), ("b", Kind::Text)],
            on_conflict: "ON CONFLICT (a) DO NOTHING",
        };
        assert_eq!(
            insertion(&target),
            "INSERT INTO t (a, b) SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[]) ON CONFLICT (a) DO NOTHING"
        );
    }
}
