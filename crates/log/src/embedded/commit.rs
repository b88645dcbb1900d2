//! Writes commit groups and makes them durable: what the writer does between two looks at the queue.

use std::{io, path::PathBuf, sync::Arc};

use fanfare_core::{
    Clock, Offset,
    planted::{Fault, planted},
};
use tokio::time::Instant;

use super::{
    encode::{Encoder, Stamp},
    format::{Place, SegmentHeader},
    journal::Journal,
    queue::Group,
    recovery::Recovered,
    room::Room,
    segment::{OpenedFile, Run, Segment},
};
use crate::disk::{Disk, is_full};

/// Why a group is not durable.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The disk is full. Try again from the writing.
    NoRoom,
    /// The disk failed twice in a row; nothing more can be promised.
    Broken(String),
}

pub(super) struct Committer {
    pub(super) journal: Arc<Journal>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    directory: PathBuf,
    segment_bytes: u64,
    start: u32,
    segment: Arc<Segment>,
    /// Where the synced batches end in the segment's file.
    end_at: u64,
    room: Room,
    /// Room is zeroed ahead, by a thread.
    zero_ahead: bool,
    /// The encoded group was written so that it is durable already.
    is_synced: bool,
    /// When writing the group began.
    began: Instant,
    last_crc: u32,
    /// Per slot, the first offset that is not durable.
    next: Vec<Offset>,
    encoder: Encoder,
    time_ms: i64,
    /// The file failed: nothing is written to it any more.
    suspect: bool,
}

pub(super) struct Site {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) directory: PathBuf,
    pub(super) segment_bytes: u64,
    /// Whether there may be a thread beside the writer's own.
    pub(super) zero_ahead: bool,
}

impl Committer {
    pub(super) fn new(journal: Arc<Journal>, recovered: Recovered, site: Site) -> Self {
        let segment = recovered.segments.last().expect("a journal has a segment").clone();
        let end_at = segment.end_at();
        let encoder = Encoder::new(&journal.layout);
        Self {
            journal,
            disk: site.disk,
            clock: site.clock,
            directory: site.directory,
            segment_bytes: site.segment_bytes,
            start: recovered.start,
            segment,
            end_at,
            room: Room::new(end_at, site.zero_ahead),
            zero_ahead: site.zero_ahead,
            is_synced: false,
            began: Instant::now(),
            last_crc: recovered.last_crc,
            next: recovered.next,
            encoder,
            time_ms: 0,
            suspect: false,
        }
    }

    /// Turns a group into the bytes that [`Self::write`] writes.
    pub(super) fn encode(&mut self, group: &Group, closing: bool) {
        let position = self.segment.position_of(self.end_at);
        self.time_ms = self.clock.now().as_millis();
        let stamp = Stamp { synced: position, time_ms: self.time_ms, start: self.start };
        self.encoder.begin(position, self.last_crc, stamp);
        for append in &group.appends {
            if let Some(slot) = append.slot {
                self.encoder.push(&self.journal.layout, slot, append.first, &append.records);
            }
        }
        if closing {
            self.encoder.push_own(&self.journal.layout, Place::Close, &[]);
        }
        self.encoder.finish();
    }

    /// Whether there is nothing to write: the group was barriers only.
    pub(super) fn is_empty(&self) -> bool {
        self.encoder.encoded().size_bytes == 0
    }

    /// Writes the encoded group behind what is synced; also again.
    pub(super) fn write(&mut self) -> Result<(), CommitError> {
        self.began = Instant::now();
        if self.suspect || self.segment_is_full() {
            self.next_segment().map_err(|error| self.give_up("cannot make a segment", &error))?;
        }
        if let Err(error) = self.try_write() {
            if is_full(&error) {
                return Err(self.give_up("cannot write", &error));
            }
            self.distrust("write failed", &error);
            self.next_segment().map_err(|error| self.give_up("cannot make a segment", &error))?;
            self.try_write().map_err(|error| self.give_up("cannot write", &error))?;
        }
        Ok(())
    }

    /// Makes durable what was written. After a failed sync nobody knows what the file holds above the last good
    /// one: it ends there, and the group goes to a new file.
    pub(super) fn sync(&mut self) -> Result<(), CommitError> {
        if planted(Fault::NoFsync) {
            return Ok(());
        }
        if !self.is_synced
            && let Err(error) = self.segment.file.sync()
            && !planted(Fault::FailedFsyncTrusted)
        {
            self.distrust("sync failed", &error);
            self.write()?;
            self.segment.file.sync().map_err(|error| {
                self.suspect = true;
                self.give_up("sync failed again", &error)
            })?;
        }
        let written_bytes = usize::try_from(self.encoder.encoded().size_bytes).expect("in memory");
        self.journal.counters.synced(written_bytes, self.began.elapsed());
        self.journal.space.write_found(true);
        Ok(())
    }

    /// The group is durable: readers may find it on the disk, and who waits for it hears so.
    pub(super) fn complete(&mut self, group: Group) {
        let encoded = self.encoder.encoded();
        let runs: Vec<Run> = encoded
            .runs
            .iter()
            .map(|run| Run {
                slot: run.slot,
                first: run.first,
                last: run.last,
                at: u32::try_from(self.end_at + run.at).expect("segments are smaller than 4 GiB"),
            })
            .collect();
        for run in &runs {
            let next = &mut self.next[run.slot.index()];
            assert!(run.first >= *next, "offsets rise in the order of the journal");
            *next = run.last.next();
        }
        self.end_at += encoded.size_bytes;
        self.last_crc = encoded.last_crc;
        self.segment.advance(self.end_at, self.time_ms, &runs);
        self.room.zero_ahead(&self.segment.file, self.end_at, self.limit_at());
        self.journal.complete(group, self.segment.position_of(self.end_at));
    }

    /// Overwrites payloads, between two groups: everything else in the file is durable. If that fails nobody knows what
    /// the file holds, as after any failed sync.
    pub(super) fn overwrite(&mut self) {
        for overwrite in self.journal.take_overwrites() {
            let result = overwrite.run();
            if let Err(error) = &result
                && self.is_active(&overwrite.segment)
            {
                self.distrust("overwriting payloads failed", error);
            }
            overwrite.done(result);
        }
    }

    /// Ends the life of the log in good order: all is durable, and the next start knows it.
    pub(super) fn finish(&mut self) -> Result<(), CommitError> {
        self.encode(&Group::default(), true);
        self.write()?;
        self.sync()
    }

    pub(super) fn measure_space(&self) {
        match self.disk.free_bytes(&self.directory) {
            Ok(free_bytes) => {
                self.journal.space.measured(free_bytes);
                self.journal.counters.free_bytes.store(free_bytes, std::sync::atomic::Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "cannot ask for free space"),
        }
    }

    /// Ends a segment that was begun before `horizon_ms`, so that what it holds can grow old.
    pub(super) fn end_old_segment(&mut self, horizon_ms: i64) {
        if self.suspect || self.end_at == self.segment.body_at || self.segment.header.created_ms >= horizon_ms
        {
            return;
        }
        self.time_ms = self.clock.now().as_millis();
        if let Err(error) = self.next_segment() {
            tracing::warn!(%error, "cannot make a segment; the old one goes on");
        }
    }

    fn segment_is_full(&self) -> bool {
        let used = self.end_at - self.segment.body_at;
        used > 0 && used + self.encoder.encoded().size_bytes > self.segment_bytes
    }

    fn try_write(&mut self) -> io::Result<()> {
        let encoded = self.encoder.encoded();
        let end = self.end_at + encoded.size_bytes;
        if self.room.make(&*self.segment.file, self.end_at, end, self.limit_at()) {
            self.measure_space();
        }
        self.is_synced = self.room.is_zeroed(self.end_at, end) && !planted(Fault::NoFsync);
        let slices = encoded.slices();
        if self.is_synced {
            self.segment.file.write_synced_at(self.end_at, &slices)
        } else {
            self.segment.file.write_at(self.end_at, &slices)
        }
    }

    /// Where the segment ends, as far as its size was planned.
    fn limit_at(&self) -> u64 {
        self.segment.body_at + self.segment_bytes
    }

    /// Ends the segment at its last synced position and goes on in a new one.
    fn next_segment(&mut self) -> io::Result<()> {
        // Nobody else may write to the old file when its footer is written.
        self.room.end_zeroing();
        let layout = &self.journal.layout;
        let header = SegmentHeader {
            number: self.segment.header.number + 1,
            base: self.segment.position_of(self.end_at),
            start: self.start,
            previous_crc: self.last_crc,
            created_ms: self.time_ms,
            next: self.next.clone(),
        };
        let file = OpenedFile::create(&*self.disk, &self.directory, layout, header, &[])?;
        // Only now: the old one takes no more. A file that failed gets no footer, it could not be trusted.
        if !self.suspect
            && let Err(error) = self.segment.seal(layout, self.last_crc)
        {
            tracing::warn!(path = %self.segment.path.display(), %error, "segment stays without footer");
        }
        let segment = Arc::new(Segment::empty(layout, file));
        self.end_at = segment.body_at;
        self.room = Room::new(self.end_at, self.zero_ahead);
        self.segment = segment.clone();
        self.suspect = false;
        let mut segments = self.journal.segments().to_vec();
        segments.push(segment);
        self.journal.set_segments(segments);
        Ok(())
    }

    fn distrust(&mut self, what: &str, error: &io::Error) {
        tracing::error!(path = %self.segment.path.display(), %error, "{what}: going on in a new segment");
        self.journal.counters.sync_failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.suspect = true;
    }

    fn give_up(&self, what: &str, error: &io::Error) -> CommitError {
        if is_full(error) {
            self.journal.space.write_found(false);
            return CommitError::NoRoom;
        }
        CommitError::Broken(format!("{what} in {}: {error}", self.directory.display()))
    }

    pub(super) fn is_active(&self, segment: &Arc<Segment>) -> bool {
        Arc::ptr_eq(segment, &self.segment)
    }

    pub(super) fn site(&self) -> (&dyn Disk, &PathBuf, &dyn Clock) {
        (&*self.disk, &self.directory, &*self.clock)
    }
}
