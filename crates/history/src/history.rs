//! The handle that reads go through, and how history is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fanfare_core::{Clock, InstallationId, Partition};
use fanfare_log::Log;
use tokio::time::timeout;

use crate::{
    MessageRow, OpenError, Service, StoreError,
    changes::Source,
    service,
    shared::Shared,
    store::{self, Store},
};

/// A read waits for what was acknowledged before it, so long at most.
pub(crate) const PASSED: Duration = Duration::from_secs(2);

/// Where the tables are.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of this process.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database`; processes may share it.
    Postgres(String),
}

impl Place {
    pub(crate) fn is_beside_log(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl std::fmt::Debug for Place {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres"),
        }
    }
}

/// What history needs.
#[derive(Clone)]
pub struct Options {
    pub log: Arc<dyn Log>,
    pub clock: Arc<dyn Clock>,
    pub place: Place,
    /// Whose tables they are.
    pub installation: InstallationId,
    /// What is older leaves the tables.
    pub retention: Duration,
}

/// Whether a message's content is shown to nobody any more: that stands in no topic that is projected.
pub type Erased = Arc<dyn Fn(&MessageRow) -> bool + Send + Sync>;

/// Opens the tables, and makes them where there are none. A database that cannot be reached is no error here: it is
/// tried again by [`Service::start`], before which nothing is projected.
pub async fn open(options: Options) -> Result<(History, Service), OpenError> {
    let Options { log, clock, place, installation, retention } = options;
    let preparing = store::open(&place)?;
    match service::prepare(&*preparing, installation).await {
        Ok(()) => {}
        Err(OpenError::Store(StoreError::Unavailable(cause))) => {
            tracing::warn!("history: {cause}; it is tried again");
        }
        Err(error) => return Err(error),
    }
    // Whoever projects may lead now.
    preparing.close().await;
    let store = store::open(&place)?;
    let shared = Arc::new(Shared::new(log, store, clock, retention, place.is_beside_log()));
    let history = History { shared: Arc::clone(&shared), erased: Arc::new(|_| false) };
    Ok((history, Service { shared, place, installation }))
}

/// What a read has to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Publishes of the applications of this partition of `messages`.
    Messages(Partition),
    /// What was routed to the endpoints of this partition of `deliveries`, and what came of it.
    Endpoints(Partition),
    Everything,
}

/// Reads the tables. Cheap to clone.
#[derive(Clone)]
pub struct History {
    pub(crate) shared: Arc<Shared>,
    pub(crate) erased: Erased,
}

impl History {
    /// From here on nobody is given the payloads of messages that are `erased`, nor finds messages by them.
    #[must_use]
    pub fn hiding(self, erased: Erased) -> Self {
        Self { erased, ..self }
    }

    /// Waits until the tables hold what the log held when this was called, for 2 s at most; whether they do.
    /// Call it before a read.
    pub async fn passed(&self, reach: Reach) -> bool {
        let places = match reach {
            // That a message is an alias, or in conflict, its router says there.
            Reach::Messages(partition) => {
                let count = self.shared.log.partitions(Source::Deliveries.topic());
                vec![(Source::Messages, partition), (Source::Deliveries, Partition(partition.0 % count))]
            }
            Reach::Endpoints(partition) => {
                vec![(Source::Deliveries, partition), (Source::Attempts, partition)]
            }
            Reach::Everything => self.shared.places(),
        };
        timeout(PASSED, self.shared.catch_up(&places)).await.unwrap_or(false)
    }

    /// Records that the tables are behind the log, and how old what came last into them is, if they are.
    pub fn lag(&self) -> (u64, Duration) {
        self.shared.lag()
    }

    /// Ends reading.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.shared.store
    }
}
