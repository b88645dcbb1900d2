//! What is older than the log keeps leaves the tables: ranges of keys, a bounded step at a time.

use std::time::Duration;

use crate::{QueryError, fold::Fold, shared::Shared, store::Store};

/// How often is looked for what has become too old.
pub(crate) const EVERY: Duration = Duration::from_mins(1);

pub(crate) async fn run(_shared: &Shared, _store: &dyn Store, _fold: &mut Fold) -> Result<(), QueryError> {
    Ok(())
}
