//! Which delivery records count: the rule that makes a router's repeats harmless and its gaps visible
//! (design §4).

use std::collections::{HashMap, VecDeque};

use crate::{
    Delivery, Offset, Partition, Source, WorkerCheckpoint, limits,
    planted::{Fault, planted},
};

/// Sessions remembered per `messages` partition, so that a zombie's records are known as the continuation of an old
/// session.
const SESSIONS: usize = 8;

/// What the tail does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Take,
    /// Taken, though records before it were lost in storage: the router itself knew them as sent.
    TakeAfterLoss,
    /// It was taken before, from an earlier session or a zombie.
    Repeat,
    /// The record before it, of the same session, did not arrive: an append failed. The router's next session
    /// sends both.
    Gap,
}

/// Decides record by record, at the tail of one delivery partition. A function of the log alone: every owner of the
/// partition decides the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntakeRule {
    sources: HashMap<Partition, Seen>,
    /// Of the jobs that wrote last, what they wrote last: job and sequence, the latest job at the end. A job that wrote
    /// nothing for so long that others took its place has come to its end, or begins again as a new one would.
    sequences: VecDeque<(u64, u64)>,
    /// Refused delivery offsets as `[from, to)`, rising.
    refused: Vec<(Offset, Offset)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    highest: Option<Offset>,
    /// Newest last.
    sessions: Vec<u64>,
}

impl IntakeRule {
    pub fn restore(checkpoint: &WorkerCheckpoint) -> Self {
        let mut rule = Self {
            sequences: checkpoint.highest_sequence.iter().copied().collect(),
            refused: checkpoint.refused.clone(),
            ..Self::default()
        };
        for &(partition, offset) in &checkpoint.highest_source {
            rule.sources.entry(partition).or_default().highest = Some(offset);
        }
        for &(partition, session) in &checkpoint.sessions {
            rule.sources.entry(partition).or_default().sessions.push(session);
        }
        rule
    }

    /// Writes what this knows into a checkpoint.
    pub fn save(&self, checkpoint: &mut WorkerCheckpoint) {
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by_key(|(partition, _)| **partition);
        for (&partition, seen) in sources {
            checkpoint.highest_source.extend(seen.highest.map(|offset| (partition, offset)));
            checkpoint.sessions.extend(seen.sessions.iter().map(|&session| (partition, session)));
        }
        checkpoint.highest_sequence = self.sequences.iter().copied().collect();
        checkpoint.refused.clone_from(&self.refused);
    }

    /// Looks at the record at `offset`; call it for each record of the tail, in order.
    pub fn decide(&mut self, offset: Offset, delivery: &Delivery) -> Intake {
        let intake = match delivery {
            Delivery::Injected { job, sequence, .. } => self.decide_injected(*job, *sequence),
            Delivery::Routed { source, .. }
            | Delivery::Alias { source, .. }
            | Delivery::Conflict { source, .. } => self.decide_routed(source),
        };
        if matches!(intake, Intake::Repeat | Intake::Gap) {
            self.refuse(offset);
        }
        intake
    }

    /// Whether the tail refused the record at `offset`.
    pub fn refused(&self, offset: Offset) -> bool {
        let index = self.refused.partition_point(|&(_, to)| to <= offset);
        self.refused.get(index).is_some_and(|&(from, _)| from <= offset)
    }

    /// A record that cannot be read is passed over by everybody.
    pub fn refuse(&mut self, offset: Offset) {
        match self.refused.last_mut() {
            Some((_, to)) if *to == offset => *to = offset.next(),
            _ => self.refused.push((offset, offset.next())),
        }
    }

    /// Records that were never looked at left the log. What is kept cannot continue what was seen before them: of each
    /// source the next record counts as the first of its session, or all that follows would be refused as a gap.
    pub fn resume_after_loss(&mut self) {
        self.sources.values_mut().for_each(|seen| seen.sessions.clear());
    }

    /// Forgets refusals below the log start offset.
    pub fn truncate(&mut self, start: Offset) {
        self.refused.retain(|&(_, to)| to > start);
    }

    fn decide_routed(&mut self, source: &Source) -> Intake {
        let seen = self.sources.entry(source.partition).or_default();
        let first_of_session = !seen.sessions.contains(&source.session);
        let intake = match (seen.highest, source.previous) {
            (Some(highest), _) if source.offset == highest && planted(Fault::SourceTakenTwice) => {
                Intake::Take
            }
            (Some(highest), _) if source.offset <= highest => Intake::Repeat,
            (Some(highest), Some(previous)) if previous > highest => {
                if first_of_session || planted(Fault::GapAccepted) {
                    Intake::TakeAfterLoss
                } else {
                    Intake::Gap
                }
            }
            _ => Intake::Take,
        };
        if first_of_session {
            seen.sessions.push(source.session);
            if seen.sessions.len() > SESSIONS {
                seen.sessions.remove(0);
            }
        }
        if matches!(intake, Intake::Take | Intake::TakeAfterLoss) {
            seen.highest = Some(source.offset);
        }
        intake
    }

    fn decide_injected(&mut self, job: u64, sequence: u64) -> Intake {
        match self.sequences.iter().rposition(|&(known, _)| known == job) {
            Some(index) if sequence <= self.sequences[index].1 && !planted(Fault::InjectedTakenTwice) => {
                return Intake::Repeat;
            }
            Some(index) => drop(self.sequences.remove(index)),
            None if self.sequences.len() >= limits::JOBS_REMEMBERED => drop(self.sequences.pop_front()),
            None => {}
        }
        self.sequences.push_back((job, sequence));
        Intake::Take
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::{MessageId, Timestamp};

    fn record(offset: u64, previous: Option<u64>, session: u64) -> Delivery {
        Delivery::Routed {
            source: Source {
                partition: Partition(0),
                offset: Offset(offset),
                session,
                previous: previous.map(Offset),
                control: Offset::ZERO,
            },
            id: MessageId::from_bytes([0; 20]),
            accepted_at: Timestamp::ZERO,
            ordering_key: 0,
            endpoints: Vec::new(),
            content: crate::Content::Reference,
            due_of: None,
        }
    }

    #[test]
    fn repeats_fall_out_and_gaps_are_refused() {
        let mut rule = IntakeRule::default();
        assert_eq!(rule.decide(Offset(0), &record(10, None, 1)), Intake::Take);
        assert_eq!(rule.decide(Offset(1), &record(12, Some(10), 1)), Intake::Take);
        assert_eq!(rule.decide(Offset(2), &record(12, Some(10), 1)), Intake::Repeat);
        assert_eq!(rule.decide(Offset(3), &record(20, Some(15), 1)), Intake::Gap);
        // The next session starts from the checkpoint and fills the gap.
        assert_eq!(rule.decide(Offset(4), &record(12, Some(10), 2)), Intake::Repeat);
        assert_eq!(rule.decide(Offset(5), &record(15, Some(12), 2)), Intake::Take);
        assert_eq!(rule.decide(Offset(6), &record(20, Some(15), 2)), Intake::Take);
        assert!(rule.refused(Offset(2)) && rule.refused(Offset(3)) && rule.refused(Offset(4)));
        assert!(!rule.refused(Offset(1)) && !rule.refused(Offset(5)));
    }

    #[test]
    fn what_storage_lost_is_reported_and_passed() {
        let mut rule = IntakeRule::default();
        assert_eq!(rule.decide(Offset(0), &record(10, None, 1)), Intake::Take);
        assert_eq!(rule.decide(Offset(1), &record(30, Some(25), 2)), Intake::TakeAfterLoss);
        assert_eq!(rule.decide(Offset(2), &record(31, Some(30), 2)), Intake::Take);
    }

    #[test]
    fn what_left_the_log_before_it_was_seen_is_no_gap_for_ever() {
        let mut rule = IntakeRule::default();
        assert_eq!(rule.decide(Offset(0), &record(10, None, 1)), Intake::Take);
        let mut checkpoint = WorkerCheckpoint::default();
        rule.save(&mut checkpoint);
        rule = IntakeRule::restore(&checkpoint);
        rule.resume_after_loss();
        assert_eq!(rule.decide(Offset(7), &record(30, Some(25), 1)), Intake::TakeAfterLoss);
        assert_eq!(rule.decide(Offset(8), &record(31, Some(30), 1)), Intake::Take);
        assert_eq!(rule.decide(Offset(9), &record(40, Some(35), 1)), Intake::Gap, "an append failed");
        assert_eq!(rule.decide(Offset(10), &record(30, Some(25), 2)), Intake::Repeat);
    }

    fn injected(job: u64, sequence: u64) -> Delivery {
        Delivery::Injected {
            job,
            sequence,
            id: MessageId::from_bytes([0; 20]),
            partition: Partition(0),
            offset: Offset::ZERO,
            ordering_key: 0,
            endpoints: Vec::new(),
            at: Timestamp::ZERO,
            control: Offset::ZERO,
        }
    }

    #[test]
    fn what_two_runners_of_a_job_write_is_taken_once_and_in_order() {
        let mut rule = IntakeRule::default();
        let written = [(1, 10), (1, 12), (2, 5), (1, 10), (1, 12), (1, 13), (2, 5), (2, 4), (1, 13)];
        let mut taken = Vec::new();
        for (offset, (job, sequence)) in (0..).map(Offset).zip(written) {
            let mut checkpoint = WorkerCheckpoint::default();
            rule.save(&mut checkpoint);
            rule = IntakeRule::restore(&WorkerCheckpoint::decode(&checkpoint.encode()).unwrap());
            match rule.decide(offset, &injected(job, sequence)) {
                Intake::Take => taken.push((job, sequence)),
                Intake::Repeat => assert!(rule.refused(offset)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, [(1, 10), (1, 12), (2, 5), (1, 13)]);
    }

    #[test]
    fn of_jobs_that_ended_nothing_is_remembered_for_ever() {
        let mut rule = IntakeRule::default();
        let jobs = limits::JOBS_REMEMBERED as u64 + 10;
        assert_eq!(rule.decide(Offset(0), &injected(u64::MAX, 1)), Intake::Take);
        for job in 0..jobs {
            assert_eq!(rule.decide(Offset(job + 1), &injected(job, 1)), Intake::Take);
            // One that goes on is not forgotten, however many others there were.
            assert_eq!(rule.decide(Offset(job + 1), &injected(u64::MAX, job + 2)), Intake::Take);
        }
        assert_eq!(rule.sequences.len(), limits::JOBS_REMEMBERED);
        assert_eq!(rule.decide(Offset(jobs + 1), &injected(u64::MAX, 5)), Intake::Repeat);
        assert_eq!(rule.decide(Offset(jobs + 2), &injected(jobs - 1, 1)), Intake::Repeat);
    }

    proptest! {
        /// Any interleaving of sessions that each send the whole sequence from some checkpoint, with appends that
        /// fail: what is taken is the sequence, each record once, in order, with no hole.
        #[test]
        fn what_is_taken_has_no_hole_and_no_repeat(
            sessions in prop::collection::vec((0_usize..20, prop::collection::vec(any::<bool>(), 20)), 1..6),
            picks in prop::collection::vec(0_usize..6, 0..120),
            restarts in prop::collection::vec(any::<bool>(), 120),
        ) {
            let mut rule = IntakeRule::default();
            let mut taken: Vec<u64> = Vec::new();
            // Each session's queue: source offsets from its checkpoint on; a failed append ends it.
            let mut queues: Vec<Vec<(u64, Option<u64>, u64)>> = sessions.iter().enumerate().map(|(index, (from, fails))| {
                let mut queue = Vec::new();
                for (offset, failed) in fails.iter().enumerate().skip(*from) {
                    // A later record may still arrive though an earlier append of the session failed.
                    if !failed || offset % 3 == 0 {
                        let previous = offset.checked_sub(1).map(|offset| offset as u64);
                        queue.push((offset as u64, previous, index as u64));
                    }
                }
                queue.reverse();
                queue
            }).collect();
            // A checkpoint lies at or below what was taken: sessions start in the order of their checkpoints' truth.
            for (index, (pick, restart)) in picks.into_iter().zip(restarts).enumerate() {
                let Some(queue) = queues.get_mut(pick) else { continue };
                let Some(&(offset, previous, session)) = queue.last() else { continue };
                let fresh = !rule.sources.get(&Partition(0)).is_some_and(|seen| seen.sessions.contains(&session));
                let high = taken.last().copied();
                if fresh && previous.is_some_and(|previous| high.is_none_or(|high| previous > high)) {
                    continue; // its checkpoint would be ahead of what was appended
                }
                queue.pop();
                let intake = rule.decide(Offset(index as u64), &record(offset, previous, session));
                prop_assert_ne!(intake, Intake::TakeAfterLoss);
                if intake == Intake::Take { taken.push(offset); }
                if restart {
                    let mut checkpoint = WorkerCheckpoint::default();
                    rule.save(&mut checkpoint);
                    let again = WorkerCheckpoint::decode(&checkpoint.encode()).unwrap();
                    prop_assert_eq!(&IntakeRule::restore(&again), &rule);
                    rule = IntakeRule::restore(&again);
                }
            }
            prop_assert!(taken.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?}", taken);
        }
    }
}
