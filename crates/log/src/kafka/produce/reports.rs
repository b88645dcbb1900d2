//! What librdkafka tells of a session, on threads of its own: nothing here waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fanfare_core::Offset;
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::ProducerContext,
};

use super::super::{
    append::{Append, Outstanding},
    client::{self, Events, Link},
    stats::Counters,
};
use crate::contract::AppendError;

/// Hears what became of the records of one session.
pub(super) struct Reports {
    events: Events,
    record_bytes: usize,
    is_broken: AtomicBool,
    outstanding: Arc<Outstanding>,
    counters: Arc<Counters>,
}

impl Reports {
    pub(super) fn new(link: &Arc<Link>, record_bytes: usize, counters: &Arc<Counters>) -> Self {
        Self {
            events: Events { link: Arc::clone(link) },
            record_bytes,
            is_broken: AtomicBool::new(false),
            outstanding: Arc::default(),
            counters: Arc::clone(counters),
        }
    }

    /// Appends of this session that are under way.
    pub(super) fn outstanding(&self) -> &Arc<Outstanding> {
        &self.outstanding
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Nothing more comes of this session: whoever waits for it is told.
    pub(super) fn break_off(&self, cause: &str) {
        self.is_broken.store(true, Ordering::Release);
        let left: Vec<Arc<Append>> = self.outstanding.lock().values().cloned().collect();
        for append in left {
            append.abandon(AppendError::Unavailable(format!("the producer's session ended: {cause}")));
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.break_off(reason);
        }
        self.events.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Append>;

    fn delivery(&self, result: &DeliveryResult<'_>, append: Arc<Append>) {
        let link = &self.events.link;
        append.report(match result {
            Ok(message) => {
                link.is_up();
                // A repeat that the broker knew but no longer knows the place of has none.
                let offset = u64::try_from(message.offset()).map(Offset);
                offset.map_err(|_| AppendError::Unavailable(link.unavailable("a record has no offset")))
            }
            Err((error, message)) => {
                self.counters.append_failed();
                Err(append_error(error, link, message.payload_len(), self.record_bytes))
            }
        });
    }
}

pub(super) fn append_error(
    error: &KafkaError,
    link: &Link,
    size_bytes: usize,
    limit_bytes: usize,
) -> AppendError {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            AppendError::TooLarge { size_bytes, limit_bytes }
        }
        Some(Code::MessageTimedOut) => AppendError::Unavailable(link.unavailable("not acknowledged in time")),
        Some(code) => AppendError::Unavailable(link.unavailable(&client::words(code))),
        None => AppendError::Unavailable(link.unavailable(&error.to_string())),
    }
}
