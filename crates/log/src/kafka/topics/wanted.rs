//! What the topics must be.

use std::{collections::BTreeMap, time::Duration};

use fanfare_core::limits;

use super::super::Options;
use crate::contract::{Table, Topic};

/// Beside a message's body in its record: its head, and what Kafka puts around both.
pub const BESIDE_BODY_BYTES: usize = 16 << 10;
/// Larger than the largest record: a message of [`limits::BODY_BYTES_MAX`] with its head, or a router's checkpoint. All
/// topics are made so, and none has to be changed when larger bodies are let in.
const MESSAGE_BYTES_MAX: u64 = 12 << 20;
/// Kafka removes whole segments: a day of records at most is kept longer than it must.
const SEGMENT: Duration = Duration::from_hours(24);
const SEGMENT_BYTES: u64 = 256 << 20;
/// Of a short retention, a segment is this part.
const SEGMENTS_PER_RETENTION: u32 = 8;
/// The segment that is being written is never compacted, so those of tables are small: a scan reads all of it.
const TABLE_SEGMENT: Duration = Duration::from_mins(10);
const TABLE_SEGMENT_BYTES: u64 = 16 << 20;
/// Kafka's least for a segment.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;
/// A table is compacted when this share of it is out of date, ...
const TABLE_DIRTY_RATIO: &str = "0.25";
/// ... and after this time in any case.
const TABLE_COMPACTION: Duration = Duration::from_hours(1);
/// How long a tombstone stays: longer than any scan takes.
const TABLE_TOMBSTONES: Duration = Duration::from_hours(1);
/// Load figures come every second and are read from the start: few old ones may be left.
const LOAD_COMPACTION: Duration = Duration::from_mins(1);
/// Load figures are of no use for longer.
const LOAD_RETENTION: Duration = Duration::from_hours(1);
/// With so many copies one may be missing without a record being refused.
const COPIES_SAFE: u32 = 3;
const IN_SYNC_SAFE: u32 = 2;
pub(super) const IN_SYNC: &str = "min.insync.replicas";

/// One topic as the options want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As the contract calls it.
    pub(super) topic: &'static str,
    /// On Kafka, with the prefix.
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) replication: u32,
    pub(super) keep: Keep,
    /// What `max.message.bytes` must be at least for no record to be refused.
    pub(super) batch_bytes: u64,
    /// By Kafka's names of settings; those that hang on the number of copies are not here.
    pub(super) settings: BTreeMap<&'static str, String>,
}

/// What may be removed from a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Forever,
    /// Records older than that.
    For(Duration),
    /// All but the newest value of a key.
    Newest,
}

/// All topics of the installation.
pub(super) fn all(options: &Options) -> Vec<Wanted> {
    let topics = Topic::ALL.map(|topic| {
        let (partitions, keep) = match topic {
            Topic::Messages => {
                (options.message_partitions, Keep::For(options.retention + options.retention_extra))
            }
            Topic::Deliveries => (options.delivery_partitions, Keep::For(options.retention)),
            Topic::Attempts => {
                (options.delivery_partitions, Keep::For(options.retention + options.retention_extra))
            }
            Topic::Control => (1, Keep::Forever),
            Topic::Dedup => {
                (options.message_partitions, Keep::For(limits::DEDUP_WINDOW + options.retention_extra))
            }
        };
        Wanted::new(options, topic.as_str(), partitions, keep, log_settings(keep))
    });
    let tables = Table::ALL.map(|table| {
        Wanted::new(options, table.as_str(), options.delivery_partitions, Keep::Newest, table_settings(table))
    });
    topics.into_iter().chain(tables).collect()
}

impl Wanted {
    /// For records of a user's topic that cannot become messages. No part of the installation: nothing reads it.
    pub(super) fn for_dead_letters(options: &Options, name: &str) -> Self {
        let keep = Keep::For(options.retention);
        let wanted = Self::new(options, "dead letters", 1, keep, log_settings(keep));
        Self { name: name.to_owned(), ..wanted }
    }

    fn new(
        options: &Options,
        topic: &'static str,
        partitions: u32,
        keep: Keep,
        mut settings: BTreeMap<&'static str, String>,
    ) -> Self {
        settings.insert("max.message.bytes", MESSAGE_BYTES_MAX.to_string());
        settings.insert("unclean.leader.election.enable", "false".to_owned());
        let name = format!("{}{topic}", options.prefix);
        let batch_bytes =
            if topic == Topic::Messages.as_str() { message_bytes(options) } else { MESSAGE_BYTES_MAX };
        Self { topic, name, partitions, replication: options.replication, keep, batch_bytes, settings }
    }

    /// All settings of a topic with so many copies of each record.
    pub(super) fn settings_for(&self, copies: u32) -> BTreeMap<&'static str, String> {
        let mut settings = self.settings.clone();
        if copies >= COPIES_SAFE {
            settings.insert(IN_SYNC, IN_SYNC_SAFE.to_string());
        }
        settings
    }
}

/// The largest record of a message.
fn message_bytes(options: &Options) -> u64 {
    let bytes = options.body_bytes.saturating_add(BESIDE_BODY_BYTES);
    u64::try_from(bytes).unwrap_or(u64::MAX).min(MESSAGE_BYTES_MAX)
}

fn log_settings(keep: Keep) -> BTreeMap<&'static str, String> {
    let (retention, segment) = match keep {
        Keep::For(retention) => {
            (retention.as_millis().to_string(), SEGMENT.min(retention / SEGMENTS_PER_RETENTION))
        }
        Keep::Forever | Keep::Newest => ("-1".to_owned(), SEGMENT),
    };
    BTreeMap::from([
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention),
        ("retention.bytes", "-1".to_owned()),
        ("segment.ms", segment.as_millis().max(1).to_string()),
        ("segment.bytes", SEGMENT_BYTES.to_string()),
    ])
}

fn table_settings(table: Table) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::from([
        ("cleanup.policy", "compact".to_owned()),
        ("segment.ms", TABLE_SEGMENT.as_millis().to_string()),
        ("segment.bytes", TABLE_SEGMENT_BYTES.to_string()),
        ("min.cleanable.dirty.ratio", TABLE_DIRTY_RATIO.to_owned()),
        ("max.compaction.lag.ms", TABLE_COMPACTION.as_millis().to_string()),
        ("delete.retention.ms", TABLE_TOMBSTONES.as_millis().to_string()),
    ]);
    if table == Table::Load {
        settings.insert("cleanup.policy", "compact,delete".to_owned());
        settings.insert("retention.ms", LOAD_RETENTION.as_millis().to_string());
        settings.insert("segment.ms", LOAD_COMPACTION.as_millis().to_string());
        settings.insert("max.compaction.lag.ms", LOAD_COMPACTION.as_millis().to_string());
        settings.insert("segment.bytes", SMALL_SEGMENT_BYTES.to_string());
    }
    settings
}
