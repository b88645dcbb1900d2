//! The first contact with a cluster: somebody answers, or why not.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    producer::{BaseProducer, DeliveryResult, Producer, ProducerContext},
};

use super::Error;

/// How long the library is asked before what it met meanwhile is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Where no address leads to a broker, so many looks are enough: some tries of each.
const LOOKS_IF_ALL_FAIL: u128 = 20;

/// Waits until a broker answers; otherwise says what was met last. A client for administration does not tell that:
/// its errors come to a queue that nobody reads.
pub(super) fn reach(config: &ClientConfig, brokers: &str, limit: Duration) -> Result<(), Error> {
    let client: KafkaResult<BaseProducer<Trouble>> = config.create_with_context(Trouble::default());
    let client = client.map_err(|error| refused(brokers, error))?;
    let looks = limit.as_millis() / LOOK.as_millis();
    for look in 0..looks {
        if client.client().fetch_cluster_id(LOOK).is_some() {
            return Ok(());
        }
        client.poll(Duration::ZERO);
        if look >= LOOKS_IF_ALL_FAIL && client.context().all_failed.load(Ordering::Relaxed) {
            break;
        }
    }
    let brokers = brokers.to_owned();
    match client.context().last.lock().take() {
        Some(Met { code: Some(Code::Authentication | Code::SSL), reason: cause }) => {
            Err(Error::Refused { brokers, cause })
        }
        Some(Met { reason: cause, .. }) => Err(Error::Ask { brokers, cause }),
        None => Err(Error::Ask { brokers, cause: format!("no answer within {} s", limit.as_secs()) }),
    }
}

/// A client could not be made.
pub(super) fn refused(brokers: &str, error: KafkaError) -> Error {
    match error {
        // Its value may be a secret.
        KafkaError::ClientConfig(_, cause, setting, _) => Error::Setting { setting, cause },
        error => Error::Ask { brokers: brokers.to_owned(), cause: error.to_string() },
    }
}

/// What went wrong.
#[derive(Default)]
struct Trouble {
    last: Mutex<Option<Met>>,
    all_failed: AtomicBool,
}

struct Met {
    code: Option<Code>,
    reason: String,
}

impl ClientContext for Trouble {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            self.all_failed.store(true, Ordering::Relaxed);
            return;
        }
        // How often and how long into which state is of no use to an operator.
        let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason);
        let code = error.rdkafka_error_code();
        *self.last.lock() = Some(Met { code, reason: reason.to_owned() });
    }
}

impl ProducerContext for Trouble {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
