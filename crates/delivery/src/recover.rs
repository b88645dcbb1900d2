//! Takeover: from what the log holds to the lanes as they were (design §5).
//!
//! A new owner appends a claim; its offset is the epoch. Of an older epoch's facts after the newest claim only what
//! was delivered counts, so that a zombie cannot undo what its successor decided.

use bytes::Bytes;
use fanfare_control::Control;
use fanfare_core::{
    ApplicationId, AttemptRecord, EndpointNumber, Fact, IntakeRule, Offset, Partition, Policy, Timestamp,
    WorkerCheckpoint,
    codec::Malformed,
    lane::Lane,
    limits,
    planted::{Fault, planted},
};
use fanfare_log::{AppendError, Log, NewRecord, ReadError, Sync, Table, Topic};

use crate::slot::{Slot, Slots};

/// Why a partition could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the claim was not appended: {0}")]
    Append(#[from] AppendError),
    #[error("what is known of the partition cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("{what} cannot be understood: {source}")]
    Malformed { what: &'static str, source: Malformed },
}

impl RecoverError {
    /// Whether the log holds what this program does not understand.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::Read(ReadError::Corrupt(_)))
    }
}

/// A partition's state as of a claim.
pub(crate) struct Recovered {
    pub(crate) checkpoint: Option<WorkerCheckpoint>,
    pub(crate) slots: Slots,
    pub(crate) rule: IntakeRule,
    /// Delivery records below were looked at.
    pub(crate) deliveries: Offset,
    /// Delivery records, at most, that left the log before anybody looked at them.
    pub(crate) unseen: u64,
    /// Facts below are in the lanes.
    pub(crate) attempts: Offset,
    /// Keys of `lanes` that the first checkpoint of the new epoch makes superfluous.
    pub(crate) stale_keys: Vec<Bytes>,
}

/// Appends a claim; its offset is the epoch.
pub(crate) async fn claim(
    log: &dyn Log,
    partition: Partition,
    owner: u128,
    at: Timestamp,
) -> Result<Offset, RecoverError> {
    let record = NewRecord::head(AttemptRecord::Claim { owner, at }.encode());
    let pending = log.append(Topic::Attempts, partition, vec![record], Sync::Now).await?;
    Ok(pending.await?.start)
}

/// Loads checkpoint and lanes and folds the facts up to `until` into them.
pub(crate) async fn recover(
    log: &dyn Log,
    control: &Control,
    partition: Partition,
    until: Offset,
    now: Timestamp,
) -> Result<Recovered, RecoverError> {
    recover_lanes(log, &|number| look_up(control, number), partition, until, now).await
}

/// An endpoint that exists: its application, and what its lane obeys.
pub(crate) type LookUp<'a> =
    &'a (dyn Fn(EndpointNumber) -> Option<(ApplicationId, Policy)> + std::marker::Sync);

/// [`recover`] for whoever knows the endpoints, owner or not.
pub(crate) async fn recover_lanes(
    log: &dyn Log,
    look_up: LookUp<'_>,
    partition: Partition,
    until: Offset,
    now: Timestamp,
) -> Result<Recovered, RecoverError> {
    let entries = log.scan(Table::Lanes, partition).await?;
    let checkpoint = newest_checkpoint(&entries)?;
    let deliveries_start = log.bounds(Topic::Deliveries, partition).await?.start;
    let attempts_start = log.bounds(Topic::Attempts, partition).await?.start;
    let looked_below = checkpoint.as_ref().map_or(deliveries_start, |at| at.deliveries);
    let deliveries = looked_below.max(deliveries_start);
    let unseen = deliveries.0 - looked_below.0;
    let mut rule = checkpoint.as_ref().map(IntakeRule::restore).unwrap_or_default();
    if unseen > 0 {
        rule.resume_after_loss();
    }

    let mut slots = Slots::default();
    if let Some(checkpoint) = &checkpoint {
        for (key, value) in &entries {
            if let Some((epoch, LaneKey::Lane(number))) = parse_key(key)
                && epoch == checkpoint.epoch
                && let Some(slot) = restore_slot(look_up, number, value, deliveries, now)?
            {
                slots.insert(number, slot);
            }
        }
    }
    let from = checkpoint.as_ref().map_or(attempts_start, |at| at.attempts.max(attempts_start));
    let newest_claim = checkpoint.as_ref().map_or(Offset::ZERO, |at| at.epoch);
    fold(log, partition, from, until, newest_claim, |fact| {
        if fact.hides() {
            return;
        }
        let slot = match slots.entry(fact.endpoint()) {
            std::collections::hash_map::Entry::Occupied(slot) => slot.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let Some(found) = look_up(fact.endpoint()) else { return };
                place.insert(fresh_slot(found, deliveries, now))
            }
        };
        slot.lane.apply(&fact, now);
    })
    .await?;
    Ok(Recovered {
        slots,
        rule,
        checkpoint,
        deliveries,
        unseen,
        attempts: until,
        // What others keep there is not ours to remove.
        stale_keys: entries.into_iter().map(|(key, _)| key).filter(|key| parse_key(key).is_some()).collect(),
    })
}

/// Hands every fact in `[from, until)` that counts to `apply`, in order.
pub(crate) async fn fold(
    log: &dyn Log,
    partition: Partition,
    from: Offset,
    until: Offset,
    mut newest_claim: Offset,
    mut apply: impl FnMut(Fact),
) -> Result<(), RecoverError> {
    let mut position = from;
    while position < until {
        let batch = log.fetch(Topic::Attempts, partition, position, limits::CATCH_UP_RUN_BYTES).await?;
        if batch.next <= position {
            break;
        }
        for record in batch.records.iter().take_while(|record| record.offset < until) {
            match AttemptRecord::decode(&record.head)
                .map_err(|source| RecoverError::Malformed { what: "a record of attempts", source })?
            {
                AttemptRecord::Claim { .. } => newest_claim = newest_claim.max(record.offset),
                AttemptRecord::Facts { epoch, facts } => {
                    let ignored = planted(Fault::StaleEpochCounted) || planted(Fault::EpochIgnored);
                    let stale = epoch < newest_claim && !ignored;
                    facts.into_iter().filter(|fact| !stale || fact.survives_its_epoch()).for_each(&mut apply);
                }
            }
        }
        position = batch.next;
    }
    Ok(())
}

/// A slot for an endpoint that exists, with nothing unsettled.
pub(crate) fn new_slot(
    control: &Control,
    number: EndpointNumber,
    next: Offset,
    now: Timestamp,
) -> Option<Slot> {
    look_up(control, number).map(|found| fresh_slot(found, next, now))
}

fn look_up(control: &Control, number: EndpointNumber) -> Option<(ApplicationId, Policy)> {
    let endpoint = control.view().endpoint_by_number(number)?;
    Some((endpoint.application, control.policy(&endpoint)))
}

pub(crate) fn fresh_slot(
    (application, policy): (ApplicationId, Policy),
    next: Offset,
    now: Timestamp,
) -> Slot {
    Slot::new(Lane::new(policy, next, now), application, now)
}

fn restore_slot(
    look_up: LookUp<'_>,
    number: EndpointNumber,
    value: &[u8],
    deliveries: Offset,
    now: Timestamp,
) -> Result<Option<Slot>, RecoverError> {
    let malformed = |source| RecoverError::Malformed { what: "a lane's snapshot", source };
    let Some((application, policy)) = look_up(number) else { return Ok(None) };
    let (behind, above, snapshot) = decode_lane(value).map_err(malformed)?;
    let lane = Lane::restore(snapshot, policy, now).map_err(malformed)?;
    let mut slot = Slot::new(lane, application, now);
    slot.behind = behind;
    slot.above = above;
    if !behind {
        // A live lane that was not written again had no record up to the checkpoint.
        slot.lane.pass(deliveries);
    }
    Ok(Some(slot))
}

/// Value of a lane in the table `lanes`: whether it is behind, how much is above its `next`, the snapshot.
pub(crate) fn encode_lane(slot: &Slot, now: Timestamp, wall: Timestamp) -> Bytes {
    let snapshot = slot.lane.snapshot_at(now, wall);
    let mut value = Vec::with_capacity(9 + snapshot.len());
    value.push(u8::from(slot.behind));
    value.extend_from_slice(&slot.above.to_be_bytes());
    value.extend_from_slice(&snapshot);
    value.into()
}

fn decode_lane(value: &[u8]) -> Result<(bool, u64, &[u8]), Malformed> {
    let (&behind, rest) = value.split_first().ok_or(Malformed::Truncated("behind"))?;
    let (above, snapshot) = rest.split_first_chunk().ok_or(Malformed::Truncated("above"))?;
    Ok((behind != 0, u64::from_be_bytes(*above), snapshot))
}

/// What a key of the table `lanes` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKey {
    Lane(EndpointNumber),
    Checkpoint,
}

/// `epoch (8 bytes) · endpoint (4 bytes)`; the highest number stands for the checkpoint, so that it comes after the
/// lanes it covers.
pub(crate) fn key(epoch: Offset, key: LaneKey) -> Bytes {
    let number = match key {
        LaneKey::Lane(number) => number.0,
        LaneKey::Checkpoint => u32::MAX,
    };
    let mut bytes = epoch.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.into()
}

fn parse_key(key: &[u8]) -> Option<(Offset, LaneKey)> {
    let (epoch, rest) = key.split_first_chunk()?;
    let number = u32::from_be_bytes(rest.try_into().ok()?);
    let key = if number == u32::MAX { LaneKey::Checkpoint } else { LaneKey::Lane(EndpointNumber(number)) };
    Some((Offset(u64::from_be_bytes(*epoch)), key))
}

/// Of each lane of an epoch: what is above its `next`, and its snapshot.
pub(crate) fn lanes_of(entries: &[(Bytes, Bytes)], epoch: Offset) -> impl Iterator<Item = (u64, &[u8])> {
    entries.iter().filter_map(move |(key, value)| match parse_key(key) {
        Some((of, LaneKey::Lane(_))) if of == epoch => {
            decode_lane(value).ok().map(|(_, above, snapshot)| (above, snapshot))
        }
        _ => None,
    })
}

pub(crate) fn newest_checkpoint(
    entries: &[(Bytes, Bytes)],
) -> Result<Option<WorkerCheckpoint>, RecoverError> {
    let newest = entries
        .iter()
        .filter_map(|(key, value)| match parse_key(key) {
            Some((epoch, LaneKey::Checkpoint)) => Some((epoch, value)),
            _ => None,
        })
        .max_by_key(|(epoch, _)| *epoch);
    newest
        .map(|(_, value)| WorkerCheckpoint::decode(value))
        .transpose()
        .map_err(|source| RecoverError::Malformed { what: "a worker's checkpoint", source })
}
