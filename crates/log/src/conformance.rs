//! One suite for every engine: what [`Log`]'s doc comment promises, as functions that panic when it is broken.
//!
//! [`for_each_check`](crate::for_each_check) is the list; a test binary turns it into one test per check and
//! engine, so that no engine can leave one out.

mod appends;
mod claims;
mod crashes;
mod reads;
mod tables;
mod wiping;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};

pub use self::{
    appends::{
        appends_are_gapless_and_in_order, checkpoints_cover_what_they_speak_of,
        large_appends_let_small_ones_pass, pending_covers_what_stands_before,
    },
    claims::{every_partition_is_gained, partition_is_drained_before_it_moves},
    crashes::{
        acknowledged_survives_a_crash, failed_sync_loses_nothing, lost_is_only_a_tail,
        offsets_are_never_reused, recovery_over_a_cut_tail_twice, what_is_called_durable_survives,
        what_readers_saw_survives,
    },
    reads::{
        bounds_cover_other_processes, fetch_is_bounded_and_goes_on, positions_pass_gaps,
        readers_at_any_pace_see_the_same, truncation_is_seen, wait_resolves_when_readable,
    },
    tables::{put_is_not_ahead_of_appends, tables_keep_the_newest_value},
    wiping::wiped_payloads_are_gone_and_the_rest_stays,
};
use crate::contract::{Log, LogRecord, NewRecord, Sync, Topic};

/// Calls `$callback!` with its arguments, a semicolon and the names of all checks.
#[macro_export]
macro_rules! for_each_check {
    ($callback:ident, $($arguments:tt)*) => {
        $callback! {
            $($arguments)* ;
            appends_are_gapless_and_in_order
            large_appends_let_small_ones_pass
            pending_covers_what_stands_before
            checkpoints_cover_what_they_speak_of
            acknowledged_survives_a_crash
            lost_is_only_a_tail
            offsets_are_never_reused
            what_is_called_durable_survives
            what_readers_saw_survives
            recovery_over_a_cut_tail_twice
            failed_sync_loses_nothing
            positions_pass_gaps
            truncation_is_seen
            fetch_is_bounded_and_goes_on
            wait_resolves_when_readable
            bounds_cover_other_processes
            readers_at_any_pace_see_the_same
            put_is_not_ahead_of_appends
            tables_keep_the_newest_value
            wiped_payloads_are_gone_and_the_rest_stays
            every_partition_is_gained
            partition_is_drained_before_it_moves
        }
    };
}

/// Partitions of every topic but control in the suite's logs.
pub const PARTITIONS: u32 = 3;
/// How long anything may take, in the engine's time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the suite needs of an engine: one installation whose processes come and go.
#[allow(async_fn_in_trait, reason = "the suite awaits everything on the spot")]
pub trait Engine {
    /// Starts a process.
    async fn open(&self) -> Arc<dyn Log>;
    /// The process dies in the hardest way that the engine has to survive.
    async fn crash(&self, log: Arc<dyn Log>);
    /// Another member of the groups, beside the process that runs.
    async fn join(&self, log: &Arc<dyn Log>) -> Arc<dyn Log>;
    /// The next sync fails. Gives whether the engine can.
    fn fail_next_sync(&self) -> bool;
    /// Retention removes the beginning of a partition of `messages`, or all of it.
    async fn truncate(&self, log: &Arc<dyn Log>, partition: Partition);
    /// Whether survivors of a crash are a beginning of all that was appended, not only of each partition.
    fn keeps_one_order(&self) -> bool;
    /// After so long without an event in a group nothing more is going to happen by itself.
    fn settles_within(&self) -> Duration {
        Duration::from_millis(100)
    }
}

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

fn record(number: u64) -> NewRecord {
    let text = format!("record {number}");
    NewRecord {
        head: Bytes::from(text),
        payload: Bytes::from(vec![u8::try_from(number % 251).unwrap_or(0); 40]),
    }
}

fn large(size_bytes: usize, fill: u8) -> NewRecord {
    NewRecord { head: Bytes::from_static(b"large"), payload: Bytes::from(vec![fill; size_bytes]) }
}

fn number_of(record: &LogRecord) -> u64 {
    let text = std::str::from_utf8(&record.head).expect("the suite writes text");
    let number = text.strip_prefix("record ").expect("the suite's record");
    let number = number.parse().expect("a number");
    assert_eq!(record.payload, Some(self::record(number).payload), "payload belongs to its head");
    number
}

fn numbers(records: &[LogRecord]) -> Vec<u64> {
    records.iter().map(number_of).collect()
}

/// Appends one numbered record durably.
async fn append_now(log: &Arc<dyn Log>, topic: Topic, partition: Partition, number: u64) -> Offset {
    let pending = log.append(topic, partition, vec![record(number)], Sync::Now).await.expect("there is room");
    in_time(pending).await.expect("the engine works").start
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("resolves in time")
}

/// Everything from `from` to the end, checking that each read makes progress.
async fn read_from(log: &Arc<dyn Log>, topic: Topic, partition: Partition, from: Offset) -> Vec<LogRecord> {
    let end = log.bounds(topic, partition).await.expect("the engine works").end;
    let mut position = from;
    let mut records: Vec<LogRecord> = Vec::new();
    while position < end {
        in_time(log.wait(topic, partition, position)).await.expect("the engine works");
        let batch = log.fetch(topic, partition, position, 4_096).await.expect("the engine works");
        assert!(batch.next > position, "a read below the end goes on: {position} of {end}");
        for record in batch.records {
            assert!(record.offset >= position && record.offset < batch.next, "offsets within what was read");
            position = record.offset.next();
            records.push(record);
        }
        position = batch.next;
    }
    records
}

async fn read_all(log: &Arc<dyn Log>, topic: Topic, partition: Partition) -> Vec<LogRecord> {
    let start = log.bounds(topic, partition).await.expect("the engine works").start;
    read_from(log, topic, partition, start).await
}
