//! Which facts are told.

use std::collections::HashMap;

use fanfare_core::{Attempt, AttemptRecord, EndpointNumber, Fact, Offset, Outcome, Partition};
use fanfare_log::{Log, LogRecord, Topic};

use super::{
    Error,
    notice::{Ending, Telling},
    record::run_of,
};

/// With so many failures a message is failing; after as many it has recovered.
pub(super) const FAILING: u32 = 4;
/// Deliveries whose last failure is remembered; beyond them an end is told without it.
const REMEMBERED: usize = 1 << 16;
/// Records of before that are read for it at a start.
const BEFORE: u64 = 4_096;

/// The last failures of deliveries that are not settled, and what facts mean.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<(EndpointNumber, Offset), Attempt>);

impl Failures {
    /// As far as the last records before `position` tell.
    pub(super) async fn before(log: &dyn Log, partition: Partition, position: Offset) -> Result<Self, Error> {
        let mut failures = Self::default();
        let start = log.bounds(Topic::Attempts, partition).await?.start;
        let mut from = Offset(position.0.saturating_sub(BEFORE)).max(start);
        let mut newest_claim = Offset::ZERO;
        while from < position {
            let run = run_of(log, (Topic::Attempts, partition), from, position).await?;
            for record in &run.records {
                failures.read(record, &mut newest_claim)?;
            }
            from = run.next;
        }
        Ok(failures)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is told of a record. Of facts of an older epoch than the newest claim only what was delivered counts.
    pub(super) fn read(
        &mut self,
        record: &LogRecord,
        newest_claim: &mut Offset,
    ) -> Result<Vec<Telling>, Error> {
        let decoded = match AttemptRecord::decode(&record.head) {
            Ok(decoded) => decoded,
            Err(source @ fanfare_core::codec::Malformed::NewerVersion { .. }) => {
                return Err(Error::Malformed { what: "a record of attempts", source });
            }
            // Everybody passes over it.
            Err(_) => return Ok(Vec::new()),
        };
        let (epoch, facts) = match decoded {
            AttemptRecord::Claim { .. } => {
                *newest_claim = (*newest_claim).max(record.offset);
                return Ok(Vec::new());
            }
            AttemptRecord::Facts { epoch, facts } => (epoch, facts),
        };
        let stale = epoch < *newest_claim;
        let counts = facts.into_iter().filter(|fact| !stale || fact.survives_its_epoch());
        Ok(counts.filter_map(|fact| self.fact(fact)).collect())
    }

    fn fact(&mut self, fact: Fact) -> Option<Telling> {
        let (endpoint, offset, ending) = match fact {
            Fact::Attempted(attempt) => {
                let (place, number) = ((attempt.endpoint, attempt.offset), attempt.number);
                let ending = match attempt.outcome {
                    Outcome::Delivered => {
                        self.0.remove(&place);
                        (number > FAILING).then(|| Ending::Recovered(Box::new(attempt)))
                    }
                    Outcome::Failed => {
                        if self.0.len() < REMEMBERED || self.0.contains_key(&place) {
                            self.0.insert(place, attempt.clone());
                        }
                        (number == FAILING).then(|| Ending::Failing(Box::new(attempt)))
                    }
                };
                (place.0, place.1, ending)
            }
            Fact::Settled { endpoint, offset, reason, .. } => {
                let last = self.0.remove(&(endpoint, offset)).map(Box::new);
                let ending = reason.is_dead_letter().then_some(Ending::Dead { reason, last });
                (endpoint, offset, ending)
            }
            Fact::SettledRange { endpoint, from, to, reason, .. } => {
                self.0.retain(|(of, offset), _| *of != endpoint || *offset < from || *offset >= to);
                (endpoint, from, reason.is_dead_letter().then_some(Ending::DeadRange { reason, to }))
            }
            Fact::AnswerErased { .. } => return None,
        };
        Some(Telling { endpoint, offset, ending: ending? })
    }
}

#[cfg(test)]
mod tests;
