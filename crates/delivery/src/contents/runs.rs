//! Runs of neighbouring contents read from the log at once: who sends one message of a backlog soon sends the next, and
//! the lanes of an application send the same ones.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use fanfare_core::{Offset, limits};
use parking_lot::Mutex;

use super::{Loaded, Place};

/// The runs read last, bounded in bytes.
pub(super) struct Runs {
    kept: Mutex<Kept>,
    capacity_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// By their first content.
    runs: BTreeMap<Place, Run>,
    /// In the order in which they were read.
    ages: VecDeque<Place>,
    size_bytes: usize,
    /// How much to read at once, as far as it pays.
    run_bytes: usize,
}

struct Run {
    contents: Vec<(Offset, Arc<Loaded>)>,
    size_bytes: usize,
    found: usize,
}

/// The shortest run: less tells nothing about what a longer one would be worth.
const RUN_BYTES_MIN: usize = 4 << 10;

impl Runs {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        let kept = Kept { run_bytes: limits::CONTENT_RUN_BYTES, ..Kept::default() };
        Self { kept: Mutex::new(kept), capacity_bytes }
    }

    /// How much to read of the log when one content is wanted.
    pub(super) fn run_bytes(&self) -> usize {
        self.kept.lock().run_bytes
    }

    pub(super) fn find(&self, place: Place) -> Option<Arc<Loaded>> {
        let mut kept = self.kept.lock();
        let first = Place { offset: Offset::ZERO, ..place };
        let (_, run) = kept.runs.range_mut(first..=place).next_back()?;
        let index = run.contents.binary_search_by_key(&place.offset, |(offset, _)| *offset).ok()?;
        run.found += 1;
        Some(Arc::clone(&run.contents[index].1))
    }

    /// Keeps what was read from `place` on; the oldest runs make way.
    pub(super) fn keep(&self, place: Place, contents: Vec<(Offset, Arc<Loaded>)>) {
        let size_bytes = contents.iter().map(|(_, loaded)| loaded.size_bytes()).sum();
        if size_bytes > self.capacity_bytes {
            return;
        }
        let mut kept = self.kept.lock();
        let former = kept.runs.insert(place, Run { contents, size_bytes, found: 1 });
        kept.size_bytes += size_bytes;
        match former {
            Some(former) => kept.size_bytes -= former.size_bytes,
            None => kept.ages.push_back(place),
        }
        while kept.size_bytes > self.capacity_bytes {
            let Some(oldest) = kept.ages.pop_front() else { return };
            if let Some(run) = kept.runs.remove(&oldest) {
                kept.size_bytes -= run.size_bytes;
                kept.learn(&run);
            }
        }
    }

    pub(super) fn clear(&self) {
        let mut kept = self.kept.lock();
        *kept = Kept { run_bytes: kept.run_bytes, ..Kept::default() };
    }
}

impl Kept {
    /// Of a run of which most was read in vain the next ones are shorter; of one that was used longer.
    fn learn(&mut self, run: &Run) {
        let run_bytes = if run.found * 4 <= run.contents.len() {
            self.run_bytes / 2
        } else if run.found * 2 >= run.contents.len() {
            self.run_bytes * 2
        } else {
            self.run_bytes
        };
        self.run_bytes = run_bytes.clamp(RUN_BYTES_MIN, limits::CONTENT_RUN_BYTES);
    }
}
