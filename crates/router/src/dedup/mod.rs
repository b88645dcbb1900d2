//! The table of claims of one `messages` partition: which key or event id stands for which message.
//!
//! It is the fold of the partition's topic `dedup`, plus what was routed since its last checkpoint:
//!
//! - *announced*: claims of messages that were routed but stand in no durable checkpoint yet,
//! - *recent*: claims of durable checkpoints, not yet sealed,
//! - *runs*: sealed files, newest first, of which only a filter and a sparse index stand in memory.
//!
//! A lookup asks them in this order. All of it but *announced* is a cache: runs that are missing or damaged
//! are thrown away and read again from the topic. Memory: at most two maps of
//! [`limits::DEDUP_SEAL_CLAIMS`](fanfare_core::limits::DEDUP_SEAL_CLAIMS) claims, and 1.7 bytes per sealed claim.

mod bloom;
mod files;
mod format;
mod merge;
mod run;
mod write;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fanfare_core::{
    ClaimEntry, Fingerprint, InstallationId, MessageId, Offset, Partition, Timestamp, limits,
};
use parking_lot::{Mutex, RwLock};

use files::Directory;
use format::Owner;
use run::Run;
use write::RunWriter;

/// Clocks of ingest nodes may differ by this much: a claim is forgotten only so long after it lapsed.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Why the claims on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Nothing is lost: the table is rebuilt from the topic `dedup`.
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: &'static str },
}

/// When memory is turned into runs and runs into larger ones.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub seal_claims: usize,
    pub seal_checkpoints: usize,
    pub runs_merged: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            seal_claims: limits::DEDUP_SEAL_CLAIMS,
            seal_checkpoints: limits::DEDUP_SEAL_CHECKPOINTS,
            runs_merged: limits::DEDUP_RUNS_MERGED,
        }
    }
}

/// The claims of one partition. Shared by the router, which writes, and ingest, which asks.
pub struct DedupTable {
    state: RwLock<State>,
    /// `None`: everything stays in memory.
    directory: Option<Directory>,
    tuning: Tuning,
    /// One seal and one merge at a time; `true` once the table is retired.
    sealing: Mutex<bool>,
    merging: Mutex<bool>,
}

#[derive(Default)]
struct State {
    announced: Claims,
    recent: Claims,
    /// Being written to a run.
    frozen: Option<Arc<Frozen>>,
    /// Newest first.
    runs: Arc<[Arc<Run>]>,
    /// Of the newest checkpoint whose claims are in `recent` or below it.
    covered: Option<Offset>,
    checkpoints_since_seal: usize,
    next_number: u64,
    /// Record time of the newest message routed: what lapsed before it never counts again.
    routed_at: Timestamp,
    /// Without a directory: `recent` is searched for lapsed claims when it is this large.
    prune_at: usize,
}

type Claims = HashMap<Fingerprint, Claim>;

/// A [`ClaimEntry`] without its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    body: Fingerprint,
    id: MessageId,
    offset: Offset,
    expires_at: Timestamp,
}

struct Frozen {
    claims: Claims,
    covered: Offset,
    number: u64,
}

impl DedupTable {
    /// A table that forgets everything with the process.
    pub fn in_memory() -> Self {
        Self::new(None, Vec::new(), Tuning::default())
    }

    /// Opens the runs in `dir`, or an empty table if there are none that can be used.
    pub fn open(
        dir: &Path,
        installation: InstallationId,
        partition: Partition,
        tuning: Tuning,
    ) -> Result<Self, Error> {
        let directory = Directory::create(dir, Owner { installation, partition })?;
        let runs = match directory.load() {
            Ok(runs) => runs,
            Err(error) => {
                tracing::warn!(%partition, %error, "claims on disk cannot be used; reading them from the log again");
                directory.clear()?;
                Vec::new()
            }
        };
        Ok(Self::new(Some(directory), runs, tuning))
    }

    fn new(directory: Option<Directory>, runs: Vec<Arc<Run>>, tuning: Tuning) -> Self {
        let newest = runs.first().map(|run| run.header);
        let state = State {
            covered: newest.map(|header| header.covered),
            next_number: newest.map_or(0, |header| header.last + 1),
            runs: runs.into(),
            routed_at: Timestamp::from_micros(i64::MIN),
            prune_at: tuning.seal_claims,
            ..State::default()
        };
        let (sealing, merging) = (Mutex::new(false), Mutex::new(false));
        Self { state: RwLock::new(state), directory, tuning, sealing, merging }
    }

    /// Offset in `dedup` from which the table has to be brought up to date: of a checkpoint that it contains.
    pub fn covered(&self) -> Option<Offset> {
        self.state.read().covered
    }

    /// The claim if it stands for a message at `now`.
    pub fn lookup(&self, claim: Fingerprint, now: Timestamp) -> Result<Option<ClaimEntry>, Error> {
        self.lookup_below(claim, Offset(u64::MAX), now)
    }

    /// The same as it was before the message at `offset`: after a restart the table may know what comes later.
    pub fn lookup_below(
        &self,
        claim: Fingerprint,
        offset: Offset,
        now: Timestamp,
    ) -> Result<Option<ClaimEntry>, Error> {
        let found = self.newest_below(claim, offset)?;
        // A claim is taken anew only after it lapsed: behind a lapsed one there is none that counts.
        Ok(found.filter(|entry| now < entry.expires_at))
    }

    fn newest_below(&self, claim: Fingerprint, offset: Offset) -> Result<Option<ClaimEntry>, Error> {
        let runs = {
            let state = self.state.read();
            let frozen = state.frozen.as_ref().map(|frozen| &frozen.claims);
            for claims in [Some(&state.announced), Some(&state.recent), frozen].into_iter().flatten() {
                if let Some(found) = claims.get(&claim).filter(|found| found.offset < offset) {
                    return Ok(Some(found.entry(claim)));
                }
            }
            Arc::clone(&state.runs)
        };
        for run in &*runs {
            if let Some(entry) = run.lookup(claim)?.filter(|entry| entry.offset < offset) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Takes in a claim of a message that was routed just now.
    pub fn announce(&self, entry: &ClaimEntry) {
        self.state.write().announced.insert(entry.claim, Claim::of(entry));
    }

    /// Takes in the claims of the durable checkpoint at `checkpoint`, in order. `routed_at` is the record time
    /// of the newest message routed.
    pub fn insert(&self, entries: &[ClaimEntry], checkpoint: Offset, routed_at: Timestamp) {
        let mut state = self.state.write();
        for entry in entries {
            state.recent.insert(entry.claim, Claim::of(entry));
            if state.announced.get(&entry.claim).is_some_and(|announced| announced.offset <= entry.offset) {
                state.announced.remove(&entry.claim);
            }
        }
        state.covered = Some(checkpoint);
        state.checkpoints_since_seal += 1;
        state.routed_at = state.routed_at.max(routed_at);
        if self.directory.is_none() && state.recent.len() >= state.prune_at {
            let forgotten = state.forgotten();
            state.recent.retain(|_, claim| claim.expires_at > forgotten);
            state.prune_at = self.tuning.seal_claims.max(2 * state.recent.len());
        }
    }

    /// Whether [`Self::seal`] has something to do.
    pub fn seal_due(&self) -> bool {
        let state = self.state.read();
        self.directory.is_some() && (state.frozen.is_some() || state.is_full(&self.tuning))
    }

    /// Whether memory is full while the seal before is not done: the router waits.
    pub fn overdue(&self) -> bool {
        let state = self.state.read();
        self.directory.is_some() && state.frozen.is_some() && state.recent.len() >= self.tuning.seal_claims
    }

    /// Writes the recent claims to a run, if that is due. Blocks on the disk. After an error they are still in
    /// memory, and the next call tries again.
    pub fn seal(&self) -> Result<(), Error> {
        let retired = self.sealing.lock();
        let Some(directory) = self.directory.as_ref().filter(|_| !*retired) else { return Ok(()) };
        let Some(frozen) = self.freeze() else { return Ok(()) };
        let (kept, dropped) = self.split_lapsed();
        let mut entries: Vec<_> = frozen.claims.iter().map(|(claim, rest)| rest.entry(*claim)).collect();
        entries.sort_unstable_by_key(|entry| entry.claim);

        let oldest = kept.last().map_or(frozen.number, |run| run.header.first);
        let write = || -> io::Result<Run> {
            let numbers = (frozen.number, frozen.number);
            let mut writer =
                RunWriter::create(&directory.path, directory.owner, numbers, entries.len() as u64)?;
            entries.iter().try_for_each(|entry| writer.push(entry))?;
            writer.finish(oldest, frozen.covered)
        };
        let run = write().map_err(|source| Error::Io { path: directory.path.clone(), source })?;
        tracing::debug!(partition = %directory.owner.partition, claims = entries.len(), "sealed claims");

        let mut state = self.state.write();
        // A merge may have come to its end meanwhile.
        let still: Vec<_> =
            state.runs.iter().filter(|run| run.header.last >= oldest).map(Arc::clone).collect();
        state.runs = std::iter::once(Arc::new(run)).chain(still).collect();
        state.frozen = None;
        drop(state);
        files::remove_runs(&dropped);
        Ok(())
    }

    /// Takes the recent claims out of the way of new ones.
    fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut state = self.state.write();
        if state.frozen.is_none() && state.is_full(&self.tuning) {
            let covered = state.covered.expect("claims come with their checkpoint");
            let number = state.next_number;
            state.next_number += 1;
            state.checkpoints_since_seal = 0;
            let claims = std::mem::take(&mut state.recent);
            state.frozen = Some(Arc::new(Frozen { claims, covered, number }));
        }
        state.frozen.clone()
    }

    /// The runs, and the oldest of them whose claims have all lapsed.
    fn split_lapsed(&self) -> (Vec<Arc<Run>>, Vec<Arc<Run>>) {
        let state = self.state.read();
        let forgotten = state.forgotten();
        let lapsed = state.runs.iter().rev().take_while(|run| run.header.lapses_at <= forgotten).count();
        let (kept, dropped) = state.runs.split_at(state.runs.len() - lapsed);
        (kept.to_vec(), dropped.to_vec())
    }

    /// Seals and merges until nothing is due. For tests and bulk loads; a router does it beside its work.
    pub fn maintain(&self) -> Result<(), Error> {
        while self.seal_due() {
            self.seal()?;
            while self.merge_due() {
                self.merge()?;
            }
        }
        Ok(())
    }

    /// Throws everything away; the topic has to be read again from its start.
    pub fn clear(&self) -> Result<(), Error> {
        let _sealing = self.sealing.lock();
        let _merging = self.merging.lock();
        if let Some(directory) = &self.directory {
            directory.clear()?;
        }
        let mut state = self.state.write();
        let next_number = state.next_number;
        let announced = std::mem::take(&mut state.announced);
        *state = State { announced, next_number, prune_at: self.tuning.seal_claims, ..State::default() };
        Ok(())
    }

    /// Waits for work on the files and lets none begin: another table may open them after that.
    pub fn retire(&self) {
        *self.sealing.lock() = true;
        *self.merging.lock() = true;
    }

    /// Sealed claims, and what they cost in memory.
    pub fn sealed(&self) -> (u64, usize) {
        let runs = Arc::clone(&self.state.read().runs);
        let claims = runs.iter().map(|run| run.header.claims).sum();
        (claims, runs.iter().map(|run| run.memory_bytes()).sum())
    }

    /// Runs on disk.
    pub fn run_count(&self) -> usize {
        self.state.read().runs.len()
    }
}

impl State {
    /// What lapsed at this time or earlier is forgotten.
    fn forgotten(&self) -> Timestamp {
        self.routed_at - FORGET_AFTER
    }

    fn is_full(&self, tuning: &Tuning) -> bool {
        self.covered.is_some()
            && (self.recent.len() >= tuning.seal_claims
                || self.checkpoints_since_seal >= tuning.seal_checkpoints)
    }
}

impl Claim {
    fn of(entry: &ClaimEntry) -> Self {
        let &ClaimEntry { body, id, offset, expires_at, .. } = entry;
        Self { body, id, offset, expires_at }
    }

    fn entry(&self, claim: Fingerprint) -> ClaimEntry {
        let &Self { body, id, offset, expires_at } = self;
        ClaimEntry { claim, body, id, offset, expires_at }
    }
}

#[cfg(test)]
mod tests;
