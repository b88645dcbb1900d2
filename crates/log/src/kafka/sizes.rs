//! How large a record each topic takes: as found at the start, and again when a broker refuses one that should fit.
//!
//! An operator may lower `max.message.bytes` while we run. The first record above the new limit is refused by the
//! broker; those after it are refused here, with the limit's name, and disturb nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::Mutex as Turn,
    time::{Instant, timeout},
};

use super::{limits, options::Options, topics};
use crate::contract::AppendError;

pub(super) struct Sizes {
    options: Options,
    known: RwLock<Known>,
    /// Topics of which a broker refused what should fit. Whoever appends to others does not wait for it.
    in_doubt: Mutex<BTreeSet<String>>,
    asking: Turn<()>,
}

struct Known {
    /// By the topic's name on Kafka.
    limits: BTreeMap<String, usize>,
    batch_bytes: usize,
    since: Instant,
}

impl Sizes {
    pub(super) fn new(options: &Options, found: &topics::BatchBytes) -> Arc<Self> {
        Arc::new(Self {
            options: options.clone(),
            known: RwLock::new(Known::new(found)),
            in_doubt: Mutex::default(),
            asking: Turn::new(()),
        })
    }

    /// Records that are sent together have this size at most. Brokers measure what is sent together: so none is refused
    /// because of its neighbours, and one that is larger has none.
    pub(super) fn batch_bytes(&self) -> usize {
        self.known.read().batch_bytes
    }

    /// A broker refused a record of this topic as too large.
    pub(super) fn doubt(&self, topic: &str) {
        self.in_doubt.lock().insert(topic.to_owned());
    }

    fn is_in_doubt(&self, topic: &str) -> bool {
        self.in_doubt.lock().contains(topic)
    }

    /// Refuses a record that its topic does not take, as far as is known. Waits while that is in doubt.
    pub(super) async fn check(self: &Arc<Self>, topic: &str, size_bytes: usize) -> Result<(), AppendError> {
        if self.is_in_doubt(topic) {
            self.ask(topic).await;
        }
        if size_bytes <= self.limit(topic) {
            return Ok(());
        }
        // What was forbidden a while ago may be allowed by now.
        if size_bytes <= limits::RECORD_BYTES && self.known.read().since.elapsed() > limits::SIZES_AGE {
            self.doubt(topic);
            self.ask(topic).await;
        }
        let limit_bytes = self.limit(topic);
        if size_bytes <= limit_bytes {
            Ok(())
        } else {
            Err(AppendError::TooLarge { size_bytes, limit_bytes })
        }
    }

    /// What a broker's refusal means for the one whose record it was.
    pub(super) async fn judge(self: &Arc<Self>, topic: &str, size_bytes: usize) -> AppendError {
        let Err(error) = self.check(topic, size_bytes).await else {
            let brokers = &self.options.brokers;
            let cause =
                format!("Kafka at {brokers}: {topic} did not take {size_bytes} bytes, which it should");
            return AppendError::Unavailable(cause);
        };
        error
    }

    fn limit(&self, topic: &str) -> usize {
        self.known.read().limits.get(topic).copied().unwrap_or(limits::RECORD_BYTES)
    }

    /// On a task of its own: whoever asks may be polled no more, and what he does instead may need the answer too.
    async fn ask(self: &Arc<Self>, topic: &str) {
        let (sizes, topic) = (Arc::clone(self), topic.to_owned());
        // It fails when the runtime ends, and nobody is refused or taken any more.
        let _ = tokio::spawn(async move { sizes.ask_in_turn(&topic).await }).await;
    }

    /// Asks the brokers of all topics, if nobody else has done so meanwhile.
    async fn ask_in_turn(&self, topic: &str) {
        let _turn = self.asking.lock().await;
        if !self.is_in_doubt(topic) {
            return;
        }
        let doubted = self.in_doubt.lock().clone();
        let asked = timeout(limits::ASK_SIZES, topics::batch_bytes(&self.options)).await;
        let known = match asked {
            Ok(Ok(found)) => Ok(Known::new(&found)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", limits::ASK_SIZES.as_secs())),
        };
        match known {
            Ok(now) => {
                let mut known = self.known.write();
                if now.limits != known.limits {
                    tracing::warn!(limits = ?now.limits, "max.message.bytes was changed: what is larger is refused");
                }
                *known = now;
            }
            // The next refusal asks again.
            Err(cause) => {
                tracing::warn!(cause, "a record was too large, and how large one may be is not told");
            }
        }
        self.in_doubt.lock().retain(|topic| !doubted.contains(topic));
    }
}

impl Known {
    fn new(found: &topics::BatchBytes) -> Self {
        let limit = |batch_bytes: u64| {
            let batch_bytes = usize::try_from(batch_bytes).unwrap_or(usize::MAX);
            batch_bytes.saturating_sub(limits::BATCH_OVERHEAD_BYTES).min(limits::RECORD_BYTES)
        };
        let topics: BTreeMap<String, usize> =
            found.iter().map(|(topic, batch_bytes)| (topic.clone(), limit(*batch_bytes))).collect();
        let batch_bytes = topics.values().copied().fold(limits::BATCH_BYTES, usize::min);
        Self { limits: topics, batch_bytes, since: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const TOPIC: &str = "fanfare.messages";

    fn sizes(batch_bytes: u64) -> Arc<Sizes> {
        // Nobody listens there.
        let options = Options::new("127.0.0.1:1", 1, 1);
        Sizes::new(&options, &BTreeMap::from([(TOPIC.to_owned(), batch_bytes)]))
    }

    #[tokio::test]
    async fn what_kafka_puts_around_a_record_counts_too() {
        let sizes = sizes(100_000);
        let limit_bytes = 100_000 - limits::BATCH_OVERHEAD_BYTES;
        assert_eq!(sizes.batch_bytes(), limit_bytes);
        assert_eq!(sizes.check(TOPIC, limit_bytes).await, Ok(()));
        let size_bytes = limit_bytes + 1;
        let refused = Err(AppendError::TooLarge { size_bytes, limit_bytes });
        assert_eq!(sizes.check(TOPIC, size_bytes).await, refused);
        assert_eq!(sizes.check("another", size_bytes).await, Ok(()));
    }

    #[tokio::test]
    async fn a_large_limit_makes_no_large_batches() {
        let sizes = sizes(1 << 30);
        assert_eq!(sizes.batch_bytes(), limits::BATCH_BYTES);
        assert!(sizes.check(TOPIC, limits::RECORD_BYTES + 1).await.is_err());
    }

    /// A router reads on, and appends, while the end of an append that was too large waits to be looked at again.
    #[tokio::test]
    async fn who_asked_and_does_something_else_holds_up_nobody() {
        let sizes = sizes(100_000);
        sizes.doubt(TOPIC);
        let mut judged = std::pin::pin!(sizes.judge(TOPIC, 100_000));
        assert!(judged.as_mut().now_or_never().is_none(), "the brokers are asked");
        let checked = timeout(limits::ASK_SIZES * 5, sizes.check(TOPIC, 1_000)).await;
        assert_eq!(checked, Ok(Ok(())));
        assert!(!judged.await.is_retryable());
    }

    #[tokio::test]
    async fn a_refusal_of_what_is_allowed_may_pass() {
        let sizes = sizes(100_000);
        let (large, small) = (sizes.judge(TOPIC, 100_000).await, sizes.judge(TOPIC, 1_000).await);
        assert!(!large.is_retryable() && small.is_retryable(), "{large:?} {small:?}");
    }
}
