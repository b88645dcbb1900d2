//! What a file holds and what a directory names, as seen and as durable.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::random::SplitMix;

/// The unit in which a write tears.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Position and length of writes since the last sync, in order.
    pub(super) unsynced: Vec<(usize, usize)>,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl Content {
    pub(super) fn keep_all(&mut self) {
        for (start, length) in std::mem::take(&mut self.unsynced) {
            self.keep(start, length);
        }
        // Later writes may have been cut off by an earlier `set_size`.
        self.durable.resize(self.seen.len(), 0);
    }

    /// Each un-synced sector is kept or not.
    pub(super) fn keep_some(&mut self, random: &mut SplitMix) {
        for (start, length) in std::mem::take(&mut self.unsynced) {
            let mut at = start;
            let end = start + length;
            if length == 0 && random.coin() {
                self.durable.resize(start, 0);
            }
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if random.coin() {
                    self.keep(at, next - at);
                }
                at = next;
            }
        }
    }

    fn keep(&mut self, start: usize, length: usize) {
        let end = (start + length).min(self.seen.len());
        if end <= start {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.seen[start..end]);
    }
}

impl NameChange {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Rename(_, path) | Self::Unlink(path) => path,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Unlink(path) => drop(names.remove(path)),
        }
    }
}
