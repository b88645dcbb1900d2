//! Finding a message by its id.

use std::{sync::Arc, time::Duration};

use fanfare_control::Application;
use fanfare_core::{Message, MessageId, Offset, Partition, Timestamp};
use fanfare_http::ApiError;
use fanfare_log::{BoxFuture, Log, LogRecord, ReadError, Topic, first_after};

/// A message as `messages` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub partition: Partition,
    pub offset: Offset,
    pub message: Message,
    /// Its payload was wiped.
    pub wiped: bool,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Found(Box<Found>),
    /// If there ever was one, it has left the log.
    Gone,
    /// There never was one.
    Unknown,
}

/// Whoever can find an application's message.
pub trait Messages: Send + Sync + 'static {
    fn find<'a>(
        &'a self,
        application: &'a Application,
        id: MessageId,
    ) -> BoxFuture<'a, Result<Lookup, ReadError>>;
}

/// Reads the log where a message that was accepted when its id was minted has to stand.
pub struct MessagesInLog(pub Arc<dyn Log>);

/// Between minting an id and its place in the log: in one process; and between processes with different clocks.
const APART: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(1)];
/// One read while searching.
const RUN_BYTES: usize = 1 << 20;

impl Messages for MessagesInLog {
    fn find<'a>(
        &'a self,
        application: &'a Application,
        id: MessageId,
    ) -> BoxFuture<'a, Result<Lookup, ReadError>> {
        Box::pin(async move {
            for apart in APART {
                match self.find_within(application, id, apart).await {
                    Ok(Lookup::Unknown) => {}
                    // Retention has just passed over it.
                    Err(ReadError::Truncated { .. }) => return Ok(Lookup::Gone),
                    found => return found,
                }
            }
            Ok(Lookup::Unknown)
        })
    }
}

impl MessagesInLog {
    async fn find_within(
        &self,
        application: &Application,
        id: MessageId,
        apart: Duration,
    ) -> Result<Lookup, ReadError> {
        let log = &*self.0;
        let partition = application.partition;
        let bounds = log.bounds(Topic::Messages, partition).await?;
        let minted_at = id.minted_at();
        let (earliest, latest) = (minted_at - apart, minted_at + apart);
        let place = (Topic::Messages, partition);
        let mut position = first_after(log, place, (bounds.start, bounds.end), earliest, accepted_at).await?;
        let begins_there = position == bounds.start && bounds.start > Offset::ZERO;
        while position < bounds.end {
            let batch = log.fetch(Topic::Messages, partition, position, RUN_BYTES).await?;
            for LogRecord { offset, head, payload } in batch.records {
                let Ok(message) = Message::decode(&head) else { continue };
                if message.id == id {
                    let is_its = message.application == application.id;
                    let wiped = payload.is_none();
                    let found = Found { partition, offset, message, wiped };
                    return Ok(if is_its { Lookup::Found(Box::new(found)) } else { Lookup::Unknown });
                }
                if message.accepted_at > latest {
                    return Ok(if begins_there { Lookup::Gone } else { Lookup::Unknown });
                }
            }
            if batch.next <= position {
                break;
            }
            position = batch.next;
        }
        Ok(if begins_there { Lookup::Gone } else { Lookup::Unknown })
    }
}

fn accepted_at(record: &LogRecord) -> Option<Timestamp> {
    Message::decode(&record.head).ok().map(|message| message.accepted_at)
}

/// The log does not answer, or holds what cannot be read.
pub(crate) fn unreadable(error: &ReadError) -> ApiError {
    if error.is_retryable() {
        tracing::debug!(%error, "log unavailable");
        return ApiError::unavailable(
            "log_unavailable",
            "the log cannot be reached now; send it again later",
        );
    }
    tracing::error!(%error, "messages cannot be read");
    ApiError::internal()
}
