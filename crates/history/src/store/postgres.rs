//! PostgreSQL: a database that processes may share.

use fanfare_log::BoxFuture;

use super::{Row, Statement, Store, StoreError, Value};

pub(crate) struct Postgres {}

impl Postgres {
    pub(crate) fn open(_url: &str) -> Result<Self, StoreError> {
        Err(StoreError::Refused("PostgreSQL is not supported by this build".to_owned()))
    }
}

impl Store for Postgres {
    fn has_tables(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn schema(&self) -> String {
        super::SCHEMA.to_owned()
    }

    fn rows<'a>(&'a self, _: &'a str, _: Vec<Value>) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn write(&self, _: Vec<Statement>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn lead(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
