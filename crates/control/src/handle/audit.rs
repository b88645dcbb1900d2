//! Looking back at what was commanded. `control` itself is read, in bounded runs: there is no copy of it.

use fanfare_core::{Offset, limits};
use fanfare_log::Topic;

use super::Control;
use crate::{
    command::Envelope,
    error::{RecordError, Unavailable},
    install::PARTITION,
};

/// What was found among the commands that one call looked at, in the order of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked<T> {
    pub found: Vec<(Offset, T)>,
    /// All up to this one was looked at; nothing where nothing was.
    pub last: Option<Offset>,
    /// There is nothing beyond.
    pub at_end: bool,
}

impl Control {
    /// Looks at commands below `below`, newest first, until so many are `wanted` or [`limits::AUDIT_OFFSETS`] were
    /// looked at. `show` gives what is shown of one, if anything, and is asked for some beyond.
    pub async fn look_back<T>(
        &self,
        below: Offset,
        wanted: usize,
        show: impl Fn(Offset, &Envelope) -> Option<T> + Send + Sync,
    ) -> Result<Looked<T>, Unavailable>
    where
        T: Send,
    {
        let bounds = self.log.bounds(Topic::Control, PARTITION).await?;
        let start = bounds.start.0;
        let mut upper = below.0.min(bounds.end.0);
        let least = upper.saturating_sub(limits::AUDIT_OFFSETS).max(start);
        let mut found = Vec::new();
        let mut last = None;
        while upper > least {
            let lower = upper.saturating_sub(limits::AUDIT_RUN_OFFSETS).max(least);
            let mut run = self.shown(lower, upper, &show).await?;
            while let Some(one) = run.pop() {
                if found.len() == wanted {
                    return Ok(Looked { found, last, at_end: false });
                }
                last = Some(one.0);
                found.push(one);
            }
            upper = lower;
            last = Some(Offset(lower));
            tokio::task::yield_now().await;
        }
        Ok(Looked { found, last, at_end: upper <= start })
    }

    /// The same upwards: commands above `above`, oldest first.
    pub async fn look_ahead<T>(
        &self,
        above: Offset,
        wanted: usize,
        show: impl Fn(Offset, &Envelope) -> Option<T> + Send + Sync,
    ) -> Result<Looked<T>, Unavailable>
    where
        T: Send,
    {
        let bounds = self.log.bounds(Topic::Control, PARTITION).await?;
        let mut lower = above.next().0.max(bounds.start.0);
        let most = lower.saturating_add(limits::AUDIT_OFFSETS).min(bounds.end.0);
        let mut found = Vec::new();
        let mut last = None;
        while lower < most {
            let upper = most.min(lower + limits::AUDIT_RUN_OFFSETS);
            for one in self.shown(lower, upper, &show).await? {
                if found.len() == wanted {
                    return Ok(Looked { found, last, at_end: false });
                }
                last = Some(one.0);
                found.push(one);
            }
            lower = upper;
            last = Some(Offset(upper - 1));
            tokio::task::yield_now().await;
        }
        Ok(Looked { found, last, at_end: lower >= bounds.end.0 })
    }

    /// What is shown of the records in a range. Of each, no more than that is kept.
    async fn shown<T>(
        &self,
        lower: u64,
        upper: u64,
        show: &(impl Fn(Offset, &Envelope) -> Option<T> + Send + Sync),
    ) -> Result<Vec<(Offset, T)>, Unavailable>
    where
        T: Send,
    {
        let mut shown = Vec::new();
        let mut from = Offset(lower);
        while from.0 < upper {
            let batch = self.log.fetch(Topic::Control, PARTITION, from, limits::CONTROL_RUN_BYTES).await?;
            for record in batch.records.iter().filter(|record| record.offset.0 < upper) {
                let envelope =
                    Envelope::decode(&record.head).map_err(|error| unreadable(record.offset, &error))?;
                shown.extend(show(record.offset, &envelope).map(|one| (record.offset, one)));
            }
            if batch.next <= from {
                break;
            }
            from = batch.next;
        }
        Ok(shown)
    }
}

/// A newer process wrote it since the view's last record was read.
fn unreadable(offset: Offset, error: &RecordError) -> Unavailable {
    Unavailable::Stopped(format!("cannot read record {offset} of `control`: {error}"))
}
