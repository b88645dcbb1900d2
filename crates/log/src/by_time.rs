//! Finding a place in a partition by time. Records know when they were written; the log does not.

use fanfare_core::{Offset, Partition, Timestamp};

use crate::{Log, LogRecord, ReadError, Topic};

/// The first record in `[from, to)` that was written after `cutoff`, or `to`. Times rise with offsets but for a little: so
/// does the answer. A record without a time is taken for a late one.
pub async fn first_after(
    log: &dyn Log,
    (topic, partition): (Topic, Partition),
    (from, to): (Offset, Offset),
    cutoff: Timestamp,
    written_at: impl Fn(&LogRecord) -> Option<Timestamp> + Send,
) -> Result<Offset, ReadError> {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = Offset(low.0 + (high.0 - low.0) / 2);
        let batch = match log.fetch(topic, partition, middle, 1).await {
            Ok(batch) => batch,
            Err(ReadError::Truncated { start, .. }) => {
                low = start.min(high);
                continue;
            }
            Err(error) => return Err(error),
        };
        let found = batch.records.first().and_then(|record| Some((record.offset, written_at(record)?)));
        match found {
            Some((offset, at)) if at <= cutoff => low = offset.next().min(high),
            _ => high = middle,
        }
    }
    Ok(low)
}
