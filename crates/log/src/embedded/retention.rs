//! Lets go of what is too old: whole segments, at the longest time of their topics.

use std::time::Duration;

use fanfare_core::Timestamp;
use tokio::time::Instant;

use super::commit::Committer;
use crate::contract::Topic;

const EVERY: Duration = Duration::from_mins(1);
/// The wall clock may drift so far from the monotonic one before it counts as a step.
const STEP: Duration = Duration::from_mins(1);

/// However little is written, so many segments at least share the retention time: what is kept longer is bounded.
const SEGMENTS_PER_RETENTION: u32 = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// `messages` and `deliveries`.
    pub(super) short: Duration,
    /// Everything else.
    pub(super) extra: Duration,
    pub(super) settle: Duration,
}

/// Removes old segments now and then. A clock that steps ahead must not remove anything, so it is believed only
/// after it has run evenly for a while.
#[derive(Debug)]
pub(super) struct Retention {
    ages: Ages,
    last_run: Option<Instant>,
    even_since: Option<(Timestamp, Instant)>,
}

impl Retention {
    /// `None` keeps everything for ever.
    pub(super) fn new(ages: Option<Ages>) -> Option<Self> {
        ages.map(|ages| Self { ages, last_run: None, even_since: None })
    }

    pub(super) fn run(&mut self, committer: &mut Committer) {
        let now = Instant::now();
        if self.last_run.is_some_and(|last| now - last < EVERY.min(self.ages.settle)) {
            return;
        }
        self.last_run = Some(now);
        let wall = committer.site().2.now();
        if self.believes(wall, now) {
            committer.end_old_segment((wall - self.ages.short / SEGMENTS_PER_RETENTION).as_millis());
            hide(committer, wall - self.ages.short);
            remove(committer, wall - self.ages.short - self.ages.extra);
        }
    }

    fn believes(&mut self, wall: Timestamp, now: Instant) -> bool {
        let (wall_since, since) = *self.even_since.get_or_insert((wall, now));
        let expected = wall_since + (now - since);
        if wall.since(expected) > STEP || expected.since(wall) > STEP {
            self.even_since = Some((wall, now));
            return false;
        }
        now - since >= self.ages.settle
    }
}

/// Raises the start of the topics that are kept for the shorter time.
fn hide(committer: &Committer, horizon: Timestamp) {
    let journal = &committer.journal;
    for segment in &*journal.segments() {
        if committer.is_active(segment) || segment.newest_ms() >= horizon.as_millis() {
            return;
        }
        for (slot, last) in segment.last_offsets(&journal.layout) {
            if matches!(journal.layout.name(slot).0, Topic::Messages | Topic::Deliveries) {
                journal.raise_start(slot, last.next());
            }
        }
    }
}

fn remove(committer: &mut Committer, horizon: Timestamp) {
    let journal = committer.journal.clone();
    loop {
        let segments = journal.segments();
        let Some(oldest) = segments.first() else { return };
        if committer.is_active(oldest) || oldest.newest_ms() >= horizon.as_millis() {
            return;
        }
        for (slot, last) in oldest.last_offsets(&journal.layout) {
            journal.raise_start(slot, last.next());
        }
        journal.set_segments(segments[1..].to_vec());
        let (disk, directory, _) = committer.site();
        // One after the other, in order: what is left is always the end of the journal.
        let removed = disk.unlink(&oldest.path).and_then(|()| disk.sync_dir(directory));
        if let Err(error) = removed {
            tracing::warn!(path = %oldest.path.display(), %error, "cannot remove an old segment");
            return;
        }
        tracing::info!(path = %oldest.path.display(), "segment removed: older than retention");
    }
}
