//! Every bound of Fanfare in one place: what a producer may send, what a table may hold, how long a thing may
//! take. Those that an operator can set are defaults here.

use std::time::Duration;

// What a producer may send.
/// Body of a request, by default.
pub const BODY_BYTES: usize = 1 << 20;
/// The most that an operator may raise [`BODY_BYTES`] to.
pub const BODY_BYTES_MAX: usize = 10 << 20;
/// Messages of one request.
pub const BATCH_MESSAGES: usize = 500;
/// Body of such a request: what one commit group takes, so that it is one append.
pub const BATCH_BYTES: usize = COMMIT_GROUP_BYTES;
pub const CHANNELS_PER_MESSAGE: usize = 5;
pub const CHANNELS_PER_ENDPOINT: usize = 10;
pub const CHANNEL_CHARACTERS: usize = 128;
pub const TAGS_PER_MESSAGE: usize = 8;
pub const UID_CHARACTERS: usize = 256;
pub const EVENT_TYPE_CHARACTERS: usize = 256;
pub const EVENT_TYPES_PER_ENDPOINT: usize = 256;
pub const IDEMPOTENCY_KEY_CHARACTERS: usize = 256;
pub const ORDERING_KEY_CHARACTERS: usize = 256;
pub const NAME_CHARACTERS: usize = 256;
pub const URL_CHARACTERS: usize = 2_048;
pub const METADATA_BYTES: usize = 4_096;
pub const PAGE_DEFAULT: usize = 50;
pub const PAGE_MAX: usize = 250;

// Idempotency.
/// How long an `Idempotency-Key` or event id stands for its message.
pub const DEDUP_WINDOW: Duration = Duration::from_hours(24);
/// The same for keys that client libraries make for their own retries (`auto_…`).
pub const DEDUP_WINDOW_SHORT: Duration = Duration::from_mins(15);
/// How long a control-plane POST keeps its key.
pub const CONTROL_KEY_WINDOW: Duration = Duration::from_hours(12);
/// Keys of control-plane POSTs remembered at once; the oldest go first.
pub const CONTROL_KEYS: usize = 1 << 20;

// Control plane.
/// Commands of one process that wait for their answer; more wait for one of these.
pub const COMMANDS_WAITING: usize = 1_024;
/// One read of `control`, and what is applied before the view can be read again.
pub const CONTROL_RUN_BYTES: usize = 256 << 10;
/// Pause after a read of `control` that failed and may be repeated.
pub const CONTROL_RETRY: Duration = Duration::from_millis(200);
/// Deleted endpoints of which it is remembered what they were called.
pub const FORMER_ENDPOINTS: usize = 1 << 16;
/// What happened to endpoints: so much of it is remembered for those who tell others. The rest is read again.
pub const ENDPOINT_CHANGES_REMEMBERED: usize = 1 << 14;
/// Lifetime of an organization's token.
pub const ORGANIZATION_TOKEN: Duration = Duration::from_hours(10 * 365 * 24);
/// Lifetime of an application's token.
pub const APPLICATION_TOKEN: Duration = Duration::from_hours(28 * 24);
/// Clocks of two machines may be this far apart before a fresh token is refused as not yet valid.
pub const TOKEN_LEEWAY: Duration = Duration::from_mins(1);
/// Event types that one document may bring, and the values of all their schemas together.
pub const IMPORT_EVENT_TYPES: usize = 1_000;
pub const IMPORT_NODES: usize = 200_000;

// Credentials.
/// Tokens revoked one by one and remembered until they would have expired; more are refused.
pub const REVOKED_TOKENS: usize = 1 << 18;
/// So much longer, because the clocks of two machines differ.
pub const REVOKED_TOKEN_KEPT: Duration = Duration::from_hours(24);
/// Of one application, or of one session of it: orders to expire all tokens that are still to come.
pub const EXPIRIES_PENDING: usize = 16;
/// Sessions that one request may expire, and those of one application that are remembered.
pub const SESSIONS_PER_EXPIRY: usize = 100;
pub const SESSIONS_EXPIRED: usize = 4_096;
pub const SESSION_CHARACTERS: usize = 256;
pub const FEATURE_FLAGS: usize = 32;
/// Lifetime of a token for a portal: what a client may ask for, and what it gets when it says nothing.
pub const PORTAL_TOKEN_MIN: Duration = Duration::from_hours(1);
pub const PORTAL_TOKEN_MAX: Duration = Duration::from_hours(7 * 24);
/// API keys of one organization.
pub const API_KEYS: usize = 1_000;
/// When a key was used last is written this often at most.
pub const API_KEY_USE_EVERY: Duration = Duration::from_mins(10);
/// Uses are gathered for so long before they are written.
pub const API_KEY_USE_GATHERED: Duration = Duration::from_secs(10);
/// Keys whose use one record tells of.
pub const API_KEY_USES_PER_RECORD: usize = 256;
/// Tokens whose check is remembered, and for how long. What was revoked in this process, or is known here to have been
/// revoked, is refused at once all the same.
pub const TOKENS_REMEMBERED: usize = 1_024;
pub const TOKEN_REMEMBERED: Duration = Duration::from_secs(5);

// Audit log.
/// Offsets of `control` that one request looks at.
pub const AUDIT_OFFSETS: u64 = 10_000;
/// Offsets that are read before what was found among them is turned round.
pub const AUDIT_RUN_OFFSETS: u64 = 256;
/// Commands of which it is known that they were refused: the last of them.
pub const REFUSALS_REMEMBERED: usize = 1 << 16;

// History.
/// A list goes back so far where nothing else is said.
pub const HISTORY_WINDOW: Duration = Duration::from_hours(90 * 24);
/// The longest range that statistics are made of.
pub const STATS_RANGE: Duration = Duration::from_hours(28 * 24);
/// Payloads of one page; it ends early when they would be more, but never before the first.
pub const PAGE_PAYLOAD_BYTES: usize = 2 << 20;
/// One read of payloads that stand near each other in the log.
pub const PAYLOAD_RUN_BYTES: usize = 256 << 10;
/// Of an attempt's answer this much is shown.
pub const RESPONSE_SHOWN_BYTES: usize = 20_000;

// Ingest.
/// Arrays and objects within one another in a payload: what parsers of JSON commonly bear.
pub const PAYLOAD_DEPTH: usize = 128;
/// Request bodies in memory at once, over all connections.
pub const INGEST_BYTES_IN_MEMORY: usize = 96 << 20;
/// How long a publish waits for room before it is shed with 503.
pub const INGEST_WAIT: Duration = Duration::from_secs(2);
/// A publish is answered within this after its body was read: 503 if it is not durable by then.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(4);
/// Publishes between their last byte and their answer; more wait in turn.
pub const PUBLISHES_IN_PROGRESS: usize = 640;
/// Requests that are being answered, health checks not counted; others wait where they cost little. Fewer, down to the
/// second number, while the runtime takes longer than [`COME_ROUND`] to come round to a task that is ready.
pub const REQUESTS_IN_PROGRESS: usize = 768;
pub const REQUESTS_IN_PROGRESS_MIN: usize = 32;
pub const COME_ROUND: Duration = Duration::from_millis(4);
/// Tokens, keys and applications with a rate limit that have published within a second; more are counted anew.
pub const RATES_REMEMBERED: usize = 1 << 16;
/// Messages per second that a rate limit may name at most.
pub const RATE_MAX: u32 = 1_000_000;
/// Idempotency keys and event ids of messages that are not routed yet, over all partitions.
pub const CLAIMS_IN_FLIGHT: usize = 1 << 17;
/// What a shed client is told to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Whole request, body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// From the first byte of a body to its last: a slow sender holds memory that others wait for.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the body of a refused request may still come.
pub const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub const CONNECTIONS: usize = 20_000;
/// Of a request, request line and headers; also the read buffer of a connection.
pub const REQUEST_HEADER_BYTES: usize = 64 << 10;
/// While the process is out of file descriptors, it looks again after this.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// Log.
/// Messages are kept this long by default.
pub const RETENTION: Duration = Duration::from_hours(168);
/// One commit group of the journal, or one larger record.
pub const COMMIT_GROUP_BYTES: usize = 4 << 20;
/// Bytes appended but not yet synced, after which appends wait.
pub const UNSYNCED_BYTES: usize = 32 << 20;
/// A lazy append is durable after this long at the latest.
pub const LAZY_SYNC: Duration = Duration::from_millis(30);
pub const SEGMENT_BYTES: u64 = 128 << 20;
/// Kept free for what must be written even when messages are refused.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;

// Router.
/// One read of `messages`.
pub const ROUTER_BATCH_BYTES: usize = 1 << 20;
/// Batches routed whose appends are not durable yet.
pub const ROUTER_BATCHES: usize = 64;
/// A router's checkpoint is due after so many claims …
pub const ROUTER_CHECKPOINT_CLAIMS: usize = 4_096;
/// … or so long after the one before, if anything was routed.
pub const ROUTER_CHECKPOINT_EVERY: Duration = Duration::from_millis(250);
/// Claims routed but not yet in a durable checkpoint, per partition; beyond them routing waits.
pub const ROUTER_CLAIMS_OPEN: usize = 65_536;
/// Messages of one partition that wait for their time (`deliverAt`), as far as ingest knows of them.
pub const HELD_MAX: usize = 500_000;
/// Of those so many stand in one record of a checkpoint, which keeps it below the least size that Kafka takes.
pub const HELD_PER_RECORD: usize = 20_000;
/// A checkpoint comes later by this for each of them, so that they are not written more than all else.
pub const ROUTER_CHECKPOINT_PER_HELD: Duration = Duration::from_micros(10);
/// Messages appended at once when their time has come.
pub const DUE_AT_ONCE: usize = 256;
/// The clock is asked at least this often whether something is due.
pub const DUE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Waits between two sessions of a router that fails.
pub const ROUTER_BACKOFF_FIRST: Duration = Duration::from_millis(100);
pub const ROUTER_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A payload stands beside its delivery records while its size times their number stays within this.
pub const INLINE_BYTES: usize = 256 << 10;
/// Claims in memory per partition before they are sealed as a run on disk: what fills a hash map of 16 Ki slots.
pub const DEDUP_SEAL_CLAIMS: usize = 14_336;
/// Checkpoints after which claims are sealed however few they are: a start reads no more of `dedup` than this.
pub const DEDUP_SEAL_CHECKPOINTS: usize = 4_096;
/// So many neighbouring runs of like size become one.
pub const DEDUP_RUNS_MERGED: usize = 8;

// Lanes.
/// Unsettled deliveries a lane remembers one by one; beyond them `next` stops.
pub const LANE_ENTRIES: usize = 65_536;
/// Offsets waiting behind blocked keys of one `keyed` lane.
pub const LANE_BLOCKED: usize = 1 << 20;
pub const MAX_IN_FLIGHT_DEFAULT: u32 = 32;
pub const MAX_IN_FLIGHT_MAX: u32 = 1_024;
/// Deliveries in flight per process.
pub const IN_FLIGHT: usize = 2_048;
/// Distinct payload bytes in flight per process.
pub const IN_FLIGHT_BYTES: usize = 96 << 20;
/// Payloads kept because other lanes will want them soon.
pub const PAYLOAD_CACHE_BYTES: u64 = 8 << 20;
/// What is read at once when one payload is wanted that is not in memory, and how much of that is kept for who comes
/// next.
pub const CONTENT_RUN_BYTES: usize = 64 << 10;
pub const CONTENT_RUNS_BYTES: usize = 8 << 20;
/// One read of catch-up.
pub const CATCH_UP_RUN_BYTES: usize = 128 << 10;
/// Facts are durable after this long where nothing is in the way: what a crash may make us send again.
pub const FACT_DURABLE: Duration = Duration::from_millis(45);
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
pub const DRAIN: Duration = Duration::from_millis(1_500);

// Erasure.
/// No payload is shown, and none sent as long as `control` can be read, by a process whose view of it is older than this; so
/// after it has passed, what was erased before is honoured by every process.
pub const CONTROL_LEASE: Duration = Duration::from_secs(1);
/// Where there was no answer within a lease, it is asked again after this.
pub const CONTROL_LEASE_AGAIN: Duration = Duration::from_secs(5);
/// Payloads that are overwritten together.
pub const WIPED_TOGETHER: usize = 1_000;
/// Messages that one request erases.
pub const ERASED_TOGETHER: usize = 1_000;
/// Dead letters that one request purges.
pub const PURGED_TOGETHER: usize = 10_000;

// Jobs.
/// Jobs of a delivery partition whose records are known as repeats: those that wrote last. A message that was resent is
/// one of them.
pub const JOBS_REMEMBERED: usize = 1_024;
/// Of one endpoint, that have not ended.
pub const JOBS_PER_ENDPOINT: usize = 16;
/// Of one organization that are shown; those that ended first go first.
pub const JOBS_KEPT: usize = 1_000;
/// Of one organization; the oldest go first.
pub const REPORTS_KEPT: usize = 100;
/// Applications that a report names one by one.
pub const REPORT_APPLICATIONS: usize = 1_000;
/// Messages that a job names one by one.
pub const JOB_MESSAGES: usize = 1_000;
/// Messages that a job injects in a second, unless it says otherwise, and at most.
pub const JOB_PER_SECOND: u32 = 2_000;
pub const JOB_PER_SECOND_MAX: u32 = 10_000;
/// Injected by one job and not settled yet: beyond them it waits.
pub const JOB_OUTSTANDING: usize = 4_096;
/// A job begins no sooner than this after it was asked for: it goes by the log, and what a worker has learned is there after
/// 50 ms and the time of an append.
pub const JOB_SETTLE: Duration = Duration::from_secs(1);
/// Jobs of one delivery partition at the same time, each of another endpoint.
pub const JOBS_AT_ONCE: usize = 64;

// Load and scaling.
/// A worker tells its load this often.
pub const LOAD_EVERY: Duration = Duration::from_secs(1);
/// The arrival rate is the median of so many of these: a burst is a backlog, and no rate that lasts.
pub const LOAD_ARRIVALS: usize = 9;
/// The mean time of a delivery and the rate reached are medians of so many of these: one bad second is no measure.
pub const LOAD_RECENT: usize = 5;
/// The rate reached counts once it was measured so often.
pub const LOAD_REACHED: usize = 3;
/// Load figures older than this do not count: their worker may be gone.
pub const LOAD_FRESH: Duration = Duration::from_secs(10);
/// Partitions whose figures are read at once.
pub const LOAD_READS: usize = 8;
/// A backlog is to be gone after this, by default; and the most that an operator may set.
pub const DRAIN_TARGET: Duration = Duration::from_mins(1);
pub const DRAIN_TARGET_SECS_MAX: u32 = 3_600;
/// The scaling hint is made anew when somebody asks for it, no sooner than so long after the one before, ...
pub const SCALING_PAUSE: Duration = Duration::from_secs(1);
/// ... and this often for so long after it was asked for last.
pub const SCALING_EVERY: Duration = Duration::from_secs(5);
pub const SCALING_ASKED: Duration = Duration::from_mins(2);
/// How long a request waits for a hint.
pub const SCALING_WAIT: Duration = Duration::from_secs(5);

// Retries.
pub const RETRY_DELAYS: usize = 32;
pub const RETRY_DELAY_SECS: u32 = 7 * 24 * 3_600;
/// Before the schedule begins, an ordered lane tries its head again after these.
pub const ORDERED_RETRIES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
/// Share by which a delay is made shorter or longer at random.
pub const JITTER: f64 = 0.2;
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
pub const PARK_AFTER: Duration = Duration::from_mins(5);
pub const PARK_AFTER_SECS_MIN: u32 = 1;
pub const PARK_AFTER_SECS_MAX: u32 = 7 * 24 * 3_600;
/// Messages after a failing head that are tried to learn whether the endpoint is alive.
pub const POISON_SEARCH: usize = 8;
/// An endpoint that failed for this long without one success is disabled, unless the process was told another time.
pub const DISABLE_AFTER: Duration = Duration::from_hours(120);

/// How far attempts of a throttled lane may run ahead of its rate: how late a timer may come without slowing it down.
pub const THROTTLE_SLACK: Duration = Duration::from_millis(100);

// Circuit.
pub const CIRCUIT_CONSECUTIVE_FAILURES: u32 = 5;
pub const CIRCUIT_WINDOW: u32 = 20;
pub const PROBE_FIRST: Duration = Duration::from_secs(5);
pub const PROBE_MAX: Duration = Duration::from_mins(1);

// Requests that leave.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
pub const DELIVERY_TIMEOUT_SECS_MAX: u32 = 60;
/// Of an answer's body this much is read; past it the connection is closed.
pub const RESPONSE_BYTES: usize = 20_000;
/// Of that, this much is kept with the attempt.
pub const RESPONSE_KEPT_BYTES: usize = 512;
/// An answer's head, and with it all informational answers that come before it.
pub const RESPONSE_HEADER_BYTES: usize = 16 << 10;
/// Of a connection to an endpoint, in the kernel: room for such a head, and for what of a body is read.
pub const RECEIVE_BUFFER_BYTES: u32 = 64 << 10;
pub const CONNECTIONS_OUT: usize = 4_096;
pub const CONNECTION_IDLE: Duration = Duration::from_mins(1);
/// Age at which a signature is refused by a verifier.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_mins(5);
/// Of one request's signature header; the rest is not looked at.
pub const SIGNATURES_CHECKED: usize = 32;
pub const ACTIVE_SECRETS: usize = 8;

// History in PostgreSQL.
/// Connections for reads; more reads than that wait their turn.
pub const HISTORY_READERS: u32 = 8;
/// Connections of the projector: its transaction, the lease, a look at the tables.
pub const HISTORY_WRITERS: u32 = 3;
/// So long a connection is waited for.
pub const HISTORY_CONNECT: Duration = Duration::from_secs(2);
/// A read takes so long at most.
pub const HISTORY_READ: Duration = Duration::from_secs(10);
/// A transaction of the projector does. Removing what is old in one of them may take long.
pub const HISTORY_WRITE: Duration = Duration::from_mins(5);
/// After the end of the process that writes, another begins so much later, or at once where it could say so.
pub const HISTORY_LEASE: Duration = Duration::from_secs(10);
