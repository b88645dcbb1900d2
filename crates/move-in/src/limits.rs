//! What a run may take.

use std::time::Duration;

/// Things of one page of a list; halved for as long as a page is longer than [`BODY_BYTES`].
pub(crate) const PAGE: usize = 50;
/// Of one answer.
pub(crate) const BODY_BYTES: usize = 16 << 20;
/// Things that were not copied and are named at the end; of more only their number.
pub(crate) const NOT_COPIED: usize = 10_000;
/// Of what a server says of a request that it refuses.
pub(crate) const SAID_CHARACTERS: usize = 400;

pub(crate) const CONNECT: Duration = Duration::from_secs(10);
/// A whole answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// Of one request, the first among them.
pub(crate) const TRIES: u32 = 8;
/// Between the first two tries; doubled for each further one.
pub(crate) const WAIT_FIRST: Duration = Duration::from_millis(250);
pub(crate) const WAIT_LONGEST: Duration = Duration::from_secs(20);
/// A server that asks for a longer pause is not waited for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
