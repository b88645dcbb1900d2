//! What the topics are.

use std::collections::{BTreeMap, BTreeSet};

/// One topic as the brokers tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) partitions: u32,
    /// The fewest copies that any partition has.
    pub(super) replication: u32,
    /// All settings, whoever made them.
    pub(super) settings: BTreeMap<String, String>,
    /// Those that were made for this topic.
    pub(super) own: BTreeSet<String>,
}

/// By the name on Kafka.
pub(super) type FoundTopics = BTreeMap<String, Found>;

impl Found {
    pub(super) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A setting that is a number; `None` also for one that the broker does not tell.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.setting(name).parse().ok()
    }

    pub(super) fn batch_bytes(&self) -> Option<u64> {
        self.number("max.message.bytes").and_then(|bytes| u64::try_from(bytes).ok())
    }
}
