//! Faults that tests plant to see whether they find them. Each stands where a promise is guarded; without
//! the feature `planted` none exists, and the checks for them are compiled away.

/// A guard that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    // Log.
    /// A commit is called durable without a sync.
    NoFsync,
    /// A sync that failed is taken for one that worked.
    FailedFsyncTrusted,
    /// Tables are written before what they cover is durable.
    TablesAheadOfJournal,
    /// Readers of `messages` see what is not synced.
    UnsyncedShown,
    /// After a crash offsets that readers may have seen are used again.
    OffsetReused,
    // Ingest.
    /// 202 before the message is durable.
    AnsweredBeforeDurable,
    /// A claim is forgotten when its message is appended, not when it is routed.
    ClaimReleasedAtAppend,
    /// After a start, keyed publishes do not wait until routing has caught up.
    StartNotAwaited,
    // Router.
    /// A message is routed by a view of `control` older than the message.
    ControlNotApplied,
    /// A checkpoint covers batches whose appends are not durable.
    CheckpointBeforeAppends,
    /// A message that is routed again is taken for a repeat of itself.
    RepeatOfItself,
    /// A session's first records do not name what was sent before.
    ChainFromNothing,
    // The rule by which workers take records.
    /// `>=` for `>`: the highest source offset is taken again.
    SourceTakenTwice,
    /// A record is taken though the one before it is missing.
    GapAccepted,
    /// A job's record is taken again.
    InjectedTakenTwice,
    // Delivery.
    /// A timer that is more than a second away is never set.
    TimerLost,
    /// What a zombie wrote after a newer claim counts.
    StaleEpochCounted,
    /// A worker goes on though it sees a newer claim.
    NewerClaimIgnored,
    /// Catch-up shows records that the tail refused.
    RefusedCaughtUp,
    /// A checkpoint is written before the lanes it covers.
    CheckpointBeforeLanes,
    /// Lanes and checkpoints of older epochs are removed before there is one that replaces them.
    OldLanesRemovedFirst,
    /// A lane is written down before its facts are appended.
    SnapshotAheadOfFacts,
    /// 500 settles a delivery.
    FailureSettles,
    // Lanes.
    /// A snapshot leaves out what failed before.
    RetriesForgotten,
    /// A `strict` lane starts the next delivery before the last one is settled.
    StrictRunsAhead,
    /// A search for proof of life takes its own failures for proof.
    ParkedWithoutProof,
    // What only many processes on Kafka can show (tests/cluster/planted.rs).
    /// A partition is handed over before it was drained.
    ReleasedBeforeDrain,
    /// Neither a newer claim nor the loss of the partition stops a worker, and all that it writes counts.
    EpochIgnored,
    /// An append of what follows from messages is given up when Kafka does not answer for a moment.
    LocalTimeout,
    /// Claims on idempotency keys are durable before their messages are routed, and count for those messages.
    ClaimsAheadOfPosition,
}

impl Fault {
    /// What the simulation finds.
    pub const ALL: [Self; 27] = [
        Self::NoFsync,
        Self::FailedFsyncTrusted,
        Self::TablesAheadOfJournal,
        Self::UnsyncedShown,
        Self::OffsetReused,
        Self::AnsweredBeforeDurable,
        Self::ClaimReleasedAtAppend,
        Self::StartNotAwaited,
        Self::ControlNotApplied,
        Self::CheckpointBeforeAppends,
        Self::RepeatOfItself,
        Self::ChainFromNothing,
        Self::SourceTakenTwice,
        Self::GapAccepted,
        Self::InjectedTakenTwice,
        Self::TimerLost,
        Self::StaleEpochCounted,
        Self::NewerClaimIgnored,
        Self::RefusedCaughtUp,
        Self::CheckpointBeforeLanes,
        Self::OldLanesRemovedFirst,
        Self::SnapshotAheadOfFacts,
        Self::FailureSettles,
        Self::RetriesForgotten,
        Self::StrictRunsAhead,
        Self::ParkedWithoutProof,
        Self::ClaimsAheadOfPosition,
    ];

    /// What processes on Kafka show, each on a course that leads to it.
    pub const ON_KAFKA: [Self; 4] =
        [Self::ReleasedBeforeDrain, Self::EpochIgnored, Self::LocalTimeout, Self::ClaimsAheadOfPosition];

    /// The fault that is called so in the code.
    #[cfg(feature = "planted")]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::ON_KAFKA).find(|fault| format!("{fault:?}") == name)
    }
}

/// Whether this fault is planted.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn planted(_: Fault) -> bool {
    false
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Whether this fault is planted.
#[cfg(feature = "planted")]
pub fn planted(fault: Fault) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == fault as usize
}

/// Plants a fault in the whole process, in place of the one before.
#[cfg(feature = "planted")]
pub fn plant(fault: Option<Fault>) {
    let number = fault.map_or(usize::MAX, |fault| fault as usize);
    PLANTED.store(number, std::sync::atomic::Ordering::Relaxed);
}
