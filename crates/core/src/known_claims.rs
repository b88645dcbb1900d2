//! Who decides whether a publish is a repeat: the seam between ingest and the router of the same process.

use std::{future::Future, pin::Pin};

use crate::{ClaimEntry, Fingerprint, Offset, Partition, Timestamp};

/// The router's table of claims, as ingest may ask it (design §3). Ingest without a router in its process has
/// none: then the router alone decides, later.
pub trait KnownClaims: Send + Sync + 'static {
    /// Resolves when everything in the partition below `end` was routed: only then is the table's "unknown"
    /// exact. Resolves at once when that is so.
    fn caught_up<'a>(
        &'a self,
        partition: Partition,
        end: Offset,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// The live claim, if any. May read a local disk.
    fn lookup(&self, partition: Partition, claim: Fingerprint, now: Timestamp) -> Option<ClaimEntry>;

    /// Everything below this offset of the partition was routed: claims of ingest below it may be dropped.
    fn routed(&self, partition: Partition) -> Offset;

    /// Messages of the partition that wait for their time.
    fn held(&self, partition: Partition) -> usize;
}
