//! Fewer, larger runs: neighbours of like size become one, off the hot path.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, sync::Arc};

use fanfare_core::{ClaimEntry, Fingerprint, Timestamp};

use super::{DedupTable, Error, Tuning, files, files::Directory, run::Run, write::RunWriter};

impl DedupTable {
    /// Whether [`Self::merge`] has something to do.
    pub fn merge_due(&self) -> bool {
        self.directory.is_some() && choose(&self.state.read().runs, &self.tuning).is_some()
    }

    /// Merges one group of neighbouring runs, if that is due. Blocks on the disk.
    pub fn merge(&self) -> Result<(), Error> {
        let retired = self.merging.lock();
        let Some(directory) = self.directory.as_ref().filter(|_| !*retired) else { return Ok(()) };
        let (inputs, forgotten) = {
            let state = self.state.read();
            let Some(group) = choose(&state.runs, &self.tuning) else { return Ok(()) };
            (state.runs[group].to_vec(), state.forgotten())
        };
        let merged = write_merged(directory, &inputs, forgotten)?;
        tracing::debug!(
            partition = %directory.owner.partition, runs = inputs.len(), claims = merged.header.claims,
            "merged claims"
        );

        let mut state = self.state.write();
        let replaced =
            |run: &Run| run.header.first >= merged.header.first && run.header.last <= merged.header.last;
        // Seals may have come to the front, and lapsed runs may have left the back.
        let newer = state.runs.iter().take_while(|run| run.header.first > merged.header.last);
        let older =
            state.runs.iter().skip_while(|run| run.header.first > merged.header.last || replaced(run));
        let (newer, older): (Vec<_>, Vec<_>) = (newer.cloned().collect(), older.cloned().collect());
        state.runs = newer.into_iter().chain([Arc::new(merged)]).chain(older).collect();
        drop(state);
        files::remove_runs(&inputs);
        Ok(())
    }
}

/// The neighbours that should be one run. Sizes go by powers of the number of runs merged; a run counts as
/// large as the largest newer one, so that a small old run is swept up with its neighbours.
fn choose(runs: &[Arc<Run>], tuning: &Tuning) -> Option<Range<usize>> {
    let mut start = 0;
    let mut size = 0;
    for (place, run) in runs.iter().enumerate() {
        let own = size_class(run.header.claims, tuning);
        if own > size {
            size = own;
            start = place;
        }
        if place + 1 - start >= tuning.runs_merged {
            return Some(start..place + 1);
        }
    }
    None
}

/// 0 for a few seals, one more for each `runs_merged`-fold. Claims count double: what was merged from eight runs
/// is of the next class even if some of its claims were dropped.
fn size_class(claims: u64, tuning: &Tuning) -> u32 {
    let half_seals = 2 * claims / tuning.seal_claims as u64;
    half_seals.checked_ilog(tuning.runs_merged as u64).unwrap_or(0)
}

/// One run with the newest entry of each claim that has not lapsed.
fn write_merged(directory: &Directory, inputs: &[Arc<Run>], forgotten: Timestamp) -> Result<Run, Error> {
    let io_error = |source| Error::Io { path: directory.path.clone(), source };
    let (newest, oldest) = (&inputs[0].header, &inputs[inputs.len() - 1].header);
    let at_most = inputs.iter().map(|run| run.header.claims).sum();
    let numbers = (oldest.first, newest.last);
    let mut writer =
        RunWriter::create(&directory.path, directory.owner, numbers, at_most).map_err(io_error)?;

    let mut sources: Vec<_> = inputs.iter().map(|run| run.entries()).collect();
    let mut heads: Vec<Option<ClaimEntry>> = vec![None; sources.len()];
    // Lowest claim first, and of equal ones that of the newest run.
    let mut order: BinaryHeap<Reverse<(Fingerprint, usize)>> = BinaryHeap::with_capacity(sources.len());
    for (place, source) in sources.iter_mut().enumerate() {
        heads[place] = source.next()?;
        order.extend(heads[place].map(|entry| Reverse((entry.claim, place))));
    }
    let mut last = None;
    while let Some(Reverse((claim, place))) = order.pop() {
        let entry = heads[place].take().expect("a source in the order has a head");
        heads[place] = sources[place].next()?;
        order.extend(heads[place].map(|next| Reverse((next.claim, place))));
        if last.replace(claim) != Some(claim) && entry.expires_at > forgotten {
            writer.push(&entry).map_err(io_error)?;
        }
    }
    writer.finish(newest.oldest, newest.covered).map_err(io_error)
}
