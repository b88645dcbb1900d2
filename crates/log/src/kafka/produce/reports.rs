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
    append::{Append, Failure, Outstanding},
    client::{self, Events, Link},
    limits,
    sizes::Sizes,
    stats::Counters,
};
use crate::contract::AppendError;

/// What librdkafka's line in the log is of that tells of an error after which a client does nothing more.
const FATAL: &str = "FATAL";

/// Hears what became of the records of one session.
pub(super) struct Reports {
    events: Events,
    sizes: Arc<Sizes>,
    /// What records are sent together at most.
    batch_bytes: usize,
    is_broken: AtomicBool,
    outstanding: Arc<Outstanding>,
    counters: Arc<Counters>,
}

impl Reports {
    pub(super) fn new(link: &Arc<Link>, sizes: &Arc<Sizes>, counters: &Arc<Counters>) -> Self {
        Self {
            events: Events { link: Arc::clone(link) },
            sizes: Arc::clone(sizes),
            batch_bytes: sizes.batch_bytes(),
            is_broken: AtomicBool::new(false),
            outstanding: Arc::default(),
            counters: Arc::clone(counters),
        }
    }

    /// Appends of this session that are under way.
    pub(super) fn outstanding(&self) -> &Arc<Outstanding> {
        &self.outstanding
    }

    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    pub(super) fn failure(&self, error: &KafkaError, topic: &str, size_bytes: usize) -> Failure {
        let link = &self.events.link;
        let cause = match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                self.sizes.doubt(topic);
                return Failure::TooLarge { topic: topic.to_owned(), size_bytes };
            }
            Some(Code::MessageTimedOut) => "not acknowledged in time".to_owned(),
            Some(code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                let cause = format!("{topic}: {}", client::words(code));
                // Only this record's report says so.
                link.note(code, &cause);
                cause
            }
            Some(code) => client::words(code),
            None => error.to_string(),
        };
        Failure::Other(AppendError::Unavailable(link.unavailable(&cause)))
    }

    /// Nothing more comes of this session: whoever waits for it is told.
    pub(super) fn break_off(&self, cause: &str) {
        self.is_broken.store(true, Ordering::Release);
        abandon(&self.outstanding, cause);
    }

    /// The session is of no more use. What is known of its records is told in a moment, and says more than that. But of
    /// those that it meant to send once more nothing ever is.
    pub(super) fn breaks(&self, cause: &str) {
        if self.is_broken.swap(true, Ordering::AcqRel) {
            return;
        }
        let (outstanding, reason) = (Arc::clone(&self.outstanding), cause.to_owned());
        let ending = std::thread::Builder::new().name("fanfare-kafka-break".to_owned()).spawn(move || {
            hear_last_reports();
            abandon(&outstanding, &reason);
        });
        if ending.is_err() {
            abandon(&self.outstanding, cause);
        }
    }
}

/// On a thread of ours, while librdkafka's own tell what they know.
#[allow(clippy::disallowed_methods, reason = "nothing tells that no report comes any more")]
pub(super) fn hear_last_reports() {
    std::thread::sleep(limits::LAST_REPORTS);
}

fn abandon(outstanding: &Outstanding, cause: &str) {
    let left: Vec<Arc<Append>> = outstanding.lock().values().cloned().collect();
    for append in left {
        append.abandon(AppendError::Unavailable(format!("the producer's session ended: {cause}")));
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // The error that is told too has the code of its cause, which may be anything.
        if facility == FATAL {
            self.breaks(line);
            // Another session takes its place: nobody has to act on it.
            tracing::warn!(target: "librdkafka", facility, line);
            return;
        }
        self.events.log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
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
                let nowhere = |_| AppendError::Unavailable(link.unavailable("a record has no offset"));
                offset.map_err(nowhere).map_err(Failure::from)
            }
            Err((error, message)) => {
                self.counters.append_failed();
                let size_bytes = message.key_len() + message.payload_len();
                Err(self.failure(error, message.topic(), size_bytes))
            }
        });
    }
}
