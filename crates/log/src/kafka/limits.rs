//! Every bound of this engine that is not an option.

use std::time::Duration;

/// Records above this are refused before they are sent. Topics take somewhat more: what Kafka puts around a record.
pub(super) const RECORD_BYTES: usize = (12 << 20) - (64 << 10);
/// What Kafka puts around a record, at most.
pub(super) const BATCH_OVERHEAD_BYTES: usize = 1 << 10;
/// Records that are sent together. What is above that is sent alone, so that its refusal is nobody else's.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// How long brokers are asked how large a record may be, after they refused one.
pub(super) const ASK_SIZES: Duration = Duration::from_secs(2);
/// What they said is believed for so long before another record is refused for it.
pub(super) const SIZES_AGE: Duration = Duration::from_secs(10);
/// What a record counts for at least while it is not durable: its place in librdkafka's queue is one of 100,000.
pub(super) const RECORD_CHARGE_BYTES: usize = 512;
/// Appends above this are sent one at a time, so that small ones pass between them.
pub(super) const LARGE_APPEND_BYTES: usize = 1 << 20;
/// Entries of a put that are under way together.
pub(super) const PUT_PART_BYTES: usize = 4 << 20;
/// While less than this share of the room is free, `has_room` says no: what is in flight can still be recorded.
pub(super) const ROOM_SHARE: usize = 4;
/// What a broker that has little to do needs at most to make a record durable, most of the time.
pub(super) const ANSWER: Duration = Duration::from_millis(10);
/// A producer that broke is replaced at most this often.
pub(super) const REPLACE_EVERY: Duration = Duration::from_secs(1);
/// A session that broke may still report so long what became of its records; then the rest of them have failed.
pub(super) const LAST_REPORTS: Duration = Duration::from_millis(200);
/// The same trouble is told again after this.
pub(super) const TROUBLE_AGAIN: Duration = Duration::from_mins(1);
/// How long a client that begins with a topic waits for where its partitions are.
pub(super) const LOOK_UP: Duration = Duration::from_secs(1);
/// How often brokers are asked where a partition is that a client believes not to be there, before it is believed.
pub(super) const LOOK_UPS: usize = 3;
/// While no broker answers, how often one is asked.
pub(super) const LOOK_LINK: Duration = Duration::from_secs(1);
/// How often the topics are compared with what they were; and how soon again, if they seem to be others.
pub(super) const LOOK_TOPICS: Duration = Duration::from_secs(10);
pub(super) const LOOK_TWICE: Duration = Duration::from_secs(2);
/// How long a log that is closed waits for its last records and for its members to leave their groups.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

/// Newest records in memory of all partitions that are followed, and of one of them.
pub(super) const TAIL_BYTES: usize = 64 << 20;
pub(super) const TAIL_BYTES_PER_PARTITION: usize = 4 << 20;
/// However many partitions are followed, each has this much.
pub(super) const TAIL_BYTES_LEAST: usize = 256 << 10;
/// What librdkafka may hold of a followed partition beside that.
pub(super) const TAIL_QUEUE_KIB: usize = 512;
/// Records taken over from librdkafka at once, before those that wait for them are told.
pub(super) const TAIL_TAKE: usize = 512;
/// A reader that is further ahead than so many offsets is not waited for: following begins anew where it is.
pub(super) const TAIL_JUMP: u64 = 4_096;
/// A partition that nobody asked for is followed for so long.
pub(super) const TAIL_IDLE: Duration = Duration::from_secs(10);
/// How long a broker keeps a request of a follower while there is nothing new. A partition that is followed from now
/// on waits as long for its first record.
pub(super) const TAIL_WAIT: Duration = Duration::from_millis(100);
/// So much of `attempts` is worth an answer before [`TAIL_WAIT`] is over.
pub(super) const ATTEMPTS_GATHER_BYTES: usize = 64 << 10;
/// One answer to the follower, of one partition and over all.
pub(super) const TAIL_PARTITION_FETCH_BYTES: usize = 1 << 20;
pub(super) const TAIL_FETCH_BYTES: usize = 8 << 20;

/// Threads that read what is not at the tail: runs of records, and single ones.
pub(super) const RUN_READERS: usize = 3;
pub(super) const POINT_READERS: usize = 1;
/// Reads that are under way or wait for a reader; more wait outside.
pub(super) const READS: usize = 64;
/// A read of at most this much is one of a single record.
pub(super) const POINT_BYTES: usize = 32 << 10;
/// One answer to a reader. Small: what he does not want any more when he goes elsewhere was fetched for nothing.
pub(super) const RUN_FETCH_BYTES: usize = 256 << 10;
pub(super) const POINT_FETCH_BYTES: usize = 64 << 10;
/// What librdkafka reads ahead for a reader.
pub(super) const READ_AHEAD_KIB: usize = 256;
/// How long a broker keeps a request of a reader at the end of a partition.
pub(super) const READER_WAIT: Duration = Duration::from_millis(5);
/// A question for a leader that is just being replaced is put again after this.
pub(super) const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// A reader keeps its place for so long.
pub(super) const READER_IDLE: Duration = Duration::from_millis(100);
/// A table whose last offsets give no record for so long ends with a gap.
pub(super) const GAP_AFTER: Duration = Duration::from_millis(500);
/// One read of a scan.
pub(super) const SCAN_RUN_BYTES: usize = 1 << 20;
/// How often, and how long apart, a read above the end looks whether the end has come up to it. After a leader was
/// lost its successor may know of it a moment later.
pub(super) const ABOVE_END_LOOKS: usize = 10;
pub(super) const ABOVE_END_PAUSE: Duration = Duration::from_millis(100);

/// A member's thread looks at least this often whether it has something to do.
pub(super) const MEMBER_TICK: Duration = Duration::from_millis(20);
/// Pause before a membership is begun anew after an error that ended it.
pub(super) const MEMBER_RETRY: Duration = Duration::from_secs(1);
