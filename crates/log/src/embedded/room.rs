//! Room ahead of the writer: zeroed in the background, so that a commit is one write of its own bytes.
//!
//! Writing into room that was only reserved makes the file system note, with a transaction of its own, that the room
//! is now in use; a sync waits for that too. Into zeroed room a write with `O_DSYNC` semantics sends nothing but the
//! data. The price is that the journal's bytes are written twice, the zeros ahead of time. What is written seldom
//! never pays it: zeroing begins when half of the first step is used.

use std::{io, ops::Range, sync::Arc, thread::JoinHandle};

use crate::disk::DiskFile;

/// Room is made in steps of this, so that a commit seldom changes the file's length.
pub(super) const STEP_BYTES: u64 = 8 << 20;

/// The room of one file.
pub(super) struct Room {
    /// Below it, room is reserved.
    reserved_to: u64,
    zeroed: Range<u64>,
    zeroing: Option<Zeroing>,
    /// False for a driver without threads.
    ahead: bool,
}

struct Zeroing {
    to: u64,
    thread: JoinHandle<io::Result<()>>,
}

impl Room {
    pub(super) fn new(at: u64, ahead: bool) -> Self {
        Self { reserved_to: at, zeroed: at..at, zeroing: None, ahead }
    }

    /// Whether these bytes go into zeroed room.
    pub(super) fn is_zeroed(&self, from: u64, to: u64) -> bool {
        self.zeroed.start <= from && to <= self.zeroed.end
    }

    /// Makes room for a write of `from..to`; `limit` is where the segment ends. True if the room has grown.
    pub(super) fn make(&mut self, file: &dyn DiskFile, from: u64, to: u64, limit: u64) -> bool {
        if to <= self.reserved_to {
            return false;
        }
        self.end_zeroing();
        if to <= self.reserved_to {
            return true;
        }
        let end = to.next_multiple_of(STEP_BYTES).min(limit).max(to);
        // Without reserved room the write itself says whether there is any.
        if file.preallocate(from, end - from).is_err() {
            return false;
        }
        self.reserved_to = end;
        true
    }

    /// Zeroes the next step when half of the last is used. Nothing is written there before it is zeroed.
    pub(super) fn zero_ahead(&mut self, file: &Arc<dyn DiskFile>, used_to: u64, limit: u64) {
        let left = self.reserved_to.saturating_sub(used_to);
        if !self.ahead || self.zeroing.is_some() || left > STEP_BYTES / 2 || self.reserved_to >= limit {
            return;
        }
        let (from, to) = (self.reserved_to, (self.reserved_to + STEP_BYTES).min(limit));
        let file = Arc::clone(file);
        let zero = move || file.zero(from, to - from);
        if let Ok(thread) = std::thread::Builder::new().name("fanfare-zero".to_owned()).spawn(zero) {
            self.zeroing = Some(Zeroing { to, thread });
        }
    }

    /// Waits for the zeroing under way. A full disk only means that there is no such room.
    pub(super) fn end_zeroing(&mut self) {
        let Some(Zeroing { to, thread }) = self.zeroing.take() else { return };
        if thread.join().is_ok_and(|result| result.is_ok()) {
            let from = if self.zeroed.end == self.reserved_to { self.zeroed.start } else { self.reserved_to };
            self.zeroed = from..to;
            self.reserved_to = to;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.end_zeroing();
    }
}
