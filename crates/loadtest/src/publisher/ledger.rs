//! What was sent to one application, and what of it was acknowledged.

use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::{
    payload::NO_KEY,
    sequence::{Numbering, SequenceSet},
};

/// A message that was answered 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    pub application: u32,
    /// [`NO_KEY`] for none.
    pub key: u32,
    pub seq: u64,
    pub key_seq: u64,
    /// The id that the server gave it.
    pub id: String,
}

/// The numbers of one message, as they stand in its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: u32,
    pub(super) seq: u64,
    pub(super) floor: u64,
    pub(super) key_seq: u64,
    pub(super) key_floor: u64,
}

pub(super) struct Ledger {
    keep_ids: bool,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    numbering: Numbering,
    key_numberings: Vec<Numbering>,
    accepted: SequenceSet,
    acknowledged: Vec<Acknowledged>,
}

impl Ledger {
    pub(super) fn new(keys: u32, keep_ids: bool) -> Self {
        let key_numberings = (0..keys).map(|_| Numbering::default()).collect();
        Self { keep_ids, pages: Mutex::new(Pages { key_numberings, ..Pages::default() }) }
    }

    /// Numbers the next message with this key ([`NO_KEY`]: none).
    pub(super) fn begin(&self, key: u32) -> Entry {
        let mut pages = self.pages();
        let (seq, floor) = pages.numbering.begin();
        let (key_seq, key_floor) =
            if key == NO_KEY { (0, 0) } else { pages.key_numberings[key as usize].begin() };
        Entry { key, seq, floor, key_seq, key_floor }
    }

    /// The message was acknowledged under this id, or came to another end (`None`).
    pub(super) fn finish(&self, application: u32, entry: &Entry, id: Option<&str>) {
        let mut pages = self.pages();
        pages.numbering.finish(entry.seq);
        if entry.key != NO_KEY {
            pages.key_numberings[entry.key as usize].finish(entry.key_seq);
        }
        let Some(id) = id else { return };
        pages.accepted.insert(entry.seq);
        if self.keep_ids {
            let Entry { key, seq, key_seq, .. } = *entry;
            pages.acknowledged.push(Acknowledged { application, key, seq, key_seq, id: id.to_owned() });
        }
    }

    /// Everything acknowledged.
    pub(super) fn take(&self) -> (SequenceSet, Vec<Acknowledged>) {
        let mut pages = self.pages();
        (std::mem::take(&mut pages.accepted), std::mem::take(&mut pages.acknowledged))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no holder panics")
    }
}
