//! Wiping: payloads are overwritten where they stand, and no crash in between does harm.
//!
//! ```text
//! durable ─▶ noted in the tables, durably ─▶ hidden from readers ─▶ zeros, synced ─▶ segment sealed ─▶ note removed
//!                                     a start goes on from here ──┘
//! ```
//!
//! - Before it is noted nothing has changed; from then on its bytes may be anything. Readers get none, and a start, for
//!   which a payload without its CRC would be a torn tail, takes it for whole.
//! - A start overwrites what is noted before anybody reads. So a note is a promise: once it is durable, so is the wiping.
//! - The segment that is written to is overwritten by its writer, between two groups: a sync of somebody else's that
//!   fails would take the blame for bytes of the writer, and the writer's next one would not know.
//! - A note stays while its segment is written to: until something was written behind it, only the payload's CRC proves
//!   that its batch is whole.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_core::Offset;

use super::{
    EmbeddedLog,
    journal::Journal,
    layout::Slot,
    options::OpenError,
    overwrite::{Overwrite, overwrite},
    read::Span,
    segment::Segment,
    tables::Tables,
    wiped::{self, Place},
};
use crate::contract::{AppendError, ReadError};

impl EmbeddedLog {
    pub(super) async fn wipe_payloads(
        &self,
        journal: &Arc<Journal>,
        slot: Slot,
        offsets: Vec<Offset>,
    ) -> Result<(), AppendError> {
        if offsets.is_empty() {
            return Ok(());
        }
        // What is not durable may be written once more, from memory.
        journal.barrier()?.await?;
        let (tables, of) = (self.tables.clone(), journal.clone());
        let begun = self.blocking(move || begin(&of, &tables, slot, &offsets)).await;
        let Located { places, spans } = begun.map_err(unreadable)??;
        for (segment, spans) in spans.into_values() {
            let (order, pending) = Overwrite::new(segment, spans);
            journal.hand_over(order);
            let ended = |_| AppendError::Closed("the writer ended".to_owned());
            pending.await.map_err(ended)?.map_err(|error| AppendError::Unavailable(error.to_string()))?;
        }
        journal.wiped.zeroed(&places);
        Ok(())
    }
}

/// Notes, hides, and overwrites what stands in sealed segments; leaves the rest for the writer.
fn begin(journal: &Journal, tables: &Tables, slot: Slot, offsets: &[Offset]) -> Result<Located, AppendError> {
    let mut located =
        Located::of(journal, offsets.iter().map(|offset| (slot, *offset))).map_err(unreadable)?;
    let ended = journal.wiped.settled(journal.active());
    let key = |(slot, offset): &Place| wiped::key(&journal.layout, *slot, *offset);
    let begun: Vec<_> = located.places.iter().map(|(place, _)| key(place)).collect();
    tables.note_wiping(&begun, &ended.iter().map(key).collect::<Vec<_>>())?;
    journal.wiped.forget(&ended);
    journal.hide(slot, offsets);
    let active = journal.active();
    for (segment, spans) in located.spans.extract_if(..active, |_, _| true).map(|(_, sealed)| sealed) {
        overwrite(&segment, &spans).map_err(|error| AppendError::Unavailable(error.to_string()))?;
    }
    Ok(located)
}

/// What a former life had noted and perhaps not done. Before there is a writer, and readers.
pub(super) fn finish(journal: &Journal, tables: &Tables) -> Result<(), OpenError> {
    let noted = journal.wiped.all();
    if noted.is_empty() {
        return Ok(());
    }
    let located =
        Located::of(journal, noted.into_iter()).map_err(|error| OpenError::Corrupt(error.to_string()))?;
    for (segment, spans) in located.spans.values() {
        overwrite(segment, spans).map_err(|error| OpenError::io(&segment.path, error))?;
    }
    journal.wiped.zeroed(&located.places);
    let ended = journal.wiped.settled(journal.active());
    let keys: Vec<_> =
        ended.iter().map(|(slot, offset)| wiped::key(&journal.layout, *slot, *offset)).collect();
    tables.note_wiping(&[], &keys).map_err(|error| OpenError::Tables(error.to_string()))?;
    journal.wiped.forget(&ended);
    Ok(())
}

/// Where records stand.
struct Located {
    /// Each with the number of its segment; 0: it is not kept.
    places: Vec<(Place, u64)>,
    /// What is to be overwritten, by the segment's number.
    spans: BTreeMap<u64, (Arc<Segment>, Vec<Span>)>,
}

impl Located {
    fn of(journal: &Journal, wanted: impl Iterator<Item = Place>) -> Result<Self, ReadError> {
        let mut located = Self { places: Vec::new(), spans: BTreeMap::new() };
        for (slot, offset) in wanted {
            let found = journal.find_payload(slot, offset)?;
            let number = found.as_ref().map_or(0, |(segment, _)| segment.header.number);
            located.places.push(((slot, offset), number));
            if let Some((segment, span)) = found {
                located.spans.entry(number).or_insert_with(|| (segment, Vec::new())).1.push(span);
            }
        }
        Ok(located)
    }
}

fn unreadable(error: ReadError) -> AppendError {
    match error {
        ReadError::Closed(reason) => AppendError::Closed(reason),
        error => AppendError::Unavailable(error.to_string()),
    }
}
