//! Reads of the log.

use fanfare_core::{Offset, Partition, limits};
use fanfare_log::{Log, LogRecord, ReadError, Topic};

/// What one read gave.
pub(super) struct Run {
    pub(super) records: Vec<LogRecord>,
    /// Where the next one begins.
    pub(super) next: Offset,
}

/// The next records from `from` on, below `until`. What has left the log is passed over.
pub(super) async fn run_of(
    log: &dyn Log,
    (topic, partition): (Topic, Partition),
    from: Offset,
    until: Offset,
) -> Result<Run, ReadError> {
    let mut batch = match log.fetch(topic, partition, from, limits::CATCH_UP_RUN_BYTES).await {
        Err(ReadError::Truncated { start, .. }) => {
            tracing::warn!(topic = topic.as_str(), %partition, %from, to = %start,
                "records left the log before operational webhooks told of them");
            return Ok(Run { records: Vec::new(), next: start.min(until) });
        }
        batch => batch?,
    };
    batch.records.retain(|record| record.offset < until);
    // Offsets below the end that hold no record.
    let next = if batch.next > from { batch.next.min(until) } else { until };
    Ok(Run { records: batch.records, next })
}

/// The record there, unless it has left the log.
pub(super) async fn record_at(
    log: &dyn Log,
    (topic, partition): (Topic, Partition),
    offset: Offset,
) -> Result<Option<LogRecord>, ReadError> {
    match log.fetch(topic, partition, offset, 1).await {
        Ok(batch) => Ok(batch.records.into_iter().next().filter(|record| record.offset == offset)),
        Err(ReadError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
