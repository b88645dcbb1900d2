//! The handle that reads go through, and how history is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fanfare_core::{ApplicationId, AttemptId, Clock, EndpointNumber, InstallationId, MessageId, Partition, Timestamp};
use fanfare_log::Log;

use crate::{
    AttemptFilter, AttemptHour, AttemptRow, DeadLetterFilter, DeliveryFilter, DeliveryRow, EndpointAt, MessageFilter,
    MessageRow, Missing, OpenError, Page, Payload, QueryError, Reconciliation, Stats, Window,
};

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of this process.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database`; processes may share it.
    Postgres(String),
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

/// Opens the tables, and makes them where there are none. Nothing is projected until [`Service::start`].
pub async fn open(options: Options) -> Result<(History, Service), OpenError> {
    todo!()
}

/// Projects the log into the tables, on a thread of its own.
pub struct Service {}

impl Service {
    /// Begins, until `stop`. The thread ends soon after; joining it is the caller's.
    pub fn start(self, stop: tokio_util::sync::CancellationToken) -> Result<std::thread::JoinHandle<()>, OpenError> {
        todo!()
    }
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
pub struct History {}

impl History {
    /// Waits until the tables hold what the log held when this was called, for 2 s at most; whether they do.
    /// Call it before a read.
    pub async fn passed(&self, reach: Reach) -> bool {
        todo!()
    }

    /// By its id, that of an alias of it, or its event id.
    pub async fn message(&self, application: ApplicationId, id_or_event_id: &str) -> Result<Option<MessageRow>, QueryError> {
        todo!()
    }

    /// From the log.
    pub async fn payload(&self, message: &MessageRow) -> Result<Payload, QueryError> {
        todo!()
    }

    /// In order of their ids.
    pub async fn messages(&self, application: ApplicationId, filter: &MessageFilter, window: &Window) -> Result<Page<MessageRow>, QueryError> {
        todo!()
    }

    /// Messages that found their idempotency key or event id to stand for another one: dead letters of nobody.
    pub async fn conflicts(&self, application: ApplicationId, filter: &MessageFilter, window: &Window) -> Result<Page<MessageRow>, QueryError> {
        todo!()
    }

    /// A message's deliveries, by endpoint. The iterator is a delivery's id.
    pub async fn deliveries_of_message(&self, message: &MessageRow, filter: &DeliveryFilter, window: &Window) -> Result<Page<DeliveryRow>, QueryError> {
        todo!()
    }

    /// An endpoint's deliveries in the order of its log. The iterator is a delivery's id.
    pub async fn deliveries_of_endpoint(&self, endpoint: EndpointAt, filter: &DeliveryFilter, window: &Window) -> Result<Page<DeliveryRow>, QueryError> {
        todo!()
    }

    /// The delivery of a message to an endpoint: of several, the one that counts.
    pub async fn delivery(&self, message: &MessageRow, endpoint: EndpointAt) -> Result<Option<DeliveryRow>, QueryError> {
        todo!()
    }

    pub async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRow>, QueryError> {
        todo!()
    }

    /// In order of their ids.
    pub async fn attempts_of_endpoint(&self, endpoint: EndpointAt, filter: &AttemptFilter, window: &Window) -> Result<Page<AttemptRow>, QueryError> {
        todo!()
    }

    /// In order of their ids.
    pub async fn attempts_of_message(&self, message: &MessageRow, filter: &AttemptFilter, window: &Window) -> Result<Page<AttemptRow>, QueryError> {
        todo!()
    }

    /// Dead letters of these endpoints, in the order in which they were settled.
    pub async fn dead_letters(&self, endpoints: &[EndpointAt], filter: &DeadLetterFilter, window: &Window) -> Result<Page<DeliveryRow>, QueryError> {
        todo!()
    }

    /// How the deliveries of messages accepted in `[since, until)` stand, to the minute.
    pub async fn stats(&self, endpoint: EndpointAt, since: Timestamp, until: Timestamp) -> Result<Stats, QueryError> {
        todo!()
    }

    /// Attempts by the hour in which they were made, hours without any left out.
    pub async fn attempt_stats(&self, endpoint: EndpointNumber, since: Timestamp, until: Timestamp) -> Result<Vec<AttemptHour>, QueryError> {
        todo!()
    }

    /// What became of everything that the log says was for this endpoint, of messages accepted in `[since, until)`.
    /// It looks at as much of the log as one request may; [`Reconciliation::next`] says where to go on (give it as
    /// `from`). Counts of the parts add up to those of the whole.
    pub async fn reconcile(&self, endpoint: EndpointAt, since: Timestamp, until: Timestamp, from: Option<&str>) -> Result<Reconciliation, QueryError> {
        todo!()
    }

    /// Records and seconds that the tables are behind the log.
    pub fn lag(&self) -> (u64, Duration) {
        todo!()
    }
}

#[allow(dead_code, reason = "named here for the signatures above")]
type Named = (MessageId, Missing);
