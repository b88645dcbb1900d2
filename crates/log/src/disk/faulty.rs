//! A file system in memory that breaks on demand, the same way for the same seed.
//!
//! Each file has two contents: what a reader sees, and what would be left after the power went. A sync copies
//! what was written from the first to the second. A failed sync copies a random part of it and forgets the rest,
//! as Linux does: readers still see the bytes, and no later sync writes them. Names work the same way, with
//! `sync_dir`.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use self::content::{Content, NameChange};
use super::{Access, Disk, DiskFile};
use crate::random::SplitMix;

mod content;
#[cfg(test)]
mod tests;

/// A handle as one process has it. After [`Self::power_cut`] or [`Self::kill`] it and its files only give
/// errors; the process that comes next asks for [`Self::reopened`].
#[derive(Clone)]
pub struct FaultyDisk {
    shared: Arc<Mutex<Shared>>,
    generation: u64,
}

#[derive(Debug)]
struct FaultyFile {
    shared: Arc<Mutex<Shared>>,
    generation: u64,
    id: u64,
    writable: bool,
}

#[derive(Debug)]
struct Shared {
    generation: u64,
    random: SplitMix,
    files: HashMap<u64, Content>,
    next_id: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of their directory, in order.
    name_changes: Vec<NameChange>,
    locks: HashMap<PathBuf, u64>,
    capacity_bytes: u64,
    syncs: u64,
    /// Changes that still happen before the process dies.
    changes_left: Option<u64>,
    /// Numbers of syncs to come that fail.
    failing_syncs: Vec<u64>,
    ignore_syncs: bool,
    sync_delay: Duration,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        let shared = Shared {
            generation: 0,
            random: SplitMix::new(seed),
            files: HashMap::new(),
            next_id: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locks: HashMap::new(),
            capacity_bytes: u64::MAX,
            syncs: 0,
            changes_left: None,
            failing_syncs: Vec::new(),
            ignore_syncs: false,
            sync_delay: Duration::ZERO,
        };
        Self { shared: Arc::new(Mutex::new(shared)), generation: 0 }
    }

    /// The power goes: of what was not synced a random part is left, sector by sector. Every handle is dead.
    pub fn power_cut(&self) {
        let shared = &mut *self.shared.lock();
        let mut ids: Vec<u64> = shared.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let content = shared.files.get_mut(&id).expect("listed above");
            content.keep_some(&mut shared.random);
            content.seen.clone_from(&content.durable);
        }
        let kept = shared.random.below(shared.name_changes.len() as u64 + 1);
        let kept = usize::try_from(kept).expect("at most a length");
        let changes: Vec<NameChange> = shared.name_changes.drain(..).take(kept).collect();
        for change in &changes {
            change.apply(&mut shared.durable_names);
        }
        shared.names.clone_from(&shared.durable_names);
        let names = &shared.names;
        shared.files.retain(|id, _| names.values().any(|named| named == id));
        shared.die();
    }

    /// The process dies and the machine stays: nothing that was written is lost. Every handle is dead.
    pub fn kill(&self) {
        self.shared.lock().die();
    }

    /// The process dies at the change (write, sync, new name …) after this many; that one does not happen.
    pub fn kill_after(&self, changes: u64) {
        self.shared.lock().changes_left = Some(changes);
    }

    /// A handle for the next process.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let mut shared = self.shared.lock();
        shared.changes_left = None;
        Self { shared: self.shared.clone(), generation: shared.generation }
    }

    /// The `nth` sync of a file from now fails (1: the next).
    pub fn fail_sync(&self, nth: u64) {
        let mut shared = self.shared.lock();
        let number = shared.syncs + nth;
        shared.failing_syncs.push(number);
    }

    /// From now on syncs say that they worked and do nothing: a fault that tests must find.
    pub fn ignore_syncs(&self) {
        self.shared.lock().ignore_syncs = true;
    }

    /// Bytes that all files together may hold.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.shared.lock().capacity_bytes = capacity_bytes;
    }

    pub fn set_sync_delay(&self, delay: Duration) {
        self.shared.lock().sync_delay = delay;
    }

    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().used_bytes()
    }

    /// Number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// Turns one bit, durably.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        self.edit(path, |bytes| {
            let byte = usize::try_from(bit / 8).expect("fits memory");
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Changes a file behind everyone's back, durably.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut shared = self.shared.lock();
        let id = shared.id_of(path)?;
        let content = shared.files.get_mut(&id).expect("named files exist");
        change(&mut content.seen);
        content.durable.clone_from(&content.seen);
        content.unsynced.clear();
        Ok(())
    }

    /// All files, by path.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.shared.lock().names.keys().cloned().collect()
    }

    /// What a reader of the file sees.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let shared = self.shared.lock();
        Ok(shared.files[&shared.id_of(path)?].seen.clone())
    }

    fn file(&self, id: u64, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { shared: self.shared.clone(), generation: self.generation, id, writable })
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Shared>> {
        alive(&self.shared, self.generation)
    }
}

/// For what changes the disk.
fn changing(shared: &Mutex<Shared>, generation: u64) -> io::Result<MutexGuard<'_, Shared>> {
    let mut guard = alive(shared, generation)?;
    match &mut guard.changes_left {
        None => Ok(guard),
        Some(0) => {
            guard.die();
            Err(io::Error::other("this process was killed"))
        }
        Some(left) => {
            *left -= 1;
            Ok(guard)
        }
    }
}

fn alive(shared: &Mutex<Shared>, generation: u64) -> io::Result<MutexGuard<'_, Shared>> {
    let guard = shared.lock();
    if guard.generation == generation { Ok(guard) } else { Err(io::Error::other("this process was killed")) }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut shared = changing(&self.shared, self.generation)?;
        let id = shared.next_id;
        shared.next_id += 1;
        shared.files.insert(id, Content::default());
        shared.change_names(NameChange::Link(path.to_owned(), id));
        Ok(self.file(id, true))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.alive()?.id_of(path)?;
        Ok(self.file(id, access == Access::ReadWrite))
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let shared = self.alive()?;
        let names = shared.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shared = changing(&self.shared, self.generation)?;
        shared.id_of(from)?;
        shared.change_names(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut shared = changing(&self.shared, self.generation)?;
        shared.id_of(path)?;
        shared.change_names(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut shared = changing(&self.shared, self.generation)?;
        if shared.ignore_syncs {
            return Ok(());
        }
        let (synced, later) = std::mem::take(&mut shared.name_changes)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.path().parent() == Some(directory));
        shared.name_changes = later;
        for change in synced {
            change.apply(&mut shared.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        let shared = self.alive()?;
        Ok(shared.capacity_bytes.saturating_sub(shared.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut shared = self.alive()?;
        if shared.locks.contains_key(path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        shared.locks.insert(path.to_owned(), self.generation);
        Ok(Box::new(LockGuard { disk: self.clone(), path: path.to_owned() }))
    }

    fn sync_delay(&self) -> Duration {
        self.shared.lock().sync_delay
    }
}

struct LockGuard {
    disk: FaultyDisk,
    path: PathBuf,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Ok(mut shared) = self.disk.alive() {
            shared.locks.remove(&self.path);
        }
    }
}

impl FaultyFile {
    fn with<T>(&self, act: impl FnOnce(&mut Shared, &mut Content) -> io::Result<T>) -> io::Result<T> {
        self.act(alive(&self.shared, self.generation)?, act)
    }

    fn change<T>(&self, act: impl FnOnce(&mut Shared, &mut Content) -> io::Result<T>) -> io::Result<T> {
        self.act(changing(&self.shared, self.generation)?, act)
    }

    fn act<T>(
        &self,
        mut shared: MutexGuard<'_, Shared>,
        act: impl FnOnce(&mut Shared, &mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut content = shared.files.remove(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let result = act(&mut shared, &mut content);
        shared.files.insert(self.id, content);
        result
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.change(|shared, content| {
            let start = usize::try_from(position).map_err(io::Error::other)?;
            let size_bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
            let growth = (start + size_bytes).saturating_sub(content.seen.len()) as u64;
            let used = shared.used_bytes() + content.seen.len() as u64;
            if growth > 0 && used + growth > shared.capacity_bytes {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if content.seen.len() < start + size_bytes {
                content.seen.resize(start + size_bytes, 0);
            }
            let mut at = start;
            for buffer in buffers {
                content.seen[at..at + buffer.len()].copy_from_slice(buffer);
                at += buffer.len();
            }
            content.unsynced.push((start, size_bytes));
            Ok(())
        })
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|_, content| {
            let start = usize::try_from(position).map_err(io::Error::other)?.min(content.seen.len());
            let count = buffer.len().min(content.seen.len() - start);
            buffer[..count].copy_from_slice(&content.seen[start..start + count]);
            Ok(count)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|shared, content| {
            shared.syncs += 1;
            if shared.ignore_syncs {
                return Ok(());
            }
            if let Some(index) = shared.failing_syncs.iter().position(|number| *number == shared.syncs) {
                shared.failing_syncs.swap_remove(index);
                content.keep_some(&mut shared.random);
                return Err(io::Error::other("injected: sync failed"));
            }
            content.keep_all();
            Ok(())
        })
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.seen.len() as u64))
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.change(|_, content| {
            let size_bytes = usize::try_from(size_bytes).map_err(io::Error::other)?;
            content.seen.resize(size_bytes, 0);
            // A write of nothing at the new end: kept, it moves the end.
            content.unsynced.push((size_bytes, 0));
            Ok(())
        })
    }

    fn preallocate(&self, _position: u64, _size_bytes: u64) -> io::Result<()> {
        self.with(|_, _| Ok(()))
    }
}

impl Shared {
    fn die(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.changes_left = None;
    }

    fn id_of(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| Some(self.files.get(id)?.seen.len() as u64)).sum()
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}
